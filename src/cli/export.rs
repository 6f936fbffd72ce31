//! `s2s export`: a run folder to a bundle of three ONNX graphs.

use std::path::{Path, PathBuf};

use clap::builder::{FalseyValueParser, PossibleValue, PossibleValuesParser};
use s2s_runtime::bundle::Bundle;
use s2s_runtime::manifest::Io;

use crate::cli::Global;
use crate::cli::verify::{CheckArgs, show};
use crate::data::groups::group;
use crate::data::{Corpus, Part, formats};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    self, Dtype, ExportInput, ExportOptions, FeatureInput, Replace, Report, TARGETS, Target, VerifyOptions,
};
use crate::onnx::{DEFAULT_OPSET, OPSETS};
use crate::score::comparison::compare;
use crate::train::examples::choose;
use crate::train::mlp::MlpRun;
use crate::train::{Run, Which};

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
    /// The format; onnx is the only one
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

fn dev_pairs(args: &Args, run: &Run) -> Result<Part> {
    if let Some(file) = &args.dev {
        return Ok(Part::whole(formats::read(file, None)?.into()));
    }
    let corpus = Corpus::load(&run.config.data, run.config.training.seed, &mut |_, _, _| ())
        .map_err(|error| error.help("name pairs to score with --dev"))?;
    if corpus.validation.is_empty() {
        let error =
            Error::new(ErrorKind::Usage, "the run has no validation data to score smaller weights on");
        return Err(error.help("name pairs with --dev"));
    }
    Ok(corpus.validation)
}

/// Where the bundle goes. A place that nobody named is never written over without --force, not even an older
/// export of the same name: what is there may be somebody's only copy.
fn place(args: &Args, name: &str) -> Result<PathBuf> {
    if let Some(output) = &args.output {
        return Ok(output.clone());
    }
    let own = match args.layout {
        Layout::Bundle => name.to_owned(),
        Layout::Triton => format!("{name}-triton"),
    };
    let output = Path::new("exported").join(own);
    let is_free = output.read_dir().map_or_else(|_| !output.exists(), |mut entries| entries.next().is_none());
    if is_free || args.force {
        return Ok(output);
    }
    let error = Error::new(ErrorKind::Usage, "the default place is taken").in_file(&output);
    Err(error.help("-o names another folder; --force replaces a bundle that is there"))
}

/// Runs `s2s export`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let verification = args.checks.options()?;
    if MlpRun::exists(&args.run) {
        return run_mlp(&args, &verification, global);
    }
    let run = Run::open(&args.run)?;
    let place = place(&args, &run.config.name)?;
    let which = Which::from(args.checkpoint);
    let parameters = run.parameters(which)?;
    let input = run.export_input(&parameters, Some(run.provenance(which)?));
    let opset = args.opset.unwrap_or(DEFAULT_OPSET);
    let mut options = ExportOptions {
        io: args.io,
        opset,
        dtype: args.dtype,
        fused: args.fused,
        ..ExportOptions::default()
    };
    options.examples = match (args.no_examples, args.examples.is_empty()) {
        (true, _) => Vec::new(),
        (false, false) => args.examples.clone(),
        (false, true) => choose(&input, &run.examples),
    };
    if let Some(name) = &args.target {
        let target: &Target = name.parse()?;
        options = target.fit(&run.network, options, args.opset)?;
        if !global.quiet {
            eprintln!("{}", target.describe(options.opset));
        }
    }
    if args.dtype != Dtype::F32 {
        let pairs = dev_pairs(&args, &run)?;
        let comparison = compare(&input, &options, &group(&pairs, &run.source))?;
        if !global.quiet {
            eprintln!("{comparison}");
        }
        comparison.check(args.max_loss)?;
    }
    let replace = if args.force { Replace::AnyBundle } else { Replace::OlderOf(run.config.name.clone()) };
    let report = match args.layout {
        Layout::Bundle => export::export(&input, &options, &verification, &place, &replace),
        Layout::Triton => triton(&input, &options, &verification, &place, args.force, &replace),
    };
    let report = report.map_err(|error: Error| error.in_file(&place))?;
    show(&report, global)?;
    if args.layout == Layout::Triton {
        if !global.quiet {
            eprintln!(
                "Wrote {} ({} checks). Next: tritonserver --model-repository {}",
                place.display(),
                report.checks.len(),
                place.display()
            );
        }
        return Ok(());
    }
    if !global.quiet {
        eprintln!(
            "Wrote {} ({} checks). Next: s2s translate {}",
            place.display(),
            report.checks.len(),
            place.display()
        );
    }
    Ok(())
}

/// A verified bundle, laid out as a repository.
fn triton(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    verification: &VerifyOptions,
    place: &Path,
    force: bool,
    replace: &Replace,
) -> Result<Report> {
    let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let bundle = folder.path().join("bundle");
    let report = export::export(input, options, verification, &bundle, replace)?;
    export::write_repository(place, &Bundle::open(&bundle)?, force)?;
    Ok(report)
}

fn run_mlp(args: &Args, verification: &VerifyOptions, global: &Global) -> Result<()> {
    if args.dtype != Dtype::F32 || args.fused || args.target.is_some() {
        let flag = match (args.fused, args.target.is_some()) {
            (true, _) => "--fused",
            (_, true) => "--target",
            _ => "--dtype",
        };
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{flag} is for sequence models; this run is of another kind"),
        ));
    }
    let run = MlpRun::open(&args.run)?;
    let place = place(args, &run.config.name)?;
    let (parameters, provenance) = run.checkpoint(Which::from(args.checkpoint))?;
    let name = &run.config.name;
    let replace = if args.force { Replace::AnyBundle } else { Replace::OlderOf(name.clone()) };
    let input =
        FeatureInput { network: &run.network, parameters: &parameters, name, provenance: Some(provenance) };
    let opset = args.opset.unwrap_or(DEFAULT_OPSET);
    let report = export::export_features(&input, opset, verification, &place, &replace)
        .map_err(|error: Error| error.in_file(&place))?;
    show(&report, global)?;
    if !global.quiet {
        eprintln!(
            "Wrote {} ({} checks). Next: s2s predict {} FILE.csv",
            place.display(),
            report.checks.len(),
            place.display()
        );
    }
    Ok(())
}
