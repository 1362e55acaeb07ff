//! Continues a text with a model: `cargo run --release -p bitnet-inference --example generate [MODEL] [PROMPT]`.

use bitnet_inference::{Engine, EngineOptions, Request, StopRules, generate, local};
use std::{io::Write, ops::ControlFlow, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../bitnet-cli/assets/books-22m.gguf");
    let model = args.next().map_or_else(|| PathBuf::from(default), PathBuf::from);
    let prompt = args.next().unwrap_or_else(|| "The old sailor looked at the sea and said".into());
    let loaded = local::open(&model, &local::LoadOptions::default(), &|_, _| {})?;
    let tokenizer = loaded.tokenizer;
    let mut engine = Engine::new(loaded.model, EngineOptions::default())?;
    let request = Request {
        tokens: tokenizer.encode(&prompt, true)?,
        stop: StopRules { eos: tokenizer.eos().to_vec(), ..StopRules::default() },
        max_tokens: Some(60),
        ..Request::default()
    };
    print!("{prompt}");
    let bytes = |id| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
    let generation = generate(&mut engine, request, bytes, |text| {
        print!("{text}");
        if std::io::stdout().flush().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    println!("\n{} tokens, ended by {}", generation.tokens.len(), generation.reason.as_str());
    Ok(())
}
