//! What a device must do. Every op has a default that runs the reference tier on the host, so that a new backend is
//! correct before it is fast; what it leaves to the default is counted.

mod operands;

pub use operands::{Activations, CodesMut, CodesView, Paged};

use crate::{
    Error, Result,
    device::ThreadCounts,
    host,
    memory::RawAlloc,
    ops::{
        Adam, Binary, Compare, Glu, LargestBounds, Logical, Reduce, RowFigures, ScreenView, SplitTokens,
        TokenCodes, TokenFigures, Unary,
    },
    packed::PackedView,
    view::{View, ViewMut},
};
use bitnet_quant::Format;

/// A device. Shapes: `T` tokens, `C` columns, `H` query heads, `K` kv heads, `D` head dim, `O` outputs.
///
/// The ops of this crate check shapes and types before they call a backend; a backend need not check again.
pub trait Backend: RawAlloc {
    /// Name, such as `cpu/avx512`.
    fn name(&self) -> &str;

    /// Threads that share the work of an op at most.
    fn threads(&self) -> usize;

    /// Threads that share the work of an op on this many tokens.
    fn threads_for(&self, _tokens: usize) -> usize {
        self.threads()
    }

    /// Uses other counts from the next op on, up to [`threads`](Self::threads) each; where there is only one count, nothing.
    fn set_threads(&self, _counts: ThreadCounts) {}

    /// Ops so far that were left to the host's reference.
    fn fallbacks(&self) -> u64;

    /// Counts an op that was left to the host's reference.
    fn count_fallback(&self);

    /// Copies bytes from the host into contiguous rows.
    ///
    /// # Errors
    /// Where the sizes differ or the copy fails.
    fn upload(&self, src: &[u8], dst: ViewMut<'_>) -> Result<()>;

    /// Copies contiguous rows to the host.
    ///
    /// # Errors
    /// Where the sizes differ or the copy fails.
    fn download(&self, src: View<'_>, dst: &mut [u8]) -> Result<()>;

    /// Waits until everything that was launched is done.
    ///
    /// # Errors
    /// Where a launched op failed.
    fn synchronize(&self) -> Result<()>;

    /// Rows `ids` of a stored matrix: `y: [T, C]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn embedding(&self, table: PackedView<'_>, ids: &[u32], y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.embedding(host::fetch_packed(self, table)?.view(), ids, y))
    }

    /// The rows of a stored matrix `[O, C]` in another format: `y` holds `O` whole rows of it.
    ///
    /// # Errors
    /// Where the format cannot hold a row or the device fails.
    fn quantize_rows(&self, weight: PackedView<'_>, format: Format, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.quantize_rows(host::fetch_packed(self, weight)?.view(), format, y))
    }

    /// The rows of a stored matrix `[O, C]` as int8 `codes: [O / 4, 4 * C']`, by fours, with `figures: [O]` of them, see
    /// [`Screen`](crate::ops::Screen).
    ///
    /// # Errors
    /// Where the device fails.
    fn screen(&self, weight: PackedView<'_>, codes: ViewMut<'_>, figures: &mut [RowFigures]) -> Result<()> {
        host::run(self, codes, |cpu, codes| {
            cpu.screen(host::fetch_packed(self, weight)?.view(), codes, figures)
        })
    }

    /// Products of rows and tokens in codes, summed exactly, times both scales: `y: [T, O]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn screen_products(&self, screen: ScreenView<'_>, x: TokenCodes<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let codes = host::fetch(self, screen.codes)?;
            cpu.screen_products(ScreenView { codes: codes.view(), ..screen }, x, y)
        })
    }

    /// Products of the rows of a matrix in Q6_K with tokens in codes, times the scales of the tokens: `y: [T, O]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn screen_products_q6_k(&self, weight: PackedView<'_>, x: SplitTokens<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.screen_products_q6_k(host::fetch_packed(self, weight)?.view(), x, y))
    }

    /// The largest bounds of every [`BOUNDED`](crate::ops::screen::BOUNDED) products: `guesses: [T, O]`, `figures: [O]`, `tokens: [T]`,
    /// `bounds: [T, O / BOUNDED]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn screen_bounds(
        &self,
        guesses: View<'_>,
        figures: &[RowFigures],
        tokens: &[TokenFigures],
        bounds: &mut [LargestBounds],
    ) -> Result<()> {
        self.count_fallback();
        let guesses = host::fetch(self, guesses)?;
        host::reference().backend().screen_bounds(guesses.view(), figures, tokens, bounds)
    }

    /// `y = x / sqrt(mean(x²) + eps) * weight` a row. `x, y: [T, C]`, `weight: [C]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn rms_norm(&self, x: View<'_>, weight: View<'_>, eps: f32, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.rms_norm(host::fetch(self, x)?.view(), host::fetch(self, weight)?.view(), eps, y)
        })
    }

    /// Absmax int8 codes of each row of `x`, or of what is made of it: `[T, C]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn quantize_activation(&self, x: Activations<'_>, y: CodesMut<'_>) -> Result<()> {
        host::run_all(self, [y.codes, y.scales, y.sums], |cpu, [codes, scales, sums]| {
            let up = x.glu.map(|(kind, up)| Ok::<_, Error>((kind, host::fetch(self, up)?))).transpose()?;
            let weight = x.norm.map(|(w, eps)| Ok::<_, Error>((host::fetch(self, w)?, eps))).transpose()?;
            let glu = up.as_ref().map(|(kind, up)| (*kind, up.view()));
            let norm = weight.as_ref().map(|(w, eps)| (w.view(), *eps));
            let x = host::fetch(self, x.x)?;
            let x = Activations { x: x.view(), glu, norm };
            cpu.quantize_activation(x, CodesMut { codes, scales, sums })
        })
    }

    /// `y: [T, O]` = activation codes times ternary codes, summed in i32, times the scales.
    ///
    /// # Errors
    /// Where the device fails.
    fn bit_matmul(&self, x: CodesView<'_>, weight: PackedView<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let codes = host::fetch_codes(self, x)?;
            cpu.bit_matmul(codes.view(), host::fetch_packed(self, weight)?.view(), y)
        })
    }

    /// As [`bit_matmul`](Self::bit_matmul), added to `y`.
    ///
    /// # Errors
    /// Where the device fails.
    fn bit_matmul_add(&self, x: CodesView<'_>, weight: PackedView<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let codes = host::fetch_codes(self, x)?;
            cpu.bit_matmul_add(codes.view(), host::fetch_packed(self, weight)?.view(), y)
        })
    }

    /// [`bit_matmul`](Self::bit_matmul) of several matrices with the same codes.
    ///
    /// # Errors
    /// Where the device fails.
    fn bit_matmul_all(&self, x: CodesView<'_>, products: Vec<(PackedView<'_>, ViewMut<'_>)>) -> Result<()> {
        products.into_iter().try_for_each(|(weight, y)| self.bit_matmul(x, weight, y))
    }

    /// Whether products with one token are faster from a copy of a ternary matrix in [triples](crate::ops::triples), which
    /// [`bit_matmul`](Self::bit_matmul) then reads. The copy is made on the host.
    fn takes_triples(&self) -> bool {
        false
    }

    /// `y: [T, O] = x: [T, C] · weightᵀ` with a stored (not ternary) weight, in f32.
    ///
    /// # Errors
    /// Where the device fails.
    fn matmul_t(&self, x: View<'_>, weight: PackedView<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.matmul_t(host::fetch(self, x)?.view(), host::fetch_packed(self, weight)?.view(), y)
        })
    }

    /// Rotates halves of each head in place. `x: [T, H, D]`, `cos, sin: [T, D/2]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn rope(&self, x: ViewMut<'_>, cos: View<'_>, sin: View<'_>) -> Result<()> {
        host::run(self, x, |cpu, x| {
            cpu.rope(x, host::fetch(self, cos)?.view(), host::fetch(self, sin)?.view())
        })
    }

    /// `y = act(gate) * up`. All `[T, F]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn glu(&self, kind: Glu, gate: View<'_>, up: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.glu(kind, host::fetch(self, gate)?.view(), host::fetch(self, up)?.view(), y)
        })
    }

    /// `x += y` in place. Both `[T, C]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn add_assign(&self, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        host::run(self, x, |cpu, x| cpu.add_assign(x, host::fetch(self, y)?.view()))
    }

    /// Writes `k, v: [T, K, D]` of every token to its slot of the cache (u8, see [`KvShape`](crate::ops::cache::KvShape)).
    ///
    /// # Errors
    /// Where the device fails.
    fn kv_store(&self, k: View<'_>, v: View<'_>, paged: Paged<'_>, cache: ViewMut<'_>) -> Result<()> {
        host::run(self, cache, |cpu, cache| {
            cpu.kv_store(host::fetch(self, k)?.view(), host::fetch(self, v)?.view(), paged, cache)
        })
    }

    /// Causal attention of `q: [T, H, D]` over the cache: `y: [T, H, D]`, scores scaled by `1/sqrt(D)`.
    ///
    /// # Errors
    /// Where the device fails.
    fn attention(&self, q: View<'_>, paged: Paged<'_>, cache: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.attention(host::fetch(self, q)?.view(), paged, host::fetch(self, cache)?.view(), y)
        })
    }

    /// `y = x`, elements of one type and shape in any two layouts.
    ///
    /// # Errors
    /// Where the device fails.
    fn copy(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.copy(host::fetch(self, x)?.view(), y))
    }

    /// `y = x` as another type, both in contiguous rows.
    ///
    /// # Errors
    /// Where the device fails.
    fn cast(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.cast(host::fetch(self, x)?.view(), y))
    }

    /// `y = op(x)`. `x` in any layout, `y` in contiguous rows; so in the next six.
    ///
    /// # Errors
    /// Where the device fails.
    fn unary(&self, op: Unary, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.unary(op, host::fetch(self, x)?.view(), y))
    }

    /// `y = a op b`. All of one shape.
    ///
    /// # Errors
    /// Where the device fails.
    fn binary(&self, op: Binary, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.binary(op, host::fetch(self, a)?.view(), host::fetch(self, b)?.view(), y)
        })
    }

    /// `x = x op y`. Both of one shape.
    ///
    /// # Errors
    /// Where the device fails.
    fn binary_assign(&self, op: Binary, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        host::run(self, x, |cpu, x| cpu.binary_assign(op, x, host::fetch(self, y)?.view()))
    }

    /// `y = a op b` as truths. All of one shape.
    ///
    /// # Errors
    /// Where the device fails.
    fn compare(&self, op: Compare, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.compare(op, host::fetch(self, a)?.view(), host::fetch(self, b)?.view(), y)
        })
    }

    /// `y = a op b` of truths. All of one shape.
    ///
    /// # Errors
    /// Where the device fails.
    fn logical(&self, op: Logical, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.logical(op, host::fetch(self, a)?.view(), host::fetch(self, b)?.view(), y)
        })
    }

    /// `y = if condition { a } else { b }`. All of one shape.
    ///
    /// # Errors
    /// Where the device fails.
    fn select(&self, condition: View<'_>, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let condition = host::fetch(self, condition)?;
            cpu.select(condition.view(), host::fetch(self, a)?.view(), host::fetch(self, b)?.view(), y)
        })
    }

    /// `op` over the middle dimension of `x: [O, N, W]` into `y: [O, W]`, contiguous; of floats only f32.
    ///
    /// # Errors
    /// Where the device fails.
    fn reduce(&self, op: Reduce, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.reduce(op, host::fetch(self, x)?.view(), y))
    }

    /// Running sums over the middle dimension of `x, y: [O, N, W]`, contiguous; of floats only f32.
    ///
    /// # Errors
    /// Where the device fails.
    fn cumsum(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.cumsum(host::fetch(self, x)?.view(), y))
    }

    /// Softmax, or its logarithm, of the rows of `x, y`, contiguous f32.
    ///
    /// # Errors
    /// Where the device fails.
    fn softmax(&self, x: View<'_>, log: bool, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.softmax(host::fetch(self, x)?.view(), log, y))
    }

    /// The rows of `x` in order and where the elements were (int64), contiguous.
    ///
    /// # Errors
    /// Where the device fails.
    fn sort(&self, x: View<'_>, descending: bool, y: ViewMut<'_>, ids: ViewMut<'_>) -> Result<()> {
        host::run_all(self, [y, ids], |cpu, [y, ids]| {
            cpu.sort(host::fetch(self, x)?.view(), descending, y, ids)
        })
    }

    /// `y: [O, M, W]` = entries `ids: [M]` (int64) of the middle dimension of `x: [O, N, W]`, contiguous.
    ///
    /// # Errors
    /// Where the device fails.
    fn index_select(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.index_select(host::fetch(self, x)?.view(), host::fetch(self, ids)?.view(), y)
        })
    }

    /// `y[o, m, w] = x[o, ids[o, m, w], w]` of `x: [O, N, W]` and `ids, y: [O, M, W]` (int64), contiguous.
    ///
    /// # Errors
    /// Where the device fails.
    fn gather(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.gather(host::fetch(self, x)?.view(), host::fetch(self, ids)?.view(), y)
        })
    }

    /// `y[o, ids[o, m, w], w] += x[o, m, w]` of `ids, x: [O, M, W]` and `y: [O, N, W]`, in row-major order, contiguous.
    ///
    /// # Errors
    /// Where the device fails.
    fn scatter_add(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.scatter_add(host::fetch(self, x)?.view(), host::fetch(self, ids)?.view(), y)
        })
    }

    /// `y: [.., M, N] = a: [.., M, K] · b: [.., K, N]` in f32, `a` and `b` in any layout, `y` contiguous.
    ///
    /// # Errors
    /// Where the device fails.
    fn matmul(&self, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.matmul(host::fetch(self, a)?.view(), host::fetch(self, b)?.view(), y))
    }

    /// Gradients of [`rms_norm`](Self::rms_norm) into `[dx: [T, C], dweight: [C]]`. `x, dy: [T, C]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn rms_norm_backward(
        &self,
        x: View<'_>,
        weight: View<'_>,
        eps: f32,
        dy: View<'_>,
        into: [ViewMut<'_>; 2],
    ) -> Result<()> {
        host::run_all(self, into, |cpu, into| {
            let (x, weight) = (host::fetch(self, x)?, host::fetch(self, weight)?);
            cpu.rms_norm_backward(x.view(), weight.view(), eps, host::fetch(self, dy)?.view(), into)
        })
    }

    /// Gradients of [`glu`](Self::glu) into `[dgate, dup]`. All `[T, F]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn glu_backward(
        &self,
        kind: Glu,
        gate: View<'_>,
        up: View<'_>,
        dy: View<'_>,
        into: [ViewMut<'_>; 2],
    ) -> Result<()> {
        host::run_all(self, into, |cpu, into| {
            let (gate, up) = (host::fetch(self, gate)?, host::fetch(self, up)?);
            cpu.glu_backward(kind, gate.view(), up.view(), host::fetch(self, dy)?.view(), into)
        })
    }

    /// What the absmax int8 codes of the rows of `x, y: [.., C]` mean.
    ///
    /// # Errors
    /// Where the device fails.
    fn fake_quantize(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.fake_quantize(host::fetch(self, x)?.view(), y))
    }

    /// What the absmean ternary codes of every `group` elements of `w, y` mean.
    ///
    /// # Errors
    /// Where the device fails.
    fn fake_ternarize(&self, w: View<'_>, group: usize, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.fake_ternarize(host::fetch(self, w)?.view(), group, y))
    }

    /// Loss `y: [T]` of each row of `logits: [T, V]` with its target (int64; negative: none).
    ///
    /// # Errors
    /// Where the device fails.
    fn cross_entropy(&self, logits: View<'_>, targets: View<'_>, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            cpu.cross_entropy(host::fetch(self, logits)?.view(), host::fetch(self, targets)?.view(), y)
        })
    }

    /// Gradient `y: [T, V]` of [`cross_entropy`](Self::cross_entropy), given that of the losses, `[T]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn cross_entropy_backward(
        &self,
        logits: View<'_>,
        targets: View<'_>,
        dy: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let (logits, targets) = (host::fetch(self, logits)?, host::fetch(self, targets)?);
            cpu.cross_entropy_backward(logits.view(), targets.view(), host::fetch(self, dy)?.view(), y)
        })
    }

    /// Divergence `y: [T]` of each row of `logits: [T, V]` from that of `teacher: [T, V]`, both times `scale` before the softmax.
    ///
    /// # Errors
    /// Where the device fails.
    fn kl_divergence(&self, logits: View<'_>, teacher: View<'_>, scale: f32, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let (logits, teacher) = (host::fetch(self, logits)?, host::fetch(self, teacher)?);
            cpu.kl_divergence(logits.view(), teacher.view(), scale, y)
        })
    }

    /// Gradient `y: [T, V]` of [`kl_divergence`](Self::kl_divergence) with respect to the logits, given that of the divergences, `[T]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn kl_divergence_backward(
        &self,
        [logits, teacher]: [View<'_>; 2],
        scale: f32,
        dy: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        host::run(self, y, |cpu, y| {
            let (logits, teacher) = (host::fetch(self, logits)?, host::fetch(self, teacher)?);
            let dy = host::fetch(self, dy)?;
            cpu.kl_divergence_backward([logits.view(), teacher.view()], scale, dy.view(), y)
        })
    }

    /// Softmax of `x * scale` where row `i` of each matrix sees its first `m - n + i + 1` columns, zeros elsewhere. `x, y: [.., n, m]`, n <= m.
    ///
    /// # Errors
    /// Where the device fails.
    fn causal_softmax(&self, x: View<'_>, scale: f32, y: ViewMut<'_>) -> Result<()> {
        host::run(self, y, |cpu, y| cpu.causal_softmax(host::fetch(self, x)?.view(), scale, y))
    }

    /// Gradient `dx` of `p = softmax(x * scale)` over rows, given `p` and that of it. All `[.., C]`.
    ///
    /// # Errors
    /// Where the device fails.
    fn softmax_backward(&self, p: View<'_>, dp: View<'_>, scale: f32, dx: ViewMut<'_>) -> Result<()> {
        host::run(self, dx, |cpu, dx| {
            cpu.softmax_backward(host::fetch(self, p)?.view(), host::fetch(self, dp)?.view(), scale, dx)
        })
    }

    /// A step of `adam` by the gradient `g`: weights, means of gradients and of their squares are `into`, all of one shape.
    ///
    /// # Errors
    /// Where the device fails.
    fn adam(&self, adam: &Adam, g: View<'_>, into: [ViewMut<'_>; 3]) -> Result<()> {
        host::run_all(self, into, |cpu, into| cpu.adam(adam, host::fetch(self, g)?.view(), into))
    }
}
