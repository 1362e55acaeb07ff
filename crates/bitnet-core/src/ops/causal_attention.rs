//! Attention of whole sequences with gradients: every token sees itself and what came before.
//!
//! The weights of the values are not kept for the gradients but computed again (as in FlashAttention, Dao et al. 2022, arXiv:2205.14135).

use super::expect_floats;
use crate::{DType, Error, Result, Shape, Tensor, autograd::record, math, ops::concat};

/// `y = softmax(x[..seen] * scale)`, and zeros behind. Both `[C]`, `seen` from 1 to C.
#[inline(always)]
pub fn softmax(x: &[f32], seen: usize, scale: f32, y: &mut [f32]) {
    let (x, (y, unseen)) = (&x[..seen], y.split_at_mut(seen));
    unseen.fill(0.0);
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * scale;
    }
    let max = super::softmax::row_max(y);
    for y in y.iter_mut() {
        *y = math::exp(*y - max);
    }
    let inverse = 1.0 / math::sum16(y);
    for y in y {
        *y *= inverse;
    }
}

/// Gradient of `softmax(x * scale)` by `x`, given its result: `dx = y (dy - sum(y dy)) scale`. All `[C]`.
#[inline(always)]
pub fn softmax_backward(y: &[f32], dy: &[f32], scale: f32, dx: &mut [f32]) {
    let along = math::dot16(y, dy);
    for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = y * (dy - along) * scale;
    }
}

/// Causal attention of `q: [T, H, D]` over `k, v: [T, K, D]` -> `[T, H, D]`, scores scaled by `1/sqrt(D)`. The tokens are those of sequences of
/// `lens` tokens, one after the other; H/K query heads share a head of `k` and `v`.
///
/// # Errors
/// Where shapes do not fit together or with `lens`, the elements are not f32, or the device fails.
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor, lens: &[usize]) -> Result<Tensor> {
    let op = "causal_attention";
    [q, k, v].into_iter().try_for_each(|x| expect_floats(op, x))?;
    let (&[tokens, heads, dim], &[_, kv_heads, _]) = (q.shape().dims(), k.shape().dims()) else {
        return Err(Error::Shape { op, expected: Shape::from([0, 0, 0]), got: q.shape() });
    };
    super::expect_shape(op, k, [tokens, kv_heads, dim])?;
    super::expect_shape(op, v, [tokens, kv_heads, dim])?;
    [k, v].into_iter().try_for_each(|x| super::expect_device(op, q.device(), x.device()))?;
    let whole = kv_heads > 0 && heads.is_multiple_of(kv_heads) && lens.iter().sum::<usize>() == tokens;
    if !whole {
        let reason = format!("{heads} heads over {kv_heads}, {tokens} tokens in sequences of {lens:?}");
        return Err(Error::Argument { op, reason });
    }
    let runs = runs(lens, heads);
    let [qs, ks, vs] = [q, k, v].map(|x| x.detach());
    let parts: Result<Vec<_>> = runs
        .iter()
        .map(|run| {
            let [q, k, v] = [run.heads(&qs, kv_heads)?, run.heads(&ks, kv_heads)?, run.heads(&vs, kv_heads)?];
            let tiles = run.tiles().map(|tile| {
                let seen = [tile.seen(&k)?, tile.seen(&v)?];
                weights(&tile.of(&q)?, &seen[0])?.matmul(&seen[1])
            });
            run.tokens(&joined(tiles.collect::<Result<_>>()?, ROWS)?)
        })
        .collect();
    Ok(record(joined(parts?, 0)?, [q, k, v], || {
        move |dy: &Tensor| {
            let [mut dq, mut dk, mut dv] = [vec![], vec![], vec![]];
            for run in &runs {
                let [q, k, v] =
                    [run.heads(&qs, kv_heads)?, run.heads(&ks, kv_heads)?, run.heads(&vs, kv_heads)?];
                let dy = run.heads(&dy.contiguous()?, kv_heads)?;
                let mut by_query = vec![];
                let [mut by_key, mut by_value] = [vec![], vec![]];
                for tile in run.tiles() {
                    let [q, dy, k, v] = [tile.of(&q)?, tile.of(&dy)?, tile.seen(&k)?, tile.seen(&v)?];
                    let p = weights(&q, &k)?;
                    let ds = weights_backward(&p, &dy.matmul(&v.transpose(-2, -1)?)?, dim)?;
                    by_query.push(ds.matmul(&k)?);
                    tile.add(&mut by_key, &ds.transpose(-2, -1)?.matmul(&q)?)?;
                    tile.add(&mut by_value, &p.transpose(-2, -1)?.matmul(&dy)?)?;
                }
                dq.push(run.tokens(&joined(by_query, ROWS)?)?);
                dk.push(run.tokens(&of_group(joined(by_key, ROWS)?)?)?);
                dv.push(run.tokens(&of_group(joined(by_value, ROWS)?)?)?);
            }
            Ok([Some(joined(dq, 0)?), Some(joined(dk, 0)?), Some(joined(dv, 0)?)])
        }
    }))
}

/// Queries whose weights are computed at a time. They see no key behind the last of them, so what is above the diagonal is mostly left out, and
/// what is between the products stays in the cache.
const TILE: usize = 128;
/// Weights that are computed at a time, where several sequences together have no more.
const WEIGHTS: usize = 1 << 18;
/// The dimension of the tokens of `[B, K, H/K, n, D]`.
const ROWS: usize = 3;

/// Sequences of one length that stand next to each other.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    count: usize,
    len: usize,
}

fn runs(lens: &[usize], heads: usize) -> Vec<Run> {
    let mut first = 0;
    let equal = lens.chunk_by(|a, b| a == b).filter(|run| run[0] > 0);
    let together = |len: usize| (WEIGHTS / (heads * len * len.min(TILE)).max(1)).max(1);
    equal
        .flat_map(|lens| lens.chunks(together(lens[0])))
        .map(|lens| {
            let run = Run { first, count: lens.len(), len: lens[0] };
            first += run.count * run.len;
            run
        })
        .collect()
}

impl Run {
    /// `[T, H, D]` -> a view `[B, K, H/K, n, D]` of its tokens.
    fn heads(self, x: &Tensor, kv_heads: usize) -> Result<Tensor> {
        let &[_, heads, dim] = x.shape().dims() else { unreachable!("checked by the op") };
        let x = x.contiguous()?.narrow(0, self.first, self.count * self.len)?;
        x.reshape([self.count, self.len, kv_heads, heads / kv_heads, dim])?.permute(&[0, 2, 3, 1, 4])
    }

    fn tiles(self) -> impl Iterator<Item = Tile> {
        let len = self.len;
        (0..len).step_by(TILE).map(move |first| Tile { first, end: (first + TILE).min(len) })
    }

    /// The way back.
    fn tokens(self, x: &Tensor) -> Result<Tensor> {
        let &[count, kv_heads, group, len, dim] = x.shape().dims() else { unreachable!("made by the op") };
        x.permute(&[0, 3, 1, 2, 4])?.contiguous()?.into_shape([count * len, kv_heads * group, dim])
    }
}

/// Some of the queries of a sequence.
#[derive(Clone, Copy)]
struct Tile {
    first: usize,
    end: usize,
}

impl Tile {
    /// The queries themselves.
    fn of(self, x: &Tensor) -> Result<Tensor> {
        x.narrow(ROWS, self.first, self.end - self.first)
    }

    /// The keys or values that they see.
    fn seen(self, x: &Tensor) -> Result<Tensor> {
        x.narrow(ROWS, 0, self.end)
    }

    /// Adds what these queries say of the keys or values that they see to what those before them said, a tensor for each tile.
    fn add(self, sums: &mut Vec<Tensor>, x: &Tensor) -> Result<()> {
        for (sum, first) in sums.iter_mut().zip((0..).step_by(TILE)) {
            sum.add_assign(&x.narrow(ROWS, first, TILE)?)?;
        }
        sums.push(self.of(x)?.contiguous()?);
        Ok(())
    }
}

fn joined(mut parts: Vec<Tensor>, dim: usize) -> Result<Tensor> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    concat(&parts.iter().collect::<Vec<_>>(), dim as isize)
}

/// The gradient of a head that a group of query heads shares: the sum of theirs.
fn of_group(x: Tensor) -> Result<Tensor> {
    if x.shape().dims()[2] == 1 { Ok(x) } else { x.sum(2, true) }
}

fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}

/// How much of each value each token takes, the last of `n` seeing all `m`: `[B, K, H/K, n, m]`.
fn weights(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let scores = q.matmul(&k.transpose(-2, -1)?)?;
    let mut y = Tensor::empty(scores.device(), scores.shape(), DType::F32)?;
    let scale = scale(q.shape().last());
    scores.device().backend().causal_softmax(scores.view(), scale, y.view_mut("causal_softmax")?)?;
    Ok(y)
}

fn weights_backward(p: &Tensor, dp: &Tensor, dim: usize) -> Result<Tensor> {
    let (op, mut y) = ("softmax_backward", Tensor::empty(p.device(), p.shape(), DType::F32)?);
    p.device().backend().softmax_backward(p.view(), dp.view(), scale(dim), y.view_mut(op)?)?;
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, random::Rng};

    #[test]
    fn sequences_do_not_see_each_other() {
        let device = Device::open("cpu/scalar", Some(1)).unwrap();
        let random = |heads| Tensor::normal(&device, [7, heads, 4], (0.0, 1.0), &mut Rng::new(heads as u64));
        let (q, k) = (random(4).unwrap(), random(2).unwrap());
        let v = k.mul_scalar(2.0).unwrap();
        let whole = causal_attention(&q, &k, &v, &[2, 2, 3]).unwrap();
        let part = |x: &Tensor| x.narrow(0, 4, 3).unwrap();
        let alone = causal_attention(&part(&q), &part(&k), &part(&v), &[3]).unwrap();
        assert_eq!(part(&whole).to_vec::<f32>().unwrap(), alone.to_vec::<f32>().unwrap());
        // The first token of a sequence sees itself alone.
        let first = |x: &Tensor, head| x.at(0, 4).unwrap().at(0, head).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(first(&whole, 3), first(&v, 1));
    }

    #[test]
    fn lengths_that_are_not_the_tokens_are_refused() {
        let device = Device::open("cpu/scalar", Some(1)).unwrap();
        let x = Tensor::zeros(&device, [4, 2, 4], DType::F32).unwrap();
        assert!(causal_attention(&x, &x, &x, &[3]).is_err());
        assert!(causal_attention(&x, &x, &x, &[1, 3]).is_ok());
    }
}
