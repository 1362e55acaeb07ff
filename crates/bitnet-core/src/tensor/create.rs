//! New tensors.

use super::Tensor;
use crate::{Bool, DType, Device, Error, Result, Shape, random::Rng};
use half::{bf16, f16};

/// `value` as an integer that `dtype` has; a truth is 0 or 1.
fn whole(op: &'static str, value: f64, dtype: DType) -> Result<i64> {
    let (low, high) = match dtype {
        DType::Bool => return Ok(i64::from(value != 0.0)),
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (-9.2e18, 9.2e18),
    };
    if value.fract() == 0.0 && (low..=high).contains(&value) {
        return Ok(value as i64);
    }
    Err(Error::Argument { op, reason: format!("{dtype} does not have the value {value}") })
}

impl Tensor {
    /// Zeros.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn zeros(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let mut y = Self::empty(device, shape, dtype)?;
        let bytes = y.bytes();
        let view = y.view_mut("zeros")?;
        match view.into_bytes("zeros") {
            Ok(bytes) => bytes.fill(0),
            Err(_) => device.backend().upload(&vec![0u8; bytes], y.view_mut("zeros")?)?,
        }
        Ok(y)
    }

    /// Ones.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn ones(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        Self::full(device, shape, 1.0, dtype)
    }

    /// The same value everywhere.
    ///
    /// # Errors
    /// Where the type does not have the value, or as [`Tensor::empty`].
    pub fn full(device: &Device, shape: impl Into<Shape>, value: f64, dtype: DType) -> Result<Self> {
        Self::scalar(device, value, dtype)?.broadcast_to(shape)?.copy()
    }

    /// One value, without dimensions.
    ///
    /// # Errors
    /// Where the type does not have the value, or as [`Tensor::empty`].
    pub fn scalar(device: &Device, value: f64, dtype: DType) -> Result<Self> {
        let shape = Shape::new(&[]);
        let whole = || whole("scalar", value, dtype);
        match dtype {
            DType::F32 => Self::from_slice(device, shape, &[value as f32]),
            DType::F16 => Self::from_slice(device, shape, &[f16::from_f64(value)]),
            DType::BF16 => Self::from_slice(device, shape, &[bf16::from_f64(value)]),
            DType::I8 => Self::from_slice(device, shape, &[whole()? as i8]),
            DType::U8 => Self::from_slice(device, shape, &[whole()? as u8]),
            DType::I32 => Self::from_slice(device, shape, &[whole()? as i32]),
            DType::I64 => Self::from_slice(device, shape, &[whole()?]),
            DType::Bool => Self::from_slice(device, shape, &[Bool::from(value != 0.0)]),
        }
    }

    /// Zeros of the shape, type and device of this tensor.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn zeros_like(&self) -> Result<Self> {
        Self::zeros(self.device(), self.shape(), self.dtype())
    }

    /// Ones of the shape, type and device of this tensor.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn ones_like(&self) -> Result<Self> {
        Self::ones(self.device(), self.shape(), self.dtype())
    }

    /// `start, start + step, …` below `end` (above it with a negative step), as NumPy counts them.
    ///
    /// # Errors
    /// Where the step is zero, there are too many, the type does not have a value, or as [`Tensor::empty`].
    pub fn arange(device: &Device, start: f64, end: f64, step: f64, dtype: DType) -> Result<Self> {
        let count = ((end - start) / step).ceil();
        if count.is_nan() || count >= 1e15 || step == 0.0 {
            let reason = format!("{start} to {end} in steps of {step} has no end");
            return Err(Error::Argument { op: "arange", reason });
        }
        Self::counted(device, count.max(0.0) as usize, dtype, |i| start + i as f64 * step)
    }

    /// `count` values from `start` to `end`, both included, at equal distances.
    ///
    /// # Errors
    /// As [`Tensor::empty`], or where the type is not of floats.
    pub fn linspace(device: &Device, start: f64, end: f64, count: usize, dtype: DType) -> Result<Self> {
        if !dtype.is_float() {
            return Err(Error::DType { op: "linspace", expected: DType::F32, got: dtype });
        }
        let step = (end - start) / count.saturating_sub(1).max(1) as f64;
        Self::counted(device, count, dtype, |i| {
            if i > 0 && i + 1 == count { end } else { start + i as f64 * step }
        })
    }

    /// `[count]` values of `f`, made in f64 and rounded once to floats; integers are exact.
    fn counted(device: &Device, count: usize, dtype: DType, f: impl Fn(usize) -> f64) -> Result<Self> {
        // Asked for first, so that a size beyond memory is an error and not an abort.
        Self::empty(device, [count], dtype)?;
        match dtype {
            DType::F16 => {
                let all: Vec<f16> = (0..count).map(|i| f16::from_f64(f(i))).collect();
                Self::from_slice(device, [count], &all)
            }
            DType::BF16 => {
                let all: Vec<bf16> = (0..count).map(|i| bf16::from_f64(f(i))).collect();
                Self::from_slice(device, [count], &all)
            }
            DType::F32 => {
                let all: Vec<f32> = (0..count).map(|i| f(i) as f32).collect();
                Self::from_slice(device, [count], &all)
            }
            _ => {
                let all: Vec<i64> =
                    (0..count).map(|i| whole("arange", f(i), dtype)).collect::<Result<_>>()?;
                Self::from_slice(device, [count], &all)?.to_dtype(dtype)
            }
        }
    }

    /// `[n, n]` with ones on the diagonal.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn eye(device: &Device, n: usize, dtype: DType) -> Result<Self> {
        let mut y = Self::zeros(device, [n, n], dtype)?;
        let place = y.layout().diagonal(0, 1)?;
        y.write_strided(place, &Self::ones(device, [n], dtype)?)?;
        Ok(y)
    }

    /// Numbers that are equally likely in `low..high`: `low + (high - low) · u`, in f32, with `u` the upper 24 bits of each draw of
    /// `rng` times 2⁻²⁴.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn uniform(
        device: &Device,
        shape: impl Into<Shape>,
        (low, high): (f32, f32),
        rng: &mut Rng,
    ) -> Result<Self> {
        Self::drawn(device, shape.into(), || low + (high - low) * rng.next_f32())
    }

    /// Normally distributed numbers, in pairs by the polar transformation of Box and Muller: `r cos φ, r sin φ` with
    /// `r = sqrt(-2 ln(1 - u))` and `φ = 2π v` of two draws of `rng`, in f64.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn normal(
        device: &Device,
        shape: impl Into<Shape>,
        (mean, deviation): (f32, f32),
        rng: &mut Rng,
    ) -> Result<Self> {
        let mut spare = None;
        Self::drawn(device, shape.into(), || {
            let z = spare.take().unwrap_or_else(|| {
                let [first, second] = rng.next_normals();
                spare = Some(second);
                first
            });
            (f64::from(mean) + f64::from(deviation) * z) as f32
        })
    }

    fn drawn(device: &Device, shape: Shape, mut draw: impl FnMut() -> f32) -> Result<Self> {
        let empty = Self::empty(device, shape, DType::F32)?;
        let all: Vec<f32> = (0..empty.shape().len()).map(|_| draw()).collect();
        Self::from_slice(device, shape, &all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> Device {
        Device::open("cpu/scalar", Some(1)).unwrap()
    }

    #[test]
    fn a_value_that_a_type_does_not_have_is_refused() {
        assert!(Tensor::full(&cpu(), [2], 0.5, DType::I32).is_err());
        assert!(Tensor::full(&cpu(), [2], 300.0, DType::U8).is_err());
        assert_eq!(Tensor::full(&cpu(), [2], -3.0, DType::I8).unwrap().to_vec::<i8>().unwrap(), [-3, -3]);
    }

    #[test]
    fn counting_goes_as_numpy_counts() {
        let f32s = |y: Tensor| y.to_vec::<f32>().unwrap();
        assert_eq!(f32s(Tensor::arange(&cpu(), 0.0, 1.0, 0.25, DType::F32).unwrap()), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(f32s(Tensor::arange(&cpu(), 3.0, 0.0, -2.0, DType::F32).unwrap()), [3.0, 1.0]);
        assert_eq!(f32s(Tensor::linspace(&cpu(), 1.0, 2.0, 3, DType::F32).unwrap()), [1.0, 1.5, 2.0]);
        assert!(Tensor::arange(&cpu(), 0.0, 1.0, 0.0, DType::F32).is_err());
        assert!(Tensor::arange(&cpu(), 0.0, f64::NAN, 1.0, DType::F32).is_err());
        assert!(Tensor::arange(&cpu(), 2.0, 1.0, 1.0, DType::I64).unwrap().shape().is_empty());
    }

    #[test]
    fn normal_numbers_have_their_mean_and_deviation() {
        let x = Tensor::normal(&cpu(), [100_001], (3.0, 2.0), &mut Rng::new(7)).unwrap();
        let mean = x.mean((), false).unwrap().item::<f32>().unwrap();
        let deviation = x.std((), 0, false).unwrap().item::<f32>().unwrap();
        assert!((mean - 3.0).abs() < 0.03 && (deviation - 2.0).abs() < 0.03, "{mean} {deviation}");
    }

    #[test]
    fn a_seed_gives_the_same_numbers() {
        let draw = |seed| {
            Tensor::uniform(&cpu(), [5], (-1.0, 1.0), &mut Rng::new(seed)).unwrap().to_vec::<f32>().unwrap()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
