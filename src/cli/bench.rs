//! `s2s bench`: how fast it runs here.

use std::path::PathBuf;

use clap::Subcommand;
use s2s_runtime::engine::{Device, EngineKind};

use crate::bench::training::{Input, Workload};
use crate::bench::{decoding, training};
use crate::cli::Global;
use crate::cli::translate::{DecodingFlags, decoding_options};
use crate::error::{Error, ErrorKind, Result};

/// Measure training and decoding on this machine
///
/// `s2s bench BUNDLE` decodes, in each engine and batch size, and says what this machine would allow at best;
/// `s2s bench train` trains on synthetic batches. Both warm up, measure several rounds in this process, and
/// give the median. benches/README.md says what the peers do.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    decoding: DecodingArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    Train(TrainingArgs),
}

/// Translate texts over and over
#[derive(Debug, clap::Args)]
struct DecodingArgs {
    /// The folder or zip of a bundle
    #[arg(required = true, value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// UTF-8 texts, one a line [default: random symbols]
    #[arg(long, value_name = "FILE", env = "S2S_TEXTS")]
    texts: Option<PathBuf>,
    /// What runs the graphs, tract or ort; several are measured one after the other [default: all that work
    /// here]
    #[arg(long, value_name = "ENGINE", value_delimiter = ',', env = "S2S_ENGINE")]
    engine: Vec<EngineKind>,
    /// Where the graphs run: cpu, cuda (ONNX Runtime with its CUDA provider) or auto, which measures
    #[arg(long, env = "S2S_DEVICE", default_value = "cpu")]
    device: Device,
    /// Rows decoded together; 1 is one text at a time; several are measured one after the other
    #[arg(long, default_value = "1,64", value_name = "N", value_delimiter = ',', value_parser = positive, env = "S2S_BATCH")]
    batch: Vec<usize>,
    /// Threads that decode, each with an engine of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = positive, env = "S2S_WORKERS")]
    workers: usize,
    /// Seconds of measuring for each engine and batch size, after the warm-up
    #[arg(long, default_value_t = 10.0, value_parser = seconds, env = "S2S_SECONDS")]
    seconds: f64,
    /// Translate so many texts instead, in the first engine with the largest batch, and say how the memory
    /// grew
    #[arg(long, value_name = "N", value_parser = positive, env = "S2S_SOAK")]
    soak: Option<usize>,
    /// Decoding options in YAML, over those of the bundle
    #[arg(long, env = "S2S_DECODING", value_name = "FILE")]
    decoding: Option<PathBuf>,
    #[command(flatten)]
    flags: DecodingFlags,
}

/// Optimiser steps on synthetic batches
#[derive(Debug, clap::Args)]
struct TrainingArgs {
    /// Sizes
    #[arg(long, value_enum, default_value_t = Workload::W1, env = "S2S_WORKLOAD")]
    workload: Workload,
    /// How ids enter the network, where it should not be the workload's own way
    #[arg(long, value_enum, env = "S2S_INPUT")]
    input: Option<Input>,
    /// Rows of different lengths
    #[arg(long, env = "S2S_RAGGED")]
    ragged: bool,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = positive, env = "S2S_THREADS")]
    threads: Option<usize>,
    /// Seconds of measuring, after the warm-up
    #[arg(long, default_value_t = 10.0, value_parser = seconds, env = "S2S_SECONDS")]
    seconds: f64,
}

fn positive(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "it must be a whole number, 1 or more".to_owned())
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    text.parse()
        .ok()
        .filter(|s: &f64| s.is_finite() && *s > 0.0)
        .ok_or_else(|| "it must be a number above 0".to_owned())
}

impl DecodingArgs {
    fn plan(self) -> Result<decoding::Plan> {
        let needed = || Error::new(ErrorKind::Usage, "a bundle is needed");
        Ok(decoding::Plan {
            bundle: self.bundle.ok_or_else(needed)?,
            options: decoding_options(self.decoding.as_deref(), &self.flags)?,
            texts: self.texts,
            engines: self.engine,
            device: self.device,
            batches: self.batch,
            workers: self.workers,
            seconds: self.seconds,
        })
    }
}

/// Runs `s2s bench`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    if let Some(What::Train(TrainingArgs { workload, input, ragged, threads, seconds })) = args.what {
        let plan = training::Plan { workload, input, ragged, threads, seconds };
        return print(&training::run(&plan)?, global);
    }
    let soak = args.decoding.soak;
    let plan = args.decoding.plan()?;
    match soak {
        Some(count) => print(&decoding::soak(&plan, count)?, global),
        None => decoding::run(&plan, |report| print(report, global)),
    }
}

fn print(report: &(impl serde::Serialize + std::fmt::Display), global: &Global) -> Result<()> {
    let json =
        |error| Error::new(ErrorKind::Internal, "the report cannot be written as JSON").caused_by(error);
    println!(
        "{}",
        if global.json { serde_json::to_string(report).map_err(json)? } else { report.to_string() }
    );
    Ok(())
}
