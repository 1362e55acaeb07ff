//! Downloads, from a server of our own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use std::thread;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
/// SHA-256 of [`content`].
const HASH: &str = "2c030d49ec131bfbbb446ad21e7a2f12cdb4f2f4f3fda3ac709dd2e68a4646c7";

/// About a megabyte.
fn content() -> Vec<u8> {
    (0..1_000_000u32).map(|i| (i % 251) as u8).collect()
}

/// How the server misbehaves.
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
}

struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
}

fn serve(fault: Fault, hash: &str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, hash) = (requests.clone(), hash.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let number = count.fetch_add(1, SeqCst);
            // A client that goes away is its own business.
            let _ = answer(stream, fault, number, &hash);
        }
    });
    Server { address, requests }
}

fn answer(mut stream: TcpStream, fault: Fault, number: usize, hash: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut path, mut from) = (String::new(), 0usize);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        let lower = line.to_ascii_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap();
        }
    }
    let head = |stream: &mut TcpStream, status: &str, headers: &str, len: usize| {
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n{headers}\r\n")
    };
    match fault {
        Fault::Denied => return head(&mut stream, "401 Unauthorized", "", 0),
        Fault::Missing => return head(&mut stream, "404 Not Found", "", 0),
        _ => {}
    }
    if path.starts_with("/api/") {
        let name = if fault == Fault::Outside { "../../evil.gguf" } else { "model.gguf" };
        let body =
            format!(r#"{{"sha":"{SHA}","siblings":[{{"rfilename":"{name}"}},{{"rfilename":"README.md"}}]}}"#);
        head(&mut stream, "200 OK", "content-type: application/json\r\n", body.len())?;
        return stream.write_all(body.as_bytes());
    }
    if fault == Fault::WebPage {
        head(&mut stream, "200 OK", "content-type: text/html; charset=utf-8\r\n", 6)?;
        return stream.write_all(b"<html>");
    }
    let content = content();
    if from > content.len() {
        return head(&mut stream, "416 Range Not Satisfiable", "", 0);
    }
    let headers = format!("etag: \"{hash}\"\r\ncontent-type: application/octet-stream\r\n");
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    head(&mut stream, status, &headers, content.len() - from)?;
    let end = if fault == Fault::Cut && number == 1 { content.len() / 2 } else { content.len() };
    stream.write_all(&content[from..end])
}

fn pull(server: &Server, cache: &Path, repository: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bitnet"))
        .args(["pull", repository, "--endpoint", &server.address])
        .env("HF_HUB_CACHE", cache)
        .env_remove("HF_TOKEN")
        .output()
        .unwrap()
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
    let before = server.requests.load(SeqCst);
    assert!(pull(&server, cache.path(), "owner/name").status.success());
    assert_eq!(server.requests.load(SeqCst), before + 1, "only the description is asked for again");
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
    assert_eq!(server.requests.load(SeqCst), 0);
}
