//! The binary as people use it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{bitnet, command, piped, stderr, stdout, succeeds, testdata};
use std::path::{Path, PathBuf};
use std::process::Stdio;

#[test]
fn the_demo_writes_a_story_and_one_line_of_timings() {
    let output = bitnet(&["demo", "The captain", "-n", "20"]);
    assert!(output.status.success());
    let story = stdout(&output);
    assert!(story.starts_with("The captain") && story.split_whitespace().count() > 8, "{story}");
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(stderr(&output).contains("tok/s"));
}

#[test]
fn the_same_seed_writes_the_same_story() {
    let story = || succeeds(&["demo", "The sea", "-n", "30", "-s", "5"]);
    assert_eq!(story(), story());
    assert_ne!(story(), succeeds(&["demo", "The sea", "-n", "30", "-s", "6"]));
}

#[test]
fn run_continues_a_text_greedily() {
    let model = testdata("gguf-bitnet/bitnet-i2_s.gguf");
    let text =
        succeeds(&["run", "-m", &model, "-p", "I had called upon my friend", "-n", "8", "--temp", "0"]);
    assert_eq!(text, ", Mr. Sherlock\n");
}

#[test]
fn guesses_change_nothing_but_the_time() {
    let model = testdata("bitnet-packed");
    let prompt = "one two three four, one two three four, one two";
    let run = ["run", "-m", &model, "-p", prompt, "-n", "40", "-s", "1", "--temp", "0.2"];
    for scored in [&[][..], &["--log-probs", "1"]] {
        let args = [run.as_slice(), scored].concat();
        let guessed = bitnet(&[args.as_slice(), &["--lookup", "8", "--show-timings"]].concat());
        assert_eq!(stdout(&guessed), succeeds(&args));
        assert!(stderr(&guessed).contains("guesses right"), "{}", stderr(&guessed));
    }
}

#[test]
fn every_i2_s_layout_is_told_from_the_weights_or_a_probe() {
    let model = testdata("gguf-bitnet/bitnet-i2_s-arm.gguf");
    let output =
        bitnet(&["run", "-m", &model, "-p", "I had called upon my friend", "-n", "8", "--temp", "0"]);
    assert_eq!(stdout(&output), ", Mr. Sherlock\n");
    assert!(stderr(&output).contains("i2_s_arm"));
}

#[test]
fn a_prompt_comes_from_a_pipe_and_ends_at_a_string() {
    let model = testdata("gguf-bitnet/bitnet-i2_s.gguf");
    let output =
        piped(&["run", "-m", &model, "-r", "Sher", "--temp", "0", "-n", "20"], "I had called upon my friend");
    assert_eq!(stdout(&output), ", Mr. \n");
}

#[test]
fn log_probabilities_are_json_lines() {
    let model = testdata("bitnet-packed");
    let text = succeeds(&["run", "-m", &model, "-p", "I had", "-n", "3", "--temp", "0", "--log-probs", "2"]);
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert_eq!(line["top"].as_array().unwrap().len(), 2);
        assert_eq!(line["top"][0]["id"], line["id"]);
        assert!(line["logprob"].as_f64().unwrap() <= 0.0);
    }
}

#[test]
fn a_context_that_cannot_fit_is_refused_with_one_that_does() {
    let output = bitnet(&["run", "-m", &testdata("bitnet-packed"), "-p", "x", "-c", "99999999999"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("at most"), "{}", stderr(&output));
}

#[test]
fn echo_writes_json_lines_for_the_prompt_too() {
    let model = testdata("bitnet-packed");
    let args = ["run", "-m", &model, "-p", "I had", "-n", "2", "--temp", "0", "--log-probs", "0", "--echo"];
    let text = succeeds(&args);
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let prompt = succeeds(&["tokenize", "-m", &model, "I had"]);
    assert_eq!(lines.len(), prompt.split_whitespace().count() + 2);
    assert!(lines[0]["logprob"].is_null() && lines[1]["logprob"].as_f64().unwrap() <= 0.0);
}

#[test]
fn log_probabilities_end_at_a_stop_string() {
    let model = testdata("bitnet-packed");
    let args =
        ["run", "-m", &model, "-p", "I had called upon my friend", "-r", "Sher", "--temp", "0", "-n", "20"];
    let text = succeeds(&[args.as_slice(), &["--log-probs", "0"]].concat());
    assert!(text.lines().count() < 20 && text.lines().last().unwrap().contains("er"), "{text}");
}

#[test]
fn a_text_that_the_context_ends_says_so() {
    let model = testdata("bitnet-packed");
    let output = bitnet(&["run", "-m", &model, "-p", "I had", "-c", "16", "--ignore-eos", "--temp", "0"]);
    assert!(stderr(&output).contains("the context of 16 tokens is full"), "{}", stderr(&output));
    let output = bitnet(&["run", "-m", &model, "-p", "I had", "-n", "2", "-c", "16"]);
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_name_of_a_control_token_in_a_prompt_is_pointed_out() {
    let model = testdata("bitnet-packed");
    let name = control_token(&model);
    let output = bitnet(&["run", "-m", &model, "-p", &format!("Hello {name}"), "-n", "1"]);
    assert!(stderr(&output).contains(&name) && stderr(&output).contains("--special"), "{}", stderr(&output));
    let output = bitnet(&["run", "-m", &model, "-p", &format!("Hello {name}"), "-n", "1", "--special"]);
    assert_eq!(stderr(&output), "");
}

/// The token that begins a text.
fn control_token(model: &str) -> String {
    let json = succeeds(&["tokenize", "-m", model, "x", "--json"]);
    let tokens: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(tokens[0]["special"], true);
    tokens[0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn logits_name_the_folder_that_is_missing() {
    let model = testdata("bitnet-packed");
    let output = bitnet(&["logits", "-m", &model, "--ids", "1,2", "-o", "/no-such-folder/x.npy"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).ends_with("the folder /no-such-folder does not exist\n"), "{}", stderr(&output));
}

#[test]
fn ids_and_text_lead_to_each_other() {
    let model = testdata("gguf-llama/llama-i2_s.gguf");
    let ids = succeeds(&["tokenize", "-m", &model, "Hello there", "--no-bos"]);
    let text = succeeds(&["tokenize", "-m", &model, "--ids", &ids.trim().replace(' ', ",")]);
    assert_eq!(text, "Hello there\n");
}

#[test]
fn logits_do_not_depend_on_the_chunk_or_tier() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, args: &[&str]| {
        let out = folder.path().join(name);
        let model = testdata("bitnet-packed");
        let mut all =
            vec!["logits", "-m", &model, "--ids", "504,40,379,273,407", "-o", out.to_str().unwrap()];
        all.extend(args);
        succeeds(&all);
        std::fs::read(out).unwrap()
    };
    let whole = write("a.npy", &[]);
    assert_eq!(whole.len(), 128 + 5 * 512 * 4);
    assert_eq!(write("b.npy", &["--chunk", "2", "--device", "cpu/scalar", "-t", "1"]), whole);
}

fn nats(model: &str, ids: &str) -> f64 {
    let json = succeeds(&["perplexity", "-m", model, "--ids", ids, "-c", "64", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["tokens"], 128);
    value["nats"].as_f64().unwrap()
}

/// 129 token ids as a `.npy` file.
fn ids(folder: &Path) -> PathBuf {
    let header = format!("{:<117}\n", "{'descr': '<u2', 'fortran_order': False, 'shape': (129,), }");
    let mut bytes =
        [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    bytes.extend((0..129u16).flat_map(|i| (i * 31 % 500).to_le_bytes()));
    let path = folder.join("ids.npy");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn conversions_that_store_the_scale_exactly_keep_the_loss_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let ids = ids(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for source in ["bitnet-packed", "llama-packed", "bitnet-online-bf16"] {
        let (source, ids) = (testdata(source), ids.to_str().unwrap());
        let expected = nats(&source, ids);
        succeeds(&["convert", &source, &path("a.gguf"), "--to", "i2_s"]);
        assert_eq!(nats(&path("a.gguf"), ids), expected);
        succeeds(&["convert", &path("a.gguf"), &path("packed"), "--to", "hf-packed"]);
        assert_eq!(nats(&path("packed"), ids), expected);
        succeeds(&["convert", &path("packed"), &path("b.gguf"), "--to", "i2_s"]);
        assert_eq!(nats(&path("b.gguf"), ids), expected);
        for format in ["tq1_0", "tq2_0"] {
            succeeds(&["convert", &path("packed"), &path("c.gguf"), "--to", format, "--embedding", "q8_0"]);
            assert!((nats(&path("c.gguf"), ids) - expected).abs() < 0.05 * expected);
        }
        std::fs::remove_dir_all(path("packed")).unwrap();
    }
}

#[test]
fn a_conversion_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("missing/out.gguf");
    let output = bitnet(&["convert", &testdata("bitnet-packed"), out.to_str().unwrap(), "--to", "i2_s"]);
    assert_eq!(output.status.code(), Some(1));
    let same = testdata("gguf-bitnet/bitnet-tq2_0.gguf");
    assert_eq!(bitnet(&["convert", &same, &same, "--to", "i2_s"]).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn inspect_shows_density_and_scales() {
    let report = succeeds(&["inspect", &testdata("gguf-bitnet/bitnet-tq2_0.gguf"), "--json"]);
    let value: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(value["ternary"].as_array().unwrap().len(), 14);
    let density = value["ternary"][0]["density"].as_f64().unwrap();
    assert!(density > 0.3 && density < 0.9);
    assert_eq!(value["metadata"]["general.architecture"], "bitnet-b1.58");
}

#[test]
fn verify_names_the_tensor_that_is_damaged() {
    assert!(succeeds(&["verify", &testdata("bitnet-packed")]).contains("ok: bitnet"));
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(testdata("gguf-bitnet/bitnet-tq2_0.gguf")).unwrap();
    let at = bytes.len() - 1000;
    bytes[at..at + 8].fill(0xff);
    let path = folder.path().join("damaged.gguf");
    std::fs::write(&path, bytes).unwrap();
    let output = bitnet(&["verify", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("tensor"), "{}", stderr(&output));
}

#[test]
fn completions_are_written_for_a_shell() {
    assert!(succeeds(&["completions", "bash"]).contains("perplexity"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = command(&["inspect", &testdata("gguf-llama/llama-i2_s.gguf")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_rendered_chat_is_not_given_a_second_first_token() {
    let model = testdata("bitnet-packed");
    let scores = |prompt: &str| {
        let args =
            ["run", "-m", &model, "--special", "-p", prompt, "-n", "4", "--temp", "0", "--log-probs", "1"];
        succeeds(&args)
    };
    assert_eq!(scores("<|begin_of_text|>User: Who is Mr. Holmes?"), scores("User: Who is Mr. Holmes?"));
}
