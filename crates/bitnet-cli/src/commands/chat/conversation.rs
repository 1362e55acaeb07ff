//! A conversation and how it goes on.

use super::{lines::Entry, settings};
use crate::{
    args::{SamplingArgs, StopArgs},
    session::{self, Session, read_text},
    twins,
    ui::Ui,
};
use anyhow::{Context, Result, bail, ensure};
use bitnet_inference::{FinishReason, Request};
use bitnet_model::{Tokenizer, template::Message};
use std::path::PathBuf;

const HELP: &str = "\
/help                   this list
/system [TEXT]          show the system prompt, or set it and begin anew; /system - takes it away
/set [NAME VALUE]       show what can be set, or change it
/regen                  answer the last message again
/save FILE, /load FILE  keep a conversation as JSON, and go on with one
/clear                  forget the conversation
/exit                   end (Ctrl-D does too)
A message in \"\"\" quotes, or with \\ at the end of its lines, may have several lines. One that begins with / is typed with //.
Ctrl-C ends an answer, or takes back what was typed.";

pub(super) struct Chat<'a> {
    pub(super) session: Session,
    /// Puts messages into the form that the model was trained on.
    pub(super) framing: Tokenizer,
    pub(super) messages: Vec<Message>,
    pub(super) sampling: SamplingArgs,
    pub(super) stop: StopArgs,
    /// Times that something was answered again: each takes the next seed.
    pub(super) retries: u64,
    pub(super) timings: bool,
    pub(super) ui: &'a Ui,
}

/// What became of an entry.
pub(super) enum Next {
    Answered,
    Done,
    End,
}

impl Chat<'_> {
    pub(super) fn take(&mut self, entry: Entry) -> Result<Next> {
        let command = match entry {
            Entry::Message(text) if text.trim().is_empty() => return Ok(Next::Done),
            Entry::Message(text) => {
                self.say(&text)?;
                return Ok(Next::Answered);
            }
            Entry::Command(command) => command,
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((&command, ""));
        let rest = rest.trim();
        match name {
            "exit" | "quit" | "bye" => return Ok(Next::End),
            "help" | "?" => self.ui.line(HELP),
            "clear" => self.clear(),
            "system" => self.system(rest),
            "set" => self.set(rest)?,
            "regen" => self.regenerate()?,
            "save" => self.save(rest)?,
            "load" => self.load(rest)?,
            _ => bail!(
                "/{name}: no such command; /help lists them, a message that begins with / is typed as //{name}"
            ),
        }
        Ok(Next::Done)
    }

    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        self.messages.push(Message::new("user", text));
        let answered = self.answer();
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    fn regenerate(&mut self) -> Result<()> {
        let last = self.messages.pop_if(|m| m.role == "assistant");
        ensure!(self.messages.last().is_some_and(|m| m.role == "user"), "nothing to answer yet");
        self.retries += 1;
        let answered = self.answer();
        if answered.is_err() {
            self.messages.extend(last);
        }
        answered
    }

    fn answer(&mut self) -> Result<()> {
        let tokens = self.prompt()?;
        let mut params = self.sampling.params();
        params.seed = params.seed.wrapping_add(self.retries);
        let stop = self.stop.rules(self.session.tokenizer.eos());
        let request = Request { tokens, params, stop, max_tokens: self.stop.limit(), ..Request::default() };
        let generation = self.session.stream(request, false)?;
        outln!()?;
        if generation.reason == FinishReason::Length {
            self.session.explain_end(&generation, self.stop.limit(), self.ui);
        }
        if self.timings {
            self.ui.figures(session::rates(&generation));
        }
        self.messages.push(Message::new("assistant", generation.text.trim()));
        Ok(())
    }

    /// The conversation as tokens, without its oldest turns where they leave no room for an answer.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let room = self.session.engine.room();
        let answer = self.stop.limit().unwrap_or(room).min(room / 4);
        let mut kept = self.messages.clone();
        let mut tokens = self.framing.encode_chat(&kept, true)?;
        while tokens.len() + answer > room && forget_oldest(&mut kept) {
            tokens = self.framing.encode_chat(&kept, true)?;
        }
        let forgotten = self.messages.len() - kept.len();
        if forgotten > 0 && tokens.len() < room {
            self.ui.note(format!("the context is full; the oldest {forgotten} messages are forgotten"));
            self.messages = kept;
        }
        Ok(tokens)
    }

    fn clear(&mut self) {
        self.messages.retain(|m| m.role == "system");
        self.ui.note("the conversation is forgotten");
    }

    fn system(&mut self, text: &str) {
        match text {
            "" => match self.messages.first().filter(|m| m.role == "system") {
                Some(message) => self.ui.note(format!("the system prompt is: {}", message.content)),
                None => self.ui.note("there is no system prompt"),
            },
            "-" => {
                self.messages.clear();
                self.ui.note("the system prompt is gone; the conversation begins anew");
            }
            text => {
                self.messages = vec![Message::new("system", text)];
                self.ui.note("the system prompt is set; the conversation begins anew");
            }
        }
    }

    fn set(&mut self, rest: &str) -> Result<()> {
        let name = match rest.split_once(char::is_whitespace) {
            Some((name, value)) => {
                settings::set(&mut self.sampling, &mut self.stop, name, value.trim())?;
                name.trim_start_matches('-')
            }
            None => rest,
        };
        let values = settings::values(&self.sampling, &self.stop);
        let shown: Vec<_> = values.iter().filter(|(known, _)| name.is_empty() || *known == name).collect();
        ensure!(!shown.is_empty(), "{}", settings::unknown(name));
        shown.iter().for_each(|(name, value)| self.ui.line(&format!("{name:<18} {value}")));
        Ok(())
    }

    fn save(&self, path: &str) -> Result<()> {
        ensure!(!path.is_empty(), "expected /save FILE");
        let path = expanded(path);
        let text = serde_json::to_string_pretty(&self.messages)?;
        bitnet_core::interchange::atomic::atomic_write(&path, |file| file.write(text.as_bytes()))?;
        self.ui.note(format!("{} messages saved to {}", self.messages.len(), path.display()));
        Ok(())
    }

    fn load(&mut self, path: &str) -> Result<()> {
        ensure!(!path.is_empty(), "expected /load FILE");
        let path = expanded(path);
        let text = read_text(&path)?;
        let wrong = || {
            format!("{}: expected a list of messages with role and content, as /save writes", path.display())
        };
        self.messages = serde_json::from_str(&text).with_context(wrong)?;
        self.ui.note(format!("{} messages loaded from {}", self.messages.len(), path.display()));
        Ok(())
    }
}

/// Drops the oldest message of the user and its answer, if it is not the last.
fn forget_oldest(messages: &mut Vec<Message>) -> bool {
    let begin = messages.iter().position(|m| m.role != "system").unwrap_or(messages.len());
    let next = messages.iter().skip(begin + 1).position(|m| m.role == "user");
    next.is_some_and(|after| messages.drain(begin..=begin + after).count() > 0)
}

/// A path in which `~` stands for the user's folder.
fn expanded(path: &str) -> PathBuf {
    match path.strip_prefix("~/").zip(twins::home()) {
        Some((rest, home)) => home.join(rest),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_turn_is_forgotten_and_the_last_message_is_not() {
        let roles = ["system", "user", "assistant", "user"];
        let mut messages: Vec<_> = roles.iter().map(|role| Message::new(*role, *role)).collect();
        assert!(forget_oldest(&mut messages));
        assert_eq!(messages.iter().map(|m| m.role.as_str()).collect::<Vec<_>>(), ["system", "user"]);
        assert!(!forget_oldest(&mut messages));
    }
}
