//! One matrix as a file holds it, and its ways into memory.

use crate::{Error, Result, arch::permuted_row, weights::FileSlice};
use bitnet_quant::{Format, Scales, Ternary, ternary};

/// What the stored numbers stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    /// The format says it all.
    AsStored,
    /// Codes, with a scale beside them that multiplies what the format says.
    Scaled(f32),
    /// Floats that are all -1, 0 or 1, with a scale beside them that multiplies.
    FloatCodes(f32),
    /// Floats that are ternarized when they are used.
    Master,
}

/// A matrix as a file holds it.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Full Hugging Face name without `.weight`.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// How its values are stored.
    pub format: Format,
    /// The stored values.
    pub bytes: FileSlice,
    /// What they stand for.
    pub meaning: Meaning,
    /// Width of a head, where the rows of each head stand in the order of adjacent rotary pairs.
    pub permuted: Option<usize>,
}

impl Weight {
    pub(super) fn expect_shape(self, rows: usize, cols: usize) -> Result<Self> {
        if (self.rows, self.cols) == (rows, cols) {
            return Ok(self);
        }
        let (expected, got) = (vec![rows, cols], vec![self.rows, self.cols]);
        Err(Error::TensorShape { name: format!("{}.weight", self.name), expected, got })
    }

    /// Attaches the name to an error of the format.
    pub(crate) fn error(&self, error: bitnet_quant::Error) -> Error {
        Error::Tensor { name: format!("{}.weight", self.name), error }
    }

    /// Bytes of one row, of formats that store row after row.
    pub(crate) fn row_bytes(&self) -> Result<usize> {
        self.format.tensor_bytes(1, self.cols).map_err(|e| self.error(e))
    }

    /// Row of the file that holds row `row` of the matrix.
    pub(crate) fn stored_row(&self, row: usize) -> usize {
        self.permuted.map_or(row, |head_dim| permuted_row(row, head_dim))
    }

    /// A row of floats.
    ///
    /// # Errors
    /// Where the format has no rows of its own or the bytes break its rules.
    pub fn row(&self, row: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.cols];
        self.row_into(row, &mut values)?;
        Ok(values)
    }

    /// As [`Weight::row`], into a slice of `cols` values.
    ///
    /// # Errors
    /// As [`Weight::row`].
    pub fn row_into(&self, row: usize, values: &mut [f32]) -> Result<()> {
        let len = self.row_bytes()?;
        let start = self.stored_row(row) * len;
        let bytes = self.bytes.get(start..start + len).unwrap_or_default();
        self.format.dequantize_row(bytes, values).map_err(|e| self.error(e))
    }

    /// Refuses numbers that are not finite.
    pub(super) fn check_floats(&self) -> Result<()> {
        let mut values = vec![0.0; self.cols];
        for row in 0..self.rows {
            self.row_into(row, &mut values)?;
            if let Some(index) = values.iter().position(|v| !v.is_finite()) {
                let (name, value, index) =
                    (format!("{}.weight", self.name), values[index], row * self.cols + index);
                return Err(Error::TensorValue { name, index, value, rule: "a finite number" });
            }
        }
        Ok(())
    }

    /// All values of a matrix of floats.
    ///
    /// # Errors
    /// As [`Weight::row`].
    pub fn floats(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.rows * self.cols];
        for (row, values) in values.chunks_mut(self.cols).enumerate() {
            self.row_into(row, values)?;
        }
        Ok(values)
    }

    /// Codes and scales, rows in Hugging Face's order; `None` where the matrix is not computed with int8 activations:
    /// plain floats, and codes whose scales belong to groups.
    ///
    /// # Errors
    /// Where the bytes break the rules of the format.
    pub fn ternary(&self) -> Result<Option<Ternary>> {
        let ternary = match self.meaning {
            Meaning::Master => self.ternarized()?,
            Meaning::FloatCodes(alpha) => self.float_codes(alpha)?,
            _ if !self.format.is_ternary() => return Ok(None),
            _ => self.unpacked()?,
        };
        Ok((!matches!(ternary.scales, Scales::Group { .. })).then_some(ternary))
    }

    /// As [`Weight::ternary`], with group scales too.
    ///
    /// # Errors
    /// As [`Weight::ternary`]; also where the weights are plain floats.
    pub fn unpacked(&self) -> Result<Ternary> {
        let mut ternary = self.format.unpack(&self.bytes, self.rows, self.cols).map_err(|e| self.error(e))?;
        if let Meaning::Scaled(alpha) = self.meaning {
            ternary.scales = ternary.scales.times(alpha);
        }
        ternary.scales = ternary.scales.simplify(&ternary.codes, ternary.cols);
        Ok(match self.permuted {
            Some(_) => self.in_order(&ternary),
            None => ternary,
        })
    }

    fn in_order(&self, stored: &Ternary) -> Ternary {
        let order = || (0..self.rows).map(|row| self.stored_row(row));
        let codes = order().flat_map(|row| &stored.codes[row * self.cols..][..self.cols]).copied().collect();
        let scales = match &stored.scales {
            Scales::Tensor(alpha) => Scales::Tensor(*alpha),
            Scales::Row(values) => Scales::Row(order().map(|row| values[row]).collect()),
            Scales::Group { len, values } => {
                let groups = self.cols.div_ceil(*len);
                let values = order().flat_map(|row| &values[row * groups..][..groups]).copied().collect();
                Scales::Group { len: *len, values }
            }
        };
        Ternary { rows: self.rows, cols: self.cols, codes, scales }
    }

    fn ternarized(&self) -> Result<Ternary> {
        let masters = self.floats()?;
        if let Some(index) = masters.iter().position(|v| !v.is_finite()) {
            let (name, value) = (format!("{}.weight", self.name), masters[index]);
            return Err(Error::TensorValue { name, index, value, rule: "a finite number" });
        }
        let mut codes = vec![0; masters.len()];
        let alpha = ternary::ternarize(&masters, &mut codes);
        Ok(Ternary { rows: self.rows, cols: self.cols, codes, scales: Scales::Tensor(alpha) })
    }

    fn float_codes(&self, alpha: f32) -> Result<Ternary> {
        let floats = self.floats()?;
        if let Some(index) = floats.iter().position(|v| ![-1.0, 0.0, 1.0].contains(v)) {
            let (name, value) = (format!("{}.weight", self.name), floats[index]);
            return Err(Error::TensorValue {
                name,
                index,
                value,
                rule: "-1, 0 or 1, because a weight_scale stands beside it",
            });
        }
        let codes = floats.iter().map(|&v| v as i8).collect();
        Ok(Ternary { rows: self.rows, cols: self.cols, codes, scales: Scales::Tensor(alpha) })
    }
}
