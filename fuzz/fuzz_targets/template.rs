//! A chat template from anywhere, rendered with a short conversation.
#![no_main]

use bitnet_model::template::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let template = ChatTemplate::new(source, "<s>", "</s>");
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi <|end|>")];
    let _ = template.render(&messages, true);
});
