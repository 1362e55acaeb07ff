//! Writing a file so that its name shows the old content or the new, never a half.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

const BUFFER: usize = 1 << 20;

/// A file that appears under its name at [`commit`](Self::commit). Until then it has a temporary name in the same folder, which is
/// removed when it is dropped.
pub struct AtomicFile {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts to write what is to become `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder of `path` cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let temporary = temporary_in(folder_of(&path)).map_err(Error::io(&path))?;
        Ok(Self { path, out: BufWriter::with_capacity(BUFFER, temporary) })
    }

    /// The name that the file is going to have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Io`], for example when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::io(&self.path))
    }

    /// Brings the content to the disk, then gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`]; whatever had the name before is still there.
    pub fn commit(self) -> Result<()> {
        let Self { path, out } = self;
        commit(&path, out).map_err(Error::io(path))
    }
}

fn commit(path: &Path, out: BufWriter<NamedTempFile>) -> io::Result<()> {
    let temporary = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    sync_folder(folder_of(path))
}

/// Writes `path` through `write`: all of it, or nothing.
///
/// # Errors
/// What `write` returns, and [`Error::Io`]; in both cases nothing is left behind and an older `path` is intact.
pub fn atomic_write<E: From<Error>>(
    path: impl Into<PathBuf>,
    write: impl FnOnce(&mut AtomicFile) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = AtomicFile::create(path)?;
    write(&mut file)?;
    Ok(file.commit()?)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // Temporary files are private by default; this one becomes an ordinary file, so the umask decides.
    let permissions = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".").suffix(".tmp").permissions(permissions).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)
}

/// Makes the new name itself survive a power failure.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
