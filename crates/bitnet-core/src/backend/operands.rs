//! What ops read and write that is more than one tensor.

use crate::{
    ops::{Glu, PagedSpan, cache::KvShape},
    view::{View, ViewMut},
};

/// What is quantized per token, to read.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// `[T, C]`; of a gated linear unit its gate.
    pub x: View<'a>,
    /// `act(x) * up` instead of `x`: the activation, and `up: [T, C]`.
    pub glu: Option<(Glu, View<'a>)>,
    /// A norm that follows: its weight `[C]` and epsilon.
    pub norm: Option<(View<'a>, f32)>,
}

/// Activations quantized per token, to read. `C'` is the number of columns padded to whole weight blocks.
#[derive(Clone, Copy, Debug)]
pub struct CodesView<'a> {
    /// `[T, C']` i8 codes, zero behind the last column.
    pub codes: View<'a>,
    /// `[T]` f32 factors 127/absmax that the codes were multiplied by.
    pub scales: View<'a>,
    /// `[T]` i32 sums of each row of codes.
    pub sums: View<'a>,
}

impl CodesView<'_> {
    /// T.
    pub fn tokens(&self) -> usize {
        self.scales.shape().len()
    }
}

/// Activations quantized per token, to write. Shapes as in [`CodesView`].
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// `[T, C']` i8 codes.
    pub codes: ViewMut<'a>,
    /// `[T]` f32 factors.
    pub scales: ViewMut<'a>,
    /// `[T]` i32 sums.
    pub sums: ViewMut<'a>,
}

/// Which positions of a paged cache the tokens of a batch stand at.
#[derive(Clone, Copy, Debug)]
pub struct Paged<'a> {
    /// One entry a sequence; their tokens lie one after the other.
    pub spans: &'a [PagedSpan<'a>],
    /// Heads and storage of the cache.
    pub shape: KvShape,
}
