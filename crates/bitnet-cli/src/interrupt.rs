//! Ctrl-C: it ends the text that is being written; a second one, or one while nothing is written, ends the program.

use crate::dashboard;
use std::{
    process,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

static PRESSED: AtomicBool = AtomicBool::new(false);
static WRITING: AtomicBool = AtomicBool::new(false);
/// Whether a conversation would be lost if the program ended between two texts.
static CONVERSING: AtomicBool = AtomicBool::new(false);

/// A text is being written until this is dropped.
pub(crate) struct Writing(());

/// Begins a text.
pub(crate) fn writing() -> Writing {
    static WATCH: Once = Once::new();
    // Without a handler Ctrl-C ends the program, as it does by default.
    WATCH.call_once(|| drop(ctrlc::set_handler(press)));
    PRESSED.store(false, SeqCst);
    WRITING.store(true, SeqCst);
    Writing(())
}

/// Keeps the program when Ctrl-C comes between two texts.
pub(crate) fn conversing() {
    CONVERSING.store(true, SeqCst);
}

/// What Ctrl-C does, for those who read it as a key.
pub(crate) fn press() {
    let again = PRESSED.swap(true, SeqCst);
    if again || !(WRITING.load(SeqCst) || CONVERSING.load(SeqCst)) {
        dashboard::leave();
        process::exit(130);
    }
}

/// Whether the text is to end.
pub(crate) fn pressed() -> bool {
    PRESSED.load(SeqCst)
}

impl Writing {
    /// Whether the text is to end.
    pub(crate) fn interrupted(&self) -> bool {
        pressed()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.store(false, SeqCst);
        PRESSED.store(false, SeqCst);
    }
}
