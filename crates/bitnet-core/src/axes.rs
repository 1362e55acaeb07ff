//! Dimensions that a person names: negative ones count from the end.

use crate::{Error, Result, shape::MAX_DIMS};

/// Dimensions of a tensor: one (`-1`), some (`[0, 2]`) or all (`()`).
///
/// ```
/// use bitnet_core::{DType, Device, Tensor};
///
/// let x = Tensor::ones(&Device::open("cpu", None)?, [2, 3, 4], DType::F32)?;
/// assert_eq!(x.sum(-1, false)?.dims(), [2, 3]);
/// assert_eq!(x.sum([0, 2], true)?.dims(), [1, 3, 1]);
/// assert!(x.sum((), false)?.dims().is_empty());
/// # Ok::<(), bitnet_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes(Option<Vec<isize>>);

impl Axes {
    /// Which of `rank` dimensions are meant, each once and in order.
    ///
    /// # Errors
    /// Where one does not exist or is named twice.
    pub fn resolve(&self, op: &'static str, rank: usize) -> Result<Vec<usize>> {
        let Some(named) = &self.0 else { return Ok((0..rank).collect()) };
        let mut meant = [false; MAX_DIMS];
        for &axis in named {
            if std::mem::replace(&mut meant[resolve(op, axis, rank)?], true) {
                return Err(Error::Axis { op, axis, rank });
            }
        }
        Ok((0..rank).filter(|&i| meant[i]).collect())
    }
}

/// The dimension that `axis` of `rank` means.
///
/// # Errors
/// Where it does not exist.
pub fn resolve(op: &'static str, axis: isize, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis + rank as isize } else { axis };
    let meant = usize::try_from(from_start).ok().filter(|&i| i < rank);
    meant.ok_or(Error::Axis { op, axis, rank })
}

impl From<isize> for Axes {
    fn from(axis: isize) -> Self {
        Self(Some(vec![axis]))
    }
}

impl<const N: usize> From<[isize; N]> for Axes {
    fn from(axes: [isize; N]) -> Self {
        Self(Some(axes.to_vec()))
    }
}

impl From<&[isize]> for Axes {
    fn from(axes: &[isize]) -> Self {
        Self(Some(axes.to_vec()))
    }
}

impl From<()> for Axes {
    fn from((): ()) -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_axes_count_from_the_end() {
        assert_eq!(Axes::from([-1, 0]).resolve("test", 3).unwrap(), [0, 2]);
        assert_eq!(Axes::from(()).resolve("test", 2).unwrap(), [0, 1]);
    }

    #[test]
    fn a_missing_or_repeated_axis_is_refused() {
        assert!(matches!(Axes::from(3).resolve("test", 3), Err(Error::Axis { axis: 3, .. })));
        assert!(matches!(Axes::from(-4).resolve("test", 3), Err(Error::Axis { axis: -4, .. })));
        assert!(Axes::from([1, -2]).resolve("test", 3).is_err());
    }
}
