//! `bitnet chat` over pipes.

mod common;

use common::{bitnet, piped, stderr, stdout, testdata};

#[test]
fn chat_answers_a_pipe_without_prompt_characters() {
    let model = testdata("bitnet-packed");
    let output =
        piped(&["chat", "-m", &model, "--temp", "0", "-n", "24"], "Who is Mr. Holmes?\n/exit\nnever read\n");
    assert_eq!(stdout(&output), "Sherlock Holmes is a detective who lives in Baker S\n");
}

#[test]
fn chat_needs_a_template() {
    let output = bitnet(&["chat", "-m", &testdata("no-such-model"), "-p", "x"]);
    assert_eq!(output.status.code(), Some(1));
    let asset = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/books-22m.gguf");
    let output = bitnet(&["chat", "-m", asset, "-p", "x", "--single-turn"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("chat template"));
}

/// What a conversation with `input` writes to stdout and to stderr.
fn conversation(args: &[&str], input: &str) -> (String, String) {
    let model = testdata("bitnet-packed");
    let output = piped(&[&["chat", "-m", &model, "--temp", "0", "-n", "6"], args].concat(), input);
    assert!(output.status.success(), "{}", stderr(&output));
    (stdout(&output), stderr(&output))
}

#[test]
fn short_flags_of_llama_cpp_are_understood() {
    let system = "You answer in rhymes.";
    let (short, _) =
        conversation(&["-sys", system, "-st", "-ctk", "f16", "-ctv", "f16"], "Hello\nnever read\n");
    let (long, _) = conversation(&["--system-prompt", system, "--single-turn"], "Hello\n");
    assert_eq!((short.lines().count(), &short), (1, &long));
}

#[test]
fn commands_confirm_what_they_did() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let file = file.to_str().unwrap();
    let input = format!(
        "Hello\n/save {file}\n/clear\n/load {file}\n/set top-k 7\n/system Be brief.\n/system\n/system -\n"
    );
    let (out, notes) = conversation(&[], &input);
    assert_eq!(out.lines().count(), 1);
    for said in
        ["2 messages saved", "forgotten", "2 messages loaded", "top-k", "is set", "Be brief.", "is gone"]
    {
        assert!(notes.contains(said), "{said}: {notes}");
    }
}

#[test]
fn every_setting_is_shown() {
    let (_, notes) = conversation(&[], "/set\n");
    for name in ["temp", "top-k", "presence-penalty", "repeat-last-n", "seed", "predict"] {
        assert!(notes.lines().any(|line| line.starts_with(name)), "{name}: {notes}");
    }
}

#[test]
fn quoted_text_and_two_slashes_are_messages() {
    let (quoted, _) = conversation(&[], "\"\"\"\n/exit\n\"\"\"\n");
    let (doubled, _) = conversation(&[], "//exit\n");
    assert_eq!((quoted.lines().count(), &quoted), (1, &doubled));
}

#[test]
fn the_oldest_turns_are_forgotten_when_the_context_is_full() {
    let (out, notes) = conversation(&["-c", "64", "-sys", "Be brief."], &"Who is Mr. Holmes?\n".repeat(8));
    assert_eq!(out.lines().count(), 8);
    assert!(notes.contains("forgotten"), "{notes}");
}

#[test]
fn timings_of_an_answer_do_not_repeat_the_load() {
    let (_, notes) = conversation(&["--show-timings"], "Hello\nHello\n");
    assert_eq!(notes.matches("tok/s").count(), 4);
    assert!(!notes.contains("load"), "{notes}");
}

#[test]
fn a_template_can_be_given() {
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let (own, _) = conversation(&["-st"], "Who is Mr. Holmes?\n");
    let (given, _) = conversation(&["-st", "--chat-template", plain], "Who is Mr. Holmes?\n");
    assert_ne!(own, given);
    let asset = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/books-22m.gguf");
    let output = piped(&["chat", "-m", asset, "--chat-template", plain, "-n", "3", "-st"], "The sea\n");
    assert!(output.status.success(), "{}", stderr(&output));
}
