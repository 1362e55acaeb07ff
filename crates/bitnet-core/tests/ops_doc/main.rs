//! `docs/ops.md` says what the ops do: it is made here by trying them. `UPDATE_DOCS=1 cargo test -p bitnet-core --test ops_doc` writes it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../bare/mod.rs"]
mod bare;
mod creation;
mod decoder;
mod kernels;
mod public;
mod rows;

use bare::Bare;
use bitnet_core::{
    DType, Device, Tensor,
    cpu::{self, CpuBackend},
    device::capabilities::{Capability, Support},
};
use rows::Op;
use std::{fmt::Write, fs, path::Path, sync::Arc};

const COLUMNS: &str = "\
| op | | element types | gradient | code by tier | bits of tiers | devices |
|---|---|---|---|---|---|---|
";

const HEAD: &str = "\
# What the tensor ops take

Made by trying every op (`crates/bitnet-core/tests/ops_doc/`, which also checks that this page is fresh and that no public op is missing).
Integers are exact and wrap; floats are computed in f32. Every gradient is compared with central differences in f64
(`crates/bitnet-core/tests/gradients/`), those of the decoder and of training also with PyTorch (`crates/bitnet-core/tests/training_ops.rs`).

- **Code by tier**, for four numbers in f32: `each` tier of the processor has kernels compiled for its instructions, with `amx` those of
  AMX too; `one for all`, the same code on all of them; `gemm`, the crate of that name, which chooses its instructions itself; `-`,
  nothing is computed, or before it is brought to the device. Copies of large tensors are those of each tier. The tiers:
  TIERS.
- **Bits of tiers**: `same` on all of them, down to the last bit.
- **Devices**: `cpu` computes it itself. `others can`: on a device that does not bring it, the reference of the host does, with
  copies to and fro, and is counted ([devices.md](devices.md) has who brings what). `all`: every device, as nothing or only a transfer is
  asked of it. `host`: brought to the host, computed there.

";

const LINEAR: &str = "\
In `bitnet-linalg`, over batches of matrices that are brought to the host, widened to float64 and rounded once (`crates/bitnet-linalg/tests/linalg.rs`).
";

/// Names of the types that an op takes, those that come in groups as one word.
fn types(op: &Op) -> String {
    let taken: Vec<DType> = DType::ALL.into_iter().filter(|&dtype| op.takes(dtype)).collect();
    let groups = [
        ("all", &DType::ALL[..]),
        ("floats", &[DType::F32, DType::F16, DType::BF16]),
        ("integers", &[DType::I8, DType::U8, DType::I32, DType::I64]),
        ("bool", &[DType::Bool]),
    ];
    let mut words = Vec::new();
    let mut rest = taken;
    for (word, group) in groups {
        if group.iter().all(|dtype| rest.contains(dtype)) {
            words.push(word.to_owned());
            rest.retain(|dtype| !group.contains(dtype));
        }
    }
    words.extend(rest.iter().map(|dtype| dtype.name().to_owned()));
    words.join(", ")
}

fn has_gradient(device: &Device, op: &Op) -> bool {
    let x = Tensor::from_slice(device, [2, 2], &[0.5f32, 0.25, 0.75, 1.5]).unwrap().trainable().unwrap();
    let Ok(y) = (op.run)(&x) else { return false };
    let Ok(sum) = y.sum((), false) else { return false };
    sum.backward().is_ok_and(|gradients| gradients.of(&x).is_ok())
}

/// Whether the tiers agree to the last bit, which is tried where it is promised.
fn same_bits(op: &Op) -> bool {
    let on = |name: &str| {
        let device = Device::open(name, Some(1)).unwrap();
        let x = Tensor::from_slice(&device, [2, 2], &[0.1f32, 0.2, 0.3, 0.4]).unwrap();
        let y = (op.run)(&x).ok()?.to_dtype(DType::F32).unwrap();
        Some(y.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    !op.library && tiers.map(|name| on(&name)).all(|bits| bits == on("cpu/scalar"))
}

/// Which tiers compile code of their own for an op, found out by letting kernels tell that they were called.
fn tiers(op: &Op) -> &'static str {
    let device = Device::with_backend(Arc::new(CpuBackend::new(&kernels::SPIES, 1, 1)));
    let x = example(&device, op);
    kernels::called();
    (op.run)(&x).unwrap();
    let called = kernels::called();
    match (op.library, called.contains("bit_matmul"), called.is_empty()) {
        (true, ..) => "gemm",
        (_, true, _) => "each, amx",
        (.., false) => "each",
        _ if leaves_to_host(op) == Some(false) => "-",
        _ => "one for all",
    }
}

/// Whether a device that computes nothing itself has the host compute; none where it cannot.
fn leaves_to_host(op: &Op) -> Option<bool> {
    let device = Device::with_backend(Arc::new(Bare::default()));
    let x = example(&device, op);
    let before = device.fallbacks();
    (op.run)(&x).ok().map(|_| device.fallbacks() > before)
}

/// Who computes an op on the processor and on a device that brings nothing itself.
fn devices(op: &Op) -> &'static str {
    let cpu = Device::open("cpu", Some(1)).unwrap();
    (op.run)(&example(&cpu, op)).unwrap();
    assert_eq!(cpu.fallbacks(), 0, "{} is left to the host by the processor", op.name);
    match leaves_to_host(op) {
        Some(true) => "cpu; others can",
        Some(false) => "all",
        None => "cpu",
    }
}

/// Two by two elements that the op takes: floats, or truths.
fn example(device: &Device, op: &Op) -> Tensor {
    let x = Tensor::from_slice(device, [2, 2], &[0.5f32, 0.25, 0.75, 1.5]).unwrap();
    let taken = op.takes(DType::F32);
    if taken { x } else { x.to_dtype(DType::Bool).unwrap() }
}

/// What stored matrices and caches an op of the device takes beside tensors.
fn stored(capabilities: &[Capability], op: &str) -> String {
    let elements = |name: &str| DType::ALL.iter().any(|dtype| dtype.name() == name);
    let rows = capabilities.iter().filter(|row| row.op == op && row.support == Support::Native);
    let names: Vec<&str> = rows.map(|row| row.operand).filter(|name| !elements(name)).collect();
    if names.is_empty() { String::new() } else { format!("; stored {}", names.join(", ")) }
}

/// The names of the tiers, from slow to fast in each architecture.
fn names_of_tiers() -> String {
    let candidates = cpu::DRIVER.probe;
    let mut names: Vec<String> =
        candidates().into_iter().map(|c| c.name.trim_start_matches("cpu/").to_owned()).collect();
    names.sort();
    names.join(", ")
}

fn page() -> String {
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    let capabilities = Capability::all(&device);
    let mut text = HEAD.replace("TIERS", &names_of_tiers());
    for (title, list) in rows::sections() {
        write!(text, "## {title}\n\n{COLUMNS}").unwrap();
        for op in list {
            let gradient = if has_gradient(&device, &op) { "yes" } else { "-" };
            let bits = if same_bits(&op) { "same" } else { "within rounding" };
            let (types, stored) = (types(&op), stored(&capabilities, &op.name));
            let (name, means, tiers, devices) = (&op.name, op.means, tiers(&op), devices(&op));
            writeln!(
                text,
                "| `{name}` | {means} | {types}{stored} | {gradient} | {tiers} | {bits} | {devices} |"
            )
            .unwrap();
        }
        text.push('\n');
    }
    write!(text, "## Linear algebra\n\n{LINEAR}\n{COLUMNS}").unwrap();
    for (name, means) in public::linear_algebra() {
        writeln!(text, "| `{name}` | {means} | float32 | - | one for all | same | host |").unwrap();
    }
    text
}

#[test]
fn the_page_of_ops_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ops.md");
    let text = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "docs/ops.md is stale; run this test with UPDATE_DOCS=1");
}

#[test]
fn every_public_op_has_a_row() {
    let rows: Vec<String> =
        rows::sections().into_iter().flat_map(|(_, list)| list).map(|op| op.name).collect();
    let named = |name: &str| rows.iter().any(|row| row.rsplit("::").next() == Some(name));
    let found = public::tensor_ops();
    assert!(found.len() > 150, "{found:?}");
    let missing: Vec<_> =
        found.iter().filter(|name| !named(name) && !public::OTHERS.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "on no row of docs/ops.md: {missing:?}");
    let gone: Vec<_> =
        public::OTHERS.iter().filter(|name| !found.iter().any(|found| found == *name)).collect();
    assert!(gone.is_empty(), "no functions any more: {gone:?}");
}
