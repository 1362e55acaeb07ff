//! Chat templates: Jinja from a file that nobody trusts, in a sandbox without files, network, clock or endless loops.

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Serde};
use serde::{Deserialize, Serialize};
use std::io;

/// Longest template.
const MAX_SOURCE: usize = 1 << 20;
/// Longest text that a template may write.
const MAX_OUTPUT: usize = 64 << 20;
/// Instructions that a template may run; real ones take a few hundred a message.
const FUEL: u64 = 20_000_000;
/// Depth of nested calls.
const DEPTH: usize = 100;

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
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";
/// Begins the message of an error that the template raised itself.
const RAISED: &str = "\u{1}raised\u{1}";

impl ChatTemplate {
    /// Compiles a template; the texts of the first and last token are what it knows as `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// Where it is too long or not Jinja.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE {
            return Err(Error::TooLong { bytes: source.len(), limit: MAX_SOURCE });
        }
        let mut environment = Environment::new();
        // As transformers renders them.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| Error::Syntax { reason: e.to_string() })?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{reason}")))
        });
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|e| Error::Syntax { reason: e.to_string() })?;
        Ok(Self { environment, source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation, ending with what begins an answer if that is asked for.
    ///
    /// # Errors
    /// Where the template refuses, fails or does not come to an end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let context = minijinja::context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => add_generation_prompt,
            bos_token => &self.bos,
            eos_token => &self.eos,
        };
        let template = self.environment.get_template(NAME).map_err(failure)?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(context, &mut out).map_err(failure)?;
        String::from_utf8(out.0).map_err(|e| Error::Failed { reason: e.to_string() })
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ChatTemplate").field(&self.source).finish()
    }
}

/// JSON as Python writes it: spaces after commas and colons, nothing escaped for HTML.
fn to_json(value: Value, options: minijinja::value::Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let wrong = |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let value = serde_json::to_value(&value).map_err(wrong)?;
    let mut text = String::new();
    write_json(&value, indent.map(|n| n.min(16)), 0, &mut text);
    Ok(text)
}

fn write_json(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        serde_json::Value::Array(list) if !list.is_empty() => {
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, out);
                write_json(value, indent, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        serde_json::Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (i, (key, value)) in map.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, out);
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write_json(value, indent, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn failure(error: minijinja::Error) -> Error {
    let text = error.detail().unwrap_or_default();
    if let Some(reason) = text.strip_prefix(RAISED) {
        return Error::Raised { reason: reason.to_owned() };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Error::Endless { limit: "20 million steps" },
        ErrorKind::WriteFailure => Error::Endless { limit: "64 MiB of text" },
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
        ChatTemplate::new(source, "<s>", "</s>")?.render(&[Message::new("user", "hi <b>")], true)
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
}
