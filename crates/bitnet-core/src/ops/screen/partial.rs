//! A screen in the making.

use super::{CODES, RowFigures, Rows, Screen, q6_k};
use crate::{DType, Error, PackedTensor, Result, Tensor, lanes::CODE_ROWS};
use bitnet_quant::Format;

/// The first rows of a [`Screen`].
#[derive(Clone, Debug)]
pub struct PartialScreen {
    weight: PackedTensor,
    into: Rows,
    figures: Vec<RowFigures>,
}

impl PartialScreen {
    /// Takes the memory of a screen of a stored matrix `[O, C]`, without a row yet.
    ///
    /// # Errors
    /// Where the matrix is ternary or has no columns, the device is not the host, or memory runs out.
    pub fn of(weight: &PackedTensor) -> Result<Self> {
        let (op, device) = ("screen", weight.device());
        if weight.scales().is_some() || !device.backend().host_addressable() {
            return Err(Error::Format { op, format: weight.format() });
        }
        if weight.cols() == 0 {
            return Err(Error::Argument { op, reason: "a matrix without columns".to_owned() });
        }
        let into = if weight.format() == Format::Q6K {
            Rows::Stored
        } else {
            let shape =
                [weight.rows().div_ceil(CODE_ROWS), CODE_ROWS * weight.cols().next_multiple_of(CODES)];
            Rows::Rounded(Tensor::empty(device, shape, DType::I8)?)
        };
        Ok(Self { weight: weight.clone(), into, figures: Vec::with_capacity(weight.rows()) })
    }

    /// Rows that are missing.
    pub fn missing(&self) -> usize {
        self.weight.rows() - self.figures.len()
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.weight.rows()
    }

    /// Makes the next rows, whole fours, at most as many as are missing.
    ///
    /// # Errors
    /// Where a row holds a number that is not finite or too large, or the device fails.
    pub fn advance(&mut self, rows: usize) -> Result<()> {
        let (op, done) = ("screen", self.figures.len());
        let rows = rows.next_multiple_of(CODE_ROWS).min(self.missing());
        let figures = match &mut self.into {
            Rows::Rounded(codes) => {
                let mut figures = vec![RowFigures::default(); rows];
                let codes = codes.view_mut(op)?;
                let layout = codes.layout().narrow(0, done / CODE_ROWS, rows.div_ceil(CODE_ROWS))?;
                let weight = self.weight.narrow(done, rows)?;
                weight.device().backend().screen(weight.view(), codes.with_layout(&layout), &mut figures)?;
                figures
            }
            Rows::Stored => q6_k::figures(&self.weight, done, rows)?,
        };
        let finite = |row: &RowFigures| (row.lost + row.length).is_finite();
        if let Some(row) = figures.iter().position(|row| !finite(row)) {
            let reason = format!("row {} is not finite, or too large", done + row);
            return Err(Error::Argument { op, reason });
        }
        self.figures.extend(figures);
        Ok(())
    }

    /// The screen.
    ///
    /// # Panics
    /// Where a row is missing.
    pub fn finish(self) -> Screen {
        assert_eq!(self.missing(), 0, "rows of a screen that is finished");
        Screen { rows: self.into, figures: self.figures.into(), cols: self.weight.cols() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use bitnet_quant::Format;

    #[test]
    fn rows_made_in_parts_are_those_made_at_once() {
        let device = Device::open("cpu", Some(2)).unwrap();
        let data: Vec<u8> = (0..101 * 2 * 40).map(|i| (i * 37 % 113) as u8).collect();
        let data = Tensor::from_slice(&device, [data.len()], &data).unwrap();
        let weight = PackedTensor::stored(Format::F16, 101, 40, data).unwrap();
        let whole = Screen::of(&weight).unwrap();
        let mut partial = PartialScreen::of(&weight).unwrap();
        for rows in [0, 1, 33, 1000] {
            partial.advance(rows).unwrap();
        }
        let screen = partial.finish();
        let (Rows::Rounded(codes), Rows::Rounded(expected)) = (&screen.rows, &whole.rows) else {
            panic!("a copy")
        };
        assert_eq!(codes.to_vec::<i8>().unwrap(), expected.to_vec::<i8>().unwrap());
        assert_eq!(screen.figures, whole.figures);
    }
}
