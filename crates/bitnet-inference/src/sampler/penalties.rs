//! Changes to single logits: what was said before, and what the caller likes.

use super::SamplingParams;

/// Applies the repetition, frequency and presence penalties for the tokens at the end of `history`.
///
/// `l > 0 ? l / repeat : l * repeat`, then `- count * frequency - presence`, as in llama.cpp.
pub(super) fn apply(row: &mut [f32], history: &[u32], params: &SamplingParams, window: &mut Vec<u32>) {
    if !params.penalizes() {
        return;
    }
    window.clear();
    window.extend_from_slice(&history[history.len().saturating_sub(params.repeat_last_n)..]);
    window.sort_unstable();
    for seen in window.chunk_by(|a, b| a == b) {
        let logit = &mut row[seen[0] as usize];
        let repeated =
            if *logit > 0.0 { *logit / params.repeat_penalty } else { *logit * params.repeat_penalty };
        let penalty = seen.len() as f32 * params.frequency_penalty + params.presence_penalty;
        *logit = finite(finite(repeated) - finite(penalty));
    }
}

/// Adds the logit bias.
pub(super) fn bias(row: &mut [f32], params: &SamplingParams) {
    for (&token, &bias) in &params.logit_bias {
        let logit = &mut row[token as usize];
        *logit = if bias.is_finite() { finite(*logit + bias) } else { bias };
    }
}

/// Extreme but legal parameters overflow; the largest number then orders as the infinite one would.
fn finite(x: f32) -> f32 {
    x.clamp(f32::MIN, f32::MAX)
}
