//! NumPy's `.npy` files (format 1.0 to 3.0): token ids in, logits out.

use anyhow::{Context, Result, ensure};
use bitnet_core::{
    DType,
    interchange::{
        atomic::AtomicFile,
        npy::{Array, Descr, Header, Kind},
    },
};
use std::path::Path;

/// Longest file that is read.
const MAX_BYTES: u64 = 4 << 30;

/// Reads a one-dimensional array of integers as token ids.
pub(crate) fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let name = || path.display().to_string();
    let found = std::fs::metadata(path).with_context(name)?;
    ensure!(found.is_file(), "{}: not a regular file", name());
    ensure!(found.len() <= MAX_BYTES, "{}: {} bytes; the limit is {MAX_BYTES}", name(), found.len());
    let bytes = std::fs::read(path).with_context(name)?;
    parse_ids(&bytes).with_context(name)
}

fn parse_ids(bytes: &[u8]) -> Result<Vec<u32>> {
    let array = Array::parse(bytes)?;
    let Header { descr, fortran_order, shape } = array.header();
    ensure!(!fortran_order, "expected an array in C order");
    ensure!(shape.len() == 1, "shape {shape:?}: expected one dimension");
    let values = array.integers().filter(|_| descr.kind != Kind::Bool);
    let values = values
        .with_context(|| format!("dtype {descr}: expected integers (uint16, int32, uint32, int64 ...)"))?;
    let id = |value| u32::try_from(value).ok().with_context(|| format!("{value} is not a token id"));
    values.enumerate().map(|(i, value)| id(value).with_context(|| format!("value {i}"))).collect()
}

/// A file of f32 rows that is written from front to back and appears when it is whole.
pub(crate) struct Writer(AtomicFile);

impl Writer {
    /// Starts an array `[rows, cols]`.
    pub(crate) fn create(path: &Path, rows: usize, cols: usize) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        let descr = Descr::of(DType::F32).expect("NumPy has float32");
        file.write(&Header { descr, fortran_order: false, shape: vec![rows, cols] }.to_bytes())?;
        Ok(Self(file))
    }

    /// Appends values.
    pub(crate) fn write(&mut self, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(self.0.write(&bytes)?)
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> Result<()> {
        Ok(self.0.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn integers_of_any_width_are_ids() {
        assert_eq!(parse_ids(&file("<u2", "(2,)", &[7, 0, 0, 1])).unwrap(), [7, 256]);
        assert_eq!(parse_ids(&file("<i8", "(1,)", &[7, 0, 0, 0, 0, 0, 0, 0])).unwrap(), [7]);
    }

    #[test]
    fn what_is_no_list_of_ids_is_refused() {
        let refusal = |bytes: &[u8]| format!("{:#}", parse_ids(bytes).unwrap_err());
        assert!(refusal(b"PK").contains("not a .npy"));
        assert!(refusal(&file("<f4", "(1,)", &[0; 4])).contains("<f4"));
        assert!(refusal(&file("<i4", "(1,)", &[255; 4])).contains("-1 is not a token id"));
        assert!(refusal(&file("<u8", "(1,)", &[255; 8])).contains("18446744073709551615"));
    }

    #[test]
    fn a_shape_that_is_not_that_of_the_data_is_refused() {
        for shape in ["(2, 2)", "(3,)", "(5,)", "(-1,)", "(4611686018427387904,)", "()", "4"] {
            assert!(parse_ids(&file("<u2", shape, &[0; 8])).is_err(), "{shape}");
        }
        assert!(parse_ids(&file("<i4", "(1,)", &[0; 3])).is_err());
    }
}
