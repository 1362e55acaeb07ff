//! Same input, same bits: logits do not depend on threads, instruction set, chunking, company or prefix reuse.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Device, cpu::kernels::Kernels, device::ThreadCounts, ops::cache::CacheType};
use bitnet_inference::{LanguageModel, local::LocalModel};
use bitnet_model::{
    Checkpoint,
    batch::{BLOCK_LEN, Batch, Logits},
    checkpoint::Options,
};
use std::path::PathBuf;

const VOCAB: u32 = 512;

fn model(device: &Device, storage: CacheType) -> LocalModel {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/bitnet-packed"));
    let decoder = Checkpoint::open(path, Options::default()).unwrap().decoder(device, &|_| {}).unwrap();
    LocalModel::new(decoder, 1024, storage).unwrap()
}

/// Tokens of a prompt; every prompt has its own.
fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 131 + seed * 977 + i * i * 7) % (VOCAB - 8)).collect()
}

fn blocks(first: u32, len: usize) -> Vec<u32> {
    (first..first + len.div_ceil(BLOCK_LEN) as u32).collect()
}

/// All logits of a prompt, computed in chunks over blocks from `first` on.
fn chunked(model: &mut LocalModel, tokens: &[u32], chunk: usize, first: u32) -> Vec<f32> {
    let mut logits = Vec::new();
    for (i, part) in tokens.chunks(chunk).enumerate() {
        let mut batch = Batch::default();
        batch.push(part, i * chunk, blocks(first, tokens.len()), Logits::All);
        model.forward(&batch, &mut logits).unwrap();
    }
    logits
}

fn assert_same(x: &[f32], y: &[f32], what: &str) {
    assert_eq!(x.len(), y.len(), "{what}");
    let differs = x.iter().zip(y).position(|(x, y)| x.to_bits() != y.to_bits());
    assert_eq!(differs, None, "{what}: the first different logit");
}

#[test]
fn logits_do_not_depend_on_how_they_are_computed() {
    let tokens = prompt(1, 150);
    for storage in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        let reference = Device::open("cpu/scalar", Some(1)).unwrap();
        let golden = chunked(&mut model(&reference, storage), &tokens, tokens.len(), 0);
        for tier in Kernels::available() {
            for (decode, batch) in [(1, 1), (2, 2), (1, 3), (3, 2)] {
                let threads = ThreadCounts { decode: Some(decode), batch: Some(batch) };
                let device = Device::open(&format!("cpu/{}", tier.name), threads).unwrap();
                let mut model = model(&device, storage);
                for chunk in [1, 7, 64, tokens.len()] {
                    let what = format!(
                        "{storage:?}, {}, {decode} and {batch} threads, chunks of {chunk}",
                        tier.name
                    );
                    assert_same(&chunked(&mut model, &tokens, chunk, 3), &golden, &what);
                }
            }
        }
    }
}

/// Attention shares pasts of more than 256 positions in chunks.
#[test]
fn logits_of_long_contexts_do_not_depend_on_how_they_are_computed() {
    let tokens = prompt(2, 700);
    for storage in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        let reference = Device::open("cpu/scalar", Some(1)).unwrap();
        let golden = chunked(&mut model(&reference, storage), &tokens, tokens.len(), 0);
        for tier in Kernels::available() {
            let device = Device::open(&format!("cpu/{}", tier.name), Some(3)).unwrap();
            let mut model = model(&device, storage);
            for chunk in [1, 97, tokens.len()] {
                let what = format!("{storage:?}, {}, chunks of {chunk}", tier.name);
                assert_same(&chunked(&mut model, &tokens, chunk, 5), &golden, &what);
            }
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_company_of_other_sequences() {
    let device = Device::open("auto", Some(2)).unwrap();
    let mut model = model(&device, CacheType::F16);
    let prompts: Vec<Vec<u32>> = (0..5).map(|i| prompt(i, 20 + 17 * i as usize)).collect();
    let alone: Vec<Vec<f32>> = prompts.iter().map(|p| chunked(&mut model, p, p.len(), 0)).collect();
    let mut batch = Batch::default();
    for (i, tokens) in prompts.iter().enumerate() {
        batch.push(tokens, 0, blocks(4 * i as u32, tokens.len()), Logits::All);
    }
    let mut together = Vec::new();
    model.forward(&batch, &mut together).unwrap();
    assert_same(&together, &alone.concat(), "a batch of 5");
}

#[test]
fn logits_do_not_depend_on_prefix_reuse() {
    let device = Device::open("auto", Some(2)).unwrap();
    let mut model = model(&device, CacheType::F16);
    let (first, mut second) = (prompt(1, 100), prompt(1, 64));
    second.extend(prompt(9, 40));
    let fresh = chunked(&mut model, &second, second.len(), 8);
    chunked(&mut model, &first, first.len(), 0);
    // The first two blocks hold the 64 tokens that both begin with.
    let mut batch = Batch::default();
    batch.push(&second[64..], 64, vec![0, 1, 20, 21], Logits::All);
    let mut reused = Vec::new();
    model.forward(&batch, &mut reused).unwrap();
    assert_same(&reused, &fresh[64 * VOCAB as usize..], "two blocks of another sequence");
}

#[test]
fn a_steady_decode_step_takes_nothing_from_the_system_and_leaves_nothing_to_the_fallback() {
    let device = Device::open("auto", Some(2)).unwrap();
    let mut model = model(&device, CacheType::F16);
    let mut step = |position: usize| {
        let mut batch = Batch::default();
        batch.push(&[7], position, blocks(0, 64), Logits::Last);
        let mut logits = Vec::new();
        model.forward(&batch, &mut logits).unwrap();
        (device.pool().stats().system_allocs, device.pool().stats().live)
    };
    let warm = (0..4).map(&mut step).last().unwrap();
    let steady = (4..64).map(&mut step).last().unwrap();
    assert_eq!(steady, warm);
    assert_eq!(device.fallbacks(), 0);
}
