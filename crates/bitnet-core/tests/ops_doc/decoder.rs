//! How the ops of the decoder and of training are tried.

use super::rows::{Op, library, op};
use bitnet_core::{
    DType, PackedTensor, Result, Tensor,
    ops::{
        self, Adam, Codes, Glu, Norm, PagedSpan, Rounded, Screen,
        cache::{CacheType, KvLayer, KvShape},
    },
    packed::padded_cols,
};
use bitnet_quant::Format;

/// Rows that are multiplied with: enough for a screen.
const ROWS: usize = 16;
const FIRST: [PagedSpan<'_>; 1] = [PagedSpan { len: 1, start: 0, blocks: &[0] }];

pub fn decoder() -> Vec<Op> {
    vec![
        op("embedding", "rows of a stored matrix", |x| {
            ops::embedding(&ops::quantize_rows(&PackedTensor::from_rows(x)?, Format::F16)?, &[1, 0])
        }),
        op("rms_norm", "of rows", |x| ops::rms_norm(x, &x.at(0, 0)?, 1e-5)),
        op("Codes::quantize", "int8 codes of rows", |x| Ok(Codes::quantize(x)?.codes)),
        op("Codes::of_norm", "int8 codes of rows after a norm", |x| {
            Ok(Codes::of_norm(x, Norm { weight: &x.at(0, 0)?, eps: 1e-5 })?.codes)
        }),
        op("Codes::of_glu", "int8 codes of a gated unit, after a norm where there is one", |x| {
            Ok(Codes::of_glu(Glu::Relu2, x, x, None)?.codes)
        }),
        op("bit_matmul", "of codes and a ternary matrix", |x| {
            ops::bit_matmul(&Codes::quantize(x)?, &ternary(x)?)
        }),
        op("bit_matmul_all", "of codes and several ternary matrices", |x| {
            let weight = ternary(x)?;
            let [y, _] = ops::bit_matmul_all(&Codes::quantize(x)?, [&weight, &weight])?;
            Ok(y)
        }),
        op("bit_matmul_add", "as `bit_matmul`, added in place", |x| {
            ops::bit_matmul_add(x.detach().copy()?, &Codes::quantize(x)?, &ternary(x)?)
        }),
        op("matmul_t", "of rows and a stored matrix", |x| ops::matmul_t(x, &matrix(x)?)),
        op("quantize_rows", "a stored matrix in another format", |x| {
            let rows = x.broadcast_to([16, 2, 2])?.copy()?.reshape([2, 32])?;
            Ok(ops::quantize_rows(&PackedTensor::from_rows(&rows)?, Format::Q8_0)?.data().clone())
        }),
        op("largest_products", "as `matmul_t`, of the largest alone", |x| {
            let weight = matrix(x)?;
            ops::largest_products(x, &weight, &Screen::of(&weight)?, &[1, 1])
        }),
        op("rope", "a rotation of heads by their position", |x| {
            let angle = |i| x.narrow(1, i, 1)?.copy();
            ops::rope(x.reshape([2, 1, 2])?, &angle(0)?, &angle(1)?)
        }),
        op("glu", "of a gate and its factor", |x| ops::glu(Glu::Silu, x, &x.copy()?)),
        op("add_to", "in place", |x| ops::add_to(x.copy()?, x)),
        op("kv_store", "keys and values to a cache", |x| stored(x)?.0.zeros_like()),
        op("attention", "over a cache", |x| {
            let (q, cache) = stored(x)?;
            ops::attention(&q, &FIRST, &cache)
        }),
    ]
}

pub fn training() -> Vec<Op> {
    vec![
        library(op("linear", "of rows and the rows of a matrix", |x| ops::linear(x, x))),
        library(op("causal_attention", "of whole sequences", |x| {
            let x = x.reshape([2, 1, 2])?;
            ops::causal_attention(&x, &x, &x, &[2])
        })),
        op("bit_linear", "of rows and a matrix, both rounded; straight through", |x| {
            let values = x.ones_like()?;
            let rounded = Rounded { values: values.clone(), packed: ternary(x)? };
            ops::bit_linear(x, &Codes::quantize(x)?, &values, &rounded)
        }),
        op("fake_quantize", "what int8 codes mean; straight through", ops::fake_quantize),
        op("fake_ternarize", "what ternary codes mean; straight through", |x| ops::fake_ternarize(x, None)),
        op("fake_cast", "what a shorter float keeps; straight through", |x| ops::fake_cast(x, DType::BF16)),
        op("cross_entropy", "loss of rows", |x| ops::cross_entropy(x, &[0, 1])),
        op("kl_divergence", "from the rows of a teacher", |x| ops::kl_divergence(x, &x.ones_like()?, 1.0)),
        op("adam", "a step of an optimizer, in place", |x| {
            let adam = Adam {
                lr: 1e-3,
                betas: [0.9, 0.95],
                eps: 1e-8,
                weight_decay: 0.1,
                decoupled: true,
                step: 1,
                gradient_scale: 1.0,
            };
            let [mut w, mut m, mut v] = [x.detach().copy()?, x.zeros_like()?, x.zeros_like()?];
            ops::adam(&adam, &mut w, &x.detach(), &mut m, &mut v).map(|()| w)
        }),
    ]
}

/// Ones in f32, as many columns as `x` has.
fn matrix(x: &Tensor) -> Result<PackedTensor> {
    PackedTensor::from_rows(&Tensor::ones(x.device(), [ROWS, 2], DType::F32)?)
}

fn ternary(x: &Tensor) -> Result<PackedTensor> {
    let codes = Tensor::full(x.device(), [2 * padded_cols(2) / 4], 85.0, DType::U8)?;
    PackedTensor::ternary(2, 2, codes, Tensor::ones(x.device(), [1], DType::F32)?)
}

/// Queries, and a cache that holds them as keys and values.
fn stored(x: &Tensor) -> Result<(Tensor, KvLayer)> {
    let q = x.reshape([1, 1, 4])?;
    let shape = KvShape { heads: 1, head_dim: 4, storage: CacheType::F32 };
    let mut cache = KvLayer::new(x.device(), 1, shape)?;
    ops::kv_store(&q, &q, &FIRST, &mut cache)?;
    Ok((q, cache))
}
