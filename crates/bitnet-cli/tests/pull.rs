//! Downloads, from a server of our own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
/// SHA-256 of [`content`].
const HASH: &str = "2c030d49ec131bfbbb446ad21e7a2f12cdb4f2f4f3fda3ac709dd2e68a4646c7";

/// About a megabyte.
fn content() -> Vec<u8> {
    (0..1_000_000u32).map(|i| (i % 251) as u8).collect()
}

/// How the server misbehaves, or what is special about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The first answer ends half way.
    Cut,
    WrongHash,
    WebPage,
    Denied,
    Missing,
    Outside,
    /// The content lies in a store, which only the first answer connects with its hash.
    Store,
    /// The first answer leads to a file of this machine.
    Local,
    /// There are several files.
    Several,
}

/// A request: method, path and headers in small letters.
type Asked = (String, String, HashMap<String, String>);

struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Values of a header in the requests for content.
    fn sent(&self, header: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let content = asked.iter().filter(|(method, path, _)| method == "GET" && !path.starts_with("/api/"));
        content.map(|(_, _, headers)| headers.get(header).cloned().unwrap_or_default()).collect()
    }
}

fn serve(fault: Fault, hash: &str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, hash) = (asked.clone(), hash.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own business.
            let _ = answer(stream, fault, &log, &hash);
        }
    });
    Server { address, asked }
}

fn request(stream: &TcpStream) -> std::io::Result<Asked> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Ok((method, path, headers))
}

fn answer(mut stream: TcpStream, fault: Fault, log: &Mutex<Vec<Asked>>, hash: &str) -> std::io::Result<()> {
    let (method, path, asked) = request(&stream)?;
    let first = {
        let mut log = log.lock().unwrap();
        log.push((method.clone(), path.clone(), asked.clone()));
        log.iter().filter(|(method, other, _)| method == "GET" && *other == path).count() == 1
    };
    let head = |stream: &mut TcpStream, status: &str, headers: &str, len: usize| {
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n{headers}\r\n")
    };
    match fault {
        Fault::Denied => return head(&mut stream, "401 Unauthorized", "", 0),
        Fault::Missing => return head(&mut stream, "404 Not Found", "", 0),
        _ => {}
    }
    if path.starts_with("/api/") {
        let names = match fault {
            Fault::Outside => r#"{"rfilename":"../../evil.gguf"}"#,
            Fault::Several => r#"{"rfilename":"m-i2_s.gguf"},{"rfilename":"m-tq2_0.gguf"}"#,
            _ => r#"{"rfilename":"model.gguf"}"#,
        };
        let body = format!(r#"{{"sha":"{SHA}","siblings":[{names},{{"rfilename":"README.md"}}]}}"#);
        head(&mut stream, "200 OK", "content-type: application/json\r\n", body.len())?;
        return stream.write_all(body.as_bytes());
    }
    let content = content();
    if !path.starts_with("/store/") {
        match fault {
            Fault::Local => return head(&mut stream, "302 Found", "location: file:///etc/passwd\r\n", 0),
            Fault::Store => {
                let linked = format!(
                    "location: /store/x\r\nx-linked-etag: \"{hash}\"\r\nx-linked-size: {}\r\n",
                    content.len()
                );
                return head(&mut stream, "302 Found", &linked, 0);
            }
            _ => {}
        }
    }
    if fault == Fault::WebPage {
        head(&mut stream, "200 OK", "content-type: text/html; charset=utf-8\r\n", 6)?;
        return stream.write_all(if method == "HEAD" { b"" } else { b"<html>" });
    }
    let etag = if fault == Fault::Store { "\"of-the-store\"".to_owned() } else { format!("\"{hash}\"") };
    let from = asked.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let same = asked.get("if-range").is_none_or(|condition| *condition == etag);
    let from: usize = from.filter(|_| same).unwrap_or(0);
    if from > content.len() {
        return head(&mut stream, "416 Range Not Satisfiable", "", 0);
    }
    let headers = format!("etag: {etag}\r\ncontent-type: application/octet-stream\r\n");
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    head(&mut stream, status, &headers, content.len() - from)?;
    let cut = matches!(fault, Fault::Cut | Fault::Store) && first;
    let end = if cut { content.len() / 2 } else { content.len() };
    stream.write_all(if method == "HEAD" { &[] } else { &content[from..end] })
}

/// The program, with a cache of its own and no token of whoever runs the tests.
fn bitnet(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.env("HF_HUB_CACHE", cache).env("HF_HOME", cache.join("home"));
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "BITNET_REVISION"] {
        command.env_remove(name);
    }
    command
}

fn pull(server: &Server, cache: &Path, repository: &str) -> Output {
    pull_with(server, cache, &[repository])
}

fn pull_with(server: &Server, cache: &Path, arguments: &[&str]) -> Output {
    bitnet(cache).arg("pull").args(arguments).args(["--endpoint", &server.address]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_file_is_downloaded_checked_and_named() {
    let (server, cache) = (serve(Fault::None, HASH), tempfile::tempdir().unwrap());
    let output = pull(&server, cache.path(), "owner/name");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let path = text(&output.stdout);
    assert!(path.trim().ends_with(&format!("models--owner--name/snapshots/{SHA}/model.gguf")), "{path}");
    assert_eq!(std::fs::read(path.trim()).unwrap(), content());
    assert!(cache.path().join("models--owner--name/blobs").join(HASH).exists());
    let before = server.requests();
    assert!(pull(&server, cache.path(), "owner/name").status.success());
    assert_eq!(server.requests(), before + 1, "only the description is asked for again");
}

#[test]
fn a_download_that_was_cut_off_goes_on() {
    let (server, cache) = (serve(Fault::Cut, HASH), tempfile::tempdir().unwrap());
    let output = pull(&server, cache.path(), "owner/name");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(text(&output.stdout).trim()).unwrap(), content());
}

fn refused(fault: Fault, hash: &str, named: &str) {
    let (server, cache) = (serve(fault, hash), tempfile::tempdir().unwrap());
    let output = pull(&server, cache.path(), "owner/name");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(named), "{}", text(&output.stderr));
    assert!(!cache.path().join("models--owner--name/snapshots").join(SHA).join("model.gguf").exists());
}

#[test]
fn a_wrong_hash_is_thrown_away() {
    refused(Fault::WrongHash, &"a".repeat(64), "SHA-256");
}

#[test]
fn a_web_page_is_no_model() {
    refused(Fault::WebPage, HASH, "web page");
}

#[test]
fn a_denied_or_missing_repository_says_what_to_do() {
    refused(Fault::Denied, HASH, "HF_TOKEN");
    refused(Fault::Missing, HASH, "not found");
}

#[test]
fn a_file_outside_of_the_repository_is_refused() {
    refused(Fault::Outside, HASH, "outside");
}

#[test]
fn a_name_that_is_no_repository_is_refused() {
    let (server, cache) = (serve(Fault::None, HASH), tempfile::tempdir().unwrap());
    for name in ["../..", "name", "a/b/c"] {
        assert_eq!(pull(&server, cache.path(), name).status.code(), Some(1), "{name}");
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_store_that_names_the_content_otherwise_is_checked_by_the_hash_of_the_hub() {
    let (server, cache) = (serve(Fault::Store, HASH), tempfile::tempdir().unwrap());
    let output = pull(&server, cache.path(), "owner/name");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(cache.path().join("models--owner--name/blobs").join(HASH).exists());
    assert!(server.sent("range").contains(&"bytes=500000-".to_owned()), "{:?}", server.sent("range"));
    refused(Fault::Store, &"a".repeat(64), "SHA-256");
}

#[test]
fn parts_of_two_contents_are_never_joined() {
    // A hash that only the server can compare, so that only the name and the condition keep them apart.
    let (old, new) = ("1".repeat(40), "2".repeat(40));
    let (server, cache) = (serve(Fault::Cut, &new), tempfile::tempdir().unwrap());
    let blobs = cache.path().join("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{old}.incomplete")), [7; 1000]).unwrap();
    let output = pull(&server, cache.path(), "owner/name");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(blobs.join(&new)).unwrap(), content());
    assert_eq!(server.sent("if-range"), ["".to_owned(), format!("\"{new}\"")]);
}

#[test]
fn a_part_that_does_not_fit_is_thrown_away_and_fetched_again() {
    let (server, cache) = (serve(Fault::None, HASH), tempfile::tempdir().unwrap());
    let blobs = cache.path().join("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{HASH}.incomplete")), [7; 1000]).unwrap();
    assert!(pull(&server, cache.path(), "owner/name").status.success());
    assert_eq!(std::fs::read(blobs.join(HASH)).unwrap(), content());
}

#[test]
fn a_redirect_to_a_file_is_refused() {
    refused(Fault::Local, HASH, "file:///etc/passwd");
}

#[test]
fn a_revision_with_slashes_is_one_part_of_the_address() {
    let (server, cache) = (serve(Fault::None, HASH), tempfile::tempdir().unwrap());
    let output = pull_with(&server, cache.path(), &["owner/name", "--revision", "refs/pr/1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(server.asked.lock().unwrap()[0].1, "/api/models/owner/name/revision/refs%2Fpr%2F1");
    assert!(cache.path().join("models--owner--name/refs/refs/pr/1").exists());
    assert_eq!(
        pull_with(&server, cache.path(), &["owner/name", "--revision", "../x"]).status.code(),
        Some(1)
    );
}

/// What `run` says about a model of the cache, which holds no real one.
fn run(cache: &Path, model: &str) -> String {
    text(&bitnet(cache).args(["run", "-m", model, "-p", "x"]).output().unwrap().stderr)
}

#[test]
fn what_was_pulled_is_found_by_the_same_name() {
    let (server, cache) = (serve(Fault::Several, HASH), tempfile::tempdir().unwrap());
    assert!(run(cache.path(), "o/multi:tq2_0").contains("not in the cache"));
    assert!(pull(&server, cache.path(), "o/multi:tq2_0").status.success());
    assert!(
        run(cache.path(), "o/multi:tq2_0").contains("m-tq2_0.gguf"),
        "{}",
        run(cache.path(), "o/multi:tq2_0")
    );
    assert!(run(cache.path(), "o/multi:i2_s").contains("not in the cache"));
    let arguments = ["o/other:tq2_0", "--revision", "v2"];
    assert!(pull_with(&server, cache.path(), &arguments).status.success());
    assert!(run(cache.path(), "o/other").contains("m-tq2_0.gguf"));
}

#[test]
fn the_token_of_a_login_is_used() {
    let (server, cache) = (serve(Fault::Store, HASH), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(cache.path().join("home")).unwrap();
    std::fs::write(cache.path().join("home/token"), "hf_secret\n").unwrap();
    assert!(pull(&server, cache.path(), "owner/name").status.success());
    let asked = server.asked.lock().unwrap();
    assert!(asked.iter().all(|(_, _, headers)| headers["authorization"] == "Bearer hf_secret"));
}

#[test]
fn errors_name_the_address() {
    let cache = tempfile::tempdir().unwrap();
    for address in ["http://127.0.0.1:1", "nonsense", "http://[::1"] {
        let output = bitnet(cache.path()).args(["pull", "o/n", "--endpoint", address]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(address), "{}", text(&output.stderr));
    }
}
