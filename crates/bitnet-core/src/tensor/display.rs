//! What a person sees of a tensor: the text that NumPy 2.4 prints for the same array.

mod corners;
mod float;
mod rows;
mod words;

use super::Tensor;
use crate::{Bool, DType, Element, Result};
use corners::Corners;
use half::{bf16, f16};
use std::fmt;

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {})", self.dtype(), self.shape(), self.device().name())
    }
}

/// The text of `numpy.array2string`: aligned columns, eight digits after the point or as many as `{:.3}` asks for, three
/// elements at the edges of more than a thousand, lines of 75 characters. Brain floats, which NumPy lacks, are shown as the
/// float32 numbers that they are.
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let corners = Corners::of(self.shape().dims());
        match self.words(&corners, f.precision()) {
            Ok(words) => f.write_str(&rows::text(&corners, &words)),
            Err(error) => write!(f, "{self:?}: {error}"),
        }
    }
}

impl Tensor {
    /// The text of each element that is shown, all of one width unless there is only one.
    fn words(&self, corners: &Corners, precision: Option<usize>) -> Result<Vec<String>> {
        let scalar = self.shape().rank() == 0;
        Ok(match self.dtype() {
            DType::F32 => words::floats(&self.shown::<f32>(corners)?, scalar, precision),
            DType::F16 => words::floats(&self.shown::<f16>(corners)?, scalar, precision),
            DType::BF16 => {
                let values = self.shown::<bf16>(corners)?;
                words::floats(&values.into_iter().map(bf16::to_f32).collect::<Vec<_>>(), scalar, precision)
            }
            DType::I8 => words::integers(&self.shown::<i8>(corners)?),
            DType::U8 => words::integers(&self.shown::<u8>(corners)?),
            DType::I32 => words::integers(&self.shown::<i32>(corners)?),
            DType::I64 => words::integers(&self.shown::<i64>(corners)?),
            DType::Bool => words::truths(&self.shown::<Bool>(corners)?, scalar),
        })
    }

    fn shown<T: Element>(&self, corners: &Corners) -> Result<Vec<T>> {
        let all = self.to_vec::<T>()?;
        Ok(corners.indices().into_iter().map(|index| all[index]).collect())
    }
}
