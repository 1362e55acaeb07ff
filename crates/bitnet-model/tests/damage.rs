//! Numbers in a file that no decoder can be built from, or that no text can come from: one test for each kind.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_model::{
    Checkpoint, Error,
    weights::gguf::{Metadata, Spec, Value},
};
use common::changed::{Tensors, changed, folder};
use tempfile::TempDir;

const I2S: &str = "gguf-bitnet/bitnet-i2_s.gguf";
const TQ2: &str = "gguf-bitnet/bitnet-tq2_0.gguf";

fn refusal_of_key(key: &str, value: Value) -> String {
    let set = |metadata: &mut Metadata, _: &mut Tensors| metadata.set(format!("bitnet-b1.58.{key}"), value);
    changed(I2S, set).unwrap_err().to_string()
}

/// The error of every check, for a fixture in which the bytes of a tensor were changed.
fn damage(fixture: &str, tensor: &str, change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let checkpoint = changed(fixture, |_, tensors| {
        let (_, bytes): &mut (Spec, Vec<u8>) = tensors.iter_mut().find(|(s, _)| s.name == tensor).unwrap();
        change(bytes);
    });
    checkpoint.and_then(|checkpoint| checkpoint.check_tensors(&|_| {})).unwrap_err()
}

fn loaded(checkpoint: &Checkpoint) -> Result<(), Error> {
    let device = &common::devices()[0];
    checkpoint.decoder(device, &|_| {}).map(|_| ())
}

#[test]
fn a_block_count_of_0_or_65536_is_refused() {
    for count in [0, 65_536] {
        assert!(refusal_of_key("block_count", Value::U32(count)).contains("num_hidden_layers"));
    }
}

#[test]
fn a_head_count_of_0_is_refused() {
    assert!(refusal_of_key("attention.head_count", Value::U32(0)).contains("head_count"));
    assert!(refusal_of_key("attention.head_count_kv", Value::U32(0)).contains("num_key_value_heads"));
}

#[test]
fn kv_heads_that_do_not_divide_the_heads_are_refused() {
    assert!(refusal_of_key("attention.head_count_kv", Value::U32(3)).contains("num_key_value_heads"));
}

#[test]
fn an_odd_rotary_width_is_refused() {
    assert!(refusal_of_key("rope.dimension_count", Value::U32(63)).contains("rope.dimension_count"));
}

#[test]
fn an_epsilon_of_0_or_nan_is_refused() {
    for eps in [0.0, f32::NAN, -1e-5] {
        assert!(refusal_of_key("attention.layer_norm_rms_epsilon", Value::F32(eps)).contains("rms_norm_eps"));
    }
}

#[test]
fn a_vocabulary_size_that_is_not_the_rows_of_the_embedding_is_refused() {
    assert!(refusal_of_key("vocab_size", Value::U32(500)).contains("token_embd"));
}

#[test]
fn nan_and_infinity_in_a_norm_are_refused_by_tensor_and_index() {
    for value in [f32::NAN, f32::INFINITY] {
        let put = |bytes: &mut Vec<u8>| bytes[4 * 7..4 * 8].copy_from_slice(&value.to_le_bytes());
        let message = damage(I2S, "blk.1.ffn_norm.weight", put).to_string();
        assert!(message.contains("post_attention_layernorm") && message.contains("value 7"), "{message}");
    }
}

#[test]
fn a_norm_that_is_not_finite_is_refused_without_being_asked_to_check() {
    let checkpoint = changed(I2S, |_, tensors| {
        let (_, bytes) = tensors.iter_mut().find(|(s, _)| s.name == "output_norm.weight").unwrap();
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(loaded(&checkpoint.unwrap()).unwrap_err().to_string().contains("model.norm"));
}

#[test]
fn a_number_of_the_embedding_that_is_not_finite_is_refused_by_index() {
    // 0x7c00 is infinity as f16.
    let put = |bytes: &mut Vec<u8>| bytes[2 * 300..2 * 301].copy_from_slice(&[0x00, 0x7c]);
    let message = damage(I2S, "token_embd.weight", put).to_string();
    assert!(message.contains("embed_tokens") && message.contains("value 300"), "{message}");
}

#[test]
fn a_scale_of_0_nan_or_less_is_refused() {
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let put = |bytes: &mut Vec<u8>| {
            let at = bytes.len() - 32;
            bytes[at..at + 4].copy_from_slice(&f32::to_le_bytes(value));
        };
        let message = damage(I2S, "blk.0.attn_q.weight", put).to_string();
        assert!(message.contains("q_proj") && message.contains("scale"), "{message}");
    }
}

#[test]
fn a_ternary_code_of_3_is_refused_by_tensor_and_byte_without_being_asked_to_check() {
    for fixture in [I2S, TQ2] {
        let checkpoint = changed(fixture, |_, tensors| {
            let (_, bytes) = tensors.iter_mut().find(|(s, _)| s.name == "blk.1.ffn_up.weight").unwrap();
            bytes[11] |= 0b1100;
        });
        let checkpoint = checkpoint.unwrap();
        for error in [checkpoint.check_tensors(&|_| {}), loaded(&checkpoint)] {
            let message = error.unwrap_err().to_string();
            assert!(message.contains("layers.1.mlp.up_proj") && message.contains("byte 11"), "{message}");
        }
    }
}

#[test]
fn a_packed_code_of_3_is_refused_when_the_folder_is_loaded() {
    let into = TempDir::new().unwrap();
    let checkpoint = folder("bitnet-packed", |_| {}, into.path()).unwrap();
    let weight = checkpoint.projection(0, "self_attn.q_proj").unwrap();
    let path = into.path().join("model.safetensors");
    let mut file = std::fs::read(&path).unwrap();
    let at = file.windows(64).position(|window| window == &weight.bytes[..64]).unwrap();
    file[at + 5] = 0xff;
    drop((checkpoint, weight));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, file).unwrap();
    let damaged = Checkpoint::open(into.path(), bitnet_model::checkpoint::Options::default()).unwrap();
    let message = loaded(&damaged).unwrap_err().to_string();
    assert!(message.contains("q_proj") && message.contains('5'), "{message}");
}

#[test]
fn a_packed_scale_of_0_is_refused() {
    let into = TempDir::new().unwrap();
    let checkpoint = folder("bitnet-packed", |_| {}, into.path()).unwrap();
    assert!(loaded(&checkpoint).is_ok());
    let path = into.path().join("model.safetensors");
    let mut file = std::fs::read(&path).unwrap();
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + len]).unwrap();
    let start = header["model.layers.0.self_attn.q_proj.weight_scale"]["data_offsets"][0].as_u64().unwrap();
    let at = 8 + len + start as usize;
    file[at..at + 2].fill(0);
    drop(checkpoint);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, file).unwrap();
    let damaged = Checkpoint::open(into.path(), bitnet_model::checkpoint::Options::default()).unwrap();
    assert!(loaded(&damaged).unwrap_err().to_string().contains("weight_scale"));
}
