//! Ternary layers: int8 codes of their inputs, and the products of these with ternary codes.

use super::{
    backend::{ROW_TILE, claim},
    kernels::{GluRow, Kernels},
    partition::{Columns, ColumnsMut},
    threads::Threads,
    triples,
};
use crate::{
    Error, Result,
    backend::{Activations, CodesMut, CodesView},
    ops::{
        bit_matmul::{CodeRows, TernaryRows},
        quantize_activation::RowCodes,
    },
    packed::{PackedView, padded_cols},
    view::ViewMut,
};
use std::{cell::RefCell, ops::Range};

/// Entries that are worth a thread of their own where they are quantized alone, and where a norm or a gated unit comes before.
const QUANTIZED: [usize; 2] = [16_384, 4096];
/// Sums of a part of a product before they are added to what is there.
const SUMS: usize = 16_384;

thread_local! {
    /// A row of a gated unit, or products that are to be added.
    static FLOATS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The kernels and threads that these ops run with.
pub(super) struct Ternary {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Threads,
}

/// A product in the making.
struct Product<'a> {
    weight: TernaryRows<'a>,
    cols: usize,
    /// In triples, where there is such a copy and one token.
    triples: Option<&'a [u8]>,
    /// `[T, O]`.
    y: Columns<'a>,
    rows: usize,
    /// Its first row among those of all products, each padded to whole tiles, so that claims begin with whole blocks of triples too.
    first: usize,
}

impl Ternary {
    pub(super) fn quantize(&self, x: Activations<'_>, y: CodesMut<'_>) -> Result<()> {
        let op = "quantize_activation";
        let width = x.x.shape().last();
        let rows = x.x.as_slice::<f32>(op)?;
        let glu = x.glu.map(|(kind, up)| Ok::<_, Error>((self.kernels.glu(kind), up.as_slice::<f32>(op)?)));
        let norm = x.norm.map(|(weight, eps)| Ok::<_, Error>((weight.as_slice::<f32>(op)?, eps)));
        let (glu, norm): (Option<(GluRow, _)>, _) = (glu.transpose()?, norm.transpose()?);
        let codes = y.codes.into_slice::<i8>(op)?;
        let scales = y.scales.into_slice::<f32>(op)?;
        let sums = y.sums.into_slice::<i32>(op)?;
        let worth = QUANTIZED[usize::from(glu.is_some() || norm.is_some())];
        self.threads.for_each_row3(
            (codes, padded_cols(width)),
            (scales, 1),
            (sums, 1),
            worth.div_ceil(width.max(1)),
            |row, codes, scale, sum| {
                let range = row * width..(row + 1) * width;
                let x = &rows[range.clone()];
                let quantized = match glu {
                    None => self.codes_of(x, norm, codes),
                    Some((kernel, up)) => FLOATS.with_borrow_mut(|y| {
                        let y = first(y, width);
                        kernel(x, &up[range], y);
                        self.codes_of(y, norm, codes)
                    }),
                };
                (scale[0], sum[0]) = (quantized.scale, quantized.sum);
            },
        );
        Ok(())
    }

    fn codes_of(&self, x: &[f32], norm: Option<(&[f32], f32)>, codes: &mut [i8]) -> RowCodes {
        match norm {
            None => (self.kernels.quantize_activation)(x, codes),
            Some((weight, eps)) => (self.kernels.quantize_normed)(x, weight, eps, codes),
        }
    }

    /// Products with all matrices, shared between threads as if they were one; added to what is there where `adds`.
    pub(super) fn products(
        &self,
        x: CodesView<'_>,
        products: Vec<(PackedView<'_>, ViewMut<'_>)>,
        adds: bool,
    ) -> Result<()> {
        let op = "bit_matmul";
        let x = CodeRows {
            codes: x.codes.as_slice(op)?,
            scales: x.scales.as_slice(op)?,
            sums: x.sums.as_slice(op)?,
        };
        let mut parts = Vec::with_capacity(products.len());
        let (mut rows, mut row_bytes) = (0, 0);
        for (weight, y) in products {
            let scales = weight.scales.ok_or(Error::Format { op, format: weight.format })?;
            let triples = weight.triples.filter(|_| x.tokens() == 1 && self.kernels.triple_dots.is_some());
            parts.push(Product {
                weight: TernaryRows { bytes: weight.data.as_slice(op)?, scales: scales.as_slice(op)? },
                cols: weight.cols,
                triples: triples.map(|copy| copy.as_slice(op)).transpose()?,
                y: Columns::new(y.into_slice(op)?, weight.rows),
                rows: weight.rows,
                first: rows,
            });
            rows += weight.rows.next_multiple_of(ROW_TILE);
            row_bytes = padded_cols(weight.cols) / 4;
        }
        let all_triples = parts.iter().all(|part| part.triples.is_some());
        let grain = if all_triples {
            triples::grain(rows, self.threads.len())
        } else {
            claim(row_bytes, rows, self.threads.len())
        };
        let number = triples::number();
        self.threads.share_range(rows, grain, &|range| {
            for part in &parts {
                let start = range.start.max(part.first) - part.first;
                let end = range.end.saturating_sub(part.first).min(part.rows);
                if start < end {
                    // SAFETY: the ranges are disjoint, and so are their parts in each matrix.
                    let y = unsafe { part.y.part(start..end) };
                    self.part(part, number, x, y, adds);
                }
            }
        });
        Ok(())
    }

    /// The rows of one product that `y` is for.
    fn part(&self, product: &Product<'_>, number: u64, x: CodeRows<'_>, mut y: ColumnsMut<'_>, adds: bool) {
        if let (Some(bytes), Some(dots)) = (product.triples, self.kernels.triple_dots) {
            let copy = TernaryRows { bytes, scales: product.weight.scales };
            return triples::part((self.kernels, dots, number), copy, product.cols, x, y, adds);
        }
        if !adds {
            return (self.kernels.bit_matmul)(product.weight.rows(y.range(), x.blocks()), x, &mut y);
        }
        let (start, len) = (y.range().start, y.range().len());
        let each = (SUMS / x.tokens().max(1)).next_multiple_of(ROW_TILE).max(ROW_TILE);
        FLOATS.with_borrow_mut(|sums| {
            for at in (0..len).step_by(each) {
                let range = at..len.min(at + each);
                let rows = product.weight.rows(start + range.start..start + range.end, x.blocks());
                let mut sums = Columns::new(first(sums, x.tokens() * range.len()), range.len()).whole();
                (self.kernels.bit_matmul)(rows, x, &mut sums);
                let mut y = y.narrow(range);
                for t in 0..x.tokens() {
                    (self.kernels.add)(y.row_mut(t), sums.row_mut(t));
                }
            }
        });
    }
}

/// The first `len` of the floats of a thread, whatever they were.
fn first(floats: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if floats.len() < len {
        floats.resize(len, 0.0);
    }
    &mut floats[..len]
}

impl<'a> TernaryRows<'a> {
    /// Some of the rows, each `blocks` long.
    fn rows(&self, rows: Range<usize>, blocks: usize) -> Self {
        let row_bytes = blocks * crate::ops::bit_matmul::BLOCK_BYTES;
        let scales = if self.scales.len() == 1 { self.scales } else { &self.scales[rows.clone()] };
        Self { bytes: &self.bytes[rows.start * row_bytes..rows.end * row_bytes], scales }
    }
}
