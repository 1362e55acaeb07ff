//! Chat templates: Jinja from a file that nobody trusts, in a sandbox without files, network, clock or endless loops.

mod json;
mod source;

use self::{
    json::to_json,
    source::{HELD, adapted, no_cycle},
};
use minijinja::{
    Environment, ErrorKind, State, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Serde,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Longest template; real ones have up to 20 KB, and reading one can take time that grows with the square of its length.
const MAX_SOURCE: usize = 64 << 10;
/// Longest text that a template may write.
const MAX_OUTPUT: usize = 64 << 20;
/// Instructions that a template may run; real ones take a few hundred a message.
const FUEL: u64 = 2_000_000;
/// Depth of nested calls.
const DEPTH: usize = 100;
/// Depth of values that become JSON or that a namespace holds.
const VALUE_DEPTH: usize = 100;
/// Stack of the thread that a template runs on. The interpreter shows, compares and drops nested values by recursion, and
/// [`FUEL`] pays for a million levels. Only what is touched takes memory.
const STACK: usize = 1 << 30;
/// Time for a template. The interpreter asks no fuel for hashing a value, which can be small in memory and endless as a tree; the
/// thread that does it is left alone.
const DEADLINE: Duration = Duration::from_secs(10);

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Why a template was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is too long.
    #[error("a chat template of {bytes} bytes; the limit is {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not Jinja.
    #[error("the chat template is not valid: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// It refuses these messages by `raise_exception`.
    #[error("the chat template refuses these messages: {reason}")]
    Raised {
        /// Its own words.
        reason: String,
    },
    /// It runs too long, nests too deep or writes too much.
    #[error("the chat template does not come to an end within {limit}")]
    Endless {
        /// What was exceeded.
        limit: &'static str,
    },
    /// Anything else.
    #[error("the chat template fails: {reason}")]
    Failed {
        /// What the interpreter says.
        reason: String,
    },
}

/// A chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";
/// Begins the message of an error that the template raised itself.
const RAISED: &str = "\u{1}raised\u{1}";
const TOO_DEEP: &str = "a value that is nested too deep";

impl ChatTemplate {
    /// A template, which is compiled when it renders: a model with a broken one still continues text. The texts of the first
    /// and last token are what it knows as `bos_token` and `eos_token`.
    pub fn new(source: &str, bos: &str, eos: &str) -> Self {
        Self { source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() }
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation, ending with what begins an answer if that is asked for.
    ///
    /// # Errors
    /// Where the template is too long or not Jinja, refuses, fails or does not come to an end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        if self.source.len() > MAX_SOURCE {
            return Err(Error::TooLong { bytes: self.source.len(), limit: MAX_SOURCE });
        }
        let (template, messages) = (self.clone(), messages.to_vec());
        let (send, receive) = mpsc::sync_channel(1);
        let work = move || {
            // Nobody listens any more behind the deadline.
            let _ = send.send(template.render_here(&messages, add_generation_prompt));
        };
        let thread = thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        thread.spawn(work).map_err(|e| Error::Failed { reason: format!("no thread to run it on: {e}") })?;
        receive.recv_timeout(DEADLINE).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(Error::Endless { limit: "10 seconds" }),
            RecvTimeoutError::Disconnected => {
                Err(Error::Failed { reason: "the interpreter panicked".to_owned() })
            }
        })
    }

    fn render_here(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let environment = environment(&self.source)?;
        let context = minijinja::context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => add_generation_prompt,
            bos_token => &self.bos,
            eos_token => &self.eos,
        };
        let template = environment.get_template(NAME).map_err(failure)?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(context, &mut out).map_err(failure)?;
        String::from_utf8(out.0).map_err(|e| Error::Failed { reason: e.to_string() })
    }
}

/// The sandbox, with a template in it.
fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let invalid = |e: minijinja::Error| Error::Syntax { reason: e.to_string() };
    let mut environment = Environment::new();
    // As transformers renders them.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let syntax = syntax.map_err(invalid)?;
    environment.set_syntax(syntax.clone());
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{reason}")))
    });
    environment.add_filter("tojson", to_json);
    let namespace =
        environment.compile_expression("namespace()").and_then(|e| e.eval(())).map_err(invalid)?;
    environment.add_filter(HELD, move |state: &State<'_, '_>, value: Value| {
        no_cycle(state, &value, &namespace, 0).map(|()| value)
    });
    environment.add_template_owned(NAME, adapted(source, syntax).map_err(invalid)?).map_err(invalid)?;
    Ok(environment)
}

fn failure(error: minijinja::Error) -> Error {
    let text = error.detail().unwrap_or_default();
    if let Some(reason) = text.strip_prefix(RAISED) {
        return Error::Raised { reason: reason.to_owned() };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Error::Endless { limit: "2 million steps" },
        ErrorKind::WriteFailure => Error::Endless { limit: "64 MiB of text" },
        _ if text == TOO_DEEP => Error::Endless { limit: "100 nested values" },
        _ if text.contains("recursion limit") => Error::Endless { limit: "100 nested calls" },
        _ => Error::Failed { reason: error.to_string() },
    }
}

/// A writer that stops at [`MAX_OUTPUT`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too much text"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        ChatTemplate::new(source, "<s>", "</s>").render(&[Message::new("user", "hi <b>")], true)
    }

    #[test]
    fn blocks_leave_no_blank_lines() {
        let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\n{{ m['content'] }}\n    {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source).unwrap(), "hi <b>\n");
    }

    #[test]
    fn methods_of_python_strings_work() {
        assert_eq!(render("{{ ' a b '.strip().split(' ')[1].upper() }}").unwrap(), "B");
    }

    #[test]
    fn json_is_written_as_python_does() {
        assert_eq!(render("{{ messages | tojson }}").unwrap(), r#"[{"role": "user", "content": "hi <b>"}]"#);
        assert_eq!(render("{{ {'a': [1]} | tojson(indent=2) }}").unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
    }

    #[test]
    fn a_raised_exception_is_an_error_in_its_own_words() {
        let error = render("{{ raise_exception('Roles must alternate') }}").unwrap_err();
        assert!(matches!(&error, Error::Raised { reason } if reason == "Roles must alternate"), "{error}");
    }

    #[test]
    fn an_endless_loop_runs_out_of_fuel() {
        let source = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}";
        assert!(matches!(render(source), Err(Error::Endless { .. })));
    }

    #[test]
    fn a_huge_range_is_refused() {
        assert!(render("{% for i in range(10**9) %}{% endfor %}").is_err());
    }

    #[test]
    fn deep_recursion_is_stopped() {
        assert!(render("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}").is_err());
    }

    #[test]
    fn too_much_output_is_stopped() {
        let source = "{% set x = 'aaaaaaaaaaaaaaaa' * 65536 %}{% for i in range(1000) %}{{ x }}{% endfor %}";
        assert!(matches!(render(source), Err(Error::Endless { .. } | Error::Failed { .. })));
    }

    #[test]
    fn the_inside_of_objects_cannot_be_reached() {
        assert_eq!(render("{{ messages.__class__ }}").unwrap(), "");
        assert!(render("{{ messages.__class__.__mro__ }}").is_err());
        assert!(render("{% include '/etc/passwd' %}").is_err());
    }

    #[test]
    fn a_template_that_is_not_jinja_is_refused() {
        assert!(matches!(render("{% for %}"), Err(Error::Syntax { .. })));
    }

    #[test]
    fn a_namespace_cannot_hold_itself() {
        let assignments = [
            "set ns.a = ns",
            "set ns.a=ns -%",
            "set b, ns.a = 1, ns",
            "set (ns.a) = [1, {'k': [ns]}]",
            "set ns.a = ns if true else '%}'",
            "set ns.a | default(ns, true) %}{% endset",
            "set c = namespace(a=ns) %}{% set ns.a = c",
            "set ns.a = range(1)|map('default', ns)|list + [ns]",
        ];
        for assignment in assignments {
            let assignment = assignment.trim_end_matches('%');
            for then in
                ["{{ ns }}", "{{ ns ~ '' }}", "{{ [ns]|join }}", "{{ ns|string }}", "{{ ns == ns.a }}"]
            {
                let result = render(&format!("{{% set ns = namespace() %}}{{% {assignment}%}}{then}"));
                let error = result.expect_err(assignment).to_string();
                assert!(error.contains("a namespace inside a namespace"), "{assignment}: {error}");
            }
        }
    }

    #[test]
    fn namespaces_hold_everything_else() {
        let source = concat!(
            "{% set ns = namespace(n=1, l=[]) %}{% for m in messages * 3 -%} {% set ns.l = ns.l + [m] %}",
            "{%- set ns.n = ns.n + 1 if m.role == 'user' else 0 -%} {% endfor %}{% set ns.t %}t{{ ns.n }}{% endset %}",
            "{% set x, ns.p = 1, (2, '%}') %}{% set ns.u | upper %}u{% endset %}{{ ns }}"
        );
        let m = "{'role': 'user', 'content': 'hi <b>'}";
        assert_eq!(
            render(source).unwrap(),
            format!("{{'l': [{m}, {m}, {m}], 'n': 4, 'p': (2, '%}}'), 't': 't4', 'u': 'U'}}")
        );
        assert!(matches!(render("{% set ns = namespace() %}{% set ns.a = %}"), Err(Error::Syntax { .. })));
    }

    /// A loop around `ns.x = …`, and something done with the value.
    fn nested(times: usize, nest: &str, then: &str) -> Result<String, Error> {
        let body = format!("{{% set ns.x = {nest} %}}");
        let source = format!(
            "{{% set ns = namespace(x=1) %}}{{% for i in range({times}) %}}{body}{{% endfor %}}{then}"
        );
        render(&source)
    }

    #[test]
    fn values_that_are_nested_deeply_are_no_stack_overflow() {
        let deepest = format!("{}ns.x{}", "[".repeat(100), "]".repeat(100));
        for nest in ["[ns.x]", "{'a': ns.x}", &deepest] {
            for then in ["", "{{ ns.x|tojson }}", "{{ ns.x }}", "{{ ns.x == [ns.x] }}", "{{ {ns.x: 1} }}"] {
                // Most run out of fuel; that none ends the process is what counts.
                let _ = nested(90_000, nest, then);
            }
        }
    }

    /// What is done with a value of 2^60 leaves.
    fn doubled(then: &str) -> Result<String, Error> {
        render(&format!("{{% set x = 1 %}}{}{then}", "{% set x = [x, x] %}".repeat(60)))
    }

    #[test]
    fn a_value_that_is_small_in_memory_and_huge_as_json_is_stopped() {
        assert!(matches!(doubled("{{ x|tojson }}"), Err(Error::Endless { .. })));
    }

    #[test]
    fn a_value_that_takes_for_ever_to_hash_is_given_up() {
        let result = doubled("{{ {x: 1}['a'] }}");
        assert!(matches!(result, Err(Error::Endless { limit: "10 seconds" })), "{result:?}");
    }

    #[test]
    fn long_chains_of_operators_are_no_stack_overflow() {
        let operators = MAX_SOURCE / 2 - 10;
        assert_eq!(
            render(&format!("{{{{ 1{} }}}}", "+1".repeat(operators))).unwrap(),
            (operators + 1).to_string()
        );
        for more in [".a", "|a"] {
            assert!(render(&format!("{{{{ x{} }}}}", more.repeat(operators))).is_err(), "{more}");
        }
    }

    #[test]
    fn a_long_conversation_renders() {
        let source = concat!(
            "{{ bos_token }}{%- for message in messages %}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}",
            "{{- raise_exception('Roles must alternate') }}{%- endif %}{%- set content = '<|start|>' + message['role'] + '<|end|>\n\n' ",
            "+ message['content'] | trim + '<|eot|>' %}{%- if loop.first and message['content'] is string %}{{- content }}",
            "{%- else %}{{- content }}{%- endif %}{%- endfor %}{{ messages | tojson }}"
        );
        let turn = |i: usize| {
            Message::new(if i.is_multiple_of(2) { "user" } else { "assistant" }, "word ".repeat(400))
        };
        let messages: Vec<Message> = (0..1000).map(turn).collect();
        let text = ChatTemplate::new(source, "<s>", "</s>").render(&messages, true).unwrap();
        assert!(text.len() > 2 * 1000 * 2000);
    }

    #[test]
    fn generation_blocks_do_nothing() {
        assert_eq!(render("{% raw %}{% generation %}{% endraw %}").unwrap(), "{% generation %}");
        let source = "{% for m in messages %}{%- generation -%} {{ m.role }} {%- endgeneration %}{% endfor %}{% generation %}\nx{% endgeneration %}";
        assert_eq!(render(source).unwrap(), "userx");
        assert!(matches!(render("{% generations %}{% endgenerations %}"), Err(Error::Syntax { .. })));
    }
}
