//! `s2s export`: a run folder to a bundle of three ONNX graphs.

use std::path::PathBuf;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::manifest::Io;

use crate::cli::Global;
use crate::cli::verify::{CheckArgs, show};
use crate::error::{Error, Result};
use crate::export::mlp::export_mlp;
use crate::export::{self, ExportInput, ExportOptions, Replace, Report, VerifyOptions};
use crate::onnx::{DEFAULT_OPSET, OPSETS};
use crate::train::mlp::MlpRun;
use crate::train::{Run, Which};

/// Export a trained run as three ONNX graphs, and verify them
///
/// The bundle is written beside its place and moved there only if every check passed. A bundle of the same name that is
/// there already is replaced; for anything else see --force.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that `s2s train` wrote
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The folder of the bundle
    #[arg(short, long, value_name = "DIR", env = "S2S_BUNDLE")]
    pub output: PathBuf,
    /// The format; onnx is the only one
    #[arg(long, value_enum, default_value_t, env = "S2S_FORMAT")]
    pub format: Format,
    /// How the folder is laid out
    #[arg(long, value_enum, default_value_t, env = "S2S_LAYOUT")]
    pub layout: Layout,
    /// Tensors that stand for tokens: ids in and logits out, or float one-hot rows in and probabilities out
    #[arg(long, default_value_t, env = "S2S_IO")]
    pub io: Io,
    /// Version of the standard ONNX operators; lower ones run in older runtimes
    #[arg(long, default_value_t = DEFAULT_OPSET, env = "S2S_OPSET", value_parser = clap::value_parser!(i64).range(OPSETS))]
    pub opset: i64,
    /// Which weights of the run
    #[arg(long, value_enum, default_value_t, env = "S2S_CHECKPOINT")]
    pub checkpoint: Checkpoint,
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

/// Which checkpoint is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Checkpoint {
    /// The best epoch, as the config says
    #[default]
    Best,
    /// Where the training stopped
    Last,
}

impl From<Checkpoint> for Which {
    fn from(checkpoint: Checkpoint) -> Self {
        match checkpoint {
            Checkpoint::Best => Self::Best,
            Checkpoint::Last => Self::Last,
        }
    }
}

/// Runs `s2s export`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let verification = args.checks.options()?;
    if MlpRun::exists(&args.run) {
        return run_mlp(&args, &verification, global);
    }
    let run = Run::open(&args.run)?;
    let which = Which::from(args.checkpoint);
    let parameters = run.parameters(which)?;
    let input = ExportInput {
        network: &run.network,
        parameters: &parameters,
        source: &run.source,
        target: &run.target,
        name: &run.config.name,
        decoding: run.config.decoding.clone(),
        provenance: Some(run.provenance(which)?),
    };
    let options = ExportOptions { io: args.io, opset: args.opset, ..ExportOptions::default() };
    let replace = if args.force { Replace::AnyBundle } else { Replace::OlderOf(run.config.name.clone()) };
    let report = match args.layout {
        Layout::Bundle => export::export(&input, &options, &verification, &args.output, &replace),
        Layout::Triton => triton(&input, &options, &verification, &args, &replace),
    };
    let report = report.map_err(|error: Error| error.in_file(&args.output))?;
    show(&report, global)?;
    if args.layout == Layout::Triton {
        if !global.quiet {
            eprintln!(
                "Wrote {} ({} checks). Next: tritonserver --model-repository {}",
                args.output.display(),
                report.checks.len(),
                args.output.display()
            );
        }
        return Ok(());
    }
    if !global.quiet {
        eprintln!("Wrote {} ({} checks). Next: s2s translate {}", args.output.display(), report.checks.len(), args.output.display());
    }
    Ok(())
}

/// A verified bundle, laid out as a repository.
fn triton(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    verification: &VerifyOptions,
    args: &Args,
    replace: &Replace,
) -> Result<Report> {
    let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let bundle = folder.path().join("bundle");
    let report = export::export(input, options, verification, &bundle, replace)?;
    export::write_repository(&args.output, &Bundle::open(&bundle)?, args.force)?;
    Ok(report)
}

fn run_mlp(args: &Args, verification: &VerifyOptions, global: &Global) -> Result<()> {
    let run = MlpRun::open(&args.run)?;
    let (parameters, provenance) = run.checkpoint(Which::from(args.checkpoint))?;
    let name = &run.config.name;
    let replace = if args.force { Replace::AnyBundle } else { Replace::OlderOf(name.clone()) };
    let report = export_mlp(&run.network, &parameters, name, provenance, args.opset, verification, &args.output, &replace)
        .map_err(|error: Error| error.in_file(&args.output))?;
    show(&report, global)?;
    if !global.quiet {
        eprintln!("Wrote {} ({} checks). Next: s2s predict {} FILE.csv", args.output.display(), report.checks.len(), args.output.display());
    }
    Ok(())
}
