//! The inside of a layer against transformers: codes equal, products within the noise of f32.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_core::{
    Device, Tensor,
    ops::{self, Codes},
    packed::padded_cols,
};
use bitnet_model::{
    Decoder,
    batch::{Batch, Logits},
    decoder::Layer,
    layers::{Linear, LinearInput, RmsNorm},
    sparsity::{Count, Sparsity, TILES},
};
use common::{Goldens, devices, load};

/// Of the largest magnitude of a row: an exact integer product differs from the oracle's floats by at most 6e-7.
const LINEAR: f32 = 2e-6;

fn tensor(goldens: &Goldens, name: &str, device: &Device) -> Tensor {
    Tensor::from_slice(device, &goldens.shape(name)[..], &goldens.floats(name)).unwrap()
}

fn assert_rows_close(got: &[f32], golden: &[f32], width: usize, what: &str) {
    assert_eq!(got.len(), golden.len(), "{what}");
    for (row, (got, golden)) in got.chunks(width).zip(golden.chunks(width)).enumerate() {
        let largest = golden.iter().fold(0f32, |m, x| m.max(x.abs()));
        let difference = got.iter().zip(golden).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
        assert!(difference <= LINEAR * largest, "{what}, row {row}: {difference:e} of {largest:e}");
    }
}

/// The linears that share an input, with the name of that input.
fn linears(layer: &Layer) -> [(&'static str, Vec<(&'static str, &Linear)>); 4] {
    let (a, m) = (&layer.attention, &layer.mlp);
    [
        ("q_in", vec![("q_out", &a.q), ("k_out", &a.k), ("v_out", &a.v)]),
        ("o_in", vec![("o_out", &a.o)]),
        ("gate_in", vec![("gate_out", &m.gate), ("up_out", &m.up)]),
        ("down_in", vec![("down_out", &m.down)]),
    ]
}

fn check_linears(layer: &Layer, index: usize, goldens: &Goldens, device: &Device) {
    for (input, outputs) in linears(layer) {
        let name = format!("layer{index}.{input}");
        let x = tensor(goldens, &name, device);
        let (tokens, width) = (x.shape().rows(), x.shape().last());
        let codes = Codes::quantize(&x).unwrap();
        let (got, golden) = (codes.codes.to_vec::<i8>().unwrap(), goldens.codes(&format!("{name}_q")));
        for token in 0..tokens {
            let row = &got[token * padded_cols(width)..][..width];
            assert_eq!(row, &golden[token * width..][..width], "{name}, token {token}");
        }
        assert_eq!(codes.scales.to_vec::<f32>().unwrap(), goldens.floats(&format!("{name}_scale")), "{name}");
        let input = LinearInput::new(&x);
        for (output, linear) in outputs {
            let y = linear.forward(&input).unwrap();
            let name = format!("layer{index}.{output}");
            assert_rows_close(&y.to_vec::<f32>().unwrap(), &goldens.floats(&name), y.shape().last(), &name);
        }
    }
}

/// `[T, n·D]` to the oracle's `[n, T, D]`.
fn by_head(x: &Tensor) -> Vec<f32> {
    let &[tokens, heads, dim] = x.shape().dims() else { panic!("{}", x.shape()) };
    let data = x.to_vec::<f32>().unwrap();
    let row = |head: usize, token: usize| data[(token * heads + head) * dim..][..dim].to_vec();
    (0..heads)
        .flat_map(|head| (0..tokens).flat_map(move |token| row(head, token)).collect::<Vec<_>>())
        .collect()
}

fn check_rope(decoder: &Decoder, index: usize, goldens: &Goldens, device: &Device) {
    for (projection, rotated) in [("q_out", "q_rope"), ("k_out", "k_rope")] {
        let x = tensor(goldens, &format!("layer{index}.{projection}"), device);
        let (tokens, dim) = (x.shape().rows(), decoder.config.head_dim);
        let width = x.shape().last();
        let heads = x.into_shape([tokens, width / dim, dim]).unwrap();
        let rotation = decoder.rope.rotation(device, &(0..tokens).collect::<Vec<_>>()).unwrap();
        let heads = ops::rope(heads, &rotation.cos, &rotation.sin).unwrap();
        let name = format!("layer{index}.{rotated}");
        assert_rows_close(&by_head(&heads), &goldens.floats(&name), dim, &name);
    }
}

fn check(model: &str) {
    let goldens = Goldens::open(&format!("{model}/trace.safetensors"));
    for device in devices() {
        let decoder = load(model, &device);
        for (index, layer) in decoder.layers.iter().enumerate() {
            check_linears(layer, index, &goldens, &device);
            check_rope(&decoder, index, &goldens, &device);
            if let Some(norm) = &layer.mlp.sub_norm {
                check_gate(layer, norm, index, &goldens, &device);
            }
        }
    }
}

/// What the gate and the other half make, normalised.
fn check_gate(layer: &Layer, norm: &RmsNorm, index: usize, goldens: &Goldens, device: &Device) {
    let part = |name: &str| tensor(goldens, &format!("layer{index}.{name}"), device);
    let y = ops::glu(layer.mlp.activation, &part("gate_out"), &part("up_out")).unwrap();
    let y = norm.forward(&y).unwrap();
    let name = format!("layer{index}.ffn_sub_norm_out");
    assert_rows_close(&y.to_vec::<f32>().unwrap(), &goldens.floats(&name), y.shape().last(), &name);
}

#[test]
fn a_bitnet_agrees_inside_of_its_layers() {
    check("bitnet-packed");
}

#[test]
fn a_llama_agrees_inside_of_its_layers() {
    check("llama-packed");
}

/// A model counts the zeros of the oracle's codes, of p0 and then of its first five tokens.
fn check_zeros(model: &str) {
    let goldens = Goldens::open(&format!("{model}/trace.safetensors"));
    let ids = Goldens::open(&format!("{model}/golden.safetensors")).ids("p0.input_ids");
    for device in devices() {
        let decoder = load(model, &device);
        let mut sparsity = Sparsity::of(&decoder);
        for span in [&ids[..], &ids[..5]] {
            let mut batch = Batch::default();
            batch.push(span, 0, vec![], Logits::None);
            decoder.forward_watched(&batch, None, &mut |layer, codes| sparsity.count(layer, codes)).unwrap();
        }
        let width = decoder.config.intermediate_size;
        for (index, counts) in sparsity.layers().iter().enumerate() {
            let golden = goldens.codes(&format!("layer{index}.down_in_q"));
            let seen = [&golden[..], &golden[..5 * width]].concat();
            let zero = |tile: &[i8]| tile.iter().all(|code| *code == 0);
            for (count, tile) in counts.iter().zip(TILES).filter(|(_, tile)| tile.tokens == 1) {
                let zero =
                    seen.chunks(width).flat_map(|row| row.chunks(tile.codes)).filter(|t| zero(t)).count();
                let all = width.div_ceil(tile.codes) * (ids.len() + 5);
                assert_eq!(*count, Count { zero: zero as u64, all: all as u64 }, "layer {index}, {tile}");
            }
        }
    }
}

#[test]
fn zeros_are_counted_where_transformers_has_them() {
    check_zeros("bitnet-packed");
    check_zeros("llama-packed");
}
