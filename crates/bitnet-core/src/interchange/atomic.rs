//! Writing a file so that its name shows the old content or the new, never a half.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use super::InterchangeError;

type Result<T, E = InterchangeError> = std::result::Result<T, E>;

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
    /// [`InterchangeError::Io`] if the folder of `path` cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let path = replaceable(&path).map_err(InterchangeError::io(&path))?;
        let temporary = temporary_in(folder_of(&path)).map_err(InterchangeError::io(&path))?;
        Ok(Self { path, out: BufWriter::with_capacity(BUFFER, temporary) })
    }

    /// The name that the file is going to have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`InterchangeError::Io`], for example when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(InterchangeError::io(&self.path))
    }

    /// Brings the content to the disk, then gives the file its name.
    ///
    /// # Errors
    /// [`InterchangeError::Io`]; whatever had the name before is still there.
    pub fn commit(self) -> Result<()> {
        let Self { path, out } = self;
        commit(&path, out).map_err(InterchangeError::io(path))
    }
}

/// Where a file under this name may appear: a new name in a folder that is there, or a regular file, which links lead to.
fn replaceable(path: &Path) -> io::Result<PathBuf> {
    let refuse = |kind, reason: &str| Err(io::Error::new(kind, reason));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => refuse(io::ErrorKind::IsADirectory, "is a folder; name a file"),
        Ok(found) if !found.is_file() => {
            refuse(io::ErrorKind::InvalidInput, "not a regular file; it would be replaced")
        }
        Ok(_) => fs::canonicalize(path),
        Err(_) if fs::symlink_metadata(path).is_ok() => {
            refuse(io::ErrorKind::NotFound, "a link that leads nowhere")
        }
        Err(_) if !folder_of(path).is_dir() => refuse(
            io::ErrorKind::NotFound,
            &format!("the folder {} does not exist", folder_of(path).display()),
        ),
        Err(_) => Ok(path.to_owned()),
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
/// What `write` returns, and [`InterchangeError::Io`]; in both cases nothing is left behind and an older `path` is intact.
pub fn atomic_write<E: From<InterchangeError>>(
    path: impl Into<PathBuf>,
    write: impl FnOnce(&mut AtomicFile) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = AtomicFile::create(path)?;
    write(&mut file)?;
    Ok(file.commit()?)
}

/// A folder that appears under its name, with everything in it, at [`commit`](Self::commit). Until then it has a temporary name
/// beside it, which is removed when it is dropped.
pub struct AtomicFolder {
    path: PathBuf,
    temporary: TempDir,
}

impl AtomicFolder {
    /// Starts what is to become `path`, which must not be there or be an empty folder: files of another model beside the new ones
    /// would be read as parts of it.
    ///
    /// # Errors
    /// [`InterchangeError::Io`] if something is there, or the folder around it cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let temporary = vacant(&path).and_then(|()| {
            fs::create_dir_all(folder_of(&path))?;
            tempfile::Builder::new().prefix(".").suffix(".tmp").tempdir_in(folder_of(&path))
        });
        Ok(Self { temporary: temporary.map_err(InterchangeError::io(&path))?, path })
    }

    /// Where its files are written meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// [`InterchangeError::Io`]; nothing is left behind then.
    pub fn commit(self) -> Result<()> {
        let Self { path, temporary } = self;
        let publish = || {
            readable(temporary.path())?;
            fs::rename(temporary.path(), &path)?;
            sync_folder(folder_of(&path))
        };
        let published = publish().map_err(InterchangeError::io(&path));
        // After the rename nothing has the temporary name any more.
        if published.is_ok() {
            let _ = temporary.keep();
        }
        published
    }
}

fn vacant(path: &Path) -> io::Result<()> {
    let taken = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => fs::symlink_metadata(path).is_ok(),
    };
    let reason = "already there; a folder of its own keeps files of two models apart, so remove it or choose another name";
    if taken { Err(io::Error::new(io::ErrorKind::AlreadyExists, reason)) } else { Ok(()) }
}

/// Temporary folders are private; this one becomes an ordinary folder. Its files show what the umask allows.
#[cfg(unix)]
fn readable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut bits = 0o755;
    if let Some(file) = fs::read_dir(folder)?.next() {
        let mode = file?.metadata()?.permissions().mode();
        // Whoever may read a file may enter the folder.
        bits = 0o700 | (mode & 0o066) | (mode & 0o044) >> 2;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(bits))
}

#[cfg(not(unix))]
fn readable(_: &Path) -> io::Result<()> {
    Ok(())
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
    let permissions = fs::Permissions::from_mode(0o666);
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
