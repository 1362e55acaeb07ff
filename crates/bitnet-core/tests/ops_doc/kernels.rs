//! Which kernels of its tier an op runs: those of the scalar one, which write their names down.

use bitnet_core::{
    Bool,
    cpu::{kernels::Kernels, partition::ColumnsMut},
    ops::{
        self,
        attention::Past,
        bit_matmul::{CodeRows, TernaryRows},
        quantize_activation::RowCodes,
        screen::{ArrangedTokens, q6_k::SplitCodes},
        triples::Table,
    },
};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static CALLED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// The kernels that were called since the last time.
pub fn called() -> BTreeSet<&'static str> {
    std::mem::take(&mut *CALLED.lock().unwrap_or_else(PoisonError::into_inner))
}

macro_rules! spies {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name($($arg: $type),*) $(-> $result)? {
            CALLED.lock().unwrap_or_else(PoisonError::into_inner).insert(stringify!($name));
            (Kernels::SCALAR.$name)($($arg),*)
        })*

        /// The kernels of the scalar tier that tell of their calls.
        pub static SPIES: Kernels = Kernels { $($name,)* ..Kernels::SCALAR };
    };
}

spies! {
    fn integer_peak(rounds: usize) -> u64;
    fn bit_matmul(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>);
    fn triple_tables(codes: &[i8], tables: &mut [Table]);
    fn quantize_activation(x: &[f32], codes: &mut [i8]) -> RowCodes;
    fn quantize_normed(x: &[f32], weight: &[f32], eps: f32, codes: &mut [i8]) -> RowCodes;
    fn screen(w: &[f32], codes: &mut [i8]) -> ops::RowFigures;
    fn arrange_codes(codes: &[i16], to: &mut [i16]) -> i64;
    fn screen_dots(rows: &[i8], x: ArrangedTokens<'_>, sums: &mut [i64]);
    fn largest_bounds(guesses: &[f32], figures: &[ops::RowFigures], token: &ops::TokenFigures, bounds: &mut [ops::LargestBounds]);
    fn screen_dots_q6_k(rows: &[u8], x: &[SplitCodes], width: usize, sums: &mut [f32]);
    fn quantize_q8_0(x: &[f32], bytes: &mut [u8]) -> bitnet_quant::Result<()>;
    fn quantize_q6_k(x: &[f32], bytes: &mut [u8]) -> bitnet_quant::Result<()>;
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]);
    fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]);
    fn add(x: &mut [f32], y: &[f32]);
    fn softmax(x: &[f32], y: &mut [f32]);
    fn log_softmax(x: &[f32], y: &mut [f32]);
    fn stream(x: &[u8], width: usize, y: &mut [u8], pitch: usize);
    fn fence();
    fn transpose(size: usize, x: &[u8], stride: usize, y: &mut [u8], cols: usize);
    fn unary(op: ops::Unary, x: ops::Operand<'_>, y: &mut [f32]);
    fn binary(op: ops::Binary, a: ops::Operand<'_>, b: ops::Operand<'_>, y: &mut [f32]);
    fn compare(op: ops::Compare, a: ops::Operand<'_>, b: ops::Operand<'_>, y: &mut [Bool]);
    fn reduce(op: ops::Reduce, x: &[f32]) -> f32;
    fn reduce_columns(op: ops::Reduce, x: &[f32], stride: usize, y: &mut [f32]);
    fn deviations(x: &[f32], stride: usize, means: &[f32], y: &mut [f32]);
    fn read_f16(bytes: &[u8], y: &mut [f32]);
    fn write_f16(x: &[f32], bytes: &mut [u8]);
    fn read_bf16(bytes: &[u8], y: &mut [f32]);
    fn write_bf16(x: &[f32], bytes: &mut [u8]);
    fn glu_relu2(gate: &[f32], up: &[f32], y: &mut [f32]);
    fn glu_silu(gate: &[f32], up: &[f32], y: &mut [f32]);
    fn matmul_t_f32(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>);
    fn matmul_t_f16(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>);
    fn matmul_t_bf16(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>);
    fn matmul_t_q8_0(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>);
    fn matmul_t_q6_k(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>);
    fn matmul_row(x: &[f32], b: &[f32], stride: usize, y: &mut [f32]);
    fn attention_f32(q: &[f32], past: &Past<'_>, part: &mut [f32]);
    fn attention_f16(q: &[f32], past: &Past<'_>, part: &mut [f32]);
    fn attention_q8_0(q: &[f32], past: &Past<'_>, part: &mut [f32]);
    fn kv_store_f32(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]);
    fn kv_store_f16(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]);
    fn kv_store_q8_0(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]);
    fn rms_norm_backward(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]);
    fn glu_relu2_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]);
    fn glu_silu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]);
    fn fake_quantize(x: &[f32], y: &mut [f32]);
    fn sum_of_magnitudes(w: &[f32]) -> f64;
    fn fake_ternarize(w: &[f32], factor: f32, y: &mut [f32]);
    fn cross_entropy(logits: &[f32], target: i64) -> f32;
    fn cross_entropy_backward(logits: &[f32], target: i64, dloss: f32, dlogits: &mut [f32]);
    fn kl_divergence(logits: &[f32], teacher: &[f32], scale: f32) -> f32;
    fn kl_divergence_backward(logits: &[f32], teacher: &[f32], scale: f32, dloss: f32, dlogits: &mut [f32]);
    fn causal_softmax(x: &[f32], seen: usize, scale: f32, y: &mut [f32]);
    fn softmax_backward(y: &[f32], dy: &[f32], scale: f32, dx: &mut [f32]);
    fn adam(adam: &ops::Adam, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]);
}
