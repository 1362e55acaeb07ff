//! Flags, their environment twins, wrong usage, and signals.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{bitnet, command, stderr, stdout, succeeds, testdata, with_env, wrong_usage};

#[test]
fn wrong_usage_is_2_and_an_error_is_1() {
    assert!(wrong_usage(&["runn"]).contains("'run'"));
    assert!(wrong_usage(&["run", "-m", "x", "--tempp", "0"]).contains("--temp"));
    let output = bitnet(&["run", "-m", &testdata("README.md"), "-p", "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error:"));
}

#[test]
fn a_value_without_meaning_is_wrong_usage_that_names_the_flag() {
    let run = ["run", "-m", "x", "-p", "x"];
    let cases = [
        ("--threads", "-1"),
        ("--threads-batch", "1025"),
        ("--ctx-size", "-1"),
        ("--temp", "-1"),
        ("--temp", "nan"),
        ("--top-p", "2"),
        ("--top-k", "-2"),
        ("--min-p", "-1"),
        ("--repeat-penalty", "0"),
        ("--logit-bias", "abc"),
        ("--reverse-prompt", ""),
        ("--device", "gpu"),
        ("--log-probs", "100000"),
        ("--predict", "-2"),
        ("--repeat-last-n", "-2"),
        ("--batch-size", "0"),
        ("--head", "q3_k"),
        ("--lookup", "65"),
        ("--lookup", "-1"),
        ("--memory-report", "report.txt"),
        ("--memory-report", ".json"),
    ];
    for (flag, value) in cases {
        let message = wrong_usage(&[run.as_slice(), &[flag, value]].concat());
        assert!(message.contains(flag), "{message}");
    }
    assert!(wrong_usage(&["bench", "--synthetic", "nope"]).contains("2b-4t"));
    assert!(wrong_usage(&["bench", "--synthetic", "tiny", "-r", "0"]).contains("--repeat"));
    assert!(wrong_usage(&["perplexity", "-m", "x", "-f", "x", "-c", "1"]).contains("--ctx-size"));
    assert!(wrong_usage(&["logits", "-m", "x", "-o", "x", "--ids", "1,x"]).contains("--ids"));
}

#[test]
fn values_of_llama_cpp_that_mean_all_or_none_are_taken() {
    let model = testdata("bitnet-packed");
    let args = [
        "run",
        "-m",
        &model,
        "-p",
        "I",
        "-n",
        "2",
        "--top-k",
        "-1",
        "--repeat-last-n",
        "-1",
        "--temperature",
        "0",
    ];
    succeeds(&args);
}

#[test]
fn the_last_of_repeated_flags_wins() {
    let model = testdata("bitnet-packed");
    let once = succeeds(&["run", "-m", &model, "-p", "I", "-n", "3", "--temp", "0"]);
    let args = [
        "run", "-m", "x", "-m", &model, "-p", "x", "-p", "I", "-n", "9", "-n", "3", "--temp", "1", "--temp",
        "0",
    ];
    assert_eq!(succeeds(&args), once);
}

#[test]
fn escapes_are_read_where_they_are_asked_for() {
    let model = testdata("bitnet-packed");
    let run = ["run", "-m", &model, "-n", "1", "--echo", "-p", r"a\tb"];
    assert!(succeeds(&run).starts_with(r"a\tb"));
    assert!(succeeds(&[run.as_slice(), &["-e"]].concat()).starts_with("a\tb"));
}

#[test]
fn flags_of_llama_cpp_without_a_meaning_say_what_to_do() {
    let message = wrong_usage(&["run", "-m", "x", "-hf", "a/b"]);
    assert!(message.contains("'-hf'") && message.contains("bitnet pull"), "{message}");
    assert!(wrong_usage(&["run", "-m", "x", "-ub", "2"]).contains("--batch-size"));
    assert!(wrong_usage(&["run", "-m", "x", "-ctk", "f16", "-ctv", "q8_0"]).contains("agree"));
}

#[test]
fn a_missing_model_is_explained() {
    let message = wrong_usage(&["run", "-p", "x"]);
    assert!(message.contains("-m model.gguf") && message.contains("bitnet demo"), "{message}");
}

#[test]
fn options_without_a_command_name_the_command() {
    assert!(wrong_usage(&["-t", "2"]).contains("bitnet demo -t 2"));
    assert!(wrong_usage(&["-m", "x"]).contains("bitnet run -m x"));
}

#[test]
fn help_is_a_command() {
    assert!(succeeds(&["help", "bench"]).contains("--synthetic"));
    assert!(succeeds(&["--color", "on", "help"]).contains('\u{1b}'));
}

#[test]
fn without_a_command_the_twins_of_the_demo_count() {
    let bare = with_env(&[("BITNET_SEED", "5"), ("BITNET_PREDICT", "10")], &[]);
    assert_eq!(stdout(&bare), succeeds(&["demo", "-s", "5", "-n", "10"]));
    let unlimited = with_env(&[("BITNET_PREDICT", "x")], &["demo", "-n", "3"]);
    assert!(unlimited.status.success(), "{}", stderr(&unlimited));
}

#[test]
fn flags_win_over_twins_that_exclude_them() {
    let model = testdata("bitnet-packed");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, "I had").unwrap();
    let file = file.to_str().unwrap();
    let run = ["run", "-m", &model, "-n", "2", "--temp", "0", "--echo"];
    let output = with_env(&[("BITNET_PROMPT", "The sea")], &[run.as_slice(), &["-f", file]].concat());
    assert!(stdout(&output).starts_with("I had"), "{}", stderr(&output));
    let output = with_env(&[("BITNET_FILE", "none")], &[run.as_slice(), &["-p", "I had"]].concat());
    assert!(stdout(&output).starts_with("I had"), "{}", stderr(&output));
    let output = with_env(&[("BITNET_PROMPT", "I had"), ("BITNET_FILE", "none")], &run);
    assert!(stdout(&output).starts_with("I had"), "{}", stderr(&output));
    let bench = ["bench", "--synthetic", "tiny", "-p", "4", "-n", "0", "-r", "1"];
    assert!(with_env(&[("BITNET_MODEL", "none")], &bench).status.success());
    let bench = ["bench", "-m", &model, "-p", "4", "-n", "0", "-r", "1"];
    assert!(with_env(&[("BITNET_SYNTHETIC", "tiny")], &bench).status.success());
    let perplexity = ["perplexity", "-m", &model, "-f", file, "-c", "2"];
    assert!(with_env(&[("BITNET_IDS", "none.npy")], &perplexity).status.success());
    assert!(wrong_usage(&[run.as_slice(), &["-p", "x", "-f", file]].concat()).contains("--file"));
}

#[test]
fn switches_are_set_by_words_and_empty_variables_are_none() {
    let echoed = |value: &str| {
        let model = testdata("bitnet-packed");
        let output = with_env(
            &[("BITNET_ECHO", value), ("BITNET_TEMP", ""), ("BITNET_VERBOSE", "no")],
            &["run", "-m", &model, "-p", "I had", "-n", "1"],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).starts_with("I had")
    };
    assert!(["1", "true", "yes", "on"].into_iter().all(echoed));
    assert!(!["0", "false", "no", "off", ""].into_iter().any(echoed));
}

#[test]
fn a_wrong_twin_is_named() {
    let output = with_env(&[("BITNET_THREADS", "x")], &["demo", "-n", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("BITNET_THREADS"), "{}", stderr(&output));
    assert!(!wrong_usage(&["demo", "-t", "x"]).contains("BITNET_THREADS"));
}

#[test]
fn twins_of_lists_take_several_values() {
    let model = testdata("bitnet-packed");
    let run = ["run", "-m", &model, "-p", "I had called upon my friend", "-n", "20", "--temp", "0"];
    let output =
        with_env(&[("BITNET_REVERSE_PROMPT", "no,where\nSher"), ("BITNET_LOGIT_BIAS", "10+0.5,20-3")], &run);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stdout(&output).contains("Sher"));
}

#[test]
fn the_log_goes_to_a_file_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let output = bitnet(&["demo", "-n", "2", "--log-file", log.to_str().unwrap()]);
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(std::fs::read_to_string(log).unwrap().contains(" thread"));
    assert!(stderr(&bitnet(&["demo", "-n", "2", "-v"])).contains(" thread"));
}

#[cfg(target_os = "linux")]
#[test]
fn messages_that_cannot_be_written_end_nothing() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status =
        |args: &[&str]| command(args).stderr(full()).stdout(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status(&["demo", "-n", "2", "-v"]).code(), Some(0));
    assert_eq!(status(&["run", "-m", "none", "-p", "x"]).code(), Some(1));
    assert_eq!(status(&["runn"]).code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn text_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&["demo", "-n", "2"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("stdout: "), "{}", stderr(&output));
}

/// How a demo ends that gets a signal while it writes, and what it says.
#[cfg(unix)]
fn signalled(signal: &str) -> (std::process::ExitStatus, String) {
    use std::{io::Read, process::Stdio};
    let mut child =
        command(&["demo", "-n", "-1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // The prompt, and some of the story.
    out.read_exact(&mut [0; 100]).unwrap();
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    out.read_to_end(&mut Vec::new()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status, stderr(&output))
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_text_and_other_signals_the_program() {
    use std::os::unix::process::ExitStatusExt;
    let (status, said) = signalled("-INT");
    assert!(status.success() && said.contains("interrupted") && said.contains("tok/s"), "{said}");
    // Not a hang-up: whoever starts the tests may have asked for it to be ignored, and children inherit that.
    assert_eq!(signalled("-TERM").0.signal(), Some(15));
}
