//! Conversions: what they keep, what they refuse, and what they leave behind.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_model::{
    Checkpoint, Error, Tokenizer,
    checkpoint::{Evidence, Options},
    convert::{self, Target},
    weights::gguf::Spec,
};
use bitnet_quant::Format;
use common::changed::{changed, folder, write_changed};
use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};
use tempfile::TempDir;

fn write(checkpoint: &Checkpoint, out: &Path, ternary: Format) -> Result<(), Error> {
    let (tokenizer, _) = Tokenizer::of(checkpoint.source()).unwrap();
    let target = Target { ternary, embedding: None };
    convert::convert(checkpoint, &tokenizer, out, target, &|_| ControlFlow::Continue(()))
}

fn reopened(path: &Path) -> Checkpoint {
    Checkpoint::open(path, Options::default()).unwrap()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn an_i2_s_file_of_ours_says_which_layout_it_has() {
    let out = TempDir::new().unwrap();
    let path = out.path().join("a.gguf");
    write(&reopened(&common::testdata("bitnet-packed")), &path, Format::I2S).unwrap();
    assert_eq!(reopened(&path).i2s_decision().unwrap().evidence, Evidence::Stated);
    write(&reopened(&path), &out.path().join("b.gguf"), Format::Tq2).unwrap();
    assert_eq!(reopened(&out.path().join("b.gguf")).i2s_decision(), None);
}

#[test]
fn the_layout_of_another_build_is_converted_code_for_code() {
    let options = Options { i2s_layout: Some(Format::I2SArm), ..Options::default() };
    let arm = Checkpoint::open(common::testdata("gguf-bitnet/bitnet-i2_s-arm.gguf"), options).unwrap();
    let x86 = reopened(&common::testdata("gguf-bitnet/bitnet-i2_s.gguf"));
    let out = TempDir::new().unwrap();
    write(&arm, &out.path().join("a.gguf"), Format::I2S).unwrap();
    let converted = reopened(&out.path().join("a.gguf"));
    for (layer, name) in x86.projections() {
        let codes = |c: &Checkpoint| c.projection(layer, name).unwrap().unpacked().unwrap();
        assert_eq!(codes(&converted), codes(&x86), "{layer} {name}");
    }
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing_behind() {
    let checkpoint = reopened(&common::testdata("bitnet-packed"));
    let (tokenizer, _) = Tokenizer::of(checkpoint.source()).unwrap();
    for (ternary, name) in [(Format::I2S, "a.gguf"), (Format::HfPacked, "a")] {
        let out = TempDir::new().unwrap();
        let written = AtomicUsize::new(0);
        let stop = |_| match written.fetch_add(1, SeqCst) {
            5.. => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let target = Target { ternary, embedding: None };
        let stopped = convert::convert(&checkpoint, &tokenizer, &out.path().join(name), target, &stop);
        assert!(matches!(stopped, Err(Error::Stopped)));
        assert!(is_empty(out.path()), "{name}");
    }
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let checkpoint = reopened(&common::testdata("bitnet-packed"));
    let out = TempDir::new().unwrap();
    fs::write(out.path().join("chat_template.jinja"), "of another model").unwrap();
    let error = write(&checkpoint, out.path(), Format::HfPacked).unwrap_err().to_string();
    assert!(error.contains("already there"), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    let empty = out.path().join("empty");
    fs::create_dir(&empty).unwrap();
    write(&checkpoint, &empty, Format::HfPacked).unwrap();
    assert!(reopened(&empty).config().sub_norms);
}

#[test]
fn only_files_are_replaced() {
    let checkpoint = reopened(&common::testdata("bitnet-packed"));
    let out = TempDir::new().unwrap();
    assert!(write(&checkpoint, out.path(), Format::I2S).unwrap_err().to_string().contains("folder"));
    assert!(is_empty(out.path()));
    #[cfg(unix)]
    {
        let link = out.path().join("link.gguf");
        std::os::unix::fs::symlink("nowhere.gguf", &link).unwrap();
        assert!(write(&checkpoint, &link, Format::I2S).unwrap_err().to_string().contains("leads nowhere"));
        fs::write(out.path().join("nowhere.gguf"), "old").unwrap();
        write(&checkpoint, &link, Format::I2S).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(reopened(&link).config().sub_norms);
    }
}

#[test]
fn the_older_q2_0_is_written_under_the_number_that_its_bytes_have_now() {
    const NAME: &str = "blk.0.ffn_down.weight";
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = source.path().join("old.gguf");
    write_changed("gguf-bitnet/bitnet-tq2_0.gguf", &path, |_, tensors| {
        let (spec, bytes): &mut (Spec, Vec<u8>) = tensors.iter_mut().find(|(s, _)| s.name == NAME).unwrap();
        spec.format = Format::Pq2;
        let blocks = spec.shape[0] * spec.shape[1] / 128;
        *bytes = (0..blocks).flat_map(|i| [vec![0, 0x30 + (i % 8) as u8], vec![0x64; 32]].concat()).collect();
    });
    // The type number stands behind the name, the number of dimensions and two dimensions.
    let mut bytes = fs::read(&path).unwrap();
    let at =
        bytes.windows(NAME.len()).position(|window| window == NAME.as_bytes()).unwrap() + NAME.len() + 20;
    bytes[at..at + 4].copy_from_slice(&42u32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let old = reopened(&path).projection(0, "mlp.down_proj").unwrap();
    write(&reopened(&path), &out.path().join("a.gguf"), Format::I2S).unwrap();
    let new = reopened(&out.path().join("a.gguf")).projection(0, "mlp.down_proj").unwrap();
    assert_eq!((old.format, new.format), (Format::Q2_0G128, Format::Pq2));
    assert_eq!(old.unpacked().unwrap(), new.unpacked().unwrap());
}

#[test]
fn a_matrix_of_zeros_can_be_read_back_from_a_folder() {
    let checkpoint = changed("gguf-bitnet/bitnet-tq2_0.gguf", |_, tensors| {
        let (_, bytes) = tensors.iter_mut().find(|(s, _)| s.name == "blk.0.attn_q.weight").unwrap();
        bytes.as_chunks_mut::<66>().0.iter_mut().for_each(|block| {
            block[..64].fill(0x55);
            block[64..].fill(0);
        });
    })
    .unwrap();
    let out = TempDir::new().unwrap();
    write(&checkpoint, &out.path().join("a"), Format::HfPacked).unwrap();
    let weight = reopened(&out.path().join("a")).projection(0, "self_attn.q_proj").unwrap();
    assert!(weight.unpacked().unwrap().codes.iter().all(|&code| code == 0));
}

#[test]
fn a_folder_of_1bitllm_becomes_one_that_transformers_computes_the_same_way() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let rename = |config: &mut serde_json::Value| {
        config["architectures"] = serde_json::json!(["BitnetForCausalLM"]);
        config["model_type"] = "llama".into();
        config["auto_map"] = serde_json::json!({});
        config["hidden_act"] = "silu".into();
    };
    let checkpoint = folder("bitnet-packed", rename, source.path()).unwrap();
    write(&checkpoint, &out.path().join("a"), Format::HfPacked).unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(out.path().join("a/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"], serde_json::json!(["BitNetForCausalLM"]));
    assert_eq!((&config["model_type"], &config["hidden_act"]), (&"bitnet".into(), &"silu".into()));
    assert_eq!(config.get("auto_map"), None);
}
