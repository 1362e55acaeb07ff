//! Learning from a teacher: its probabilities, and how its positions relate to each other (BitDistill, arXiv:2510.13998; MiniLMv2,
//! arXiv:2012.15828).

use crate::{Error, Result, data::Windows};
use bitnet_core::{Tensor, ops, ops::cross_entropy::IGNORED};
use bitnet_model::{Config, Decoder, Tokenizer, batch::Batch, layers::AttentionStates};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// What is learnt from a teacher beside the text: `cross_entropy + logits * divergence + relations * divergence of relations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillationConfig {
    /// A Hugging Face folder, a GGUF file, or the output folder of a run, with the tokenizer of the run.
    pub teacher: PathBuf,
    /// Weight of the divergence from the teacher's probabilities.
    #[serde(default = "ten")]
    pub logits: f64,
    /// What logits are divided by before they are compared.
    #[serde(default = "five")]
    pub temperature: f64,
    /// Weight of the divergence from the teacher's relations.
    #[serde(default)]
    pub relations: f64,
    /// The layer whose relations are compared, from 0 [default: at three quarters of the depth].
    pub layer: Option<usize>,
    /// Heads that the states are cut into for relations [default: the query heads of the teacher].
    pub relation_heads: Option<usize>,
}

fn ten() -> f64 {
    10.0
}
fn five() -> f64 {
    5.0
}

impl DistillationConfig {
    /// Names the key that makes no sense.
    pub(crate) fn validate(&self) -> Result<()> {
        for (key, value) in [("distillation.logits", self.logits), ("distillation.relations", self.relations)]
        {
            if !(0.0..=1e9).contains(&value) {
                let rule = "a number from 0 to 1000000000".into();
                return Err(Error::Config { key, value: value.to_string(), rule });
            }
        }
        if !(1e-3..=1e3).contains(&self.temperature) {
            let (value, rule) = (self.temperature.to_string(), "a number from 0.001 to 1000".into());
            return Err(Error::Config { key: "distillation.temperature", value, rule });
        }
        Ok(())
    }
}

/// A model that is learnt from.
pub struct Teacher {
    decoder: Decoder,
    how: DistillationConfig,
    /// Where relations are compared: layer of the student and of the teacher, and heads.
    relations: Option<Relations>,
    /// Hash of its logits on a window.
    fingerprint: String,
}

#[derive(Clone, Copy)]
struct Relations {
    layer: usize,
    of_teacher: usize,
    heads: usize,
}

impl Teacher {
    /// A teacher of a student.
    ///
    /// # Errors
    /// Where their tokens differ, there is no such layer, or the states cannot be cut into the heads.
    pub fn new(
        how: &DistillationConfig,
        (decoder, tokenizer): (Decoder, &Tokenizer),
        student: (&Config, &Tokenizer),
        probe: &Windows,
    ) -> Result<Self> {
        expect_same_tokens((&decoder.config, tokenizer), student)?;
        let relations =
            (how.relations > 0.0).then(|| Relations::new(how, &decoder.config, student.0)).transpose()?;
        let logits = decoder.logits(&probe.batch, &decoder.forward(&probe.batch, None)?)?.to_vec::<f32>()?;
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        let fingerprint = crate::data::hex(&Sha256::digest(&bytes));
        Ok(Self { decoder, how: how.clone(), relations, fingerprint })
    }

    /// What identifies it: the hash of its logits on the window that it was made with.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Hidden states of the student, with what is compared with the teacher.
    ///
    /// # Errors
    /// Where the device fails.
    pub(crate) fn watch(
        &self,
        student: &Decoder,
        batch: &Batch,
    ) -> Result<(Tensor, Option<AttentionStates>)> {
        Ok(match self.relations {
            Some(at) => {
                let (hidden, states) = student.forward_with_states(batch, at.layer)?;
                (hidden, Some(states))
            }
            None => (student.forward(batch, None)?, None),
        })
    }

    /// What the student is to lose beside its cross-entropy, summed over the targets that count.
    ///
    /// # Errors
    /// Where the device fails.
    pub(crate) fn loss(
        &self,
        windows: &Windows,
        logits: &Tensor,
        states: Option<&AttentionStates>,
    ) -> Result<Tensor> {
        let batch = &windows.batch;
        let (hidden, of_teacher) = match self.relations {
            Some(at) => {
                let (hidden, states) = self.decoder.forward_with_states(batch, at.of_teacher)?;
                (hidden, Some(states))
            }
            None => (self.decoder.forward(batch, None)?, None),
        };
        let mut terms = Vec::new();
        if self.how.logits > 0.0 {
            let teacher = self.decoder.logits(batch, &hidden)?;
            let divergence = ops::kl_divergence(logits, &teacher, (1.0 / self.how.temperature) as f32)?;
            let counted: Vec<f32> =
                windows.targets.iter().map(|&t| f32::from(u8::from(t != IGNORED))).collect();
            let counted = Tensor::from_slice(logits.device(), [counted.len()], &counted)?;
            terms.push(divergence.mul(&counted)?.sum((), false)?.mul_scalar(self.how.logits)?);
        }
        if let (Some(at), Some(student), Some(teacher)) = (self.relations, states, of_teacher) {
            let lens: Vec<usize> = batch.spans.iter().map(|span| span.len).collect();
            let mean = relation_loss(student, &teacher, &lens, at.heads)?;
            terms.push(mean.mul_scalar(self.how.relations * windows.counted() as f64)?);
        }
        let none = || Tensor::full(logits.device(), [], 0.0, bitnet_core::DType::F32);
        let mut terms = terms.into_iter();
        let first = terms.next().map_or_else(none, Ok)?;
        Ok(terms.try_fold(first, |sum, term| sum.add(&term))?)
    }
}

impl Relations {
    fn new(how: &DistillationConfig, teacher: &Config, student: &Config) -> Result<Self> {
        let layers = student.num_hidden_layers;
        let layer = how.layer.unwrap_or(layers * 3 / 4);
        let refuse = |key, value: usize, rule: String| Error::Config { key, value: value.to_string(), rule };
        if layer >= layers {
            return Err(refuse("distillation.layer", layer, format!("one of the {layers} layers, from 0")));
        }
        let heads = how.relation_heads.unwrap_or(teacher.num_attention_heads);
        let widths = [student, teacher]
            .map(|c| [c.num_attention_heads, c.num_key_value_heads].map(|n| n * c.head_dim));
        if heads == 0 || widths.as_flattened().iter().any(|width| !width.is_multiple_of(heads)) {
            let rule =
                format!("a divisor of the widths of queries and keys, {widths:?} of student and teacher");
            return Err(refuse("distillation.relation_heads", heads, rule));
        }
        // The same share of the depth.
        let of_teacher = ((layer + 1) * teacher.num_hidden_layers).div_ceil(layers) - 1;
        Ok(Self { layer, of_teacher, heads })
    }
}

/// Mean divergence of the student's relations between positions from the teacher's, summed over queries, keys and values: `[]`. Each sequence of
/// `lens` relates to itself only.
///
/// # Errors
/// Where the states cannot be cut into `heads`, or the device fails.
pub fn relation_loss(
    student: &AttentionStates,
    teacher: &AttentionStates,
    lens: &[usize],
    heads: usize,
) -> Result<Tensor> {
    let pairs = [(&student.q, &teacher.q), (&student.k, &teacher.k), (&student.v, &teacher.v)];
    let positions: usize = lens.iter().sum();
    let mut sum = Tensor::full(student.q.device(), [], 0.0, bitnet_core::DType::F32)?;
    for (student, teacher) in pairs {
        let mut first = 0;
        for &len in lens.iter().filter(|&&len| len > 0) {
            let of = |states: &Tensor| relations(&states.narrow(0, first, len)?, heads);
            let divergence = ops::kl_divergence(&of(student)?, &of(teacher)?, 1.0)?;
            sum = sum.add(&divergence.sum((), false)?)?;
            first += len;
        }
    }
    Ok(sum.div_scalar((heads * positions).max(1) as f64)?)
}

/// How much each position of `states: [T, n, D]` has to do with each other, before the softmax: `[heads * T, T]`.
fn relations(states: &Tensor, heads: usize) -> Result<Tensor> {
    let len = states.shape().dims()[0];
    let width = states.shape().len() / (len * heads);
    let split = states.contiguous()?.reshape([len, heads, width])?.permute(&[1, 0, 2])?;
    let products = split.matmul(&split.permute(&[0, 2, 1])?)?.div_scalar((width as f64).sqrt())?;
    Ok(products.reshape([heads * len, len])?)
}

/// Refuses a teacher whose tokens are others.
fn expect_same_tokens(
    (teacher, its): (&Config, &Tokenizer),
    (student, own): (&Config, &Tokenizer),
) -> Result<()> {
    let refuse = |value: String| {
        let rule = "a model whose tokens are those of the run, one by one".into();
        Err(Error::Config { key: "distillation.teacher", value, rule })
    };
    if teacher.vocab_size != student.vocab_size {
        return refuse(format!("one of {} tokens, not {}", teacher.vocab_size, student.vocab_size));
    }
    let other = |&id: &u32| its.token_bytes(id) != own.token_bytes(id);
    match (0..student.vocab_size as u32).find(other) {
        Some(id) => {
            let shown = |tokenizer: &Tokenizer| {
                tokenizer
                    .token_bytes(id)
                    .map_or("nothing".into(), |b| format!("{:?}", String::from_utf8_lossy(b)))
            };
            refuse(format!("one whose token {id} is {}, not {}", shown(its), shown(own)))
        }
        None => Ok(()),
    }
}
