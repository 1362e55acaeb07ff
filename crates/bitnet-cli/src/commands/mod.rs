//! One file a command.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod finetune;
pub(crate) mod inspect;
pub(crate) mod logits;
pub(crate) mod perplexity;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;
pub(crate) mod train;
pub(crate) mod tune;
pub(crate) mod verify;

use crate::ui::Ui;
use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::RunArgs),
    Chat(chat::ChatArgs),
    Demo(demo::DemoArgs),
    Train(train::TrainArgs),
    Finetune(finetune::FinetuneArgs),
    Eval(eval::EvalArgs),
    Export(export::ExportArgs),
    Convert(convert::ConvertArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Perplexity(perplexity::PerplexityArgs),
    Logits(logits::LogitsArgs),
    Bench(bench::BenchArgs),
    Tune(tune::TuneArgs),
    Tokenize(tokenize::TokenizeArgs),
    Tokenizer(tokenizer::TokenizerArgs),
    Devices(devices::DevicesArgs),
    Doctor(doctor::DoctorArgs),
    Pull(pull::PullArgs),
    Completions(completions::CompletionsArgs),
}

impl Command {
    pub(crate) fn run(self, ui: &Ui) -> Result<ExitCode> {
        match self {
            Self::Run(args) => run::run(&args, ui),
            Self::Chat(args) => chat::run(&args, ui),
            Self::Demo(args) => demo::run(&args, ui),
            Self::Train(args) => train::run(&args, ui),
            Self::Finetune(args) => finetune::run(&args, ui),
            Self::Eval(args) => eval::run(&args, ui),
            Self::Export(args) => export::run(&args, ui),
            Self::Convert(args) => convert::run(&args, ui),
            Self::Inspect(args) => inspect::run(&args),
            Self::Verify(args) => verify::run(&args, ui),
            Self::Perplexity(args) => perplexity::run(&args, ui),
            Self::Logits(args) => logits::run(&args, ui),
            Self::Bench(args) => bench::run(&args, ui),
            Self::Tune(args) => tune::run(&args, ui),
            Self::Tokenize(args) => tokenize::run(&args, ui),
            Self::Tokenizer(args) => tokenizer::run(&args, ui),
            Self::Devices(args) => devices::run(&args, ui),
            Self::Doctor(args) => doctor::run(&args),
            Self::Pull(args) => pull::run(&args, ui),
            Self::Completions(args) => completions::run(&args),
        }
    }
}
