//! Arrays of f64 with the loops that come to mind first.

#[derive(Clone, Debug)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    /// The array of these extents whose elements `f` gives by index.
    pub fn of(dims: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Self {
        let len = dims.iter().product();
        Self { dims: dims.to_vec(), data: (0..len).map(|i| f(&unflat(i, dims))).collect() }
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        self.data[index.iter().zip(&self.dims).fold(0, |at, (i, dim)| at * dim + i)]
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { dims: self.dims.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    /// `f` of the elements of both, those of `other` repeated along the outer dimensions that it has not and along extents of 1.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let outer = self.dims.len() - other.dims.len();
        Self::of(&self.dims, |index| {
            let inner = index[outer..].iter().zip(&other.dims).map(|(&i, &dim)| i.min(dim - 1));
            f(self.at(index), other.at(&inner.collect::<Vec<_>>()))
        })
    }

    /// Every line of elements along `axis` replaced by `f` of it.
    pub fn lines(&self, axis: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let line = |index: &[usize]| {
            let mut index = index.to_vec();
            let along = (0..self.dims[axis]).map(|i| {
                index[axis] = i;
                self.at(&index)
            });
            f(&along.collect::<Vec<_>>())
        };
        let mut dims = self.dims.clone();
        dims[axis] = line(&vec![0; dims.len()]).len();
        Self::of(&dims, |index| line(index)[index[axis]])
    }

    /// `f` of every line of elements along `axis`, a dimension that goes.
    pub fn fold(&self, axis: usize, f: impl Fn(&[f64]) -> f64) -> Self {
        let mut folded = self.lines(axis, |line| vec![f(line)]);
        folded.dims.remove(axis);
        folded
    }

    /// The same elements in a row, with other extents.
    pub fn shaped(&self, dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), data: self.data.clone() }
    }
}

fn unflat(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, dim) in index.iter_mut().zip(dims).rev() {
        (*i, at) = (at % dim, at / dim);
    }
    index
}
