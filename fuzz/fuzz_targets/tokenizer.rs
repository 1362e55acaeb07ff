//! A `tokenizer.json` from anywhere, and text through it.
#![no_main]

use bitnet_model::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(tokenizer) = Tokenizer::from_json(text, None) else { return };
    for text in ["", "Hello <s> world 123", "naïve 🦀\0\u{fdd0}"] {
        if let Ok(ids) = tokenizer.encode_with_control(text, true) {
            let _ = tokenizer.decode(&ids, true);
        }
    }
    let _ = tokenizer.to_gguf();
});
