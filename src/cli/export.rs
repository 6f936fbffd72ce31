//! `s2s export`: a run folder to a bundle of three ONNX graphs, or to a module of PyTorch.

use std::path::PathBuf;

use clap::builder::{FalseyValueParser, PossibleValue, PossibleValuesParser};
use s2s_runtime::manifest::Io;

use crate::cli::Global;
use crate::cli::verify::{CheckArgs, show};
use crate::error::Result;
use crate::export::{self, Dtype, TARGETS};
use crate::families::{self, Export, Exported};
use crate::onnx::OPSETS;
use crate::train::Which;

/// Export a trained run as three ONNX graphs, and verify them
///
/// The bundle is written beside its place and moved there only if every check passed. Where -o names the
/// place, a bundle of the same name that is there already is replaced; for anything else see --force.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that `s2s train` wrote
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The folder of the bundle [default: exported/NAME, the name in the run's config, if nothing is there]
    #[arg(short, long, value_name = "DIR", env = "S2S_BUNDLE")]
    pub output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value_t, env = "S2S_FORMAT")]
    pub format: Format,
    /// How the folder is laid out
    #[arg(long, value_enum, default_value_t, env = "S2S_LAYOUT")]
    pub layout: Layout,
    /// Tensors that stand for tokens: ids in and logits out, or float one-hot rows in and probabilities out
    #[arg(long, default_value_t, env = "S2S_IO")]
    pub io: Io,
    /// Version of the standard ONNX operators, 13 to 21; lower ones run in older runtimes [default: the
    /// target's, else 17]
    #[arg(long, env = "S2S_OPSET", value_parser = clap::value_parser!(i64).range(OPSETS))]
    pub opset: Option<i64>,
    /// The runtime that shall run the graphs: chooses the operator set, and refuses what it cannot run
    #[arg(long, value_name = "NAME", env = "S2S_TARGET", value_parser = target_names())]
    pub target: Option<String>,
    /// How weights are stored: f32, f16, or int8 with a scale for each output
    #[arg(long, default_value_t, env = "S2S_DTYPE")]
    pub dtype: Dtype,
    /// How the encoder is written: whole, or with encoder_step.onnx beside it, which reads one token a call,
    /// for runtimes without LSTM and GRU
    #[arg(long, value_enum, default_value_t, env = "S2S_ENCODER_FORM")]
    pub encoder_form: EncoderForm,
    /// Write translate.onnx too: the whole of greedy decoding in one graph, for runtimes that have Loop
    #[arg(long, env = "S2S_FUSED", value_parser = FalseyValueParser::new())]
    pub fused: bool,
    /// Pairs that f16 and int8 weights are scored on, before and after: tabs, or commas if the name ends in
    /// .csv [default: the run's validation data]
    #[arg(long, value_name = "PAIRS", env = "S2S_DEV")]
    pub dev: Option<PathBuf>,
    /// Refuse f16 or int8 weights that lose more than this share of exact matches
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, env = "S2S_MAX_LOSS", value_parser = share)]
    pub max_loss: f64,
    /// Which weights of the run
    #[arg(long, value_enum, default_value_t, env = "S2S_CHECKPOINT")]
    pub checkpoint: Checkpoint,
    /// A source text that whoever tries the bundle is offered; up to five, one a line in the variable
    /// [default: some of the run's validation data that the model gets right]
    #[arg(
        long = "example",
        value_name = "TEXT",
        env = "S2S_EXAMPLES",
        value_delimiter = '\n',
        conflicts_with = "no_examples"
    )]
    pub examples: Vec<String>,
    /// Offer no source texts; without it a few of the validation data stand in the bundle
    #[arg(long, env = "S2S_NO_EXAMPLES", value_parser = FalseyValueParser::new())]
    pub no_examples: bool,
    /// Replace a bundle of another name, a damaged one, or one with files of yours in it
    #[arg(long, env = "S2S_FORCE")]
    pub force: bool,
    #[allow(missing_docs)] // A doc comment would become help text.
    #[command(flatten)]
    pub checks: CheckArgs,
}

/// What can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// ONNX graphs with a manifest
    #[default]
    Onnx,
    /// A module of PyTorch with its weights, to read and to train; s2s import pytorch takes it home
    Pytorch,
}

/// How the folder is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// A bundle, as every command here reads it
    #[default]
    Bundle,
    /// A model repository of Triton Inference Server, which KServe mounts too
    Triton,
}

/// How the encoder is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EncoderForm {
    /// One graph that reads whole texts, with LSTM or GRU nodes
    #[default]
    Whole,
    /// A second graph too, which reads one token a call
    Step,
}

/// Which checkpoint is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Checkpoint {
    /// The best epoch, as the config says
    #[default]
    Best,
    /// Where the training stopped
    Last,
}

impl From<Format> for families::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Onnx => Self::Onnx,
            Format::Pytorch => Self::Pytorch,
        }
    }
}

impl From<Layout> for families::Layout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Bundle => Self::Bundle,
            Layout::Triton => Self::Triton,
        }
    }
}

impl From<EncoderForm> for export::EncoderForm {
    fn from(form: EncoderForm) -> Self {
        match form {
            EncoderForm::Whole => Self::Whole,
            EncoderForm::Step => Self::Step,
        }
    }
}

impl From<Checkpoint> for Which {
    fn from(checkpoint: Checkpoint) -> Self {
        match checkpoint {
            Checkpoint::Best => Self::Best,
            Checkpoint::Last => Self::Last,
        }
    }
}

fn target_names() -> PossibleValuesParser {
    PossibleValuesParser::new(TARGETS.iter().map(|target| PossibleValue::new(target.name).help(target.title)))
}

fn share(typed: &str) -> std::result::Result<f64, String> {
    typed
        .parse()
        .ok()
        .filter(|x: &f64| (0.0..=1.0).contains(x))
        .ok_or_else(|| "it must be a number from 0 to 1".to_owned())
}

/// Runs `s2s export`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let mut say = |line: String| {
        if !global.quiet {
            eprintln!("{line}");
        }
    };
    let Exported { place, report, next } = export(args, &mut say)?;
    let mut checks = String::new();
    if let Some(report) = &report {
        show(report, global)?;
        checks = format!(" ({} checks)", report.checks.len());
    }
    say(format!("Wrote {}{checks}. Next: {next}", place.display()));
    Ok(())
}

/// The same without a word; `say` hears what is worth a line meanwhile.
///
/// # Errors
/// What is wrong with arguments and run; a check that failed.
pub fn export(args: Args, say: &mut dyn FnMut(String)) -> Result<Exported> {
    let wanted = Export {
        verification: args.checks.options()?,
        output: args.output,
        format: args.format.into(),
        layout: args.layout.into(),
        io: args.io,
        opset: args.opset,
        target: args.target,
        dtype: args.dtype,
        encoder_form: args.encoder_form.into(),
        fused: args.fused,
        dev: args.dev,
        max_loss: args.max_loss,
        checkpoint: args.checkpoint.into(),
        examples: (args.no_examples || !args.examples.is_empty()).then_some(args.examples),
        force: args.force,
    };
    families::of_run(&args.run).export(&args.run, &wanted, say)
}
