//! The seam between the engine and whatever computes logits.

use crate::pace::STEP_COST;
use bitnet_model::batch::Batch;

/// A decoder with a paged KV cache.
///
/// The engine owns the block tables: it never lets two live sequences write to the same block, writes
/// positions in order, and shares a block only when it is full. Rows must depend on the tokens before them
/// alone, bit for bit.
pub trait LanguageModel {
    /// Length of a row of logits.
    fn vocab_size(&self) -> usize;

    /// Positions that a sequence may have.
    fn context_length(&self) -> usize;

    /// Capacity of the KV cache in blocks of [`BLOCK_LEN`](bitnet_model::batch::BLOCK_LEN) positions; block
    /// ids are below it. Constant over the life of the model.
    fn kv_blocks(&self) -> usize;

    /// Bytes of a block of the KV cache; 0 where that is not known.
    fn block_bytes(&self) -> usize {
        0
    }

    /// What a step costs however few tokens it computes, in the cost of a token: `tokens + step_cost` is then the time of a
    /// step. The larger it is, the more a guess may be wrong and still be worth computing.
    fn step_cost(&self) -> f32 {
        STEP_COST
    }

    /// Gives the system the memory behind some blocks of the KV cache, in ascending order, none of which is read again before it is written.
    /// Returns the bytes given; 0 where there are none, and then every block holds what it held.
    fn discard(&mut self, _blocks: &[u32]) -> usize {
        0
    }

    /// Runs `batch`, and appends one row of `vocab_size` logits for every position asked for, in span order. Those that do not matter
    /// ([`Span::largest`](bitnet_model::batch::Span::largest)) may be `f32::MIN`.
    ///
    /// # Errors
    /// Whatever the device reports. The engine repeats the batch at the next step.
    fn forward(
        &mut self,
        batch: &Batch,
        logits: &mut Vec<f32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

impl<M: LanguageModel + ?Sized> LanguageModel for Box<M> {
    fn vocab_size(&self) -> usize {
        (**self).vocab_size()
    }

    fn context_length(&self) -> usize {
        (**self).context_length()
    }

    fn kv_blocks(&self) -> usize {
        (**self).kv_blocks()
    }

    fn block_bytes(&self) -> usize {
        (**self).block_bytes()
    }

    fn step_cost(&self) -> f32 {
        (**self).step_cost()
    }

    fn discard(&mut self, blocks: &[u32]) -> usize {
        (**self).discard(blocks)
    }

    fn forward(
        &mut self,
        batch: &Batch,
        logits: &mut Vec<f32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        (**self).forward(batch, logits)
    }
}
