//! How well a model predicts a text.

use crate::{
    args::{Cache, Head, ModelArgs},
    markdown::table,
    npy,
    session::{Session, read_text},
    ui::Ui,
    values,
};
use anyhow::{Result, bail, ensure};
use bitnet_inference::{
    EngineOptions, head,
    local::LoadOptions,
    perplexity::{self, Nll, Protocol},
};
use bitnet_model::{
    decoder::Layer,
    sparsity::{Counts, Sparsity, TILES},
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode};

/// Which positions are scored.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scored {
    /// Every position of every window.
    Full,
    /// The second half of every window, as llama-perplexity does, so that published figures compare.
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

/// Measure how well a model predicts a text.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bitnet perplexity -m model.gguf -f wiki.test.raw -c 512 --protocol llama.cpp\n  \
    bitnet perplexity -m folder --ids valid_ids.npy -c 512 --json\n  \
    bitnet perplexity -m model.gguf -f text.txt --head q6_k"
)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to predict; - for stdin.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "BITNET_FILE",
        conflicts_with = "ids",
        required_unless_present = "ids"
    )]
    file: Option<PathBuf>,
    /// Token ids to predict, a .npy file.
    #[arg(long, value_name = "FILE.npy", env = "BITNET_IDS")]
    ids: Option<PathBuf>,
    /// Tokens of a window.
    #[arg(short, long, default_value_t = 512, value_name = "N", env = "BITNET_CTX_SIZE", value_parser = values::from(2))]
    ctx_size: usize,
    /// Most windows; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N", env = "BITNET_CHUNKS", value_parser = values::from(0))]
    chunks: usize,
    /// Which positions are scored.
    #[arg(long, default_value = "full", env = "BITNET_PROTOCOL")]
    protocol: Scored,
    /// How keys and values are stored.
    #[arg(long, aliases = ["cache-type-k", "cache-type-v"], default_value = "f32", env = "BITNET_CACHE_TYPE")]
    cache_type: Cache,
    /// How the head is held: in the file's format, or rounded when the model is opened, to see what that costs.
    #[arg(long, default_value = "file", env = "BITNET_HEAD")]
    head: Head,
    /// Also count the zeros among the int8 codes that down projections take, by layer and in tiles of tokens x codes.
    #[arg(long, env = "BITNET_SPARSITY")]
    sparsity: bool,
    /// Write one JSON object.
    #[arg(long, env = "BITNET_JSON")]
    json: bool,
}

pub(crate) fn run(args: &PerplexityArgs, ui: &Ui) -> Result<ExitCode> {
    let options = LoadOptions {
        // Every logit counts, so that there is nothing to search.
        head: if args.head == Head::Auto { head::Head::File } else { args.head.into() },
        ..args.model.options(args.ctx_size, args.cache_type, ui)
    };
    let session = Session::open(&args.model.model, &options, EngineOptions::default(), ui)?;
    let (tokenizer, mut model) = (session.tokenizer, session.engine.into_model());
    let tokens = match (&args.ids, &args.file) {
        (Some(ids), _) => npy::read_ids(ids)?,
        (None, Some(file)) => tokenizer.encode(&read_text(file)?, true)?,
        (None, None) => bail!("expected a text (-f) or token ids (--ids)"),
    };
    let vocab = model.config().vocab_size;
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocab) {
        bail!("token {id} is outside of the model's vocabulary of {vocab}");
    }
    if args.sparsity {
        let takes = |layer: &Layer| layer.mlp.down.takes_codes();
        ensure!(
            model.decoder().layers.iter().any(takes),
            "the down projections of this model take floats, not codes"
        );
        model.count_zeros();
    }
    let protocol = match args.protocol {
        Scored::Full => Protocol::Full,
        Scored::LlamaCpp => Protocol::LlamaCpp,
    };
    let all = perplexity::windows(tokens.len(), args.ctx_size, protocol);
    ensure!(
        all > 0,
        "{} tokens are less than one window of {}; use a smaller -c",
        tokens.len(),
        args.ctx_size
    );
    let count = if args.chunks > 0 { args.chunks.min(all) } else { all };
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let bar = ui.progress("windows", count as u64, false);
    let mut nll = Nll::default();
    for window in 0..count {
        let scored = perplexity::score(&mut model, &tokens, window, args.ctx_size, protocol, bos);
        nll = nll.plus(scored.map_err(|e| anyhow::anyhow!(e))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report(args, nll, count, model.sparsity())?;
    Ok(ExitCode::SUCCESS)
}

fn report(args: &PerplexityArgs, nll: Nll, windows: usize, sparsity: Option<&Sparsity>) -> Result<()> {
    if args.json {
        let mut value = json!({ "nats": nll.mean(), "ppl": nll.perplexity(), "tokens": nll.tokens });
        if let Some(sparsity) = sparsity {
            let layers: Vec<_> = sparsity.layers().iter().map(shares).collect();
            value["zero_shares"] = json!({ "layers": layers, "all": shares(&sparsity.total()) });
        }
        outln!("{value}")?;
        return Ok(());
    }
    let (mean, error) = (nll.mean(), nll.standard_error());
    outln!("{mean:.4} ± {error:.4} nats a token, perplexity {:.4}", nll.perplexity())?;
    outln!("{} tokens scored in {windows} windows of {}", nll.tokens, args.ctx_size)?;
    if let Some(sparsity) = sparsity {
        outln!("\nZeros among the codes that down projections take, % of tiles of tokens x codes:\n")?;
        outln!("{}", zeros(sparsity))?;
    }
    Ok(())
}

/// The share of zeros by kind of tile.
fn shares(counts: &Counts) -> Value {
    TILES.iter().zip(counts).map(|(tile, count)| (tile.to_string(), json!(count.share()))).collect()
}

/// A row a layer, and one for all.
fn zeros(sparsity: &Sparsity) -> String {
    let row = |name: String, counts: &Counts| -> Vec<String> {
        let cells = counts
            .iter()
            .map(|count| count.share().map_or_else(|| "-".into(), |share| format!("{:.2}", 100.0 * share)));
        [name].into_iter().chain(cells).collect()
    };
    let mut rows = vec![["layer".to_owned()].into_iter().chain(TILES.map(|tile| tile.to_string())).collect()];
    rows.extend(sparsity.layers().iter().enumerate().map(|(i, layer)| row(i.to_string(), layer)));
    rows.push(row("all".to_owned(), &sparsity.total()));
    table(&rows).trim_end().to_owned()
}
