//! A training run on the whole terminal, on stderr. A thread of its own draws it and reads keys, so that steps do not wait.

mod charts;
mod screen;
mod series;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use screen::leave;
pub(crate) use state::State;

use crate::interrupt;
use anyhow::{Context, Result};
use bitnet_training::progress::Event;
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyModifiers};
use screen::Screen;
use std::{
    io,
    sync::mpsc::{self, Receiver, Sender, TryRecvError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Time from one drawing to the next.
const FRAME: Duration = Duration::from_millis(100);

/// What the dashboard is told.
enum Fed {
    Event(Event),
    Said(String),
}

/// The dashboard while it is shown.
pub(crate) struct Dashboard {
    feed: Option<Sender<Fed>>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Takes the terminal and shows a run.
    ///
    /// # Errors
    /// Where the terminal cannot be drawn on, or does not give single keys.
    pub(crate) fn open(state: State, color: bool) -> Result<Self> {
        let screen = screen::enter(color).context("--dashboard cannot have this terminal; leave it out")?;
        let (feed, fed) = mpsc::channel();
        let show = move || {
            // A terminal that fails is given back; the run goes on without it.
            let _ = show(state, &fed, screen);
            leave();
        };
        let thread = thread::Builder::new().name("dashboard".into()).spawn(show);
        let thread = thread.inspect_err(|_| leave())?;
        Ok(Self { feed: Some(feed), thread: Some(thread) })
    }

    /// Shows the numbers of an event.
    pub(crate) fn event(&self, event: &Event) {
        self.feed(Fed::Event(event.clone()));
    }

    /// Shows a text, of one line or several.
    pub(crate) fn say(&self, text: &str) {
        self.feed(Fed::Said(text.to_owned()));
    }

    fn feed(&self, fed: Fed) {
        if let Some(feed) = &self.feed {
            // Nobody listens where the terminal failed.
            let _ = feed.send(fed);
        }
    }

    /// Gives the terminal back.
    pub(crate) fn close(&mut self) {
        self.feed = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was said by its hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.close();
    }
}

/// Draws until nothing more can come.
fn show(mut state: State, fed: &Receiver<Fed>, mut screen: Screen) -> io::Result<()> {
    let begin = Instant::now();
    while take(&mut state, fed) {
        state.elapsed = begin.elapsed();
        state.stopping = interrupt::pressed();
        screen.draw(|frame| view::draw(&state, frame))?;
        keys(begin.elapsed() + FRAME, begin)?;
    }
    Ok(())
}

/// Takes what has come; whether more can come.
fn take(state: &mut State, fed: &Receiver<Fed>) -> bool {
    loop {
        match fed.try_recv() {
            Ok(Fed::Event(event)) => state.event(&event),
            Ok(Fed::Said(text)) => state.say(&text),
            Err(end) => return end == TryRecvError::Empty,
        }
    }
}

/// Obeys keys until it is time to draw.
fn keys(until: Duration, begin: Instant) -> io::Result<()> {
    while event::poll(until.saturating_sub(begin.elapsed()))? {
        if let Some(key) = event::read()?.as_key_press_event() {
            obey(key);
        }
    }
    Ok(())
}

/// Ctrl-C is a key here and does what the signal does. A `q` that is held down only stops the run.
fn obey(key: KeyEvent) {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'C') if control => interrupt::press(),
        KeyCode::Char('q' | 'Q') if !interrupt::pressed() => interrupt::press(),
        _ => {}
    }
}
