//! The head of a model, rounded when it is opened or searched through a screen that is made meanwhile.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Device, Tensor, ops, ops::cache::CacheType};
use bitnet_inference::{
    Engine, EngineOptions, Event, LanguageModel, Request, SamplingParams, StopRules,
    head::{self, Head},
    local::{LocalModel, OpenError},
};
use bitnet_model::{
    Checkpoint, Decoder, Tokenizer,
    batch::{Batch, Logits},
    checkpoint::Options,
    config::Config,
    convert::{Target, convert},
    layers::Table,
    synthetic,
};
use bitnet_quant::Format;
use std::{ops::ControlFlow, path::Path, sync::LazyLock};

fn testdata(name: &str) -> String {
    format!("{}/../../testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn open(path: impl AsRef<Path>) -> Decoder {
    // Of one device, so that the states of one model are multiplied with the head of another.
    static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::open("auto", Some(2)).unwrap());
    Checkpoint::open(path, Options::default()).unwrap().decoder(&DEVICE, &|_| {}).unwrap()
}

fn stored(table: &Table) -> &bitnet_core::PackedTensor {
    let Table::Stored(table) = table else { panic!("a file has stored tables") };
    table
}

/// Hidden states of some tokens, and the bits of all their logits.
fn logits(decoder: &Decoder, hidden: Option<&Tensor>) -> (Tensor, Vec<u32>) {
    let mut batch = Batch::default();
    batch.push(&[5, 9, 200, 17], 0, vec![0], Logits::All);
    let hidden = hidden.map_or_else(|| decoder.forward(&batch, None).unwrap(), Clone::clone);
    let logits = decoder.logits(&batch, &hidden).unwrap();
    (hidden, bits(&logits))
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_rounded_head_is_that_of_a_converted_file() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for model in ["bitnet-packed", "llama-packed"] {
        let path = testdata(model);
        let checkpoint = Checkpoint::open(&path, Options::default()).unwrap();
        let tokenizer = Tokenizer::from_folder(Path::new(&path)).unwrap();
        for (head, format) in [(Head::Q6K, Format::Q6K), (Head::Q8_0, Format::Q8_0)] {
            let out = folder.join(format!("{model}-{format}.gguf"));
            let target = Target { ternary: Format::I2S, embedding: Some(format) };
            convert(&checkpoint, &tokenizer, &out, target, &|_| ControlFlow::Continue(())).unwrap();
            let (converted, file) = (open(&out), open(&path));
            let mut rounded = file.clone();
            let note = head::quantize(&mut rounded, head).unwrap().unwrap();
            assert!(note.contains(format.name()), "{note}");
            let bytes = |decoder: &Decoder| stored(decoder.head()).data().to_vec::<u8>().unwrap();
            assert_eq!(bytes(&rounded), bytes(&converted));
            assert_eq!(stored(&rounded.embed_tokens).format(), stored(&file.embed_tokens).format());
            // The layers see the embedding of the file, and the logits are those of the converted head to the bit.
            let (hidden, got) = logits(&rounded, None);
            assert_eq!(bits(&hidden), bits(&logits(&file, None).0));
            assert_eq!(got, logits(&converted, Some(&hidden)).1);
            let table = ops::quantize_rows(stored(file.head()), format).unwrap();
            let expected = ops::matmul_t(&file.norm.forward(&hidden).unwrap(), &table).unwrap();
            assert_eq!(got, bits(&expected));
            assert_eq!(
                rounded.decode_bytes(1),
                file.decode_bytes(1) - stored(file.head()).bytes() + table.bytes()
            );
        }
    }
}

/// A model without layers worth mentioning.
fn tiny(hidden_size: usize) -> Decoder {
    let device = Device::open("cpu", Some(2)).unwrap();
    let config = synthetic::Shape::named("tiny").unwrap().config();
    let heads = hidden_size / 32;
    let shape =
        Config { hidden_size, num_attention_heads: heads, num_key_value_heads: 1, head_dim: 32, ..config };
    synthetic::decoder(&shape, &device, 3).unwrap()
}

#[test]
fn a_head_that_does_not_fit_the_format_is_refused_with_one_that_does() {
    let mut decoder = tiny(288);
    let error = head::quantize(&mut decoder, Head::Q6K).unwrap_err();
    assert!(matches!(error, OpenError::HeadShape { format: Format::Q6K, cols: 288, multiple: 256 }));
    assert!(error.to_string().contains("--head q8_0"), "{error}");
    assert!(head::quantize(&mut decoder, Head::Q8_0).is_ok());
}

#[test]
fn a_head_that_is_small_already_stays() {
    let mut decoder = tiny(256);
    head::quantize(&mut decoder, Head::Q6K).unwrap();
    assert_eq!(head::quantize(&mut decoder, Head::Q6K).unwrap(), None);
    let note = head::quantize(&mut decoder, Head::Q8_0).unwrap().unwrap();
    assert!(note.contains("stays in q6_k"), "{note}");
    assert_eq!(stored(decoder.head()).format(), Format::Q6K);
    for head in [Head::Auto, Head::File] {
        assert_eq!(head::quantize(&mut decoder, head).unwrap(), None);
    }
}

/// Tokens with the bits of their scores, and after how many steps the screen was there.
fn run(mut model: LocalModel, params: &SamplingParams, scores: bool) -> (Vec<(u32, u64)>, Option<usize>) {
    model.forward(&warm(), &mut Vec::new()).unwrap();
    let mut engine = Engine::new(model, EngineOptions::default()).unwrap();
    for prompt in [vec![3u32, 5, 8], vec![100, 7]] {
        let request = Request {
            tokens: prompt,
            params: params.clone(),
            stop: StopRules::default(),
            max_tokens: Some(24),
            logprobs: scores.then_some(2),
            ..Request::default()
        };
        engine.submit(request).unwrap();
    }
    let (mut said, mut there) = (Vec::new(), None);
    for step in 0.. {
        for event in engine.step().unwrap() {
            if let Event::Token { token, logprob, .. } = event {
                said.push((token, logprob.unwrap_or_default().to_bits()));
            }
        }
        if there.is_none() && engine.model().decoder().screen.is_some() {
            there = Some(step);
        }
        if engine.is_idle() {
            break;
        }
    }
    (said, there)
}

/// A batch that wants no logits.
fn warm() -> Batch {
    let mut batch = Batch::default();
    batch.push(&[1], 0, vec![0], Logits::None);
    batch
}

#[test]
fn no_token_and_no_score_depends_on_when_the_screen_is_there() {
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let sampled = SamplingParams { seed: 3, temperature: 0.9, top_k: 20, ..SamplingParams::default() };
    let cases = [(&greedy, Head::Auto), (&sampled, Head::Auto), (&greedy, Head::Q6K), (&sampled, Head::Q6K)];
    for (params, held) in cases {
        let model = || {
            let mut decoder = tiny(256);
            head::quantize(&mut decoder, held).unwrap();
            LocalModel::new(decoder, 96, CacheType::F16).unwrap()
        };
        for scores in [false, true] {
            let (never, there) = run(model(), params, scores);
            assert_eq!(there, None);
            let mut before = model();
            before.go_on_with(before.decoder().begin_screen().unwrap().unwrap());
            before.finish_screen();
            assert!(before.decoder().screen.is_some());
            assert_eq!(run(before, params, scores).0, never);
            let mut meanwhile = model();
            meanwhile.go_on_with(meanwhile.decoder().begin_screen().unwrap().unwrap());
            let (said, there) = run(meanwhile, params, scores);
            assert_eq!(said, never);
            // Scores need every logit: nothing would read the screen, and so it is not made.
            assert!(if scores { there.is_none() } else { there.is_some_and(|step| step > 0) }, "{there:?}");
        }
    }
}

#[test]
fn a_screen_of_numbers_that_are_not_finite_is_given_up() {
    let mut decoder = tiny(256);
    let mut bytes = stored(&decoder.embed_tokens).data().to_vec::<u8>().unwrap();
    bytes[400 * 512..][..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    let data = Tensor::from_slice(decoder.device(), [bytes.len()], &bytes).unwrap();
    let table = bitnet_core::PackedTensor::stored(Format::F16, 512, 256, data).unwrap();
    decoder.embed_tokens = Table::Stored(Box::new(table));
    let mut model = LocalModel::new(decoder, 96, CacheType::F16).unwrap();
    model.go_on_with(model.decoder().begin_screen().unwrap().unwrap());
    model.finish_screen();
    assert!(model.decoder().screen.is_none());
}
