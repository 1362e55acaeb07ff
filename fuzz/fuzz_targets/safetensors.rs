//! The header of a safetensors file, and the index of a folder of shards.
#![no_main]

use bitnet_model::weights::safetensors::{parse_header, parse_index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_header(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_index(text);
    }
});
