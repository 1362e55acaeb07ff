//! Downloads a repository of the Hugging Face hub into the cache that Python's `huggingface_hub` uses too.

mod cache;
mod hub;

use crate::ui::Ui;
use anyhow::{Context, Result, bail, ensure};
use cache::{Repo, shown};
use clap::Args;
use hub::{Hub, escaped};
use serde::Deserialize;
use std::{
    path::{Component, Path},
    process::ExitCode,
};

pub(crate) use cache::{cache_dir, cached};

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

pub(crate) fn run(args: &PullArgs, ui: &Ui) -> Result<ExitCode> {
    let (name, file) = match args.repository.split_once(':') {
        Some((name, file)) => (name, Some(file)),
        None => (args.repository.as_str(), None),
    };
    let repo = Repo::new(name)?;
    ensure!(is_revision(&args.revision), "--revision {}: expected a branch, tag or commit", args.revision);
    let hub = Hub::new(args);
    let info: Info =
        hub.api(&format!("/api/models/{name}/revision/{}", escaped(&args.revision, "")), name)?;
    ensure!(is_plain(&info.sha), "the hub names commit {:?}, which is no commit", info.sha);
    let files = wanted(&info.siblings, file)?;
    for file in &files {
        hub.download(&repo, &info.sha, file, ui).with_context(|| file.clone())?;
    }
    repo.refer(&args.revision, &info.sha)?;
    outln!("{}", shown(&repo.snapshot(&info.sha), &files).display())?;
    Ok(ExitCode::SUCCESS)
}

/// One part of a path that leads nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A branch, tag or commit; some have slashes, such as `refs/pr/1`.
fn is_revision(name: &str) -> bool {
    name.split('/').all(is_plain)
}

/// The GGUF file that a name or a part of it means.
fn select(files: &[String], wanted: &str) -> Option<String> {
    let ggufs = || files.iter().filter(|f| f.ends_with(".gguf"));
    let like = |f: &&String| f.to_lowercase().contains(&wanted.to_lowercase());
    ggufs().find(|f| *f == wanted).or_else(|| ggufs().find(like)).cloned()
}

/// The files of a model: weights, configuration and tokenizer.
fn wanted(siblings: &[Sibling], file: Option<&str>) -> Result<Vec<String>> {
    let all: Vec<String> = siblings.iter().map(|s| s.rfilename.clone()).collect();
    if let Some(bad) = all.iter().find(|name| !is_relative(name)) {
        bail!("the repository names a file {bad:?}, which lies outside of it");
    }
    let ggufs: Vec<&str> = all.iter().map(String::as_str).filter(|f| f.ends_with(".gguf")).collect();
    if let Some(wanted) = file {
        let none = || format!("no GGUF file like {wanted:?}; there are: {}", ggufs.join(", "));
        return Ok(vec![select(&all, wanted).with_context(none)?]);
    }
    if !ggufs.is_empty() {
        ensure!(ggufs.len() == 1, "several GGUF files; name one after a colon: {}", ggufs.join(", "));
        return Ok(vec![ggufs[0].to_owned()]);
    }
    let needed = |f: &&String| {
        let top = !f.contains('/');
        top && (f.ends_with(".safetensors") || f.ends_with(".json") || f.ends_with(".jinja"))
    };
    let files: Vec<String> = all.iter().filter(needed).cloned().collect();
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
