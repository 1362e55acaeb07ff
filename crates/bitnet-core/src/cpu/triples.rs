//! A product with one token from the copy of a ternary matrix in triples.

use super::{
    kernels::{Kernels, TripleDots},
    threads::Threads,
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
    /// The product that the tables are for.
    product: u64,
    /// Each thread has its own: to make them takes less time than to fetch them from the cache of another.
    tables: Vec<Table>,
    sums: Vec<[i32; ROWS]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { product: 0, tables: Vec::new(), sums: Vec::new() }) };
}

/// Writes `y: [O]`, the product of the one token of `x` with a matrix of `cols` columns. `weight` has the bytes of the copy, in whole blocks.
pub(super) fn product(
    (kernels, dots, threads): (&Kernels, TripleDots, &Threads),
    weight: TernaryRows<'_>,
    cols: usize,
    x: CodeRows<'_>,
    y: &mut [f32],
) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let product = NEXT.fetch_add(1, Relaxed);
    let block = units(cols) * UNIT_BYTES;
    let (rows, factor) = (y.len(), x.scales[0]);
    let grain = (rows / (CLAIMS * threads.len())).clamp(ROWS, GRAIN).next_multiple_of(ROWS);
    threads.for_each_columns(y, rows, grain, |mut y| {
        let Range { start, end } = y.range();
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { tables, sums, .. } = scratch;
            if scratch.product != product {
                scratch.product = product;
                tables.resize(units(cols) * TRIPLES, Table::ZERO);
                (kernels.triple_tables)(&x.codes[..cols], tables);
            }
            let blocks = start / ROWS..end.div_ceil(ROWS);
            sums.resize(blocks.len(), [0; ROWS]);
            dots(&weight.bytes[blocks.start * block..blocks.end * block], tables, sums);
            for ((y, row), sum) in y.row_mut(0).iter_mut().zip(start..end).zip(sums.as_flattened()) {
                *y = *sum as f32 / factor * weight.scale(row);
            }
        });
    });
}
