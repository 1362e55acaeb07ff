//! The terminal while it shows the dashboard, and how it is given back.

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        style::force_color_output,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use std::{
    io::{self, Write},
    mem, panic,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

/// What draws on stderr.
pub(super) type Screen = Terminal<CrosstermBackend<Output>>;

/// Whether the dashboard has the terminal.
static SHOWN: Mutex<bool> = Mutex::new(false);

fn shown() -> MutexGuard<'static, bool> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the terminal.
pub(super) fn enter(color: bool) -> io::Result<Screen> {
    static HOOK: Once = Once::new();
    HOOK.call_once(leave_on_panic);
    force_color_output(color);
    enable_raw_mode()?;
    *shown() = true;
    let entered = execute!(io::stderr(), EnterAlternateScreen);
    let screen = entered.and_then(|()| Terminal::new(CrosstermBackend::new(Output::default())));
    screen.inspect_err(|_| leave())
}

/// As ratatui's own hook, which gives back stdout.
fn leave_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        leave();
        before(info);
    }));
}

/// Gives the terminal back, if the dashboard has it.
pub(crate) fn leave() {
    let mut shown = shown();
    if mem::take(&mut *shown) {
        // Where the terminal is gone there is nothing to give back.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// A drawing, which goes to stderr as a whole, and only while the dashboard has the terminal.
#[derive(Default)]
pub(super) struct Output(Vec<u8>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let drawing = mem::take(&mut self.0);
        let shown = shown();
        if *shown { io::stderr().write_all(&drawing) } else { Ok(()) }
    }
}
