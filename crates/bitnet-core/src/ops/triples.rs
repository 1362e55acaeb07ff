//! Ternary matrices at 5/3 bits a weight, for products with one token by looking sums up.
//!
//! Three codes are one of 27 values, a triple, in 5 bits. A unit of 48 columns is 16 triples in 80 bits of a row: five words of 16 bits with
//! three triples each, lowest first, whose highest bits are the 16th, that of the first word its highest. Rows come in blocks of 32, whose words
//! of the same place lie beside each other, so that a register holds one for every row. What a triple contributes to the product of any row is
//! looked up in a table of 32 sums, which is a register as well. Rows and columns are padded with zeros to whole blocks and units.

use super::bit_matmul::{BLOCK_BYTES, BLOCK_LEN};
use crate::packed::padded_cols;
use std::array;

/// Rows of a block.
pub const ROWS: usize = 32;
/// Columns of a unit.
pub const COLUMNS: usize = 48;
/// Bytes of a unit of a block.
pub const UNIT_BYTES: usize = WORDS * WORD_BYTES;
/// Words of a unit of a row.
pub(crate) const WORDS: usize = 5;
/// Bytes of a word of every row of a block.
pub(crate) const WORD_BYTES: usize = 2 * ROWS;
/// Triples of a unit, and its tables.
pub const TRIPLES: usize = 16;
/// Units whose sums fit 16 bits: of 80 triples that are worth at most 384 each.
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) const UNITS_IN_16_BITS: usize = 5;

/// What a triple contributes, by its value; the last five stand for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Table(pub [i16; 32]);

impl Table {
    /// Of activations that are all zero.
    pub const ZERO: Self = Self([0; 32]);
}

/// Units of a row of so many columns.
pub const fn units(cols: usize) -> usize {
    cols.div_ceil(COLUMNS)
}

/// Bytes of a matrix.
pub const fn bytes(rows: usize, cols: usize) -> usize {
    rows.div_ceil(ROWS) * units(cols) * UNIT_BYTES
}

/// Packs up to 32 rows of codes that are stored as `code + 1`, `[R, cols]`, into a block.
///
/// # Panics
/// Where a code is above 2, or the block is not of `units(cols)` units.
pub fn pack(rows: &[u8], cols: usize, block: &mut [u8]) {
    assert_eq!(block.len(), units(cols) * UNIT_BYTES, "a block holds whole rows");
    assert!(rows.iter().all(|&code| code <= 2), "codes are ternary");
    for (unit, out) in block.as_chunks_mut::<UNIT_BYTES>().0.iter_mut().enumerate() {
        for row in 0..ROWS {
            let codes: [u16; COLUMNS] = array::from_fn(|i| {
                let column = unit * COLUMNS + i;
                let stored = (column < cols).then(|| rows.get(row * cols + column)).flatten();
                u16::from(*stored.unwrap_or(&1))
            });
            for (k, word) in words(&codes).into_iter().enumerate() {
                out[k * WORD_BYTES + 2 * row..][..2].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// As [`pack`] of up to 32 rows of I2_S blocks, `[R, C' / 4]`, several times as fast: what is done to a column is done to all rows at once.
/// Returns whether the first `cols` codes of every row are ternary; if not, the block is of no use.
///
/// # Panics
/// Where the rows are not of whole blocks for so many columns, or the block is not of `units(cols)` units.
pub fn pack_rows(rows: &[u8], cols: usize, block: &mut [u8]) -> bool {
    const GROUP: usize = 3 * BLOCK_LEN;
    const UNITS: usize = GROUP / COLUMNS;
    let row_bytes = padded_cols(cols) / 4;
    assert_eq!(block.len(), units(cols) * UNIT_BYTES, "a block holds whole rows");
    assert!(rows.len().is_multiple_of(row_bytes.max(1)) && rows.len() <= ROWS * row_bytes, "up to 32 rows");
    let mut threes = [0; ROWS];
    for (group, units) in block.chunks_mut(UNITS * UNIT_BYTES).enumerate() {
        let mut codes = [[1u8; ROWS]; GROUP];
        let first = group * GROUP;
        for (first, codes) in (first..cols).step_by(BLOCK_LEN).zip(codes.as_chunks_mut::<BLOCK_LEN>().0) {
            let mut bytes = [[0u8; ROWS]; BLOCK_BYTES];
            for (row, from) in rows.chunks_exact(row_bytes).enumerate() {
                for (byte, from) in bytes.iter_mut().zip(&from[first / 4..][..BLOCK_BYTES]) {
                    byte[row] = *from;
                }
            }
            // Rows that are not there get zeros: a stored 1 in each of four codes.
            for byte in &mut bytes {
                byte[rows.len() / row_bytes..].fill(0b0101_0101);
            }
            for (column, codes) in codes.iter_mut().enumerate().take(cols - first) {
                let shift = 6 - 2 * (column / BLOCK_BYTES);
                for ((code, byte), three) in
                    codes.iter_mut().zip(&bytes[column % BLOCK_BYTES]).zip(&mut threes)
                {
                    *code = byte >> shift & 3;
                    *three |= *code & (*code >> 1);
                }
            }
        }
        for (unit, codes) in units.as_chunks_mut::<UNIT_BYTES>().0.iter_mut().zip(codes.as_chunks().0) {
            pack_unit(codes, unit);
        }
    }
    threes == [0; ROWS]
}

/// The words of a unit of all rows.
fn pack_unit(codes: &[[u8; ROWS]; COLUMNS], unit: &mut [u8; UNIT_BYTES]) {
    let mut triples = [[0u8; ROWS]; TRIPLES];
    for (triple, [first, second, third]) in triples.iter_mut().zip(codes.as_chunks().0) {
        for (((triple, a), b), c) in triple.iter_mut().zip(first).zip(second).zip(third) {
            *triple = a + 3 * b + 9 * c;
        }
    }
    let (low, [last]) = triples.split_at(TRIPLES - 1) else { unreachable!("the last triple is one") };
    for (k, (word, [first, second, third])) in
        unit.as_chunks_mut::<WORD_BYTES>().0.iter_mut().zip(low.as_chunks().0).enumerate()
    {
        let high = WORDS - 1 - k;
        for (row, word) in word.as_chunks_mut().0.iter_mut().enumerate() {
            let [a, b, c, last] = [first[row], second[row], third[row], last[row] >> high & 1].map(u16::from);
            *word = (a | b << 5 | c << 10 | last << 15).to_le_bytes();
        }
    }
}

/// The words of a unit of a row.
fn words(codes: &[u16; COLUMNS]) -> [u16; WORDS] {
    let triple = |i: usize| codes[3 * i] + 3 * codes[3 * i + 1] + 9 * codes[3 * i + 2];
    let last = triple(TRIPLES - 1);
    array::from_fn(|k| {
        let high = last >> (WORDS - 1 - k) & 1;
        triple(3 * k) | triple(3 * k + 1) << 5 | triple(3 * k + 2) << 10 | high << 15
    })
}

/// The triples of a unit of a row.
fn triples(words: [u16; WORDS]) -> [usize; TRIPLES] {
    let last = words.iter().fold(0, |last, word| last << 1 | word >> 15);
    array::from_fn(|i| match words.get(i / 3) {
        Some(word) => usize::from(word >> (5 * (i % 3)) & 31),
        None => usize::from(last),
    })
}

/// Tables of the triples of whole units, from activation codes; those that are missing at the end are zero.
#[inline(always)]
pub fn tables(codes: &[i8], tables: &mut [Table]) {
    const DIGITS: [[i16; 32]; 3] = {
        let mut digits = [[0; 32]; 3];
        let mut value = 0;
        while value < 27 {
            digits[0][value] = (value % 3) as i16 - 1;
            digits[1][value] = (value / 3 % 3) as i16 - 1;
            digits[2][value] = (value / 9) as i16 - 1;
            value += 1;
        }
        digits
    };
    let (whole, rest) = codes.as_chunks::<3>();
    let mut last = [0; 3];
    last[..rest.len()].copy_from_slice(rest);
    let all = whole.iter().chain([&last]);
    let filled = tables.len().min(whole.len() + 1);
    for (table, codes) in tables.iter_mut().zip(all) {
        let [x, y, z] = codes.map(i16::from);
        let [first, second, third] = &DIGITS;
        for (((sum, a), b), c) in table.0.iter_mut().zip(first).zip(second).zip(third) {
            *sum = a * x + b * y + c * z;
        }
    }
    tables[filled..].fill(Table::ZERO);
}

/// Products of the rows of whole blocks with the token of the tables: `sums: [blocks]`.
pub fn reference(blocks: &[u8], tables: &[Table], sums: &mut [[i32; ROWS]]) {
    let units = tables.len() / TRIPLES;
    for (block, sums) in blocks.as_chunks::<UNIT_BYTES>().0.chunks(units.max(1)).zip(sums) {
        *sums = [0; ROWS];
        for (unit, tables) in block.iter().zip(tables.as_chunks::<TRIPLES>().0) {
            for (row, sum) in sums.iter_mut().enumerate() {
                let word = |k: usize| {
                    let at = k * WORD_BYTES + 2 * row;
                    u16::from_le_bytes([unit[at], unit[at + 1]])
                };
                let triples = triples(array::from_fn(word));
                *sum +=
                    tables.iter().zip(triples).map(|(table, triple)| i32::from(table.0[triple])).sum::<i32>();
            }
        }
    }
}

/// The codes, stored as `code + 1`, of a row of I2_S blocks.
pub(crate) fn stored_codes(row: &[u8], codes: &mut [u8]) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code = row[byte_of(i)] >> (6 - 2 * (i % BLOCK_LEN / BLOCK_BYTES)) & 3;
    }
}

/// The byte of a row of I2_S blocks with a column.
pub(crate) fn byte_of(column: usize) -> usize {
    column / BLOCK_LEN * BLOCK_BYTES + column % BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_unit_is_five_words_whose_high_bits_are_the_last_triple() {
        let mut codes = [0u16; COLUMNS];
        // 1 + 3 * 2 = 7, then 9 * 2 = 18, in the second word; 2 + 3 * 2 + 9 = 17 = 0b10001 at the end.
        (codes[9], codes[10], codes[14]) = (1, 2, 2);
        (codes[45], codes[46], codes[47]) = (2, 2, 1);
        let words = words(&codes);
        assert_eq!(words, [1 << 15, 7 | 18 << 5, 0, 0, 1 << 15]);
        let mut expected = [0; TRIPLES];
        (expected[3], expected[4], expected[15]) = (7, 18, 17);
        assert_eq!(triples(words), expected);
    }

    #[test]
    fn sixteen_bits_hold_the_sums_of_some_units() {
        assert!(UNITS_IN_16_BITS * TRIPLES * 3 * 128 <= i16::MAX as usize);
        assert!((UNITS_IN_16_BITS + 1) * TRIPLES * 3 * 128 > i16::MAX as usize);
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_codes(
            rows in 1usize..70,
            cols in 1usize..900,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize
            };
            let codes: Vec<u8> = (0..rows * cols).map(|_| (next() % 3) as u8).collect();
            let x: Vec<i8> = (0..cols).map(|_| next() as i8).collect();
            let mut packed = vec![0; bytes(rows, cols)];
            for (rows, block) in codes.chunks(ROWS * cols).zip(packed.chunks_mut(bytes(1, cols))) {
                pack(rows, cols, block);
            }
            // From rows in two bits the same, whatever lies behind their last columns; a code of 3 is seen.
            let row_bytes = padded_cols(cols) / 4;
            let mut two_bits: Vec<u8> = (0..rows * row_bytes).map(|_| next() as u8).collect();
            for (row, codes) in two_bits.chunks_mut(row_bytes).zip(codes.chunks(cols)) {
                for (i, code) in codes.iter().enumerate() {
                    let shift = 6 - 2 * (i % BLOCK_LEN / BLOCK_BYTES);
                    row[byte_of(i)] = row[byte_of(i)] & !(3 << shift) | code << shift;
                }
            }
            let block_rows = ROWS * row_bytes;
            let mut repacked = vec![0; packed.len()];
            for (rows, block) in two_bits.chunks(block_rows).zip(repacked.chunks_mut(bytes(1, cols))) {
                prop_assert!(pack_rows(rows, cols, block));
            }
            prop_assert_eq!(&repacked, &packed);
            let (row, column) = (next() % rows, next() % cols);
            two_bits[row * row_bytes + byte_of(column)] |= 3 << (6 - 2 * (column % BLOCK_LEN / BLOCK_BYTES));
            let blocks = two_bits.chunks(block_rows).zip(repacked.chunks_mut(bytes(1, cols)));
            let sound: Vec<bool> = blocks.map(|(rows, block)| pack_rows(rows, cols, block)).collect();
            prop_assert_eq!(sound.iter().position(|sound| !sound), Some(row / ROWS));
            let mut all = vec![Table([99; 32]); units(cols) * TRIPLES];
            tables(&x, &mut all);
            let mut sums = vec![[0; ROWS]; rows.div_ceil(ROWS)];
            reference(&packed, &all, &mut sums);
            for (row, sum) in codes.chunks(cols).zip(sums.as_flattened()) {
                let expected: i32 = row.iter().zip(&x).map(|(code, x)| (i32::from(*code) - 1) * i32::from(*x)).sum();
                prop_assert_eq!(*sum, expected);
            }
            prop_assert!(sums.as_flattened()[rows..].iter().all(|&sum| sum == 0));
        }
    }
}
