//! The table of kernels of each instruction set.
//!
//! Every table gives the same bits. A kernel writes where it is told: it does not allocate, lock, detect features or decide by
//! types; its operands have been checked by the op. Only products of many tokens allocate, on some tiers, for what they unpack.

use super::{ceilings, partition::ColumnsMut};
use crate::Bool;
use crate::lanes::{Bf16, F16, F32};
use crate::math::LANES;
use crate::ops::attention::{self, Past};
use crate::ops::bit_matmul::{self, CodeRows, TernaryRows};
use crate::ops::cache::{self, CacheType};
use crate::ops::glu::{self, Glu};
use crate::ops::quantize_activation::{self, RowCodes};
use crate::ops::screen::{ArrangedTokens, q6_k::SplitCodes};
use crate::ops::triples::{self, Table};
use crate::ops::{
    Adam, Binary, Compare, LargestBounds, Operand, Reduce, RowFigures, TokenFigures, Unary, adam, add,
    binary, causal_attention, compare, convert, copy, cross_entropy, fake_quantize, kl_divergence, matmul,
    matmul_t, reduce, rms_norm, rope, screen, softmax, transpose, unary,
};
use bitnet_quant::{
    Format,
    formats::{dense::quantize_row, q6_k::Q6K, q8_0::Q8_0},
};

/// `x: [T, C]` times the rows of a stored matrix, which are the columns of `y: [T, R]`. The bytes are `R` whole rows.
pub type MatmulT = fn(weight: &[u8], x: &[f32], y: &mut ColumnsMut<'_>);

/// Products of the rows of whole blocks of triples with the token of the tables, `sums: [blocks]`.
pub type TripleDots = fn(blocks: &[u8], tables: &[Table], sums: &mut [[i32; triples::ROWS]]);

/// Attention of one token to a chunk with query heads that share a kv head. `q: [G, D]`, `part` as
/// [`part_len`](attention::part_len) says.
pub type Attention = fn(q: &[f32], past: &Past<'_>, part: &mut [f32]);

/// Writes key and value of one position to its slot in the run of a head. `k, v: [D]`.
pub type KvStore = fn(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]);

/// A row of floats in a format, as [`Format::quantize_row`].
pub type QuantizeRow = fn(x: &[f32], bytes: &mut [u8]) -> bitnet_quant::Result<()>;

/// `y = act(gate) * up`. All `[F]`.
pub type GluRow = fn(gate: &[f32], up: &[f32], y: &mut [f32]);

/// Gradients of a [`GluRow`] by its gate and its factor, given that of its result. All `[F]`.
pub type GluBackward = fn(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]);

/// Gradients of a norm: writes `dx`, adds to `dweight`. All `[C]`.
pub type NormBackward =
    fn(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dweight: &mut [f32]);

/// Moves weights `w` by their gradient `g` and the means `m` and `v`, which it keeps.
pub type AdamStep = fn(adam: &Adam, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]);

/// The kernels of an instruction set. Having a table is the proof that the processor has what it needs.
pub struct Kernels {
    /// `scalar`, `avx2` ...
    pub name: &'static str,
    /// Runs integer dot products on registers and returns the number of multiply-adds.
    pub integer_peak: fn(rounds: usize) -> u64,
    /// All tokens of a step times some rows of a ternary matrix, which are the columns of `y: [T, R]`.
    pub bit_matmul: fn(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>),
    /// Tables of the triples of a token: `codes: [C']`.
    pub triple_tables: fn(codes: &[i8], tables: &mut [Table]),
    /// Products of whole blocks of triples with the token of the tables, `sums: [blocks]`; none where codes of two bits are faster.
    pub triple_dots: Option<TripleDots>,
    /// Int8 codes of a row: `x: [C]`, `codes: [C']`.
    pub quantize_activation: fn(x: &[f32], codes: &mut [i8]) -> RowCodes,
    /// See [`quantize_activation::normed_reference`].
    pub quantize_normed: fn(x: &[f32], weight: &[f32], eps: f32, codes: &mut [i8]) -> RowCodes,
    /// A row in codes, and what its products can be off by.
    pub screen: fn(w: &[f32], codes: &mut [i8]) -> RowFigures,
    /// The codes of a token, whole blocks of 64 below 2^14, as `screen_dots` wants them. Returns what its sums lack.
    pub arrange_codes: fn(codes: &[i16], to: &mut [i16]) -> i64,
    /// Products of rows by fours, `[R / 4, 4 * width]`, and tokens in codes: `sums: [R, T]`.
    pub screen_dots: fn(rows: &[i8], x: ArrangedTokens<'_>, sums: &mut [i64]),
    /// The largest bounds of every [`screen::BOUNDED`] rows: `guesses, figures: [O]`, `bounds: [O / BOUNDED]`.
    pub largest_bounds:
        fn(guesses: &[f32], figures: &[RowFigures], token: &TokenFigures, bounds: &mut [LargestBounds]),
    /// Products of rows of Q6_K `[R, width]` and tokens `[T, width]`, in blocks: `sums: [R, T]`.
    pub screen_dots_q6_k: fn(rows: &[u8], x: &[SplitCodes], width: usize, sums: &mut [f32]),
    /// A row in Q8_0.
    pub quantize_q8_0: QuantizeRow,
    /// A row in Q6_K.
    pub quantize_q6_k: QuantizeRow,
    /// Norm of a row: `x, weight, y: [C]`.
    pub rms_norm: fn(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]),
    /// Rotation of one head: `x: [D]`, `cos, sin: [D/2]`.
    pub rope: fn(x: &mut [f32], cos: &[f32], sin: &[f32]),
    /// `x += y`.
    pub add: fn(x: &mut [f32], y: &[f32]),
    /// Softmax of a row.
    pub softmax: fn(x: &[f32], y: &mut [f32]),
    /// Logarithm of the softmax of a row.
    pub log_softmax: fn(x: &[f32], y: &mut [f32]),
    /// Rows of `width` bytes, one after the other in `x`, to places `pitch` bytes apart in `y`; past the caches where the instruction set can.
    /// Other threads may be told of it behind a `fence`.
    pub stream: fn(x: &[u8], width: usize, y: &mut [u8], pitch: usize),
    /// Puts what this thread has streamed before what it writes from now on.
    pub fence: fn(),
    /// `y[r, c] = x[c * stride + r]` of elements of `size` bytes. `y: [R, cols]`.
    pub transpose: fn(size: usize, x: &[u8], stride: usize, y: &mut [u8], cols: usize),
    /// `y = op(x)`.
    pub unary: fn(op: Unary, x: Operand<'_>, y: &mut [f32]),
    /// `y = a op b`.
    pub binary: fn(op: Binary, a: Operand<'_>, b: Operand<'_>, y: &mut [f32]),
    /// `y = a op b` as truths.
    pub compare: fn(op: Compare, a: Operand<'_>, b: Operand<'_>, y: &mut [Bool]),
    /// Sum, product or extreme of at most [`reduce::BLOCK`] elements.
    pub reduce: fn(op: Reduce, x: &[f32]) -> f32,
    /// As `reduce` of at most [`reduce::COLUMNS`] columns, whose rows lie `stride` elements apart.
    pub reduce_columns: fn(op: Reduce, x: &[f32], stride: usize, y: &mut [f32]),
    /// Sums of squared distances of at most [`reduce::BLOCK`] rows from the means of at most [`reduce::COLUMNS`] columns.
    pub deviations: fn(x: &[f32], stride: usize, means: &[f32], y: &mut [f32]),
    /// Little-endian f16 to floats.
    pub read_f16: fn(bytes: &[u8], y: &mut [f32]),
    /// Floats to little-endian f16.
    pub write_f16: fn(x: &[f32], bytes: &mut [u8]),
    /// Little-endian bf16 to floats.
    pub read_bf16: fn(bytes: &[u8], y: &mut [f32]),
    /// Floats to little-endian bf16.
    pub write_bf16: fn(x: &[f32], bytes: &mut [u8]),
    /// [`Glu::Relu2`].
    pub glu_relu2: GluRow,
    /// [`Glu::Silu`].
    pub glu_silu: GluRow,
    /// Rows of f32.
    pub matmul_t_f32: MatmulT,
    /// Rows of f16.
    pub matmul_t_f16: MatmulT,
    /// Rows of bf16.
    pub matmul_t_bf16: MatmulT,
    /// Rows of Q8_0 blocks.
    pub matmul_t_q8_0: MatmulT,
    /// Rows of Q6_K blocks.
    pub matmul_t_q6_k: MatmulT,
    /// `y = x · b` of a row, in f32. `x: [K]`, `b: [K, N]` with `stride` elements between its rows, `y: [N]`.
    pub matmul_row: fn(x: &[f32], b: &[f32], stride: usize, y: &mut [f32]),
    /// Over a cache of f32.
    pub attention_f32: Attention,
    /// Over a cache of f16.
    pub attention_f16: Attention,
    /// Over a cache of Q8_0.
    pub attention_q8_0: Attention,
    /// Into a cache of f32.
    pub kv_store_f32: KvStore,
    /// Into a cache of f16.
    pub kv_store_f16: KvStore,
    /// Into a cache of Q8_0.
    pub kv_store_q8_0: KvStore,
    /// Gradients of `rms_norm`: writes `dx`, adds to `dweight`. All `[C]`.
    pub rms_norm_backward: NormBackward,
    /// Of [`Glu::Relu2`].
    pub glu_relu2_backward: GluBackward,
    /// Of [`Glu::Silu`].
    pub glu_silu_backward: GluBackward,
    /// What the int8 codes of a row mean.
    pub fake_quantize: fn(x: &[f32], y: &mut [f32]),
    /// Sum of the magnitudes of at most [`bitnet_quant::ternary::BLOCK`] weights.
    pub sum_of_magnitudes: fn(w: &[f32]) -> f64,
    /// What the ternary codes of weights mean, given what they are multiplied by before they are rounded.
    pub fake_ternarize: fn(w: &[f32], factor: f32, y: &mut [f32]),
    /// Loss of a row.
    pub cross_entropy: fn(logits: &[f32], target: i64) -> f32,
    /// Gradient of the loss of a row.
    pub cross_entropy_backward: fn(logits: &[f32], target: i64, dloss: f32, dlogits: &mut [f32]),
    /// Divergence of a row from that of a teacher.
    pub kl_divergence: fn(logits: &[f32], teacher: &[f32], scale: f32) -> f32,
    /// Gradient of the divergence of a row.
    pub kl_divergence_backward:
        fn(logits: &[f32], teacher: &[f32], scale: f32, dloss: f32, dlogits: &mut [f32]),
    /// Softmax of the first `seen` elements times `scale`, zeros behind.
    pub causal_softmax: fn(x: &[f32], seen: usize, scale: f32, y: &mut [f32]),
    /// Gradient of a softmax, given its result.
    pub softmax_backward: fn(y: &[f32], dy: &[f32], scale: f32, dx: &mut [f32]),
    /// A step of an optimizer.
    pub adam: AdamStep,
}

impl Kernels {
    /// The values of a stored row.
    ///
    /// # Errors
    /// As [`Format::dequantize_row`].
    pub fn read_row(&self, format: Format, bytes: &[u8], y: &mut [f32]) -> bitnet_quant::Result<()> {
        match format {
            Format::F16 => (self.read_f16)(bytes, y),
            Format::BF16 => (self.read_bf16)(bytes, y),
            _ => format.dequantize_row(bytes, y)?,
        }
        Ok(())
    }

    /// A row of floats in a format.
    ///
    /// # Errors
    /// As [`Format::quantize_row`].
    pub fn write_row(&self, format: Format, x: &[f32], bytes: &mut [u8]) -> bitnet_quant::Result<()> {
        match format {
            Format::Q8_0 => (self.quantize_q8_0)(x, bytes),
            Format::Q6K => (self.quantize_q6_k)(x, bytes),
            _ => format.quantize_row(x, bytes),
        }
    }

    /// The references themselves.
    pub const SCALAR: Self = Self {
        name: "scalar",
        integer_peak: ceilings::scalar_peak,
        bit_matmul: bit_matmul::reference,
        triple_tables: triples::tables,
        triple_dots: Some(triples::reference),
        quantize_activation: quantize_activation::reference,
        quantize_normed: quantize_activation::normed_reference,
        screen: screen::reference,
        arrange_codes: screen::arrange::<[f32; LANES]>,
        screen_dots: screen::dots::<[f32; LANES]>,
        largest_bounds: screen::largest_bounds,
        screen_dots_q6_k: screen::q6_k::dots::<[f32; LANES]>,
        quantize_q8_0: quantize_row::<Q8_0>,
        quantize_q6_k: quantize_row::<Q6K>,
        rms_norm: rms_norm::reference,
        rope: rope::reference,
        add: add::reference,
        softmax: softmax::reference,
        log_softmax: softmax::log_reference,
        stream: copy::rows,
        fence: copy::fence,
        transpose: transpose::reference,
        unary: unary::reference,
        binary: binary::reference,
        compare: compare::reference::<f32>,
        reduce: reduce::block,
        reduce_columns: reduce::block_columns::<[f32; LANES]>,
        deviations: reduce::deviations::<[f32; LANES]>,
        read_f16: convert::read_f16::<[f32; LANES]>,
        write_f16: convert::write_f16::<[f32; LANES]>,
        read_bf16: convert::read_bf16,
        write_bf16: convert::write_bf16,
        glu_relu2: glu::relu2,
        glu_silu: glu::silu,
        matmul_t_f32: matmul_t::multiply::<[f32; LANES], F32, 64, 1, 1, 1>,
        matmul_t_f16: matmul_t::multiply::<[f32; LANES], F16, 32, 1, 1, 1>,
        matmul_t_bf16: matmul_t::multiply::<[f32; LANES], Bf16, 32, 1, 1, 1>,
        matmul_t_q8_0: matmul_t::multiply::<[f32; LANES], matmul_t::Q8_0, 34, 2, 1, 1>,
        matmul_t_q6_k: matmul_t::multiply::<[f32; LANES], matmul_t::Q6K, 210, 16, 1, 1>,
        matmul_row: matmul::row,
        attention_f32: attention::attend::<[f32; LANES], F32, 1>,
        attention_f16: attention::attend::<[f32; LANES], F16, 1>,
        attention_q8_0: attention::attend::<[f32; LANES], attention::Q8_0, 1>,
        kv_store_f32: cache::store_f32,
        kv_store_f16: cache::store_f16,
        kv_store_q8_0: cache::store_q8_0,
        rms_norm_backward: rms_norm::backward,
        glu_relu2_backward: glu::relu2_backward,
        glu_silu_backward: glu::silu_backward,
        fake_quantize: fake_quantize::reference,
        sum_of_magnitudes: fake_quantize::sum_of_magnitudes,
        fake_ternarize: fake_quantize::ternary_reference,
        cross_entropy: cross_entropy::reference,
        cross_entropy_backward: cross_entropy::backward,
        kl_divergence: kl_divergence::reference,
        kl_divergence_backward: kl_divergence::backward,
        causal_softmax: causal_attention::softmax,
        softmax_backward: causal_attention::softmax_backward,
        adam: adam::reference,
    };

    /// The tables that this processor can run, from slow to fast.
    pub fn available() -> impl Iterator<Item = &'static Self> {
        TIERS.iter().filter(|(_, lacking)| lacking().is_empty()).map(|(kernels, _)| *kernels)
    }

    /// The tables of this architecture, from slow to fast, and the features that this processor lacks for each.
    pub(super) fn lacking() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        TIERS.iter().map(|(kernels, lacking)| (kernels.name, lacking()))
    }

    /// The fastest table.
    pub fn best() -> &'static Self {
        Self::available().last().expect("every processor runs the scalar tier")
    }

    /// The table of this name, if this processor can run it.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::available().find(|kernels| kernels.name == name)
    }

    /// The row kernel of a gated linear unit.
    pub fn glu(&self, kind: Glu) -> GluRow {
        match kind {
            Glu::Relu2 => self.glu_relu2,
            Glu::Silu => self.glu_silu,
        }
    }

    /// The gradients of a gated linear unit.
    pub fn glu_backward(&self, kind: Glu) -> GluBackward {
        match kind {
            Glu::Relu2 => self.glu_relu2_backward,
            Glu::Silu => self.glu_silu_backward,
        }
    }

    /// The attention kernel over a kind of cache.
    pub fn attention(&self, storage: CacheType) -> Attention {
        match storage {
            CacheType::F32 => self.attention_f32,
            CacheType::F16 => self.attention_f16,
            CacheType::Q8_0 => self.attention_q8_0,
        }
    }

    /// The kernel that writes to a kind of cache.
    pub fn kv_store(&self, storage: CacheType) -> KvStore {
        match storage {
            CacheType::F32 => self.kv_store_f32,
            CacheType::F16 => self.kv_store_f16,
            CacheType::Q8_0 => self.kv_store_q8_0,
        }
    }
}

/// Every table of this architecture, from slow to fast, and what the processor lacks for it.
type Tiers = [(&'static Kernels, fn() -> Vec<&'static str>)];

#[cfg(target_arch = "x86_64")]
const TIERS: &Tiers = &[
    (&Kernels::SCALAR, Vec::new),
    (&super::avx2::TABLE, super::avx2::lacking),
    (&super::avxvnni::TABLE, super::avxvnni::lacking),
    (&super::avx512::TABLE, super::avx512::lacking),
    (&super::amx::TABLE, super::amx::lacking),
];

#[cfg(target_arch = "aarch64")]
const TIERS: &Tiers = &[
    (&Kernels::SCALAR, Vec::new),
    // Every 64-bit Arm has NEON.
    (&super::neon::TABLE, Vec::new),
    (&super::neon_dotprod::TABLE, super::neon_dotprod::lacking),
    (&super::neon_i8mm::TABLE, super::neon_i8mm::lacking),
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const TIERS: &Tiers = &[(&Kernels::SCALAR, Vec::new)];

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kernels").field(&self.name).finish()
    }
}
