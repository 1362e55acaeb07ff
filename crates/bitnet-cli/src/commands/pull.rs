//! Downloads a repository of the Hugging Face hub into the cache that Python's `huggingface_hub` uses too.

use crate::ui::Ui;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use ureq::{Agent, Body, http::Response};

/// Longest answer of the hub's API.
const MAX_API: u64 = 32 << 20;
/// Times that a broken download goes on.
const ATTEMPTS: usize = 5;

/// Download a model from the Hugging Face hub.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet pull microsoft/bitnet-b1.58-2B-4T-gguf\n  \
    bitnet pull tiiuae/Falcon-E-1B-Instruct\n  bitnet pull owner/repo:model-tq2_0.gguf\n\n\
    Files go to HF_HUB_CACHE, or HF_HOME/hub, or ~/.cache/huggingface/hub. A download that was cut off goes on where it stopped.")]
pub(crate) struct PullArgs {
    /// OWNER/NAME, with :FILE or :QUANT for one file of a repository with several GGUF files.
    repository: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main", env = "BITNET_REVISION")]
    revision: String,
    /// Address of the hub.
    #[arg(long, default_value = "https://huggingface.co", env = "HF_ENDPOINT")]
    endpoint: String,
    /// Access token for private and gated repositories.
    #[arg(long, env = "HF_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A repository in the cache.
struct Repo {
    dir: PathBuf,
    name: String,
}

pub(crate) fn run(args: &PullArgs, ui: &Ui) -> Result<ExitCode> {
    let (name, file) = match args.repository.split_once(':') {
        Some((name, file)) => (name, Some(file)),
        None => (args.repository.as_str(), None),
    };
    let repo = Repo::new(name)?;
    ensure!(is_plain(&args.revision), "--revision {}: expected a branch, tag or commit", args.revision);
    let hub = Hub::new(args);
    let info: Info = hub.api(&format!("/api/models/{name}/revision/{}", args.revision), name)?;
    ensure!(is_plain(&info.sha), "the hub names commit {:?}, which is no commit", info.sha);
    let files = wanted(&info.siblings, file)?;
    let snapshot = repo.dir.join("snapshots").join(&info.sha);
    for file in &files {
        hub.download(&repo, &info.sha, file, &snapshot, ui).with_context(|| file.clone())?;
    }
    let reference = repo.dir.join("refs").join(&args.revision);
    write_atomically(&reference, info.sha.as_bytes())?;
    outln!("{}", shown(&snapshot, &files).display())?;
    Ok(ExitCode::SUCCESS)
}

/// What to pass as a model: the one GGUF, or the folder.
fn shown(snapshot: &Path, files: &[String]) -> PathBuf {
    match files.iter().filter(|f| f.ends_with(".gguf")).collect::<Vec<_>>()[..] {
        [one] => snapshot.join(one),
        _ => snapshot.to_owned(),
    }
}

/// One part of a path that leads nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// The files of a model: weights, configuration and tokenizer.
fn wanted(siblings: &[Sibling], file: Option<&str>) -> Result<Vec<String>> {
    let all: Vec<&str> = siblings.iter().map(|s| s.rfilename.as_str()).collect();
    if let Some(bad) = all.iter().find(|name| !is_relative(name)) {
        bail!("the repository names a file {bad:?}, which lies outside of it");
    }
    let ggufs: Vec<&str> = all.iter().copied().filter(|f| f.ends_with(".gguf")).collect();
    if let Some(wanted) = file {
        let matching = |f: &&&str| **f == wanted || f.to_lowercase().contains(&wanted.to_lowercase());
        let found = ggufs.iter().find(|f| **f == wanted).or_else(|| ggufs.iter().find(matching));
        let found = found
            .with_context(|| format!("no GGUF file like {wanted:?}; there are: {}", ggufs.join(", ")))?;
        return Ok(vec![(*found).to_owned()]);
    }
    if !ggufs.is_empty() {
        ensure!(ggufs.len() == 1, "several GGUF files; name one after a colon: {}", ggufs.join(", "));
        return Ok(vec![ggufs[0].to_owned()]);
    }
    let needed = |f: &&&str| {
        let top = !f.contains('/');
        top && (f.ends_with(".safetensors") || f.ends_with(".json") || f.ends_with(".jinja"))
    };
    let files: Vec<String> = all.iter().filter(needed).map(|f| (*f).to_owned()).collect();
    ensure!(
        files.iter().any(|f| f.ends_with(".safetensors")),
        "the repository has neither GGUF nor safetensors files"
    );
    Ok(files)
}

fn is_relative(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty()
        && !name.contains(['\\', '\0', ':'])
        && path.components().all(|c| matches!(c, Component::Normal(_)))
}

impl Repo {
    fn new(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let plain = parts.len() == 2 && parts.iter().all(|part| is_plain(part));
        ensure!(plain, "{name}: expected OWNER/NAME, as in microsoft/bitnet-b1.58-2B-4T-gguf");
        let dir = cache_dir().join(format!("models--{}--{}", parts[0], parts[1]));
        Ok(Self { dir, name: name.to_owned() })
    }

    /// Where the content with this hash lies.
    fn blob(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(etag)
    }
}

/// The folder of all repositories, as `huggingface_hub` finds it.
pub(crate) fn cache_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default();
    let hf = || {
        set("HF_HOME").unwrap_or_else(|| {
            set("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("huggingface")
        })
    };
    set("HF_HUB_CACHE").unwrap_or_else(|| hf().join("hub"))
}

/// The snapshot of a repository that was pulled, or the GGUF in it.
pub(crate) fn cached(name: &str) -> Option<PathBuf> {
    let repo = Repo::new(name).ok()?;
    let sha = fs::read_to_string(repo.dir.join("refs/main")).ok()?;
    let snapshot = repo.dir.join("snapshots").join(sha.trim());
    let files: Vec<String> =
        fs::read_dir(&snapshot).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    Some(shown(&snapshot, &files))
}

struct Hub<'a> {
    agent: Agent,
    args: &'a PullArgs,
}

impl<'a> Hub<'a> {
    fn new(args: &'a PullArgs) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("bitnet/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), args }
    }

    fn get(&self, path: &str, from: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(format!("{}{path}", self.args.endpoint.trim_end_matches('/')));
        if let Some(token) = &self.args.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        Ok(request.call()?)
    }

    fn api<T: for<'de> Deserialize<'de>>(&self, path: &str, name: &str) -> Result<T> {
        let mut answer = self.get(path, 0)?;
        expect_success(&answer, name)?;
        let text = answer.body_mut().with_config().limit(MAX_API).read_to_string()?;
        serde_json::from_str(&text)
            .map_err(|e| anyhow!("the hub did not answer with a description of {name}: {e}"))
    }

    fn download(&self, repo: &Repo, sha: &str, file: &str, snapshot: &Path, ui: &Ui) -> Result<()> {
        let link = snapshot.join(file);
        if link.exists() {
            return Ok(());
        }
        let path = format!("/{}/resolve/{sha}/{file}", repo.name);
        let mut last = anyhow!("nothing was tried");
        for attempt in 0..ATTEMPTS {
            std::thread::sleep(Duration::from_millis(if attempt == 0 { 0 } else { 200 << attempt }));
            match self.attempt(repo, &path, file, ui) {
                Ok(blob) => return place(&blob, &link),
                Err(error) if error.downcast_ref::<Final>().is_some() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last.context("the download breaks off again and again; run the same command to go on"))
    }

    /// Downloads a file, going on behind what an earlier attempt left.
    fn attempt(&self, repo: &Repo, path: &str, file: &str, ui: &Ui) -> Result<PathBuf> {
        let partial = repo.dir.join("blobs").join(format!("{}.incomplete", file.replace('/', "--")));
        let have = fs::metadata(&partial).map_or(0, |m| m.len());
        let mut answer = self.get(path, have)?;
        if answer.status() == 416 {
            // Nothing is left to ask for, or the file changed: begin again.
            fs::remove_file(&partial)?;
            answer = self.get(path, 0)?;
        }
        expect_success(&answer, file).map_err(|e| Final(e.to_string()))?;
        let header = |name: &str| {
            answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        if header("content-type").starts_with("text/html") {
            return Err(Final(format!(
                "{file}: the server sent a web page instead of the file (a login or error page?)"
            ))
            .into());
        }
        let etag =
            [header("x-linked-etag"), header("etag")].into_iter().find(|e| !e.is_empty()).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let resumed = answer.status() == 206;
        let length = header("content-length").parse().unwrap_or(0) + if resumed { have } else { 0 };
        if let Some(folder) = partial.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut out =
            OpenOptions::new().create(true).write(true).append(resumed).truncate(!resumed).open(&partial)?;
        let bar = ui.progress("downloading", length, true);
        bar.set_position(if resumed { have } else { 0 });
        let copied = copy(&mut answer.into_body().into_reader(), &mut out, |bytes| bar.inc(bytes));
        bar.finish_and_clear();
        copied?;
        out.sync_all()?;
        let got = fs::metadata(&partial)?.len();
        ensure!(length == 0 || got == length, "{got} of {length} bytes came");
        let (name, hash) = (checked_name(&etag), sha256(&partial)?);
        if etag.len() == 64 && is_plain(&etag) && hash != etag {
            fs::remove_file(&partial)?;
            return Err(Final(format!(
                "{file}: SHA-256 is {hash}, the hub says {etag}; the download was damaged and is thrown away"
            ))
            .into());
        }
        let blob = repo.blob(name.as_deref().unwrap_or(&hash));
        fs::rename(&partial, &blob)?;
        Ok(blob)
    }
}

/// An error that trying again does not mend.
#[derive(Debug)]
struct Final(String);

impl std::fmt::Display for Final {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Final {}

/// An etag that can be the name of a file.
fn checked_name(etag: &str) -> Option<String> {
    is_plain(etag).then(|| etag.to_owned())
}

fn expect_success(answer: &Response<Body>, what: &str) -> Result<()> {
    match answer.status().as_u16() {
        200..=299 => Ok(()),
        401 | 403 => bail!(
            "{what}: access denied; set HF_TOKEN to a token that may read it, and accept its licence on the hub"
        ),
        404 => bail!("{what}: not found on the hub; check the name and --revision"),
        429 => bail!("{what}: too many requests; try again later"),
        status => bail!("{what}: the server answered with status {status}"),
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write, mut progress: impl FnMut(u64)) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.flush();
        }
        to.write_all(&buffer[..read])?;
        progress(read as u64);
    }
}

fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..read]);
    }
}

/// Gives a blob its name in a snapshot: a link where links exist, a copy elsewhere.
fn place(blob: &Path, link: &Path) -> Result<()> {
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)?;
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(fs::canonicalize(blob)?, link)?;
    #[cfg(not(unix))]
    fs::copy(blob, link)?;
    Ok(())
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    bitnet_model::weights::atomic::atomic_write(path, |file| file.write(bytes))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn siblings(names: &[&str]) -> Vec<Sibling> {
        names.iter().map(|n| Sibling { rfilename: (*n).to_owned() }).collect()
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../x", "/etc/passwd", "a/../../b", "a\\b", "c:x", ""] {
            assert!(!is_relative(name), "{name}");
        }
        assert!(wanted(&siblings(&["../evil.gguf"]), None).is_err());
        assert!(Repo::new("../..").is_err() && Repo::new("a/b/c").is_err() && Repo::new("a").is_err());
    }

    #[test]
    fn one_of_several_ggufs_has_to_be_named() {
        let files = siblings(&["m-I2_S.gguf", "m-TQ2_0.gguf", "README.md"]);
        assert!(wanted(&files, None).unwrap_err().to_string().contains("m-TQ2_0.gguf"));
        assert_eq!(wanted(&files, Some("tq2_0")).unwrap(), ["m-TQ2_0.gguf"]);
    }

    #[test]
    fn a_folder_comes_without_what_is_not_needed() {
        let files = siblings(&[
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "tokenizer.json",
        ]);
        assert_eq!(wanted(&files, None).unwrap(), ["config.json", "model.safetensors", "tokenizer.json"]);
    }
}
