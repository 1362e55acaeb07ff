//! Stacks of matrices in f64, and the tensors that results are rounded into.

use crate::{Error, Result};
use bitnet_core::{DType, Device, Tensor};
use faer::MatRef;

/// The matrices of an operand, widened.
pub(crate) struct Matrices {
    pub(crate) op: &'static str,
    pub(crate) batch: Vec<usize>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    values: Vec<f64>,
    device: Device,
}

impl Matrices {
    /// Reads `a: [..., rows, cols]`.
    pub(crate) fn read(op: &'static str, a: &Tensor) -> Result<Self> {
        let dims = a.dims();
        let [batch @ .., rows, cols] = dims else {
            return Err(Error::NotMatrices { op, got: a.shape() });
        };
        let values = widen(op, a, *rows * *cols, *cols)?;
        Ok(Self { op, batch: batch.to_vec(), rows: *rows, cols: *cols, values, device: a.device().clone() })
    }

    /// As [`Matrices::read`], where there must be as many rows as columns.
    pub(crate) fn read_square(op: &'static str, a: &Tensor) -> Result<Self> {
        let matrices = Self::read(op, a)?;
        if matrices.rows != matrices.cols {
            return Err(Error::NotSquare { op, got: a.shape() });
        }
        Ok(matrices)
    }

    /// Reads the vector `b: [rows]` as one matrix of one column.
    pub(crate) fn read_vector(op: &'static str, b: &Tensor) -> Result<Self> {
        let rows = b.shape().len();
        let values = widen(op, b, rows, 1)?;
        Ok(Self { op, batch: Vec::new(), rows, cols: 1, values, device: b.device().clone() })
    }

    /// Number of matrices.
    pub(crate) fn len(&self) -> usize {
        self.batch.iter().product()
    }

    /// The smaller extent.
    pub(crate) fn rank(&self) -> usize {
        self.rows.min(self.cols)
    }

    /// One matrix.
    pub(crate) fn get(&self, matrix: usize) -> MatRef<'_, f64> {
        let len = self.rows * self.cols;
        MatRef::from_row_major_slice(&self.values[matrix * len..][..len], self.rows, self.cols)
    }

    /// Every matrix with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, MatRef<'_, f64>)> {
        (0..self.len()).map(|matrix| (matrix, self.get(matrix)))
    }

    /// Results of shape `inner`, one for each matrix.
    pub(crate) fn stack(&self, inner: &[usize]) -> Stack {
        Stack::new(&self.device, &self.batch, inner)
    }

    /// A tensor of integers, one for each matrix.
    pub(crate) fn integers(&self, values: &[i64]) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.device, &self.batch[..], values)?)
    }
}

/// The elements of `a` in f64; `len` of them are a matrix, `cols` a row.
fn widen(op: &'static str, a: &Tensor, len: usize, cols: usize) -> Result<Vec<f64>> {
    if a.dtype() != DType::F32 {
        return Err(Error::NotF32 { op, got: a.dtype() });
    }
    let values = a.to_vec::<f32>()?;
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        let (matrix, row, col) = (at / len, at % len / cols, at % cols);
        return Err(Error::NotFinite { op, matrix, row, col, value: values[at] });
    }
    Ok(values.into_iter().map(f64::from).collect())
}

/// Results that are rounded to f32 as they come.
pub(crate) struct Stack {
    device: Device,
    dims: Vec<usize>,
    values: Vec<f32>,
}

impl Stack {
    /// Results of shape `inner`, one for each entry of `batch`.
    pub(crate) fn new(device: &Device, batch: &[usize], inner: &[usize]) -> Self {
        Self { device: device.clone(), dims: [batch, inner].concat(), values: Vec::new() }
    }

    /// Appends a matrix.
    pub(crate) fn push(&mut self, x: MatRef<'_, f64>) {
        for row in 0..x.nrows() {
            self.extend((0..x.ncols()).map(|col| x[(row, col)]));
        }
    }

    /// Appends values.
    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        self.values.extend(values.into_iter().map(|x| x as f32));
    }

    /// The tensor of all results.
    pub(crate) fn finish(self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.device, &self.dims[..], &self.values)?)
    }
}

/// The batch of two operands that broadcast together, and for each of its entries the matrices that it takes from them.
pub(crate) struct Pairs {
    pub(crate) batch: Vec<usize>,
    pub(crate) indices: Vec<(usize, usize)>,
}

impl Pairs {
    /// Broadcasts the batches `a` and `b`, as NumPy does.
    pub(crate) fn new(op: &'static str, a: &[usize], b: &[usize]) -> Result<Self> {
        let rank = a.len().max(b.len());
        let padded = |dims: &[usize]| [vec![1; rank - dims.len()], dims.to_vec()].concat();
        let one = |(x, y)| match (x, y) {
            (x, 1) => Some(x),
            (1, y) => Some(y),
            (x, y) => (x == y).then_some(x),
        };
        let batch: Option<Vec<usize>> = padded(a).into_iter().zip(padded(b)).map(one).collect();
        let batch = batch.ok_or_else(|| bitnet_core::Error::Broadcast { op, a: a.into(), b: b.into() })?;
        let len = batch.iter().product::<usize>();
        let indices = (0..len).map(|i| (source(i, &batch, a), source(i, &batch, b))).collect();
        Ok(Self { batch, indices })
    }
}

/// The entry of `from` that entry `index` of the broadcast `batch` is taken from.
fn source(mut index: usize, batch: &[usize], from: &[usize]) -> usize {
    let (mut at, mut stride) = (0, 1);
    for (&extent, &own) in batch.iter().rev().zip(from.iter().rev()) {
        at += if own == 1 { 0 } else { index % extent * stride };
        stride *= own;
        index /= extent;
    }
    at
}
