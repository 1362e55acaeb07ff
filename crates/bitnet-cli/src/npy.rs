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
    let len = std::fs::metadata(path).with_context(name)?.len();
    ensure!(len <= MAX_BYTES, "{}: {len} bytes; the limit is {MAX_BYTES}", name());
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
    ensure!(data.len().is_multiple_of(size), "the data is cut off");
    data.chunks(size)
        .enumerate()
        .map(|(i, bytes)| id(bytes, signed).with_context(|| format!("value {i}")))
        .collect()
}

fn split(rest: &[u8], len: usize) -> Result<(&[u8], &[u8])> {
    rest.split_at_checked(len).context("the header is cut off")
}

fn id(bytes: &[u8], signed: bool) -> Result<u32> {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let mut value = i64::from_le_bytes(wide);
    if signed && bytes.len() == 4 {
        value = i64::from(value as i32);
    }
    u32::try_from(value).ok().with_context(|| format!("{value} is not a token id"))
}

/// A file of f32 rows that is written from front to back and appears when it is whole.
pub(crate) struct Writer(AtomicFile);

impl Writer {
    /// Starts an array `[rows, cols]`.
    pub(crate) fn create(path: &Path, rows: usize, cols: usize) -> Result<Self> {
        crate::session::expect_folder_of(path)?;
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

    fn file(descr: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn integers_of_any_width_are_ids() {
        assert_eq!(parse_ids(&file("<u2", &[7, 0, 0, 1])).unwrap(), [7, 256]);
        assert_eq!(parse_ids(&file("<i8", &[7, 0, 0, 0, 0, 0, 0, 0])).unwrap(), [7]);
    }

    #[test]
    fn what_is_no_list_of_ids_is_refused() {
        assert!(parse_ids(b"PK").is_err());
        assert!(parse_ids(&file("<f4", &[0; 4])).unwrap_err().to_string().contains("<f4"));
        assert!(parse_ids(&file("<i4", &[255; 4])).is_err());
        assert!(parse_ids(&file("<i4", &[0; 3])).is_err());
    }
}
