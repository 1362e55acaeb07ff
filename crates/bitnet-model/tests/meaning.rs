//! Everything in a file that changes the mathematics is obeyed, or refused by name: never ignored.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_model::{
    Config, Error,
    arch::hf::is_kept,
    config::RopeScaling,
    layers::Linear,
    weights::gguf::{Array, Metadata, Spec, Value},
};
use bitnet_quant::{Format, Scales};
use common::changed::{Tensors, changed, folder};
use tempfile::TempDir;

const BITNET: &str = "gguf-bitnet/bitnet-i2_s.gguf";

fn with_keys(keys: &[(&str, Value)]) -> Result<Config, Error> {
    let set = |metadata: &mut Metadata, _: &mut Tensors| {
        keys.iter().for_each(|(key, value)| metadata.set(format!("bitnet-b1.58.{key}"), value.clone()));
    };
    changed(BITNET, set).map(|checkpoint| checkpoint.config().clone())
}

fn scalar(name: &str, value: f32) -> (Spec, Vec<u8>) {
    let spec = Spec { name: name.into(), shape: vec![1], format: Format::F32 };
    (spec, value.to_le_bytes().to_vec())
}

#[test]
fn linear_rope_scaling_of_a_gguf_is_obeyed_in_every_spelling() {
    let linear = RopeScaling::Linear { factor: 4.0 };
    let factor = || Value::F32(4.0);
    for keys in [
        vec![("rope.scaling.type", "linear".into()), ("rope.scaling.factor", factor())],
        vec![("rope.scaling.factor", factor())],
        vec![("rope.scale_linear", factor())],
    ] {
        assert_eq!(with_keys(&keys).unwrap().rope_scaling, linear, "{keys:?}");
    }
    let off = with_keys(&[("rope.scaling.type", "none".into()), ("rope.scaling.factor", factor())]);
    assert_eq!(off.unwrap().rope_scaling, RopeScaling::None);
}

#[test]
fn metadata_that_asks_for_other_mathematics_is_refused_by_name() {
    for (key, value) in [
        ("rope.scaling.type", "yarn".into()),
        ("rope.scaling.attn_factor", Value::F32(1.5)),
        ("attention.causal", Value::Bool(false)),
        ("attention.sliding_window", Value::U32(128)),
        ("final_logit_softcapping", Value::F32(30.0)),
        ("expert_count", Value::U32(8)),
        ("use_parallel_residual", Value::Bool(true)),
        ("attention.head_count", Value::U32(0)),
        ("rope.dimension_count", Value::U32(32)),
    ] {
        let message = with_keys(&[(key, value)]).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
    }
}

#[test]
fn the_width_of_heads_is_that_of_the_query_matrix_where_no_key_names_it() {
    let wide = changed(BITNET, |metadata, tensors| {
        metadata.set("bitnet-b1.58.rope.dimension_count", Value::U32(128));
        for (spec, bytes) in tensors.iter_mut() {
            let shape: &[usize] = match spec.name.split_once(".attn_").map(|(_, name)| name) {
                Some("q.weight") => &[512, 256],
                Some("k.weight" | "v.weight") => &[256, 256],
                Some("output.weight") => &[256, 512],
                Some("sub_norm.weight") => &[512],
                _ => continue,
            };
            spec.shape = shape.to_vec();
            let (cols, rows) = (shape[shape.len() - 1], shape[..shape.len() - 1].iter().product());
            *bytes = 1f32.to_le_bytes().repeat(spec.format.tensor_bytes(rows, cols).unwrap() / 4);
        }
    });
    assert_eq!(wide.unwrap().config().head_dim, 128);
}

#[test]
fn a_file_that_is_only_a_part_of_a_model_is_refused() {
    let error = changed(BITNET, |metadata, _| metadata.set("general.type", "adapter")).unwrap_err();
    assert!(error.to_string().contains("adapter"), "{error}");
}

#[test]
fn quantization_that_rotates_activations_is_refused() {
    for (key, value) in [("hadamard", serde_json::json!(true)), ("activation_bits", serde_json::json!(4))] {
        let into = TempDir::new().unwrap();
        let set = |config: &mut serde_json::Value| config["quantization_config"][key] = value;
        let error = folder("bitnet-packed", set, into.path()).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn factors_of_frequencies_and_linear_scaling_are_not_mixed() {
    let both = changed(BITNET, |metadata, tensors| {
        metadata.set("bitnet-b1.58.rope.scaling.factor", Value::F32(2.0));
        let spec = Spec { name: "rope_freqs.weight".into(), shape: vec![32], format: Format::F32 };
        tensors.push((spec, 1f32.to_le_bytes().repeat(32)));
    });
    assert!(both.unwrap_err().to_string().contains("rope_freqs"));
}

#[test]
fn a_scale_beside_a_ternary_matrix_multiplies_the_stored_one() {
    let plain = changed(BITNET, |_, _| {}).unwrap().projection(0, "self_attn.q_proj").unwrap();
    let Scales::Tensor(alpha) = plain.unpacked().unwrap().scales else { panic!("one scale") };
    for fixture in [BITNET, "gguf-bitnet/bitnet-tq2_0.gguf"] {
        let stored = changed(fixture, |_, _| {}).unwrap().projection(0, "self_attn.q_proj").unwrap();
        let scaled = changed(fixture, |_, tensors| tensors.push(scalar("blk.0.attn_q.scale", 2.0))).unwrap();
        let expected = stored.unpacked().unwrap().scales.times(2.0);
        let weight = scaled.projection(0, "self_attn.q_proj").unwrap();
        assert_eq!(weight.unpacked().unwrap().scales, expected, "{fixture}");
        let [device, ..] = &common::devices()[..] else { panic!("every machine has a device") };
        let decoder = scaled.decoder(device, &|_| {}).unwrap();
        let Linear::Ternary(q) = &decoder.layers[0].attention.q else { panic!("a ternary matrix") };
        let used = q.scales().unwrap().to_vec::<f32>().unwrap();
        assert!((used[0] / (2.0 * alpha) - 1.0).abs() < 1e-3, "{fixture}: {used:?}");
    }
}

#[test]
fn a_scale_that_nothing_would_read_is_refused() {
    for name in ["blk.0.attn_q.weight_scale", "token_embd.scale", "blk.0.attn_norm.scale"] {
        let error = changed(BITNET, |_, tensors| tensors.push(scalar(name, 2.0))).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_embedding_whose_rows_do_not_stand_alone_is_refused() {
    let checkpoint = changed(BITNET, |_, tensors| {
        let (spec, bytes) = tensors.iter_mut().find(|(s, _)| s.name == "token_embd.weight").unwrap();
        spec.format = Format::I2S;
        *bytes = vec![0x55; Format::I2S.tensor_bytes(spec.shape[0], spec.shape[1]).unwrap()];
    })
    .unwrap();
    let error = checkpoint.embedding().unwrap_err().to_string();
    assert!(error.contains("embed_tokens") && error.contains("i2_s"), "{error}");
}

#[test]
fn rows_that_are_not_in_fours_have_no_four_row_layout() {
    let checkpoint = changed(BITNET, |metadata, tensors| {
        metadata.set("bitnet-b1.58.feed_forward_length", Value::U32(130));
        for (spec, bytes) in tensors.iter_mut() {
            match spec.name.rsplit_once("ffn_").map(|(_, name)| name) {
                Some("gate.weight" | "up.weight") => spec.shape = vec![130, 256],
                Some("down.weight") => spec.shape = vec![256, 130],
                Some("sub_norm.weight") => spec.shape = vec![130],
                _ => continue,
            }
            let len = spec.format.tensor_bytes(
                spec.shape[..spec.shape.len() - 1].iter().product(),
                *spec.shape.last().unwrap(),
            );
            *bytes = 1f32.to_le_bytes().repeat(len.unwrap() / 4);
        }
    });
    assert_eq!(checkpoint.unwrap().config().intermediate_size, 130);
}

#[test]
fn the_silu_architecture_with_the_vocabulary_of_a_squared_relu_model_is_refused() {
    let error = changed(BITNET, |metadata, _| {
        let keys: Vec<(String, Value)> = metadata.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        metadata.retain(|key, _| !key.starts_with("bitnet-b1.58"));
        for (key, value) in keys {
            metadata.set(key.replace("bitnet-b1.58", "bitnet"), value);
        }
        metadata.set("general.architecture", "bitnet");
        let token = |id| if id == 128_009 { "<|eot_id|>".to_owned() } else { format!("t{id}") };
        let tokens = (0..128_256).map(token).collect();
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    });
    assert!(error.unwrap_err().to_string().contains("squared ReLU"));
}

#[test]
fn modules_that_are_not_converted_are_named_as_in_transformers() {
    let kept = |name: &str| is_kept("model.layers.1.mlp.down_proj", &[name.to_owned()]);
    for name in ["down_proj", "mlp.down_proj", "model.layers.1", "model.layers.1.mlp.down_proj", "model"] {
        assert!(kept(name), "{name}");
    }
    for name in ["mlp", "model.layers.11", "model.layers.1.mlp.down", "up_proj", "lm_head"] {
        assert!(!kept(name), "{name}");
    }
}

#[test]
fn fields_that_ask_for_other_mathematics_are_refused_by_name() {
    for (field, value) in [
        ("partial_rotary_factor", serde_json::json!(0.5)),
        ("rope_scaling", serde_json::json!("yarn")),
        ("rope_parameters", serde_json::json!({"full_attention": {"rope_theta": 1e4}})),
        ("layer_types", serde_json::json!(["full_attention", "sliding_attention"])),
        ("final_logit_softcapping", serde_json::json!(30.0)),
        ("residual_multiplier", serde_json::json!(0.5)),
    ] {
        let into = TempDir::new().unwrap();
        let error = folder("bitnet-packed", |config| config[field] = value, into.path()).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn a_list_that_would_ternarize_the_head_is_refused() {
    for list in [serde_json::json!([]), serde_json::json!(["model.layers.0"]), serde_json::json!([".*_proj"])]
    {
        let into = TempDir::new().unwrap();
        let set = |config: &mut serde_json::Value| {
            config["quantization_config"]["modules_to_not_convert"] = list;
        };
        let error = folder("bitnet-online-bf16", set, into.path()).unwrap_err();
        assert!(error.to_string().contains("modules_to_not_convert"), "{error}");
    }
}

#[test]
fn a_head_that_differs_from_the_embedding_is_used_even_if_the_configuration_ties_them() {
    let into = TempDir::new().unwrap();
    let tie = |config: &mut serde_json::Value| config["tie_word_embeddings"] = true.into();
    let checkpoint = folder("llama-packed", tie, into.path()).unwrap();
    assert!(checkpoint.head().unwrap().is_some());
}
