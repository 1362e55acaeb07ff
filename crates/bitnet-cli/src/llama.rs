//! Spellings of llama.cpp: short flags of several letters, which clap would read as clusters, and flags without a meaning here.

use crate::usage::last_value;
use std::ffi::OsString;

/// Short flags of several letters and their long names.
const LONG: [(&str, &str); 24] = [
    ("-sys", "--system-prompt"),
    ("-sysf", "--system-prompt-file"),
    ("-st", "--single-turn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-dev", "--device"),
    ("-tb", "--threads-batch"),
    ("-ub", "--ubatch-size"),
    ("-cnv", "--conversation"),
    ("-no-cnv", "--no-conversation"),
    ("-mli", "--multiline-input"),
    ("-hf", "--hf-repo"),
    ("-hfr", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-hft", "--hf-token"),
    ("-mu", "--model-url"),
    ("-ngl", "--n-gpu-layers"),
    ("-fa", "--flash-attn"),
    ("-lv", "--log-verbosity"),
    ("-bf", "--binary-file"),
    ("-nkvo", "--no-kv-offload"),
    ("-mmp", "--mmap"),
    ("-pg", "--pg"),
    ("-tbd", "--threads-batch-draft"),
];

/// Long flags that have no meaning here, and what to do instead.
const ADVICE: [(&str, &str); 28] = [
    ("ubatch-size", "there is one size of a batch: --batch-size N"),
    ("conversation", "`bitnet chat` converses, `bitnet run` continues a text"),
    ("no-conversation", "`bitnet run` continues a text, `bitnet chat` converses"),
    ("multiline-input", "begin and end a message with \"\"\" to give it several lines"),
    ("jinja", "leave it out: the template of the file is always used"),
    ("hf-repo", "download it first: `bitnet pull OWNER/NAME`, then -m OWNER/NAME"),
    ("hf-file", "download it first: `bitnet pull OWNER/NAME:FILE`"),
    ("hf-token", "downloads are a command of their own: `bitnet pull OWNER/NAME --token TOKEN`"),
    ("model-url", "download the file first, then give its path to -m"),
    ("n-gpu-layers", "leave it out: a model runs whole on one --device"),
    ("flash-attn", "leave it out: there is one kind of attention"),
    ("no-kv-offload", "leave it out: keys and values are where the model runs"),
    ("log-verbosity", "use -v, -vv or RUST_LOG"),
    ("log-disable", "leave it out: nothing is logged without -v, RUST_LOG or --log-file"),
    ("no-mmap", "use --load-mode none"),
    ("mmap", "use --load-mode mmap or none"),
    ("mlock", "memory cannot be locked; --load-mode none reads the file into memory"),
    ("keep", "`bitnet run` ends at the end of the context; `bitnet chat` always keeps the system prompt"),
    ("no-warmup", "leave it out: nothing runs before the prompt"),
    ("no-display-prompt", "leave it out: the prompt is only shown with --echo"),
    ("verbose-prompt", "use `bitnet tokenize`"),
    ("in-prefix", "the chat template frames messages"),
    ("samplers", "the order is fixed: penalties, logit bias, top-k, top-p, min-p, temperature"),
    ("grammar", "constrained output is not supported"),
    ("json-schema", "constrained output is not supported"),
    ("mirostat", "not supported; use --temp, --top-k, --top-p and --min-p"),
    ("numa", "not supported; `taskset` or `numactl` can place the program"),
    ("cpu-mask", "not supported; `taskset` can place the program"),
];

/// What to do instead of a long flag, named without its dashes.
pub(crate) fn advice(name: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(flag, _)| *flag == name).map(|(_, advice)| *advice)
}

/// The short flag that a long one was typed as.
pub(crate) fn short(long: &str, typed: &[OsString]) -> Option<&'static str> {
    let found = LONG.iter().find(|(short, name)| *name == long && typed.iter().any(|arg| arg == short));
    found.map(|(short, _)| *short)
}

/// Gives short flags of several letters their long names, up to `--`.
pub(crate) fn spelled_out(typed: &[OsString]) -> Vec<OsString> {
    let end = typed.iter().position(|arg| arg == "--").unwrap_or(typed.len());
    let (flags, rest) = typed.split_at(end);
    let long = |arg: &OsString| LONG.iter().find(|(short, _)| arg == short).map(|(_, long)| (*long).into());
    let flags = flags.iter().map(|arg| long(arg).unwrap_or_else(|| arg.clone()));
    flags.chain(rest.iter().cloned()).collect()
}

/// Keys and values are stored alike: the two types, where the last ones given differ.
pub(crate) fn different_cache_types(args: &[OsString]) -> Option<(String, String)> {
    let (k, v) = (last_value(args, "--cache-type-k")?, last_value(args, "--cache-type-v")?);
    (k != v).then_some((k, v))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_whole_flags_before_the_dashes_are_spelled_out() {
        let given = args("bitnet chat -sys hi -st -syst -- -st");
        let expected = args("bitnet chat --system-prompt hi --single-turn -syst -- -st");
        assert_eq!(spelled_out(&given), expected);
    }

    #[test]
    fn the_types_of_keys_and_values_have_to_agree() {
        let different = |text| different_cache_types(&spelled_out(&args(text)));
        assert_eq!(different("run -ctk f16 -ctv q8_0"), Some(("f16".into(), "q8_0".into())));
        assert_eq!(different("run -ctk f16 --cache-type-v=f16"), None);
        assert_eq!(different("run -ctk f16"), None);
    }
}
