//! Files of a hub over HTTP. Redirects are followed here, not by the client: the first answer names the content, a later one only
//! the place where it lies, and no answer may lead to another scheme.

use super::{PullArgs, cache, cache::Repo, is_plain};
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{Agent, Body, http::Response};

/// Longest answer of the hub's API.
const MAX_API: u64 = 32 << 20;
/// Times that a broken download goes on.
const ATTEMPTS: usize = 5;
/// Redirects that one file may take.
const REDIRECTS: usize = 5;

pub(super) struct Hub<'a> {
    agent: Agent,
    endpoint: &'a str,
    token: Option<String>,
}

/// What the hub says about a file before it is downloaded.
struct Remote {
    /// Names the content: its SHA-256, or a hash that only the hub knows. Empty where it cannot name a file.
    etag: String,
    /// The etag as the server that holds the content compares it.
    condition: Option<String>,
    length: Option<u64>,
}

impl<'a> Hub<'a> {
    pub(super) fn new(args: &'a PullArgs) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("bitnet/", env!("CARGO_PKG_VERSION")))
            .build();
        let token = args.token.clone().filter(|token| !token.is_empty()).or_else(cache::saved_token);
        Self { agent: config.into(), endpoint: args.endpoint.trim_end_matches('/'), token }
    }

    /// One request, without following anything.
    fn ask(&self, head: bool, url: &str, headers: &[(&str, String)]) -> Result<Response<Body>> {
        let mut request = if head { self.agent.head(url) } else { self.agent.get(url) };
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // The token is for the hub alone.
        let ours = url.strip_prefix(self.endpoint).is_some_and(|path| path.starts_with('/'));
        if let Some(token) = self.token.as_ref().filter(|_| ours) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().with_context(|| url.to_owned())
    }

    /// The first answer that is no redirect, or that `stop` takes as it is.
    fn follow(
        &self,
        head: bool,
        path: &str,
        headers: &[(&str, String)],
        stop: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Response<Body>> {
        let mut url = format!("{}{path}", self.endpoint);
        for _ in 0..=REDIRECTS {
            let answer = self.ask(head, &url, headers)?;
            let location = header(&answer, "location");
            if !answer.status().is_redirection() || location.is_empty() || stop(&answer) {
                return Ok(answer);
            }
            url = redirected(&url, &location)?;
        }
        bail!(Final(format!("{}{path}: more than {REDIRECTS} redirects", self.endpoint)))
    }

    pub(super) fn api<T: for<'de> Deserialize<'de>>(&self, path: &str, name: &str) -> Result<T> {
        let mut answer = self.follow(false, path, &[], |_| false)?;
        expect_success(&answer, name)?;
        let text = answer.body_mut().with_config().limit(MAX_API).read_to_string()?;
        serde_json::from_str(&text)
            .map_err(|e| anyhow!("the hub did not answer with a description of {name}: {e}"))
    }

    pub(super) fn download(&self, repo: &Repo, sha: &str, file: &str, ui: &Ui) -> Result<()> {
        let link = repo.snapshot(sha).join(file);
        if link.exists() {
            return Ok(());
        }
        let path = format!("/{}/resolve/{sha}/{}", repo.name, escaped(file, "/"));
        let mut last = anyhow!("nothing was tried");
        for attempt in 0..ATTEMPTS {
            std::thread::sleep(Duration::from_millis(if attempt == 0 { 0 } else { 200 << attempt }));
            match self.attempt(repo, &path, file, ui) {
                Ok(blob) => return cache::place(&blob, &link),
                Err(error) if error.downcast_ref::<Final>().is_some() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last.context("the download breaks off again and again; run the same command to go on"))
    }

    /// What a file is, from the first answer that says so: a hub redirects to a store that knows the content by another name.
    fn describe(&self, path: &str, file: &str) -> Result<Remote> {
        let named = |answer: &Response<Body>| !header(answer, "x-linked-etag").is_empty();
        let answer = self.follow(true, path, &[], named)?;
        let linked = header(&answer, "x-linked-etag");
        if linked.is_empty() {
            expect_success(&answer, file).map_err(|e| Final(e.to_string()))?;
        }
        let (raw, length) = match linked.is_empty() {
            true => (header(&answer, "etag"), header(&answer, "content-length")),
            false => (linked.clone(), header(&answer, "x-linked-size")),
        };
        let etag = raw.trim_start_matches("W/").trim_matches('"');
        let etag = if is_plain(etag) { etag.to_owned() } else { String::new() };
        let comparable = linked.is_empty() && raw.starts_with('"');
        Ok(Remote { etag, condition: comparable.then_some(raw), length: length.parse().ok() })
    }

    /// Downloads a file, going on behind what an earlier attempt left of the same content.
    fn attempt(&self, repo: &Repo, path: &str, file: &str, ui: &Ui) -> Result<PathBuf> {
        let remote = self.describe(path, file)?;
        let known = !remote.etag.is_empty();
        if known && repo.blob(&remote.etag).exists() {
            return Ok(repo.blob(&remote.etag));
        }
        let name = if known { remote.etag.clone() } else { file.replace('/', "--") };
        let partial = repo.blob(&format!("{name}.incomplete"));
        // What a hash proves in the end may go on anywhere; other content only where the server compares it.
        let resumable = is_sha256(&remote.etag) || remote.condition.is_some();
        let have = if resumable { fs::metadata(&partial).map_or(0, |m| m.len()) } else { 0 };
        let mut answer = self.follow(false, path, &range(have, &remote), |_| false)?;
        if answer.status() == 416 {
            // Nothing is left to ask for, or the file changed: begin again.
            fs::remove_file(&partial)?;
            answer = self.follow(false, path, &[], |_| false)?;
        }
        expect_success(&answer, file).map_err(|e| Final(e.to_string()))?;
        if header(&answer, "content-type").starts_with("text/html") {
            let reason = "the server sent a web page instead of the file (a login or error page?)";
            bail!(Final(format!("{file}: {reason}")));
        }
        let have = if answer.status() == 206 { have } else { 0 };
        let length =
            remote.length.or_else(|| Some(have + header(&answer, "content-length").parse::<u64>().ok()?));
        fetch(answer, &partial, have, length, ui)?;
        let hash = sha256(&partial)?;
        if is_sha256(&remote.etag) && hash != remote.etag {
            fs::remove_file(&partial)?;
            let etag = &remote.etag;
            ensure!(have == 0, "{file}: the part of an earlier download did not fit");
            bail!(Final(format!(
                "{file}: SHA-256 is {hash}, the hub says {etag}; the download was damaged and is thrown away"
            )));
        }
        let blob = repo.blob(if known { &remote.etag } else { &hash });
        fs::rename(&partial, &blob)?;
        Ok(blob)
    }
}

/// Asks for what comes behind `have`, if it is still the same content.
fn range(have: u64, remote: &Remote) -> Vec<(&'static str, String)> {
    if have == 0 {
        return Vec::new();
    }
    let condition = remote.condition.clone().map(|etag| ("if-range", etag));
    [("range", format!("bytes={have}-"))].into_iter().chain(condition).collect()
}

/// Writes an answer behind the first `have` bytes of a file.
fn fetch(answer: Response<Body>, partial: &Path, have: u64, length: Option<u64>, ui: &Ui) -> Result<()> {
    if let Some(folder) = partial.parent() {
        fs::create_dir_all(folder)?;
    }
    let resumed = have > 0;
    let mut out =
        OpenOptions::new().create(true).write(true).append(resumed).truncate(!resumed).open(partial)?;
    let bar = ui.progress("downloading", length.unwrap_or(0), true);
    bar.set_position(have);
    let copied = copy(&mut answer.into_body().into_reader(), &mut out, |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    copied?;
    out.sync_all()?;
    let got = fs::metadata(partial)?.len();
    let length = length.unwrap_or(got);
    if got > length {
        fs::remove_file(partial)?;
    }
    ensure!(got == length, "{got} of {length} bytes came");
    Ok(())
}

fn header(answer: &Response<Body>, name: &str) -> String {
    answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
}

/// Where an answer from `url` sends us.
fn redirected(url: &str, location: &str) -> Result<String> {
    let scheme = if url.starts_with("https://") { "https://" } else { "http://" };
    let host = url[scheme.len()..].split('/').next().unwrap_or_default();
    if location.starts_with('/') && !location.starts_with("//") {
        return Ok(format!("{scheme}{host}{location}"));
    }
    // Never from an encrypted address to one that is not.
    if location.starts_with("https://") || location.starts_with(scheme) {
        return Ok(location.to_owned());
    }
    bail!(Final(format!(
        "{url}: the server redirects to {location}; expected an address that begins with {scheme}"
    )))
}

/// A part of an address, with `%` codes for all but plain characters and `keep`.
pub(super) fn escaped(text: &str, keep: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.as_bytes().contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
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

fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_web_and_encrypted() {
        let from = "https://hub/a/b";
        assert_eq!(redirected(from, "/c").unwrap(), "https://hub/c");
        assert_eq!(redirected(from, "https://store/c").unwrap(), "https://store/c");
        for bad in ["file:///etc/passwd", "http://store/c", "ftp://store/c", "//store/c", "c"] {
            assert!(redirected(from, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_an_address_are_escaped() {
        assert_eq!(escaped("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(escaped("a b/c.gguf", "/"), "a%20b/c.gguf");
    }
}
