//! Keys and values of past positions, in blocks that sequences own through block tables.

use crate::{batch::BLOCK_LEN, config::Config};
use bitnet_core::{
    Device, Result,
    ops::cache::{CacheType, KvShape},
};

/// The cache of one layer.
pub use bitnet_core::ops::cache::KvLayer;

/// The cache of a decoder: one [`KvLayer`] a layer, all with the same number of blocks.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<KvLayer>,
    blocks: usize,
}

impl KvCache {
    /// A cache of `blocks` blocks of [`BLOCK_LEN`] positions.
    ///
    /// # Errors
    /// Where the device has no memory left; the error says how much was wanted and is there.
    pub fn new(config: &Config, device: &Device, blocks: usize, storage: CacheType) -> Result<Self> {
        let shape = KvShape { heads: config.num_key_value_heads, head_dim: config.head_dim, storage };
        let layer = || KvLayer::new(device, blocks, shape);
        let layers = (0..config.num_hidden_layers).map(|_| layer()).collect::<Result<_>>()?;
        Ok(Self { layers, blocks })
    }

    /// Bytes of one block over all layers.
    pub fn block_bytes(config: &Config, storage: CacheType) -> usize {
        let shape = KvShape { heads: config.num_key_value_heads, head_dim: config.head_dim, storage };
        shape.block_bytes() * config.num_hidden_layers
    }

    /// Blocks that hold `positions` positions.
    pub fn blocks_for(positions: usize) -> usize {
        positions.div_ceil(BLOCK_LEN)
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Gives the system what lies behind some blocks, in ascending order, of all layers; what they hold is arbitrary afterwards, and they
    /// take memory again where they are written. Returns the bytes of the pages given, 0 where the blocks hold what they held.
    pub fn discard(&mut self, blocks: &[u32]) -> usize {
        let runs = blocks.chunk_by(|a, b| a + 1 == *b);
        let runs = runs.filter_map(|run| Some(*run.first()? as usize..*run.last()? as usize + 1));
        self.layers.iter_mut().map(|layer| runs.clone().map(|run| layer.discard(run)).sum::<usize>()).sum()
    }

    /// The cache of a layer.
    pub fn layer_mut(&mut self, layer: usize) -> &mut KvLayer {
        &mut self.layers[layer]
    }
}
