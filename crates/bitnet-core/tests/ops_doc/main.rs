//! `docs/ops.md` says what the ops do: it is made here by trying them. `UPDATE_DOCS=1 cargo test -p bitnet-core --test ops_doc` writes it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{DType, Device, Result, Tensor, ops};
use std::{fmt::Write, fs, path::Path};

type Run = dyn Fn(&Tensor) -> Result<Tensor>;

/// An op under its name, on a tensor of two by two elements.
struct Op {
    name: String,
    means: &'static str,
    run: Box<Run>,
    /// Whether every tier gives the same bits.
    same_bits: bool,
}

fn op(name: impl Into<String>, means: &'static str, run: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Op {
    Op { name: name.into(), means, run: Box::new(run), same_bits: true }
}

fn indices(x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(x.device(), [2], &[1i64, 0])
}

fn square_of_indices(x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(x.device(), [2, 2], &[1i64, 0, 0, 1])
}

fn elementwise() -> Vec<Op> {
    let unary = ops::Unary::ALL.map(|kind| op(kind.name(), "of one element", move |x| ops::unary(kind, x)));
    let binary = ops::Binary::ALL.map(|kind| {
        op(kind.name(), "of two elements, broadcast", move |x| ops::binary(kind, x, &x.ones_like()?))
    });
    let compare = ops::Compare::ALL
        .map(|kind| op(kind.name(), "truth of two elements, broadcast", move |x| ops::compare(kind, x, x)));
    let logical = ops::Logical::ALL
        .map(|kind| op(kind.name(), "of two truths, broadcast", move |x| ops::logical(kind, x, x)));
    let others = [
        op("where_cond", "a choice by truths, broadcast", |x| x.eq(x)?.where_cond(x, x)),
        op("to_dtype", "another element type", |x| x.to_dtype(DType::F32)),
        op("copy", "contiguous rows of its own", Tensor::copy),
    ];
    unary.into_iter().chain(binary).chain(compare).chain(logical).chain(others).collect()
}

fn along_dimensions() -> Vec<Op> {
    let reduce = ops::Reduce::ALL
        .map(|kind| op(kind.name(), "over any dimensions", move |x| ops::reduce(kind, x, &0.into(), false)));
    let others = [
        op("mean", "over any dimensions", |x| x.mean(0, false)),
        op("var", "over any dimensions", |x| x.var(0, 0, false)),
        op("std", "over any dimensions", |x| x.std(0, 0, false)),
        op("logsumexp", "over any dimensions", |x| x.logsumexp(0, false)),
        op("norm", "of order p, over any dimensions", |x| x.norm(2.0, 0, false)),
        op("cumsum", "along a dimension", |x| x.cumsum(0)),
        op("softmax", "along a dimension", |x| x.softmax(0)),
        op("log_softmax", "along a dimension", |x| x.log_softmax(0)),
        op("sort", "along a dimension, and where the elements were", |x| Ok(x.sort(0, false)?.0)),
        op("topk", "along a dimension, and where the elements were", |x| Ok(x.topk(1, 0, true)?.0)),
        op("index_select", "entries of a dimension", |x| x.index_select(0, &indices(x)?)),
        op("gather", "elements by index along a dimension", |x| x.gather(0, &square_of_indices(x)?)),
        op("scatter_add", "added by index along a dimension", |x| {
            x.scatter_add(0, &square_of_indices(x)?, x)
        }),
        op("concat", "along a dimension", |x| ops::concat(&[x, x], 0)),
        op("stack", "along a new dimension", |x| ops::stack(&[x, x], 0)),
        op("flip", "along a dimension", |x| x.flip(0)),
        op("tril", "of the last two dimensions", |x| x.tril(0)),
        op("triu", "of the last two dimensions", |x| x.triu(0)),
    ];
    reduce.into_iter().chain(others).collect()
}

fn products() -> Vec<Op> {
    let library = |op| Op { same_bits: false, ..op };
    vec![
        library(op("matmul", "of matrices and vectors, batched", |x| x.matmul(x))),
        library(op("einsum", "sums of products by letters", |x| ops::einsum("ij,jk->ik", &[x, x]))),
        library(op("dot", "of two vectors", |x| x.at(0, 0)?.dot(&x.at(0, 1)?))),
        op("outer", "of two vectors", |x| x.at(0, 0)?.outer(&x.at(0, 1)?)),
    ]
}

fn views() -> Vec<Op> {
    vec![
        op("reshape", "without a copy", |x| x.reshape([4])),
        op("flatten", "without a copy", |x| x.flatten(0, 1)),
        op("permute", "without a copy", |x| x.permute(&[1, 0])),
        op("transpose", "without a copy", |x| x.transpose(0, 1)),
        op("narrow", "without a copy", |x| x.narrow(0, 0, 1)),
        op("slice", "without a copy", |x| x.slice(0, 0, 2, 2)),
        op("at", "without a copy", |x| x.at(0, 1)),
        op("squeeze", "without a copy", |x| x.narrow(0, 0, 1)?.squeeze(0)),
        op("unsqueeze", "without a copy", |x| x.unsqueeze(0)),
        op("broadcast_to", "without a copy", |x| x.broadcast_to([3, 2, 2])),
        op("diagonal", "without a copy", |x| x.diagonal(0, 1)),
        op("split", "without a copy", |x| Ok(x.split(0, &[1, 1])?.remove(1))),
    ]
}

/// Names of the types that an op takes, those that come in groups as one word.
fn types(device: &Device, op: &Op) -> String {
    let takes = |dtype: &DType| {
        let x = Tensor::ones(device, [2, 2], *dtype).unwrap();
        (op.run)(&x).is_ok()
    };
    let taken: Vec<DType> = DType::ALL.into_iter().filter(takes).collect();
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
    op.same_bits && tiers.map(|name| on(&name)).all(|bits| bits == on("cpu/scalar"))
}

/// Ops of inference, whose tiers `tests/kernels/` compares.
const DECODER: &str = "\
## Of the decoder

Over float32 rows, the same bits on every CPU tier (`crates/bitnet-core/tests/kernels/`): `embedding`, `rms_norm`, `quantize_activation`,
`bit_matmul`, `matmul_t`, `largest_products`, `rope`, `glu`, `add_to`, `kv_store`, `attention`. With gradients: `rms_norm`, `rope`, `glu`, `add_to`.

## Of training

Over float32, against PyTorch and between tiers in `crates/bitnet-core/tests/training_ops.rs` and `kernels/`. With gradients: `linear`,
`causal_attention` (both within rounding between tiers), `cross_entropy`, `kl_divergence`, and `bit_linear`, `fake_quantize`,
`fake_ternarize` and `fake_cast`, whose gradients pass straight through. Without: `adam`.

## Linear algebra

In `bitnet-linalg`, over batches of float32 matrices on the host, computed in float64, without gradients
(`crates/bitnet-linalg/tests/linalg.rs`): `qr`, `svd`, `svdvals`, `cholesky`, `lu`, `eigh`, `eig`, `solve`, `inverse`, `det`, `slogdet`, `pinv`,
`lstsq`, `matrix_rank`, `cond`, `matrix_norm`.
";

fn page() -> String {
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    let mut text = String::from(
        "# What the tensor ops take\n\nMade by trying every op (`crates/bitnet-core/tests/ops_doc.rs`, which also checks that this page \
         is fresh).\nEvery op runs on every device: what a backend does not bring itself runs on the scalar reference of the host, and \
         is counted.\nThe CPU brings all of them. Integers are exact and wrap; floats are computed in f32.\nEvery gradient is compared \
         with central differences in f64 (`crates/bitnet-core/tests/gradients/`).\n\n",
    );
    let sections = [
        ("Element by element", elementwise()),
        ("Along dimensions", along_dimensions()),
        ("Products", products()),
        ("Views", views()),
    ];
    for (title, list) in sections {
        write!(
            text,
            "## {title}\n\n| op | | element types | gradient | CPU tiers |\n|---|---|---|---|---|\n"
        )
        .unwrap();
        for op in list {
            let gradient = if has_gradient(&device, &op) { "yes" } else { "-" };
            let bits = if same_bits(&op) { "same bits" } else { "within rounding" };
            writeln!(
                text,
                "| `{}` | {} | {} | {gradient} | {bits} |",
                op.name,
                op.means,
                types(&device, &op)
            )
            .unwrap();
        }
        text.push('\n');
    }
    text.push_str(DECODER);
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
