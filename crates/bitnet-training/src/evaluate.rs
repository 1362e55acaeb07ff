//! How well a decoder predicts a corpus.

use crate::{Result, data::Corpus, parallel::Team};
use bitnet_core::ops;
use bitnet_model::{Decoder, Tokenizer};
use serde::{Deserialize, Serialize};

/// Mean loss over the windows of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Nats a token.
    pub nats: f64,
    /// Bits a byte of the text that the tokens stand for.
    pub bits_per_byte: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
}

/// Windows that are predicted at a time.
const TOGETHER: usize = 8;

/// Predicts windows that follow each other from the start, `limit` of them or all where it is 0. Every token of a window is predicted.
///
/// # Errors
/// Where a token is outside of the vocabulary or the device fails.
pub fn evaluate(
    decoder: &Decoder,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    (context, separate): (usize, Option<u32>),
    limit: usize,
    team: &Team,
) -> Result<Evaluation> {
    let all = corpus.window_count(context);
    let count = if limit > 0 { limit.min(all) } else { all };
    let starts: Vec<usize> = (0..count).map(|i| i * context).collect();
    let groups: Vec<&[usize]> = starts.chunks(TOGETHER).collect();
    let sums = team.map(&groups, |starts| {
        let windows = corpus.windows(starts, context, separate);
        let hidden = decoder.forward(&windows.batch, None)?;
        let losses = ops::cross_entropy(&decoder.logits(&windows.batch, &hidden)?, &windows.targets)?;
        let nats: f64 = losses.to_vec::<f32>()?.into_iter().map(f64::from).sum();
        let learnt = windows.targets.iter().filter_map(|&target| u32::try_from(target).ok());
        let bytes: usize = learnt.map(|id| bytes(tokenizer, id)).sum();
        Ok((nats, bytes as u64, windows.counted() as u64))
    })?;
    let (mut nats, mut bytes, mut tokens) = (0.0, 0, 0);
    for (n, b, t) in sums {
        (nats, bytes, tokens) = (nats + n, bytes + b, tokens + t);
    }
    Ok(Evaluation {
        nats: nats / tokens as f64,
        bits_per_byte: nats / std::f64::consts::LN_2 / bytes as f64,
        tokens,
    })
}

/// Bytes of text that a token stands for; none for one that controls.
fn bytes(tokenizer: &Tokenizer, id: u32) -> usize {
    if tokenizer.is_special(id) { 0 } else { tokenizer.token_bytes(id).map_or(0, <[u8]>::len) }
}
