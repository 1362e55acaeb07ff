//! Which elements of a large array are shown.

/// More elements than this are shown in part.
const THRESHOLD: usize = 1000;
/// Entries at each end of a dimension that is shown in part.
pub(super) const EDGE: usize = 3;

/// One dimension of what is shown.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    extent: usize,
    /// Whether entries are left out after the first [`EDGE`].
    pub(super) gap: bool,
}

impl Axis {
    /// Number of entries that are shown.
    pub(super) fn shown(self) -> usize {
        if self.gap { 2 * EDGE } else { self.extent }
    }

    /// The entry that is shown at `place`.
    fn entry(self, place: usize) -> usize {
        if self.gap && place >= EDGE { self.extent - 2 * EDGE + place } else { place }
    }
}

/// The shown part of each dimension.
pub(super) struct Corners(pub(super) Vec<Axis>);

impl Corners {
    pub(super) fn of(dims: &[usize]) -> Self {
        let large = dims.iter().product::<usize>() > THRESHOLD;
        Self(dims.iter().map(|&extent| Axis { extent, gap: large && extent > 2 * EDGE }).collect())
    }

    /// Places of the shown elements in row-major order.
    pub(super) fn indices(&self) -> Vec<usize> {
        self.0.iter().fold(vec![0], |rows, axis| {
            let entries = |row: &usize| {
                let start = row * axis.extent;
                (0..axis.shown()).map(move |place| start + axis.entry(place))
            };
            rows.iter().flat_map(entries).collect()
        })
    }
}
