//! The cache of repositories, laid out as Python's `huggingface_hub` does it.

use super::{is_plain, select};
use anyhow::{Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A repository in the cache.
pub(super) struct Repo {
    pub(super) dir: PathBuf,
    pub(super) name: String,
}

impl Repo {
    pub(super) fn new(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let plain = parts.len() == 2 && parts.iter().all(|part| is_plain(part));
        ensure!(plain, "{name}: expected OWNER/NAME, as in microsoft/bitnet-b1.58-2B-4T-gguf");
        let dir = cache_dir().join(format!("models--{}--{}", parts[0], parts[1]));
        Ok(Self { dir, name: name.to_owned() })
    }

    /// Where the content with this etag lies, or comes to lie.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(etag)
    }

    /// The folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// Notes which commit a branch or tag is.
    pub(super) fn refer(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.dir.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        bitnet_core::interchange::atomic::atomic_write(&path, |file| file.write(commit.as_bytes()))?;
        Ok(())
    }

    /// The commit of BITNET_REVISION or of `main`, or the one that was pulled last where neither was.
    fn commit(&self) -> Option<String> {
        let asked = std::env::var("BITNET_REVISION").ok().filter(|r| super::is_revision(r));
        let refs = self.dir.join("refs");
        let read = |path: PathBuf| fs::read_to_string(path).ok().map(|sha| sha.trim().to_owned());
        if let Some(revision) = asked {
            let commit = read(refs.join(&revision)).unwrap_or(revision);
            return is_plain(&commit).then_some(commit);
        }
        let time =
            |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let last = || files(&refs).into_iter().map(|file| refs.join(file)).max_by_key(time);
        read(refs.join("main")).or_else(|| read(last()?)).filter(|commit| is_plain(commit))
    }
}

fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// The folder of everything that `huggingface_hub` keeps.
fn home() -> PathBuf {
    let user = || set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default();
    let cache = || set("XDG_CACHE_HOME").unwrap_or_else(|| user().join(".cache"));
    set("HF_HOME").unwrap_or_else(|| cache().join("huggingface"))
}

/// The folder of all repositories, as `huggingface_hub` finds it.
pub(crate) fn cache_dir() -> PathBuf {
    set("HF_HUB_CACHE").unwrap_or_else(|| home().join("hub"))
}

/// The token that `huggingface-cli login` saved.
pub(super) fn saved_token() -> Option<String> {
    let path = set("HF_TOKEN_PATH").unwrap_or_else(|| home().join("token"));
    let token = fs::read_to_string(path).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// A repository that was pulled, as OWNER/NAME or with :FILE or :QUANT: the GGUF in it, or its folder.
pub(crate) fn cached(reference: &str) -> Option<PathBuf> {
    let (name, file) = match reference.split_once(':') {
        Some((name, file)) => (name, Some(file)),
        None => (reference, None),
    };
    let repo = Repo::new(name).ok()?;
    let snapshot = repo.snapshot(&repo.commit()?);
    let files = files(&snapshot);
    if files.is_empty() {
        return None;
    }
    let files = match file {
        Some(file) => vec![select(&files, file)?],
        None => files,
    };
    Some(shown(&snapshot, &files))
}

/// What to pass as a model: the one GGUF, or the folder.
pub(super) fn shown(snapshot: &Path, files: &[String]) -> PathBuf {
    match files.iter().filter(|f| f.ends_with(".gguf")).collect::<Vec<_>>()[..] {
        [one] => snapshot.join(one),
        _ => snapshot.to_owned(),
    }
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found
}

/// Gives a blob its name in a snapshot: a link where links exist, a copy elsewhere.
pub(super) fn place(blob: &Path, link: &Path) -> Result<()> {
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)?;
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(fs::canonicalize(blob)?, link)?;
    #[cfg(not(unix))]
    fs::copy(blob, link)?;
    Ok(())
}
