//! Grouped-query attention over a paged cache, or over whole sequences where there is none.

use super::{Linear, LinearInput, RmsNorm, Rotation};
use crate::kv::KvLayer;
use bitnet_core::{
    Result, Tensor,
    ops::{self, PagedSpan},
};

/// Query, key, value and output projections with the norms between them.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `[H·D, C]`.
    pub q: Linear,
    /// `[K·D, C]`.
    pub k: Linear,
    /// `[K·D, C]`.
    pub v: Linear,
    /// `[C, H·D]`.
    pub o: Linear,
    /// Norm of each query head, `[D]`.
    pub q_norm: Option<RmsNorm>,
    /// Norm of each key head, `[D]`.
    pub k_norm: Option<RmsNorm>,
    /// Before the output projection, `[H·D]`.
    pub sub_norm: Option<RmsNorm>,
    /// D: width of a head.
    pub head_dim: usize,
}

/// What positions ask for, what they are found by, and what they hold.
#[derive(Clone, Debug)]
pub struct AttentionStates {
    /// Rotated queries, `[T, H, D]`.
    pub q: Tensor,
    /// Rotated keys, `[T, K, D]`.
    pub k: Tensor,
    /// Values, `[T, K, D]`.
    pub v: Tensor,
}

impl Attention {
    /// Queries, keys and values of `x: [T, C]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn states(&self, x: &LinearInput<'_>, rotation: &Rotation) -> Result<AttentionStates> {
        let [q, k, v] = Linear::forward_all([&self.q, &self.k, &self.v], x)?;
        Ok(AttentionStates {
            q: self.rotated(q, self.q_norm.as_ref(), rotation)?,
            k: self.rotated(k, self.k_norm.as_ref(), rotation)?,
            v: self.heads(v)?,
        })
    }

    /// `residual` and what positions find, `[T, C]`; writes the new keys and values to `cache` and reads all of them from there. Without a
    /// cache the spans are whole sequences.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn mix_add(
        &self,
        residual: Tensor,
        AttentionStates { q, k, v }: &AttentionStates,
        spans: &[PagedSpan<'_>],
        cache: Option<&mut KvLayer>,
    ) -> Result<Tensor> {
        let y = match cache {
            Some(cache) => {
                ops::kv_store(k, v, spans, cache)?;
                ops::attention(q, spans, cache)?
            }
            None => ops::causal_attention(q, k, v, &spans.iter().map(|s| s.len).collect::<Vec<_>>())?,
        };
        let y = y.reshape([y.shape().dims()[0], self.q.rows()])?;
        self.o.forward_add(residual, &LinearInput::normed(&y, self.sub_norm.as_ref()))
    }

    fn rotated(&self, x: Tensor, norm: Option<&RmsNorm>, rotation: &Rotation) -> Result<Tensor> {
        let mut heads = self.heads(x)?;
        if let Some(norm) = norm {
            heads = norm.forward(&heads)?;
        }
        ops::rope(heads, &rotation.cos, &rotation.sin)
    }

    /// `[T, n·D]` -> `[T, n, D]`.
    fn heads(&self, y: Tensor) -> Result<Tensor> {
        let (rows, cols) = (y.shape().rows(), y.shape().last());
        y.into_shape([rows, cols / self.head_dim, self.head_dim])
    }
}
