//! The bytes of a file, mapped or read.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

#[cfg(target_os = "linux")]
use memmap2::Advice;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use memmap2::{Mmap, MmapMut};

use crate::{Error, Result};

/// How the bytes of a file come into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadMode {
    /// Mapped: nothing is copied and processes share the pages. The file must stay as it is while it is in use:
    /// replacing it by a rename is harmless, but if another process *truncates or overwrites it in place*, the
    /// weights change under the model, or the system ends the process with SIGBUS at the next access.
    #[default]
    Mmap,
    /// Read into memory: the file may change or vanish afterwards.
    Read,
}

enum Bytes {
    Embedded(&'static [u8]),
    Mapped(Mmap),
    Read(Mmap),
    Owned(Vec<u8>),
}

/// The whole of a file, read-only; clones share it.
#[derive(Clone)]
pub struct FileBytes(Arc<Bytes>);

impl FileBytes {
    /// Opens a regular file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read or is not a regular file (a pipe or a device has no length to trust).
    pub fn open(path: impl AsRef<Path>, mode: LoadMode) -> Result<Self> {
        let path = path.as_ref();
        let bytes = regular_file(path).and_then(|file| load(file, mode)).map_err(Error::io(path))?;
        Ok(Self(Arc::new(bytes)))
    }

    /// The part of the file that `range` names, without copying.
    ///
    /// # Panics
    /// If `range` is not inside the file.
    pub fn slice(&self, range: Range<usize>) -> FileSlice {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} is not inside the file");
        FileSlice { file: self.clone(), range }
    }
}

/// Opens a file that has a length: not a pipe, a device or a folder.
pub(super) fn regular_file(path: &Path) -> std::io::Result<File> {
    // Asked before opening: opening a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(std::io::Error::other("not a regular file"))
    }
}

#[expect(unsafe_code, reason = "a mapping is unsafe because other processes can change the file")]
fn load(mut file: File, mode: LoadMode) -> std::io::Result<Bytes> {
    Ok(match mode {
        // SAFETY: the mapping is private and read-only and lives as long as its bytes are borrowed. That nobody
        // truncates or rewrites the file meanwhile is the documented duty of whoever chose `LoadMode::Mmap`.
        LoadMode::Mmap => Bytes::Mapped(unsafe { Mmap::map(&file)? }),
        LoadMode::Read => {
            let len = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
            // Memory of its own, but aligned to pages as a mapped file is.
            let mut bytes = MmapMut::map_anon(len)?;
            // In large pages weights are read faster; a system without them refuses, which changes nothing else.
            #[cfg(target_os = "linux")]
            bytes.advise(Advice::HugePage).ok();
            file.read_exact(&mut bytes)?;
            Bytes::Read(bytes.make_read_only()?)
        }
    })
}

/// Drops the whole pages of a range of a mapped file from this process.
#[cfg(unix)]
#[expect(
    unsafe_code,
    reason = "advice can change what a mapping holds; that of a file stays what the file has"
)]
fn forget_pages(map: &Mmap, range: Range<usize>) {
    const PAGE: usize = 1 << 16;
    let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
    if start < end {
        // SAFETY: a shared, read-only mapping of a file: dropped pages are filled with the same bytes at the next access.
        let advised = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        advised.ok();
    }
}

#[cfg(not(unix))]
fn forget_pages(_: &Mmap, _: Range<usize>) {}

impl From<&'static [u8]> for FileBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Arc::new(Bytes::Embedded(bytes)))
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Owned(bytes)))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Embedded(bytes) => bytes,
            Bytes::Mapped(map) | Bytes::Read(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileBytes({} bytes)", self.len())
    }
}

/// A part of a file that keeps the file in memory: what a tensor is executed from without being copied.
#[derive(Clone)]
pub struct FileSlice {
    file: FileBytes,
    range: Range<usize>,
}

impl FileSlice {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }

    /// The largest power of two, up to a page, that the address of the first byte is a multiple of.
    pub fn alignment(&self) -> usize {
        1 << self.as_bytes().as_ptr().addr().trailing_zeros().min(12)
    }

    /// Says that these bytes will hardly be looked at again, so that their memory serves others. They can still be read: a mapped
    /// file is asked again. Does nothing for bytes that are not mapped.
    pub fn release(&self) {
        if let Bytes::Mapped(map) = &*self.file.0 {
            forget_pages(map, self.range.clone());
        }
    }

    /// The part of this part that `range` names, counted from its own start.
    ///
    /// # Panics
    /// If `range` is not inside this part.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.range.len(),
            "{range:?} is not inside the slice"
        );
        Self { file: self.file.clone(), range: self.range.start + range.start..self.range.start + range.end }
    }
}

impl From<Vec<u8>> for FileSlice {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { file: bytes.into(), range }
    }
}

impl Deref for FileSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for FileSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for FileSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSlice({:?})", self.range)
    }
}
