//! What the tests of whole models share: fixtures, goldens, and a forward pass over one sequence.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses its own part")]

pub mod changed;

use bitnet_core::{Device, cpu::kernels::Kernels, ops::cache::CacheType};
use bitnet_model::{
    Checkpoint, Decoder,
    batch::{Batch, Logits},
    checkpoint::Options,
    kv::KvCache,
};
use safetensors::SafeTensors;
use std::path::PathBuf;

/// A path below `testdata/`.
pub fn testdata(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(path)
}

/// Devices of every tier that this CPU has.
pub fn devices() -> Vec<Device> {
    Kernels::available().map(|k| Device::open(&format!("cpu/{}", k.name), Some(2)).unwrap()).collect()
}

/// Loads a fixture.
pub fn load(path: &str, device: &Device) -> Decoder {
    load_with(path, Options::default(), device)
}

/// Loads a fixture in a way of its own.
pub fn load_with(path: &str, options: Options, device: &Device) -> Decoder {
    Checkpoint::open(testdata(path), options).unwrap().decoder(device, &|_| {}).unwrap()
}

/// Golden tensors of a file.
pub struct Goldens(Vec<u8>);

impl Goldens {
    pub fn open(path: &str) -> Self {
        Self(std::fs::read(testdata(path)).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().to_vec()
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).is_ok()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    pub fn codes(&self, name: &str) -> Vec<i8> {
        self.bytes(name).into_iter().map(|b| b as i8).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.bytes(name)
            .as_chunks()
            .0
            .iter()
            .map(|b| u32::try_from(i64::from_le_bytes(*b)).unwrap())
            .collect()
    }
}

/// One sequence in a cache of its own.
pub struct Sequence<'a> {
    decoder: &'a Decoder,
    cache: KvCache,
    blocks: Vec<u32>,
    len: usize,
}

impl<'a> Sequence<'a> {
    pub fn new(decoder: &'a Decoder, storage: CacheType) -> Self {
        let count = KvCache::blocks_for(decoder.config.max_position_embeddings);
        let cache = KvCache::new(&decoder.config, decoder.device(), count, storage).unwrap();
        // Backwards, so that a block is not where its number would suggest.
        Self { decoder, cache, blocks: (0..count as u32).rev().collect(), len: 0 }
    }

    /// Appends tokens and returns the logits `[T, V]` behind each of them.
    pub fn forward(&mut self, tokens: &[u32]) -> Vec<f32> {
        let mut batch = Batch::default();
        batch.push(tokens, self.len, self.blocks.clone(), Logits::All);
        let hidden = self.decoder.forward(&batch, Some(&mut self.cache)).unwrap();
        self.len += tokens.len();
        self.decoder.logits(&batch, &hidden).unwrap().to_vec::<f32>().unwrap()
    }

    /// Greedy continuation of a prompt.
    pub fn greedy(&mut self, prompt: &[u32], n: usize) -> Vec<u32> {
        let vocab = self.decoder.config.vocab_size;
        let mut logits = self.forward(prompt);
        let mut picked = Vec::new();
        while picked.len() < n {
            let last = &logits[logits.len() - vocab..];
            let best = (0..vocab).rev().max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as u32;
            picked.push(best);
            logits = self.forward(&[best]);
        }
        picked
    }
}
