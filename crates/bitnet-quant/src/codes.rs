//! Ternary matrices as plain numbers.

/// A ternary matrix: value = code * scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Ternary {
    /// Rows: outputs.
    pub rows: usize,
    /// Columns: inputs.
    pub cols: usize,
    /// -1, 0 and 1, row after row.
    pub codes: Vec<i8>,
    /// What multiplies them.
    pub scales: Scales,
}

impl Ternary {
    /// The values of a row.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        let codes = &self.codes[row * self.cols..][..self.cols];
        for (col, (out, &code)) in out.iter_mut().zip(codes).enumerate() {
            *out = f32::from(code) * self.scales.at(row, col, self.cols);
        }
    }
}

/// Scales that multiply codes.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// One for the matrix.
    Tensor(f32),
    /// One for each row.
    Row(Vec<f32>),
    /// One for each run of `len` columns, row after row; the last run of a row may be shorter.
    Group {
        /// Columns of a group.
        len: usize,
        /// The scales.
        values: Vec<f32>,
    },
}

impl Scales {
    /// What one scale belongs to.
    pub fn granularity(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "for the matrix",
            Self::Row(_) => "for each row",
            Self::Group { .. } => "for each group of columns",
        }
    }

    /// Scale of the value at a place of a matrix of `cols` columns.
    pub fn at(&self, row: usize, col: usize, cols: usize) -> f32 {
        match self {
            Self::Tensor(scale) => *scale,
            Self::Row(values) => values[row],
            Self::Group { len, values } => values[row * cols.div_ceil(*len) + col / len],
        }
    }

    /// These scales, multiplied by a factor.
    #[must_use]
    pub fn times(self, factor: f32) -> Self {
        let all = |values: Vec<f32>| values.into_iter().map(|value| value * factor).collect();
        match self {
            Self::Tensor(value) => Self::Tensor(value * factor),
            Self::Row(values) => Self::Row(all(values)),
            Self::Group { len, values } => Self::Group { len, values: all(values) },
        }
    }

    /// The coarsest scales that give every value of the matrix exactly. A run of zeros goes with any scale.
    #[must_use]
    pub fn simplify(self, codes: &[i8], cols: usize) -> Self {
        match self {
            Self::Group { len, values } => {
                let groups = cols.div_ceil(len);
                let rows = codes.chunks(cols).zip(values.chunks(groups));
                let merged: Option<Vec<_>> = rows
                    .map(|(codes, values)| common(codes.chunks(len).zip(values.iter().copied())))
                    .collect();
                match merged {
                    Some(merged) => Self::Row(filled(merged)).simplify(codes, cols),
                    None => Self::Group { len, values },
                }
            }
            Self::Row(values) => match common(codes.chunks(cols).zip(values.iter().copied())) {
                Some(scale) => Self::Tensor(scale.unwrap_or(0.0)),
                None => Self::Row(values),
            },
            tensor => tensor,
        }
    }
}

/// The one scale of all runs that hold something; `Some(None)` where none does, `None` where they differ.
fn common<'a>(runs: impl Iterator<Item = (&'a [i8], f32)>) -> Option<Option<f32>> {
    let mut scale = None;
    for (codes, value) in runs {
        if scale == Some(value) || codes.iter().all(|&code| code == 0) {
            continue;
        }
        if scale.is_some() {
            return None;
        }
        scale = Some(value);
    }
    Some(scale)
}

/// Rows of zeros get a scale that another row has, so that they do not keep rows apart.
fn filled(rows: Vec<Option<f32>>) -> Vec<f32> {
    let any = rows.iter().flatten().copied().next().unwrap_or(0.0);
    rows.into_iter().map(|scale| scale.unwrap_or(any)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_group_scales_become_one_and_zeros_go_with_any() {
        let codes = [1, 0, 0, 0, 0, -1, 1, 1];
        let groups = Scales::Group { len: 2, values: vec![0.5, 0.0, 0.5, 0.5] };
        assert_eq!(groups.simplify(&codes, 4), Scales::Tensor(0.5));
        let rows = Scales::Group { len: 2, values: vec![0.5, 9.0, 0.25, 0.25] };
        assert_eq!(rows.simplify(&codes, 4), Scales::Row(vec![0.5, 0.25]));
        let apart = Scales::Group { len: 2, values: vec![0.5, 9.0, 0.25, 0.5] };
        assert_eq!(apart.clone().simplify(&codes, 4), apart);
    }

    #[test]
    fn a_matrix_of_zeros_has_one_scale() {
        assert_eq!(Scales::Row(vec![0.0, 0.0]).simplify(&[0; 4], 2), Scales::Tensor(0.0));
    }
}
