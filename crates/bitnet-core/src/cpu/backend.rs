//! The CPU as a device: ops are cut into independent outputs, shared between threads, and given to the kernels of a tier.

use super::{
    attention,
    elementwise::Elementwise,
    gemm,
    kernels::{Kernels, MatmulT},
    partition::ColumnsMut,
    rows::Rows,
    screen::Screening,
    ternary::Ternary,
    threads::Threads,
    training::Training,
};
use crate::{
    Error, Result,
    backend::{Activations, Backend, CodesMut, CodesView, Paged},
    device::ThreadCounts,
    memory::{self, Host, RawAlloc, RawMem},
    ops::{
        Adam, Binary, Compare, Glu, LargestBounds, Logical, Reduce, RowFigures, ScreenView, SplitTokens,
        TokenCodes, TokenFigures, Unary, cache::BLOCK_LEN,
    },
    packed::PackedView,
    view::{View, ViewMut},
};
use bitnet_quant::Format;
use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Elements of an elementwise op that are worth a thread of their own.
const ELEMENTS: usize = 16_384;
/// Rows of a matrix are shared in multiples of this, so that kernels see whole tiles and threads write lines of their own.
pub(super) const ROW_TILE: usize = 32;
/// Bytes of rows that are worth a claim.
const CLAIM: usize = 32 << 10;
/// Rows that are dequantized at a time where no kernel computes with the stored format.
const DEQUANTIZED_ROWS: usize = 8;

/// The CPU with the kernels of one tier and a team of threads.
pub struct CpuBackend {
    name: String,
    kernels: &'static Kernels,
    /// The team of the larger count.
    team: Threads,
    decode: AtomicUsize,
    batch: AtomicUsize,
}

impl CpuBackend {
    /// A backend over a tier that this CPU has, with threads for ops on one token and for all others; at least one each.
    pub fn new(kernels: &'static Kernels, decode: usize, batch: usize) -> Self {
        let team = Threads::new(decode.max(batch));
        let [decode, batch] = [decode, batch].map(|n| AtomicUsize::new(n.clamp(1, team.len())));
        Self { name: format!("cpu/{}", kernels.name), kernels, team, decode, batch }
    }

    /// The threads of an op on this many tokens. What one token needs is limited by memory, more by arithmetic.
    fn team(&self, tokens: usize) -> Threads {
        self.team.first(self.threads_for(tokens))
    }

    /// The threads of an op that does not know of tokens.
    fn all(&self) -> Threads {
        self.team(usize::MAX)
    }

    /// The kernel for a stored format, where there is one.
    fn matmul_t_kernel(&self, format: Format) -> Option<MatmulT> {
        Some(match format {
            Format::F32 => self.kernels.matmul_t_f32,
            Format::F16 => self.kernels.matmul_t_f16,
            Format::BF16 => self.kernels.matmul_t_bf16,
            Format::Q8_0 => self.kernels.matmul_t_q8_0,
            Format::Q6K => self.kernels.matmul_t_q6_k,
            _ => return None,
        })
    }

    fn elementwise(&self) -> Elementwise {
        Elementwise { kernels: self.kernels, threads: self.all() }
    }

    fn along(&self) -> Rows {
        Rows { kernels: self.kernels, threads: self.all() }
    }

    fn screening(&self, tokens: usize) -> Screening {
        Screening { kernels: self.kernels, threads: self.team(tokens) }
    }

    fn ternary(&self, tokens: usize) -> Ternary {
        Ternary { kernels: self.kernels, threads: self.team(tokens) }
    }

    fn training(&self) -> Training {
        Training { kernels: self.kernels, threads: self.all() }
    }

    /// Calls `f` with the rows of `y`, one a token, that hold at least [`ELEMENTS`] elements together.
    fn rows(&self, y: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        let each = ELEMENTS.div_ceil(width.max(1));
        self.team(y.len() / width.max(1)).for_each_chunk_mut(y, each * width.max(1), |chunk, rows| {
            for (i, row) in rows.chunks_mut(width).enumerate() {
                f(chunk * each + i, row);
            }
        });
    }
}

// SAFETY: everything is left to `Host`, which keeps the contract.
unsafe impl RawAlloc for CpuBackend {
    fn alloc(&self, bytes: usize, align: usize) -> memory::Result<RawMem> {
        Host.alloc(bytes, align)
    }

    unsafe fn free(&self, mem: RawMem) {
        // SAFETY: the caller's promise is the one that `Host` asks for.
        unsafe { Host.free(mem) }
    }

    unsafe fn discard(&self, mem: &RawMem, part: Range<usize>) -> usize {
        // SAFETY: as above.
        unsafe { Host.discard(mem, part) }
    }

    fn alignment(&self) -> usize {
        Host.alignment()
    }

    fn host_addressable(&self) -> bool {
        true
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> usize {
        self.team.len()
    }

    fn threads_for(&self, tokens: usize) -> usize {
        if tokens > 1 { self.batch.load(Relaxed) } else { self.decode.load(Relaxed) }
    }

    fn set_threads(&self, counts: ThreadCounts) {
        let (decode, batch) = counts.resolve_with(|| self.threads());
        for (count, n) in [(&self.decode, decode), (&self.batch, batch)] {
            count.store(n.clamp(1, self.team.len()), Relaxed);
        }
    }

    fn fallbacks(&self) -> u64 {
        0
    }

    fn count_fallback(&self) {}

    fn upload(&self, src: &[u8], dst: ViewMut<'_>) -> Result<()> {
        copy("upload", src, dst.into_bytes("upload")?)
    }

    fn download(&self, src: View<'_>, dst: &mut [u8]) -> Result<()> {
        copy("download", src.as_bytes("download")?, dst)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn embedding(&self, table: PackedView<'_>, ids: &[u32], y: ViewMut<'_>) -> Result<()> {
        let bytes = table.data.as_slice::<u8>("embedding")?;
        let row_bytes = table.format.tensor_bytes(1, table.cols)?;
        let y = y.into_slice::<f32>("embedding")?;
        let failed = FirstError::default();
        self.rows(y, table.cols, |t, y| {
            let row = &bytes[ids[t] as usize * row_bytes..][..row_bytes];
            failed.keep(self.kernels.read_row(table.format, row, y));
        });
        failed.into_result()
    }

    fn quantize_rows(&self, weight: PackedView<'_>, format: Format, y: ViewMut<'_>) -> Result<()> {
        let op = "quantize_rows";
        let bytes = weight.data.as_slice::<u8>(op)?;
        let from = weight.format.tensor_bytes(1, weight.cols)?.max(1);
        let to = format.tensor_bytes(1, weight.cols)?.max(1);
        let each = ELEMENTS.div_ceil(weight.cols.max(1));
        let failed = FirstError::default();
        self.all().for_each_item_mut(y.into_slice::<u8>(op)?, each * to, |part, y| {
            let mut values = vec![0f32; weight.cols];
            for (row, y) in bytes[part * each * from..].chunks(from).zip(y.chunks_mut(to)) {
                let read = self.kernels.read_row(weight.format, row, &mut values);
                failed.keep(read.and_then(|()| self.kernels.write_row(format, &values, y)));
            }
        });
        failed.into_result()
    }

    fn screen(&self, weight: PackedView<'_>, codes: ViewMut<'_>, figures: &mut [RowFigures]) -> Result<()> {
        self.screening(usize::MAX).rows(weight, codes, figures)
    }

    fn screen_products(&self, screen: ScreenView<'_>, x: TokenCodes<'_>, y: ViewMut<'_>) -> Result<()> {
        self.screening(x.scales.len()).products(screen, x, y)
    }

    fn screen_bounds(
        &self,
        guesses: View<'_>,
        figures: &[RowFigures],
        tokens: &[TokenFigures],
        bounds: &mut [LargestBounds],
    ) -> Result<()> {
        self.screening(usize::MAX).bounds(guesses, figures, tokens, bounds)
    }

    fn screen_products_q6_k(&self, weight: PackedView<'_>, x: SplitTokens<'_>, y: ViewMut<'_>) -> Result<()> {
        self.screening(x.scales.len()).products_q6_k(weight, x, y)
    }

    fn rms_norm(&self, x: View<'_>, weight: View<'_>, eps: f32, y: ViewMut<'_>) -> Result<()> {
        let (x, weight) = (x.as_slice::<f32>("rms_norm")?, weight.as_slice::<f32>("rms_norm")?);
        let width = weight.len();
        self.rows(y.into_slice("rms_norm")?, width, |row, y| {
            (self.kernels.rms_norm)(&x[row * width..][..width], weight, eps, y);
        });
        Ok(())
    }

    fn quantize_activation(&self, x: Activations<'_>, y: CodesMut<'_>) -> Result<()> {
        self.ternary(x.x.shape().rows()).quantize(x, y)
    }

    fn takes_triples(&self) -> bool {
        self.kernels.triple_dots.is_some()
    }

    fn bit_matmul(&self, x: CodesView<'_>, weight: PackedView<'_>, y: ViewMut<'_>) -> Result<()> {
        self.bit_matmul_all(x, vec![(weight, y)])
    }

    fn bit_matmul_add(&self, x: CodesView<'_>, weight: PackedView<'_>, y: ViewMut<'_>) -> Result<()> {
        self.ternary(x.tokens()).products(x, vec![(weight, y)], true)
    }

    fn bit_matmul_all(&self, x: CodesView<'_>, products: Vec<(PackedView<'_>, ViewMut<'_>)>) -> Result<()> {
        self.ternary(x.tokens()).products(x, products, false)
    }

    fn matmul_t(&self, x: View<'_>, weight: PackedView<'_>, y: ViewMut<'_>) -> Result<()> {
        let op = "matmul_t";
        let (x, bytes) = (x.as_slice::<f32>(op)?, weight.data.as_slice::<u8>(op)?);
        let row_bytes = weight.format.tensor_bytes(1, weight.cols)?;
        let threads = self.team(x.len() / weight.cols.max(1));
        let grain = claim(row_bytes, weight.rows, threads.len());
        let failed = FirstError::default();
        threads.for_each_columns(y.into_slice(op)?, weight.rows, grain, |mut y| {
            let bytes = &bytes[y.range().start * row_bytes..y.range().end * row_bytes];
            match self.matmul_t_kernel(weight.format) {
                Some(kernel) => kernel(bytes, x, &mut y),
                None => failed.keep(dequantized(self.kernels.matmul_t_f32, weight, bytes, x, &mut y)),
            }
        });
        failed.into_result()
    }

    fn rope(&self, x: ViewMut<'_>, cos: View<'_>, sin: View<'_>) -> Result<()> {
        let (cos, sin) = (cos.as_slice::<f32>("rope")?, sin.as_slice::<f32>("rope")?);
        let shape = x.shape();
        let (half, width) = (shape.last() / 2, shape.last() * shape.dims()[1]);
        self.rows(x.into_slice("rope")?, width, |t, heads| {
            let angles = t * half..(t + 1) * half;
            for head in heads.chunks_mut(2 * half) {
                (self.kernels.rope)(head, &cos[angles.clone()], &sin[angles.clone()]);
            }
        });
        Ok(())
    }

    fn glu(&self, kind: Glu, gate: View<'_>, up: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let threads = self.team(gate.shape().rows());
        let (gate, up) = (gate.as_slice::<f32>("glu")?, up.as_slice::<f32>("glu")?);
        let kernel = self.kernels.glu(kind);
        threads.for_each_chunk_mut(y.into_slice("glu")?, ELEMENTS, |chunk, y| {
            let range = chunk * ELEMENTS..chunk * ELEMENTS + y.len();
            kernel(&gate[range.clone()], &up[range], y);
        });
        Ok(())
    }

    fn add_assign(&self, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        let threads = self.team(y.shape().rows());
        let y = y.as_slice::<f32>("add_assign")?;
        threads.for_each_chunk_mut(x.into_slice("add_assign")?, ELEMENTS, |chunk, x| {
            (self.kernels.add)(x, &y[chunk * ELEMENTS..][..x.len()]);
        });
        Ok(())
    }

    fn kv_store(&self, k: View<'_>, v: View<'_>, paged: Paged<'_>, cache: ViewMut<'_>) -> Result<()> {
        let (k, v) = (k.as_slice::<f32>("kv_store")?, v.as_slice::<f32>("kv_store")?);
        let cache = cache.into_slice::<u8>("kv_store")?;
        let (shape, d) = (paged.shape, paged.shape.head_dim);
        let store = self.kernels.kv_store(shape.storage);
        let positions = paged.spans.iter().flat_map(|s| (s.start..s.start + s.len).map(|p| (s.blocks, p)));
        for (t, (blocks, position)) in positions.enumerate() {
            let block = blocks[position / BLOCK_LEN] as usize;
            for head in 0..shape.heads {
                let row = (t * shape.heads + head) * d..(t * shape.heads + head + 1) * d;
                let run = &mut cache[shape.offset(block, head)..][..shape.head_bytes()];
                store(&k[row.clone()], &v[row], position % BLOCK_LEN, run);
            }
        }
        Ok(())
    }

    fn attention(&self, q: View<'_>, paged: Paged<'_>, cache: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (tokens, heads) = (q.shape().dims()[0], q.shape().dims()[1]);
        let (q, cache) = (q.as_slice("attention")?, cache.as_slice("attention")?);
        let width = heads / paged.shape.heads * paged.shape.head_dim;
        let with = (self.kernels, &self.team(tokens));
        attention::attention(with, q, paged, cache, width, y.into_slice("attention")?);
        Ok(())
    }

    fn copy(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().copy(x, y)
    }

    fn cast(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().cast(x, y)
    }

    fn unary(&self, op: Unary, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().unary(op, x, y)
    }

    fn binary(&self, op: Binary, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().binary(op, a, b, y)
    }

    fn binary_assign(&self, op: Binary, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        self.elementwise().binary_assign(op, x, y)
    }

    fn compare(&self, op: Compare, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().compare(op, a, b, y)
    }

    fn logical(&self, op: Logical, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().logical(op, a, b, y)
    }

    fn select(&self, condition: View<'_>, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.elementwise().select(condition, a, b, y)
    }

    fn reduce(&self, op: Reduce, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.along().reduce(op, x, y)
    }

    fn cumsum(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.along().cumsum(x, y)
    }

    fn softmax(&self, x: View<'_>, log: bool, y: ViewMut<'_>) -> Result<()> {
        self.along().softmax(x, log, y)
    }

    fn sort(&self, x: View<'_>, descending: bool, y: ViewMut<'_>, ids: ViewMut<'_>) -> Result<()> {
        self.along().sort(x, descending, y, ids)
    }

    fn index_select(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.along().index_select(x, ids, y)
    }

    fn gather(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.along().gather(x, ids, y)
    }

    fn scatter_add(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.along().scatter_add(x, ids, y)
    }

    fn matmul(&self, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        gemm::matmul(self.kernels, &self.all(), a, b, y)
    }

    fn rms_norm_backward(
        &self,
        x: View<'_>,
        weight: View<'_>,
        eps: f32,
        dy: View<'_>,
        into: [ViewMut<'_>; 2],
    ) -> Result<()> {
        self.training().rms_norm_backward(x, weight, eps, dy, into)
    }

    fn glu_backward(
        &self,
        kind: Glu,
        gate: View<'_>,
        up: View<'_>,
        dy: View<'_>,
        into: [ViewMut<'_>; 2],
    ) -> Result<()> {
        self.training().glu_backward(kind, gate, up, dy, into)
    }

    fn fake_quantize(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.training().fake_quantize(x, y)
    }

    fn fake_ternarize(&self, w: View<'_>, group: usize, y: ViewMut<'_>) -> Result<()> {
        self.training().fake_ternarize(w, group, y)
    }

    fn cross_entropy(&self, logits: View<'_>, targets: View<'_>, y: ViewMut<'_>) -> Result<()> {
        self.training().cross_entropy(logits, targets, y)
    }

    fn cross_entropy_backward(
        &self,
        logits: View<'_>,
        targets: View<'_>,
        dy: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        self.training().cross_entropy_backward(logits, targets, dy, y)
    }

    fn kl_divergence(&self, logits: View<'_>, teacher: View<'_>, scale: f32, y: ViewMut<'_>) -> Result<()> {
        self.training().kl_divergence(logits, teacher, scale, y)
    }

    fn kl_divergence_backward(
        &self,
        rows: [View<'_>; 2],
        scale: f32,
        dy: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        self.training().kl_divergence_backward(rows, scale, dy, y)
    }

    fn causal_softmax(&self, x: View<'_>, scale: f32, y: ViewMut<'_>) -> Result<()> {
        self.training().causal_softmax(x, scale, y)
    }

    fn softmax_backward(&self, p: View<'_>, dp: View<'_>, scale: f32, dx: ViewMut<'_>) -> Result<()> {
        self.training().softmax_backward(p, dp, scale, dx)
    }

    fn adam(&self, adam: &Adam, g: View<'_>, into: [ViewMut<'_>; 3]) -> Result<()> {
        self.training().adam(adam, g, into)
    }
}

/// Rows of a matrix that a thread claims at least, but not more than its share.
pub(super) fn claim(row_bytes: usize, rows: usize, threads: usize) -> usize {
    let worth = CLAIM.div_ceil(row_bytes.max(1));
    worth.min(rows.div_ceil(threads)).next_multiple_of(ROW_TILE)
}

/// Rows of a format without a kernel: some at a time as floats, while they are in the cache.
fn dequantized(
    kernel: MatmulT,
    weight: PackedView<'_>,
    bytes: &[u8],
    x: &[f32],
    y: &mut ColumnsMut<'_>,
) -> bitnet_quant::Result<()> {
    let rows = y.range().len();
    let row_bytes = bytes.len() / rows.max(1);
    let mut floats = vec![0f32; DEQUANTIZED_ROWS * weight.cols];
    for first in (0..rows).step_by(DEQUANTIZED_ROWS) {
        let count = DEQUANTIZED_ROWS.min(rows - first);
        for (i, row) in floats.chunks_mut(weight.cols).take(count).enumerate() {
            weight.format.dequantize_row(&bytes[(first + i) * row_bytes..][..row_bytes], row)?;
        }
        let floats = crate::buffer::as_bytes(&floats[..count * weight.cols]);
        kernel(floats, x, &mut y.narrow(first..first + count));
    }
    Ok(())
}

fn copy(op: &'static str, src: &[u8], dst: &mut [u8]) -> Result<()> {
    if src.len() != dst.len() {
        return Err(Error::Range { op, start: 0, len: src.len(), extent: dst.len() });
    }
    dst.copy_from_slice(src);
    Ok(())
}

/// Keeps one of the errors that threads meet.
#[derive(Default)]
pub(super) struct FirstError(std::sync::OnceLock<bitnet_quant::Error>);

impl FirstError {
    pub(super) fn keep(&self, result: bitnet_quant::Result<()>) {
        if let Err(error) = result {
            // Any one of several errors will do.
            let _ = self.0.set(error);
        }
    }

    pub(super) fn into_result(self) -> Result<()> {
        self.0.into_inner().map_or(Ok(()), |error| Err(error.into()))
    }
}
