//! How the head of a local model is held, and its screen, which is made between steps.

use crate::local::{OpenError, expect_room};
use bitnet_core::{
    Error,
    cpu::topology::Memory,
    memory::Owner,
    ops::{PartialScreen, Screen},
};
use bitnet_model::{Decoder, layers::Table};
use bitnet_quant::Format;
use std::time::{Duration, Instant};

/// How the head is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// As in the file; a large one is searched through a copy of half its size, or in integers if it is in Q6_K ([`Screen`]). What that needs
    /// is made while the first tokens are computed: the same tokens, and sooner from there on.
    #[default]
    Auto,
    /// As in the file.
    File,
    /// Rounded to 8 bits a weight when the model is opened: logits differ a little.
    Q8_0,
    /// Rounded to 6.6 bits a weight when the model is opened: logits differ a little.
    Q6K,
}

impl Head {
    /// The format that it is rounded to.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Auto | Self::File => None,
            Self::Q8_0 => Some(Format::Q8_0),
            Self::Q6K => Some(Format::Q6K),
        }
    }
}

/// Bytes of a head from which on searching it through a copy is worth it: less stays in the caches.
pub const SCREENED_BYTES: usize = 32 << 20;

/// Rounds the head where that is asked for. Returns what a person should know.
///
/// # Errors
/// Where its rows do not fit the format, a number is not finite, or memory runs out.
pub fn quantize(decoder: &mut Decoder, head: Head) -> Result<Option<String>, OpenError> {
    let Some(format) = head.format() else { return Ok(None) };
    let Table::Stored(stored) = decoder.head() else { return Ok(None) };
    let (from, rows, cols) = (stored.format(), stored.rows(), stored.cols());
    if from == format {
        return Ok(None);
    }
    let needed = format.tensor_bytes(rows, cols);
    let needed = needed.map_err(|_| OpenError::HeadShape { format, cols, multiple: format.block_len() })?;
    if needed >= stored.bytes() {
        let kept = format!("the head stays in {from}, which is smaller than {format}");
        return Ok(Some(kept));
    }
    expect_room(needed, false)?;
    let name = if decoder.lm_head.is_some() { "lm_head.weight" } else { "model.embed_tokens.weight" };
    decoder.quantize_head(format).map_err(|error| match error {
        Error::Quant(error) => OpenError::Model(bitnet_model::Error::Tensor { name: name.into(), error }),
        error => OpenError::Core(error),
    })?;
    Ok(Some(format!(
        "the head is rounded from {from} to {format}: scores differ a little from those of the file"
    )))
}

/// Takes the memory of a screen for a large head. Returns it, or why there is none although it would help.
pub(crate) fn begin_screen(decoder: &Decoder) -> Result<Option<PartialScreen>, String> {
    let Some(needed) = decoder.screen_bytes().filter(|_| decoder.head().bytes() >= SCREENED_BYTES) else {
        return Ok(None);
    };
    let missing =
        || format!("{} MiB for a copy of the head are not there; every token reads all of it", needed >> 20);
    // Twice, so that the KV cache has room as well.
    if Memory::detect().is_some_and(|memory| memory.available < 2 * needed) {
        return Err(missing());
    }
    let _owner = Owner::enter("screen");
    decoder.begin_screen().map_err(|_| missing())
}

/// Part of the time of a step that goes into the screen before the next.
const SHARE: f64 = 0.5;
/// The first piece of a screen is one of this many, to see how long it takes.
const PIECES: usize = 64;

/// A screen that is made a piece at a time between decode steps, which need it and pass without it.
#[derive(Debug)]
pub(crate) struct Screening {
    screen: PartialScreen,
    /// Time of the last step that would have read the screen.
    step: Option<Duration>,
    /// Rows a second of the last piece.
    pace: Option<f64>,
}

impl Screening {
    pub(crate) fn new(screen: PartialScreen) -> Self {
        Self { screen, step: None, pace: None }
    }

    /// Takes note of a step that would have read the screen.
    pub(crate) fn note(&mut self, step: Duration) {
        self.step = Some(step);
    }

    /// Makes the next piece, unless no step has yet wanted the screen. Returns whether there is more to do.
    pub(crate) fn advance(&mut self) -> bitnet_core::Result<bool> {
        let Some(step) = self.step else { return Ok(true) };
        let rows = match self.pace {
            Some(pace) => (pace * SHARE * step.as_secs_f64()) as usize,
            None => self.screen.rows() / PIECES,
        };
        let (begin, rows) = (Instant::now(), rows.max(1));
        self.screen.advance(rows)?;
        self.pace = Some(rows as f64 / begin.elapsed().as_secs_f64().max(1e-9));
        Ok(self.screen.missing() > 0)
    }

    /// Makes all that is missing.
    pub(crate) fn complete(&mut self) -> bitnet_core::Result<bool> {
        self.screen.advance(self.screen.missing()).map(|()| false)
    }

    /// The screen, of which no row is missing.
    pub(crate) fn finish(self) -> Screen {
        self.screen.finish()
    }
}
