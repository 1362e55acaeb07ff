//! A GGUF from anywhere: parsed, its configuration and vocabulary read, its tensors unpacked.
#![no_main]

use bitnet_model::{
    Checkpoint, Tokenizer,
    checkpoint::Options,
    weights::{FileBytes, Source, gguf::Gguf},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::parse("fuzz.gguf", FileBytes::from(bytes.to_vec())) else { return };
    let source = Source::Gguf(gguf);
    let _ = Tokenizer::of(&source);
    if let Ok(checkpoint) = Checkpoint::from_source(source, Options::default()) {
        let _ = checkpoint.check_tensors(&|_| {});
    }
});
