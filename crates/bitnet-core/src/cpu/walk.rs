//! The way through strided operands: tiles of the result, and where each operand's elements for it lie.

use crate::{Element, layout::Layout, ops::Operand, shape::MAX_DIMS};

/// Elements of the result that are computed at a time.
pub(super) const TILE: usize = 1024;
/// Elements that are worth a tile of their own where a row ends.
const WHOLE_ROW: usize = 48;

/// Where the elements of an operand for a tile lie.
#[derive(Clone, Copy)]
pub(super) enum Run<'a> {
    /// One after the other, `stride` elements apart.
    Line { start: usize, stride: usize },
    /// At these places.
    At(&'a [usize]),
}

impl<'a> Run<'a> {
    /// Where element `i` lies.
    pub(super) fn place(self, i: usize) -> usize {
        match self {
            Run::Line { start, stride } => start + i * stride,
            Run::At(places) => places[i],
        }
    }

    /// The `len` elements, brought together in `tile` where they do not lie so already.
    pub(super) fn load<T: Element>(self, data: &'a [T], len: usize, tile: &'a mut Vec<T>) -> Operand<'a, T> {
        match self {
            Run::Line { start, stride: 1 } => return Operand::Row(&data[start..start + len]),
            Run::Line { start, stride: 0 } => return Operand::One(data[start]),
            Run::Line { start, stride } => {
                let strided = data[start..].iter().step_by(stride);
                sized(tile, len).iter_mut().zip(strided).for_each(|(y, &x)| *y = x);
            }
            Run::At(places) => sized(tile, len).iter_mut().zip(places).for_each(|(y, &i)| *y = data[i]),
        }
        Operand::Row(&tile[..len])
    }

    /// As [`Run::load`], a single element repeated.
    pub(super) fn gather<T: Element>(self, data: &'a [T], len: usize, tile: &'a mut Vec<T>) -> &'a [T] {
        if let Run::Line { start, stride: 0 } = self {
            let tile = sized(tile, len);
            tile.fill(data[start]);
            return tile;
        }
        match self.load(data, len, tile) {
            Operand::Row(row) => row,
            Operand::One(_) => unreachable!("only a stride of zero repeats"),
        }
    }
}

/// The first `len` elements of scratch that grows where it is needed.
pub(super) fn sized<T: Element>(scratch: &mut Vec<T>, len: usize) -> &mut [T] {
    if scratch.len() < len {
        scratch.resize(TILE.max(len), T::default());
    }
    &mut scratch[..len]
}

/// Operands of one shape, dimensions that all of them walk through with one stride merged.
pub(super) struct Walk<const N: usize> {
    rank: usize,
    dims: [usize; MAX_DIMS],
    strides: [[usize; N]; MAX_DIMS],
    pub(super) offsets: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// A walk over layouts of one shape.
    pub(super) fn new(layouts: [&Layout; N]) -> Self {
        let mut walk = Self {
            rank: 0,
            dims: [1; MAX_DIMS],
            strides: [[0; N]; MAX_DIMS],
            offsets: layouts.map(|layout| layout.offset()),
        };
        for (i, &dim) in layouts[0].shape().dims().iter().enumerate() {
            if dim != 1 {
                walk.push(dim, std::array::from_fn(|n| layouts[n].strides()[i]));
            }
        }
        walk
    }

    /// Extent and strides of every dimension, outermost first.
    pub(super) fn dims(&self) -> impl DoubleEndedIterator<Item = (usize, [usize; N])> + ExactSizeIterator {
        self.dims.into_iter().zip(self.strides).take(self.rank)
    }

    fn push(&mut self, dim: usize, strides: [usize; N]) {
        if let Some(last) = self.rank.checked_sub(1) {
            let merges = (0..N).all(|n| self.strides[last][n] == strides[n] * dim);
            if merges {
                self.dims[last] *= dim;
                self.strides[last] = strides;
                return;
            }
        }
        self.dims[self.rank] = dim;
        self.strides[self.rank] = strides;
        self.rank += 1;
    }

    /// Extent and strides of the innermost dimension.
    fn inner(&self) -> (usize, [usize; N]) {
        self.rank.checked_sub(1).map_or((1, [0; N]), |last| (self.dims[last], self.strides[last]))
    }

    /// Where the operands have element `position` in row-major order, and its index in each dimension.
    fn place(&self, mut position: usize) -> ([usize; N], [usize; MAX_DIMS]) {
        let (mut places, mut index) = (self.offsets, [0; MAX_DIMS]);
        for i in (0..self.rank).rev() {
            index[i] = position % self.dims[i];
            position /= self.dims[i];
            for (place, stride) in places.iter_mut().zip(self.strides[i]) {
                *place += index[i] * stride;
            }
        }
        (places, index)
    }

    /// A walk over the first elements of lines without a stride, and their length, where there are several lines.
    pub(super) fn lines(&self) -> Option<(Self, usize)> {
        let (extent, strides) = self.inner();
        let plain = self.rank > 1 && strides == [1; N];
        plain.then(|| (Self { rank: self.rank - 1, ..*self }, extent))
    }

    /// Calls `f` for tiles of elements `start..start + len`, with their position, their number and where the operands have them.
    pub(super) fn tiles(&self, start: usize, len: usize, mut f: impl FnMut(usize, usize, [Run<'_>; N])) {
        let (extent, strides) = self.inner();
        let mut scratch: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
        let (mut done, end) = (start, start + len);
        while done < end {
            let rest = extent - done % extent;
            let wanted = (end - done).min(TILE);
            if rest >= wanted.min(WHOLE_ROW) {
                let places = self.place(done).0;
                let runs = std::array::from_fn(|n| Run::Line { start: places[n], stride: strides[n] });
                let count = rest.min(wanted);
                f(done, count, runs);
                done += count;
            } else {
                self.scatter(done, wanted, &mut scratch);
                f(done, wanted, std::array::from_fn(|n| Run::At(&scratch[n][..wanted])));
                done += wanted;
            }
        }
    }

    /// Writes down where each operand has each of `len` elements from `position`.
    fn scatter(&self, position: usize, len: usize, places: &mut [Vec<usize>; N]) {
        let (mut at, mut index) = self.place(position);
        places.iter_mut().for_each(Vec::clear);
        for _ in 0..len {
            for (list, &place) in places.iter_mut().zip(&at) {
                list.push(place);
            }
            self.step(&mut at, &mut index);
        }
    }

    /// Moves to the next element in row-major order.
    fn step(&self, at: &mut [usize; N], index: &mut [usize; MAX_DIMS]) {
        for i in (0..self.rank).rev() {
            index[i] += 1;
            let ends = index[i] == self.dims[i];
            for (place, stride) in at.iter_mut().zip(self.strides[i]) {
                // Back to the beginning of the dimension where it ends.
                *place = if ends { *place - (self.dims[i] - 1) * stride } else { *place + stride };
            }
            if !ends {
                return;
            }
            index[i] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of both operands in the order of the walk.
    fn places(layouts: [Layout; 2]) -> Vec<[usize; 2]> {
        let len = layouts[0].shape().len();
        let mut found = Vec::new();
        Walk::new(layouts.each_ref()).tiles(0, len, |position, count, runs| {
            assert_eq!(position, found.len());
            for i in 0..count {
                found.push(runs.map(|run| run.place(i)));
            }
        });
        found
    }

    #[test]
    fn every_element_is_visited_in_row_major_order() {
        for dims in [[3, 5, 2], [1, 7, 1], [2, 100, 3], [2, 3, 100]] {
            let dense = Layout::contiguous(dims);
            let other = Layout::contiguous([dims[2], dims[1], dims[0]]).permute(&[2, 1, 0]).unwrap();
            let repeated = Layout::contiguous([dims[1], 1]).broadcast_to(dims).unwrap();
            for layout in [dense, other, repeated] {
                let expected: Vec<usize> = (0..dims.iter().product())
                    .map(|i| [i / dims[2] / dims[1], i / dims[2] % dims[1], i % dims[2]])
                    .map(|index| index.iter().zip(layout.strides()).map(|(i, s)| i * s).sum())
                    .collect();
                let found = places([dense, layout]);
                assert_eq!(found.iter().map(|p| p[1]).collect::<Vec<_>>(), expected);
                assert!(found.iter().enumerate().all(|(i, p)| p[0] == i));
            }
        }
    }

    #[test]
    fn contiguous_operands_are_one_dimension() {
        let layout = Layout::contiguous([4, 5, 6]);
        let walk = Walk::new([&layout, &layout]);
        assert_eq!((walk.rank, walk.dims[0]), (1, 120));
    }
}
