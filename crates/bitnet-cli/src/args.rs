//! Options that several commands have. Names are llama.cpp's where it has one.

use crate::{
    tuned,
    ui::Ui,
    values::{self, Bias},
};
use bitnet_core::{device::ThreadCounts, memory::Tracking, ops::cache::CacheType};
use bitnet_inference::{EngineOptions, MAX_LOOKUP, SamplingParams, StopRules, head, local::LoadOptions};
use bitnet_model::weights::LoadMode;
use bitnet_quant::Format;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cache {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<Cache> for CacheType {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::F32 => Self::F32,
            Cache::F16 => Self::F16,
            Cache::Q8_0 => Self::Q8_0,
        }
    }
}

/// How the head is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Head {
    /// As in the file; a large one is searched through a copy of half its size, or in integers if it is in Q6_K: the same tokens, faster.
    Auto,
    /// As in the file, all of it read for every token.
    File,
    /// Rounded to 8 bits a weight when the model is opened: lossy, half of what F16 reads.
    #[value(name = "q8_0")]
    Q8_0,
    /// Rounded to 6.6 bits a weight when the model is opened: lossy, 0.4 of what F16 reads.
    #[value(name = "q6_k")]
    Q6K,
}

impl From<Head> for head::Head {
    fn from(head: Head) -> Self {
        match head {
            Head::Auto => Self::Auto,
            Head::File => Self::File,
            Head::Q8_0 => Self::Q8_0,
            Head::Q6K => Self::Q6K,
        }
    }
}

/// How the bytes of a file come into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Mapped.
    Auto,
    /// Mapped: nothing is copied; the file must not be truncated or overwritten meanwhile.
    Mmap,
    /// Read: slower to start, independent of the file afterwards.
    None,
}

impl From<Load> for LoadMode {
    fn from(load: Load) -> Self {
        if load == Load::None { Self::Read } else { Self::Mmap }
    }
}

/// How I2_S tensors are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum I2sLayout {
    /// Told from the weights.
    Auto,
    /// 128-value blocks: every published file.
    X86,
    /// 64-value blocks: files quantized by some ARM builds.
    Arm,
    /// Four rows in a byte: files quantized by some x86 builds.
    Row4,
}

impl I2sLayout {
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Auto => None,
            Self::X86 => Some(Format::I2S),
            Self::Arm => Some(Format::I2SArm),
            Self::Row4 => Some(Format::I2SRow4),
        }
    }
}

/// Where a command computes.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Device: auto, cpu, or a tier such as cpu/avx2 (see `bitnet devices`).
    #[arg(long, default_value = "auto", env = "BITNET_DEVICE", value_parser = values::device)]
    pub(crate) device: String,
    /// Threads of a decode step, which computes one token [default: what `bitnet tune` found, else one for
    /// each physical core].
    #[arg(short, long, value_name = "N", env = "BITNET_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Threads of a step of more tokens, such as those of a prompt [default: as --threads].
    #[arg(long, value_name = "N", env = "BITNET_THREADS_BATCH", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads_batch: Option<u16>,
}

impl DeviceArgs {
    /// Threads of both kinds of steps.
    pub(crate) fn counts(&self, ui: &Ui) -> ThreadCounts {
        tuned::counts(self.threads, self.threads_batch, ui)
    }
}

/// How files are read.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileArgs {
    /// How bytes come into memory.
    #[arg(long, default_value = "auto", env = "BITNET_LOAD_MODE")]
    pub(crate) load_mode: Load,
    /// Layout of I2_S tensors.
    #[arg(long, default_value = "auto", env = "BITNET_I2S_LAYOUT")]
    pub(crate) i2s_layout: I2sLayout,
}

/// Which model, and where it runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a repository that was pulled.
    #[arg(short, long, value_name = "PATH", env = "BITNET_MODEL")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Look at every float too before anything runs; codes and scales are looked at in any case.
    #[arg(long, env = "BITNET_CHECK_TENSORS")]
    pub(crate) check_tensors: bool,
}

impl ModelArgs {
    /// How to open the model with a context (0: what it was trained for) and a kind of cache.
    pub(crate) fn options(&self, context: usize, cache: Cache, ui: &Ui) -> LoadOptions {
        LoadOptions {
            check_tensors: self.check_tensors,
            ..options(&self.device, &self.files, context, cache, ui)
        }
    }
}

/// How to open a model of which all logits are wanted.
pub(crate) fn options(
    device: &DeviceArgs,
    files: &FileArgs,
    context: usize,
    cache: Cache,
    ui: &Ui,
) -> LoadOptions {
    LoadOptions {
        device: device.device.clone(),
        threads: device.counts(ui),
        load_mode: files.load_mode.into(),
        i2s_layout: files.i2s_layout.format(),
        check_tensors: false,
        context: (context > 0).then_some(context),
        cache_type: cache.into(),
        head: head::Head::File,
        decode_copy: false,
        tracking: Tracking::Off,
    }
}

/// How a running text is kept and computed.
#[derive(Clone, Debug, Args)]
pub(crate) struct ContextArgs {
    /// Positions of the context; 0 takes what the model was trained for.
    #[arg(short, long, default_value_t = 0, value_name = "N", env = "BITNET_CTX_SIZE", value_parser = values::from(0))]
    pub(crate) ctx_size: usize,
    /// Most tokens of the prompt that are computed at once; the text does not depend on it.
    #[arg(short, long, default_value_t = EngineOptions::default().max_batch_tokens, value_name = "N", env = "BITNET_BATCH_SIZE", value_parser = values::from(1))]
    pub(crate) batch_size: usize,
    /// How keys and values are stored.
    #[arg(long, aliases = ["cache-type-k", "cache-type-v"], default_value = "f16", env = "BITNET_CACHE_TYPE")]
    pub(crate) cache_type: Cache,
    /// How the head, which scores the tokens, is held; the text does not depend on auto or file.
    #[arg(long, default_value = "auto", env = "BITNET_HEAD")]
    pub(crate) head: Head,
    /// Holds a copy of the ternary weights for steps of one token, 5/3 bits a weight: the same text, sooner where memory is the limit and the
    /// processor has AVX-512.
    #[arg(long, env = "BITNET_DECODE_COPY")]
    pub(crate) decode_copy: bool,
    /// Most tokens that are guessed ahead from earlier places of the text: faster where it repeats itself, and always the same
    /// text; 0 guesses none.
    #[arg(long, aliases = ["draft", "draft-max"], default_value_t = 0, value_name = "N", env = "BITNET_LOOKUP", value_parser = values::up_to(MAX_LOOKUP))]
    pub(crate) lookup: usize,
}

impl ContextArgs {
    /// How to open the model for it.
    pub(crate) fn options(&self, model: &ModelArgs, ui: &Ui) -> LoadOptions {
        LoadOptions {
            head: self.head.into(),
            decode_copy: self.decode_copy,
            ..model.options(self.ctx_size, self.cache_type, ui)
        }
    }

    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions { max_batch_tokens: self.batch_size, lookup: self.lookup, ..EngineOptions::default() }
    }
}

/// Where a text ends, and how such ends are written.
#[derive(Clone, Debug, Args)]
pub(crate) struct StopArgs {
    /// Most tokens to write; -1 goes on to the end of the context.
    #[arg(short = 'n', long, alias = "n-predict", default_value_t = -1, value_name = "N", env = "BITNET_PREDICT", value_parser = values::whole)]
    pub(crate) predict: i64,
    /// End the text at this string; may be given several times, in the variable one a line.
    #[arg(short, long, value_name = "STRING", env = "BITNET_REVERSE_PROMPT", value_parser = values::stop_string)]
    pub(crate) reverse_prompt: Vec<String>,
    /// Read \n, \t and \\ in the prompt and in such strings as the characters that they stand for.
    #[arg(short, long, env = "BITNET_ESCAPE")]
    pub(crate) escape: bool,
    /// Go on where the model would end the text.
    #[arg(long, env = "BITNET_IGNORE_EOS")]
    pub(crate) ignore_eos: bool,
}

impl StopArgs {
    /// Most tokens to write.
    pub(crate) fn limit(&self) -> Option<usize> {
        usize::try_from(self.predict).ok()
    }

    /// A text of the command line as it is meant.
    pub(crate) fn unescaped(&self, text: &str) -> String {
        if self.escape { values::unescape(text) } else { text.to_owned() }
    }

    pub(crate) fn rules(&self, eos: &[u32]) -> StopRules {
        StopRules {
            eos: eos.to_vec(),
            ignore_eos: self.ignore_eos,
            strings: self.reverse_prompt.iter().map(|text| self.unescaped(text)).collect(),
            ..StopRules::default()
        }
    }
}

/// How tokens are picked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 always takes the likeliest token.
    #[arg(long, alias = "temperature", default_value_t = 0.8, env = "BITNET_TEMP", value_parser = values::at_least_zero)]
    pub(crate) temp: f32,
    /// Keep this many likeliest tokens; 0 or -1 keeps all.
    #[arg(long, default_value_t = 40, env = "BITNET_TOP_K", value_parser = values::whole)]
    pub(crate) top_k: i64,
    /// Keep the likeliest tokens until their probabilities add up to this.
    #[arg(long, default_value_t = 0.95, env = "BITNET_TOP_P", value_parser = values::above_zero_to_one)]
    pub(crate) top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest.
    #[arg(long, default_value_t = 0.05, env = "BITNET_MIN_P", value_parser = values::zero_to_one)]
    pub(crate) min_p: f32,
    /// Penalty of tokens that occurred lately; 1 is none.
    #[arg(long, default_value_t = 1.0, env = "BITNET_REPEAT_PENALTY", value_parser = values::above_zero)]
    pub(crate) repeat_penalty: f32,
    /// How many of the last tokens the penalties look at; -1 for all.
    #[arg(long, default_value_t = 64, env = "BITNET_REPEAT_LAST_N", value_parser = values::whole)]
    pub(crate) repeat_last_n: i64,
    /// Subtracted from the logit of every token that occurred.
    #[arg(long, default_value_t = 0.0, env = "BITNET_PRESENCE_PENALTY", value_parser = values::any)]
    pub(crate) presence_penalty: f32,
    /// Subtracted from the logit of a token as often as it occurred.
    #[arg(long, default_value_t = 0.0, env = "BITNET_FREQUENCY_PENALTY", value_parser = values::any)]
    pub(crate) frequency_penalty: f32,
    /// Added to the logit of a token, as ID+BIAS or ID-BIAS; several are separated by commas.
    #[arg(long, value_name = "ID±BIAS", env = "BITNET_LOGIT_BIAS", value_delimiter = ',')]
    pub(crate) logit_bias: Vec<Bias>,
    /// Seed of the random numbers; -1 takes another one each time.
    #[arg(short, long, default_value_t = -1, env = "BITNET_SEED", value_parser = values::whole)]
    pub(crate) seed: i64,
}

impl SamplingArgs {
    pub(crate) fn params(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temp,
            top_k: usize::try_from(self.top_k).unwrap_or(0),
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: usize::try_from(self.repeat_last_n).unwrap_or(usize::MAX),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.iter().map(|bias| (bias.token, bias.value)).collect(),
            seed: seed(self.seed),
        }
    }
}

/// A seed; -1 differs from one call to the next.
pub(crate) fn seed(seed: i64) -> u64 {
    u64::try_from(seed).unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (now.as_nanos() as u64) ^ (u64::from(std::process::id()) << 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        stop: StopArgs,
    }

    #[test]
    fn stop_strings_are_escaped_like_the_prompt() {
        let strings = |args: &[&str]| Given::parse_from(args).stop.rules(&[]).strings;
        assert_eq!(strings(&["x", "-r", r"\nUser:"]), [r"\nUser:"]);
        assert_eq!(strings(&["x", "-r", r"\nUser:", "-e"]), ["\nUser:"]);
    }
}
