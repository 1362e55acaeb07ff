//! NumPy's `.npz` archives: a zip file of `.npy` files.

use super::{
    InterchangeError, npy,
    raw::{read_file, write_file},
};
use crate::{Device, Result, Tensor};
use std::{
    io::{Cursor, Read, Write},
    path::Path,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Reads the arrays of an archive in its order. All of them together may have up to `max_bytes` bytes, however well they are
/// compressed.
///
/// # Errors
/// Where the file cannot be read or is longer than `max_bytes`, and as [`from_bytes`].
pub fn load(device: &Device, path: &Path, max_bytes: u64) -> Result<Vec<(String, Tensor)>> {
    from_bytes(device, &read_file(path, max_bytes)?, max_bytes)
}

/// As [`load`], from the bytes of an archive.
///
/// # Errors
/// Where the bytes are no archive, its files overlap, have equal names, are no arrays or are longer than `max_bytes` together,
/// and as [`npy::from_bytes`].
pub fn from_bytes(device: &Device, bytes: &[u8], max_bytes: u64) -> Result<Vec<(String, Tensor)>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(InterchangeError::from)?;
    check(&mut archive, max_bytes)?;
    (0..archive.len()).map(|index| member(device, &mut archive, index)).collect()
}

/// Writes named arrays in their order, as `numpy.savez` does, or `numpy.savez_compressed` where `compressed`.
///
/// # Errors
/// Where a name is given twice, an array has elements that NumPy does not have, or the file cannot be written.
pub fn save(path: &Path, arrays: &[(&str, &Tensor)], compressed: bool) -> Result<()> {
    Ok(write_file(path, &to_bytes(arrays, compressed)?)?)
}

/// As [`save`], into memory.
///
/// # Errors
/// Where a name is given twice or an array has elements that NumPy does not have.
pub fn to_bytes(arrays: &[(&str, &Tensor)], compressed: bool) -> Result<Vec<u8>> {
    let method = if compressed { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (i, (name, x)) in arrays.iter().enumerate() {
        if arrays[..i].iter().any(|(other, _)| other == name) {
            return Err(InterchangeError::Duplicate { name: (*name).into() }.into());
        }
        let bytes = npy::to_bytes(x).map_err(|source| in_member(name, source))?;
        let options = options.large_file(u32::try_from(bytes.len()).is_err());
        archive.start_file(format!("{name}.npy"), options).map_err(InterchangeError::from)?;
        archive.write_all(&bytes).map_err(|e| InterchangeError::Zip(e.into()))?;
    }
    Ok(archive.finish().map_err(InterchangeError::from)?.into_inner())
}

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// Refuses an archive by its directory alone.
fn check(archive: &mut Archive<'_>, limit: u64) -> Result<(), InterchangeError> {
    if archive.has_duplicate_names() {
        return Err(InterchangeError::Duplicate { name: "a file of the archive".into() });
    }
    let mut total = 0u128;
    for index in 0..archive.len() {
        total += u128::from(archive.by_index_raw(index)?.size());
    }
    if total > u128::from(limit) {
        return Err(InterchangeError::TooLong {
            what: "the arrays of the archive".into(),
            bytes: total,
            limit,
        });
    }
    match archive.has_overlapping_entries()? {
        true => Err(zip::result::ZipError::InvalidArchive("its files overlap".into()).into()),
        false => Ok(()),
    }
}

fn member(device: &Device, archive: &mut Archive<'_>, index: usize) -> Result<(String, Tensor)> {
    let mut file = archive.by_index(index).map_err(InterchangeError::from)?;
    let path = file.name().map_err(InterchangeError::from)?.into_owned();
    let Some(name) = path.strip_suffix(".npy") else {
        return Err(InterchangeError::NotAnArray { name: path }.into());
    };
    let size = file.size();
    let mut bytes = Vec::new();
    // The directory may lie about the size: one more byte than it says is enough to see that.
    file.by_ref()
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| InterchangeError::Zip(e.into()))?;
    if bytes.len() as u64 > size {
        let what = format!("the file {path:?} of the archive");
        return Err(InterchangeError::TooLong { what, bytes: bytes.len() as u128, limit: size }.into());
    }
    let x = npy::from_bytes(device, &bytes).map_err(|source| in_member(name, source))?;
    Ok((name.to_owned(), x))
}

fn in_member(name: &str, source: crate::Error) -> InterchangeError {
    InterchangeError::Member { name: name.into(), source: Box::new(source) }
}
