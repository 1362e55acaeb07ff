//! A product with one token from the copy of a ternary matrix in triples.

use super::{
    kernels::{Kernels, TripleDots},
    partition::ColumnsMut,
};
use crate::ops::{
    bit_matmul::{CodeRows, TernaryRows},
    triples::{ROWS, TRIPLES, Table, UNIT_BYTES, units},
};
use std::{
    cell::RefCell,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Most rows that a claim is made of: so many blocks share the tables.
const GRAIN: usize = 4 * ROWS;
/// Claims that a thread has at least, so that none waits long for another.
const CLAIMS: usize = 8;

/// What a thread needs for a product.
struct Scratch {
    /// The number and columns that the tables are for.
    product: (u64, usize),
    /// Each thread has its own: to make them takes less time than to fetch them from the cache of another.
    tables: Vec<Table>,
    sums: Vec<[i32; ROWS]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { product: (0, 0), tables: Vec::new(), sums: Vec::new() }) };
}

/// A number for a product, or for several with the same token.
pub(super) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Rows of a claim.
pub(super) fn grain(rows: usize, threads: usize) -> usize {
    (rows / (CLAIMS * threads)).clamp(ROWS, GRAIN).next_multiple_of(ROWS)
}

/// Writes some rows of `y: [1, O]`, from a whole block on, of the product of the one token of `x` with a matrix of `cols` columns, or adds them
/// to `y`. `weight` has the bytes of the copy, in whole blocks; the tables are made once for a number.
pub(super) fn part(
    (kernels, dots, number): (&Kernels, TripleDots, u64),
    weight: TernaryRows<'_>,
    cols: usize,
    x: CodeRows<'_>,
    mut y: ColumnsMut<'_>,
    adds: bool,
) {
    let block = units(cols) * UNIT_BYTES;
    let factor = x.scales[0];
    let Range { start, end } = y.range();
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { tables, sums, .. } = scratch;
        if scratch.product != (number, cols) {
            scratch.product = (number, cols);
            tables.resize(units(cols) * TRIPLES, Table::ZERO);
            (kernels.triple_tables)(&x.codes[..cols], tables);
        }
        let blocks = start / ROWS..end.div_ceil(ROWS);
        sums.resize(blocks.len(), [0; ROWS]);
        dots(&weight.bytes[blocks.start * block..blocks.end * block], tables, sums);
        for ((y, row), sum) in y.row_mut(0).iter_mut().zip(start..end).zip(sums.as_flattened()) {
            let product = *sum as f32 / factor * weight.scale(row);
            *y = if adds { *y + product } else { product };
        }
    });
}
