//! NumPy's `.npy` files (format 1.0 to 3.0): token ids in, logits out.

use anyhow::{Context, Result, bail, ensure};
use bitnet_model::weights::atomic::AtomicFile;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";
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
    let rest = bytes.strip_prefix(MAGIC).context("not a .npy file")?;
    let (header, data) = match rest {
        [1, _, a, b, rest @ ..] => split(rest, usize::from(u16::from_le_bytes([*a, *b])))?,
        [2 | 3, _, a, b, c, d, rest @ ..] => split(rest, u32::from_le_bytes([*a, *b, *c, *d]) as usize)?,
        _ => bail!("unknown version of the .npy format"),
    };
    let header = std::str::from_utf8(header).context("the header is not text")?;
    ensure!(header.contains("'fortran_order': False"), "expected an array in C order");
    let kind = header
        .split("'descr':")
        .nth(1)
        .and_then(|s| s.split('\'').nth(1))
        .context("the header has no dtype")?;
    let (size, signed) = match kind {
        "|u1" => (1, false),
        "<u2" => (2, false),
        "<i4" => (4, true),
        "<u4" => (4, false),
        "<i8" => (8, true),
        "<u8" => (8, false),
        other => bail!("dtype {other}: expected integers (uint16, int32, uint32, int64 ...)"),
    };
    let len = len(header)?;
    let whole = len.checked_mul(size) == Some(data.len());
    ensure!(whole, "the header says {len} values of {size} bytes, the file has {} bytes of them", data.len());
    data.chunks(size)
        .enumerate()
        .map(|(i, bytes)| id(bytes, signed).with_context(|| format!("value {i}")))
        .collect()
}

/// The one dimension that an array of ids has.
fn len(header: &str) -> Result<usize> {
    let shape =
        header.split("'shape':").nth(1).and_then(|s| s.trim_start().strip_prefix('(')?.split(')').next());
    let shape = shape.context("the header has no shape")?;
    let len = shape.trim().trim_end_matches(',').parse();
    len.with_context(|| format!("shape ({shape}): expected one dimension"))
}

fn split(rest: &[u8], len: usize) -> Result<(&[u8], &[u8])> {
    rest.split_at_checked(len).context("the header is cut off")
}

fn id(bytes: &[u8], signed: bool) -> Result<u32> {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let value = match (signed, bytes.len()) {
        (true, 4) => i128::from(u64::from_le_bytes(wide) as i32),
        (true, _) => i128::from(i64::from_le_bytes(wide)),
        (false, _) => i128::from(u64::from_le_bytes(wide)),
    };
    u32::try_from(value).ok().with_context(|| format!("{value} is not a token id"))
}

/// A file of f32 rows that is written from front to back and appears when it is whole.
pub(crate) struct Writer(AtomicFile);

impl Writer {
    /// Starts an array `[rows, cols]`.
    pub(crate) fn create(path: &Path, rows: usize, cols: usize) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
        let padded = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 4;
        header.extend(std::iter::repeat_n(' ', padded - header.len() - 1));
        header.push('\n');
        file.write(MAGIC)?;
        file.write(&[1, 0])?;
        file.write(&(header.len() as u16).to_le_bytes())?;
        file.write(header.as_bytes())?;
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
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
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
