//! Ways to share work between threads. They only partition: no result depends on how many threads there are.

use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use super::threads::Threads;

/// The `i`-th of `parts` contiguous shares of `0..n_items`, as even as whole multiples of `multiple` allow.
///
/// # Panics
///
/// When `multiple` is zero or `i` is not below `parts`.
pub fn split(n_items: usize, parts: usize, i: usize, multiple: usize) -> Range<usize> {
    assert!(i < parts, "share {i} of {parts}");
    let units = n_items.div_ceil(multiple);
    let (each, extra) = (units / parts, units % parts);
    let start = i * each + i.min(extra);
    let end = start + each + usize::from(i < extra);
    (start * multiple).min(n_items)..(end * multiple).min(n_items)
}

impl Threads {
    /// Runs `f` on contiguous ranges that cover `0..n`, at most one for each thread, cut at multiples of `grain`.
    pub fn for_each_range(&self, n: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
        let parts = n.div_ceil(grain).min(self.len());
        self.share(parts, &|i| f(split(n, parts, i, grain)));
    }

    /// Runs `f(item)` for every item in `0..n`, each on whichever thread is free, for items of uneven cost.
    pub fn for_each_item(&self, n: usize, f: impl Fn(usize) + Sync) {
        self.share(n, &f);
    }

    /// Runs `f(index, chunk)` for every chunk of `chunk_len` elements of `out` (the last may be shorter); each thread
    /// takes a contiguous run of chunks.
    pub fn for_each_chunk_mut<T: Send>(
        &self,
        out: &mut [T],
        chunk_len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = Chunks::new(out, chunk_len);
        self.for_each_range(chunks.count(), 1, |range| {
            for index in range {
                // SAFETY: the ranges are disjoint, so every index comes up once.
                f(index, unsafe { chunks.get(index) });
            }
        });
    }

    /// As [`for_each_chunk_mut`](Self::for_each_chunk_mut), each chunk on whichever thread is free, for chunks of
    /// uneven cost.
    pub fn for_each_item_mut<T: Send>(
        &self,
        out: &mut [T],
        chunk_len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = Chunks::new(out, chunk_len);
        self.for_each_item(chunks.count(), |index| {
            // SAFETY: every item comes up once.
            f(index, unsafe { chunks.get(index) });
        });
    }

    /// Runs `f(i, a, b, c)` with row `i` of three matrices that have as many rows. Each matrix comes with the length of
    /// its rows; each thread takes a contiguous run of rows, cut at multiples of `grain`.
    ///
    /// # Panics
    ///
    /// When the numbers of rows differ.
    pub fn for_each_row3<A: Send, B: Send, C: Send>(
        &self,
        (a, a_len): (&mut [A], usize),
        (b, b_len): (&mut [B], usize),
        (c, c_len): (&mut [C], usize),
        grain: usize,
        f: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
    ) {
        let (a, b, c) = (Chunks::new(a, a_len), Chunks::new(b, b_len), Chunks::new(c, c_len));
        let rows = a.count();
        assert!(b.count() == rows && c.count() == rows, "{rows}, {} and {} rows", b.count(), c.count());
        self.for_each_range(rows, grain, |range| {
            for i in range {
                // SAFETY: the ranges are disjoint, so every index comes up once; the same for `b` and `c`.
                let a = unsafe { a.get(i) };
                // SAFETY: as for `a`.
                let b = unsafe { b.get(i) };
                // SAFETY: as for `a`.
                let c = unsafe { c.get(i) };
                f(i, a, b, c);
            }
        });
    }

    /// Gives threads columns of `out: [rows, stride]`, each on whichever is free, cut at multiples of `grain`.
    ///
    /// # Panics
    ///
    /// As [`Columns::new`].
    pub fn for_each_columns(
        &self,
        out: &mut [f32],
        stride: usize,
        grain: usize,
        f: impl Fn(ColumnsMut<'_>) + Sync,
    ) {
        let columns = Columns::new(out, stride);
        self.share_range(stride, grain, &|range| {
            // SAFETY: the ranges are disjoint.
            f(unsafe { columns.part(range) });
        });
    }
}

/// A slice in chunks that several threads write, each its own.
struct Chunks<'a, T> {
    start: *mut T,
    len: usize,
    chunk_len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: sharing it lets other threads take elements by `get`, which `T: Send` allows.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    fn new(out: &'a mut [T], chunk_len: usize) -> Self {
        Self { start: out.as_mut_ptr(), len: out.len(), chunk_len, slice: PhantomData }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk_len)
    }

    /// # Safety
    ///
    /// `index < count()`, and it is given once.
    unsafe fn get(&self, index: usize) -> &'a mut [T] {
        let offset = index * self.chunk_len;
        let len = self.chunk_len.min(self.len - offset);
        // SAFETY: `offset < len` of the slice because `index < count()`.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the chunk lies inside the slice borrowed for `'a`, and its index is given once.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }
}

/// A row-major matrix that several threads write, each its own columns.
pub struct Columns<'a> {
    start: *mut f32,
    rows: usize,
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: sharing it gives access to elements only through `part`, whose caller keeps the parts disjoint.
unsafe impl Sync for Columns<'_> {}
// SAFETY: it stands for a `&mut [f32]`, which can be sent.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// `out: [rows, stride]`.
    ///
    /// # Panics
    ///
    /// When `out` is not whole rows, or not empty with a `stride` of zero.
    pub fn new(out: &'a mut [f32], stride: usize) -> Self {
        let rows = out.len().checked_div(stride).unwrap_or(0);
        assert_eq!(rows * stride, out.len(), "whole rows of {stride}");
        Self { start: out.as_mut_ptr(), rows, stride, matrix: PhantomData }
    }

    /// All columns at once, for a single thread.
    pub fn whole(self) -> ColumnsMut<'a> {
        let range = 0..self.stride;
        ColumnsMut { columns: self, range }
    }

    /// The columns in `range`.
    ///
    /// # Safety
    ///
    /// The ranges of parts that exist at the same time are disjoint.
    ///
    /// # Panics
    ///
    /// When the range is not inside the matrix.
    pub unsafe fn part(&self, range: Range<usize>) -> ColumnsMut<'a> {
        assert!(range.start <= range.end && range.end <= self.stride, "columns {range:?} of {}", self.stride);
        ColumnsMut { columns: Columns { matrix: PhantomData, ..*self }, range }
    }
}

/// Some columns of a row-major matrix, for one thread to write.
pub struct ColumnsMut<'a> {
    columns: Columns<'a>,
    range: Range<usize>,
}

impl ColumnsMut<'_> {
    /// The columns.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.rows
    }

    /// Some of these columns, counted from the first of them.
    ///
    /// # Panics
    ///
    /// When the range is not inside these columns.
    pub fn narrow(&mut self, range: Range<usize>) -> ColumnsMut<'_> {
        assert!(range.start <= range.end && range.end <= self.range.len(), "{range:?} of {:?}", self.range);
        let range = self.range.start + range.start..self.range.start + range.end;
        ColumnsMut { columns: Columns { matrix: PhantomData, ..self.columns }, range }
    }

    /// The first element of the first row of these columns; row `t` is as many elements further as the matrix is wide, times `t`.
    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        // SAFETY: the range is inside the matrix, so the offset is at most its length.
        unsafe { self.columns.start.add(self.range.start) }
    }

    /// Row `t` of these columns: `range().len()` elements.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn row_mut(&mut self, t: usize) -> &mut [f32] {
        assert!(t < self.columns.rows, "row {t} of {}", self.columns.rows);
        let offset = t * self.columns.stride + self.range.start;
        // SAFETY: row and column range are inside the matrix, so the offset is at most its length.
        let start = unsafe { self.columns.start.add(offset) };
        // SAFETY: the elements are inside the borrowed matrix and in columns that belong to this part alone.
        unsafe { slice::from_raw_parts_mut(start, self.range.len()) }
    }
}
