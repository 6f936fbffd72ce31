//! `s2s import`: models of other programs as a run folder or a bundle.

use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use s2s_runtime::printable;
use s2s_runtime::vocabulary::PaddingSide;
use serde_json::json;

use crate::cli::Global;
use crate::cli::verify::{CheckArgs, show as show_report};
use crate::error::Result;
use crate::export::Dtype;
use crate::import::keras::{self, Filling, Imported, Options, Origin};
use crate::import::{onnx, optimum};
use crate::network::Network;

mod pytorch;
mod run_args;

use pytorch::PytorchArgs;
use run_args::RunArgs;

/// Read a model that another program trained or exported into a run folder or a bundle
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    Keras(Box<KerasArgs>),
    Onnx(Box<OnnxArgs>),
    Optimum(OptimumArgs),
    Pytorch(Box<PytorchArgs>),
}

/// A folder that `optimum-cli export onnx --task text2text-generation-with-past` wrote, as a bundle
///
/// Such a folder can be used as it is; a bundle opens faster, has hashes, a self test and the record of a
/// verification, and carries one encoder and one decoder.
#[derive(Debug, clap::Args)]
pub struct OptimumArgs {
    /// The folder, or a zip of it
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The bundle's folder [default: exported/NAME]
    #[arg(short, long, value_name = "DIR", env = "S2S_OUTPUT")]
    output: Option<PathBuf>,
    /// The model's name [default: that of the folder]
    #[arg(long, env = "S2S_NAME")]
    name: Option<String>,
    /// Licence of the model, for the bundle
    #[arg(long, value_name = "TEXT", env = "S2S_LICENCE")]
    licence: Option<String>,
    /// Attribution that the licence asks for
    #[arg(long, value_name = "TEXT", env = "S2S_ATTRIBUTION")]
    attribution: Option<String>,
    /// How weights are stored: f32, f16, or int8 with a scale for each output; what smaller ones change is said
    #[arg(long, default_value_t, env = "S2S_DTYPE")]
    dtype: Dtype,
    /// Replace the bundle that is in the folder
    #[arg(long, env = "S2S_FORCE", value_parser = FalseyValueParser::new())]
    force: bool,
    #[command(flatten)]
    checks: CheckArgs,
}

const ONNX_HELP: &str = "\
Which tensor is what is found by names and shapes; what is guessed is said, and stands as comments in the manifest. A
vocabulary is one symbol a line, or JSON: a list of symbols, or an object of ids by symbol. What a manifest can say:
examples/pytorch/README.md.

Then: s2s translate BUNDLE \"some text\", and s2s verify BUNDLE";

/// An encoder and a decoder that were exported by hand, as a bundle with a drafted manifest
#[derive(Debug, clap::Args)]
#[command(after_help = ONNX_HELP)]
pub struct OnnxArgs {
    /// Source ids to states or memory
    #[arg(value_name = "ENCODER")]
    encoder: PathBuf,
    /// A token (or all so far) to scores
    #[arg(value_name = "DECODER")]
    decoder: PathBuf,
    /// Symbols of the source by id
    #[arg(long, value_name = "FILE", env = "S2S_SOURCE_VOCABULARY")]
    source_vocabulary: PathBuf,
    /// Symbols of the target by id [default: those of the source]
    #[arg(long, value_name = "FILE", env = "S2S_TARGET_VOCABULARY")]
    target_vocabulary: Option<PathBuf>,
    /// The bundle's folder [default: exported/NAME]
    #[arg(short, long, value_name = "DIR", env = "S2S_OUTPUT")]
    output: Option<PathBuf>,
    /// The model's name [default: that of the folder]
    #[arg(long, env = "S2S_NAME")]
    name: Option<String>,
    /// The padding symbol or its id [default: found by its name]
    #[arg(long, value_name = "SYMBOL|ID", env = "S2S_PAD")]
    pad: Option<String>,
    /// What the decoder reads first
    #[arg(long, value_name = "SYMBOL|ID", env = "S2S_START")]
    start: Option<String>,
    /// What ends an output
    #[arg(long, value_name = "SYMBOL|ID", env = "S2S_END")]
    end: Option<String>,
    /// What stands for unknown symbols
    #[arg(long, value_name = "SYMBOL|ID", env = "S2S_UNKNOWN_SYMBOL")]
    unknown: Option<String>,
    /// What stands before each source, for example a tag of its language
    #[arg(long, value_name = "SYMBOL|ID", env = "S2S_SOURCE_START")]
    source_start: Option<String>,
    /// What stands behind each source
    #[arg(long, value_name = "SYMBOL|ID", env = "S2S_SOURCE_END")]
    source_end: Option<String>,
    /// Tokens after which decoding stops, unless it is told otherwise
    #[arg(long, value_name = "N", env = "S2S_MAX_NEW_TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    /// Replace the bundle that is in the folder
    #[arg(long, env = "S2S_FORCE", value_parser = FalseyValueParser::new())]
    force: bool,
}

const KERAS_HELP: &str = "\
The model is a recurrent encoder-decoder of the form of Keras's ten-minute tutorial: LSTM or GRU, one-hot or with
embeddings, of one or more layers, with or without attention; its parts are found by how the layers are connected. Keras
saves no vocabulary. Give the training text, from which it is built as the tutorial builds it, or write the dictionaries
down where the model was trained:

    json.dump({\"source\": input_token_index, \"target\": target_token_index,
               \"longest_source\": max_encoder_seq_length, \"longest_target\": max_decoder_seq_length}, open(\"vocabulary.json\", \"w\"))

Then: s2s export RUN";

/// A Keras model, .h5, .keras or a SavedModel; Keras itself is not needed
#[derive(Debug, clap::Args)]
#[command(after_help = KERAS_HELP)]
pub struct KerasArgs {
    /// What model.save(...) wrote: a file, or a SavedModel folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The decoder model, where MODEL is the encoder model of such a pair
    #[arg(long, value_name = "MODEL", env = "S2S_DECODER")]
    decoder: Option<PathBuf>,
    /// What model.to_json() says, where MODEL is what save_weights(...) wrote
    #[arg(long, value_name = "FILE.json", env = "S2S_CONFIG", conflicts_with = "decoder")]
    config: Option<PathBuf>,
    /// A JSON file with the dictionaries `source` and `target` (symbol to row); also `unit`, `start`, `end`,
    /// `unknown`
    #[arg(
        long,
        value_name = "FILE.json",
        env = "S2S_VOCABULARY",
        required_unless_present = "pairs",
        conflicts_with = "pairs"
    )]
    vocabulary: Option<PathBuf>,
    /// The training text: source TAB target, read as the tutorial reads it
    #[arg(long, value_name = "FILE", env = "S2S_PAIRS", required_unless_present = "vocabulary")]
    pairs: Option<PathBuf>,
    /// Lines of it that the model was trained on
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "S2S_NUM_SAMPLES", value_parser = clap::value_parser!(u32).range(1..))]
    num_samples: u32,
    /// What the encoder read behind shorter texts
    #[arg(long, value_enum, default_value_t, env = "S2S_PADDING")]
    padding: Padding,
    /// A symbol that it read there, for example " "
    #[arg(long, value_name = "SYMBOL", env = "S2S_PADDING_SYMBOL", conflicts_with = "padding")]
    padding_symbol: Option<String>,
    /// Which end of a text was padded
    #[arg(long, value_enum, default_value_t, env = "S2S_PADDING_SIDE")]
    padding_side: Side,
    /// Symbols of a padded source [default: the longest source of the vocabulary or pairs]
    #[arg(long, value_name = "N", env = "S2S_SOURCE_LENGTH", value_parser = clap::value_parser!(u16).range(1..))]
    source_length: Option<u16>,
    /// The tutorial's max_decoder_seq_length [default: the longest target of the vocabulary or pairs]
    #[arg(long, value_name = "N", env = "S2S_TARGET_LENGTH", value_parser = clap::value_parser!(u16).range(1..))]
    target_length: Option<u16>,
    #[command(flatten)]
    run: RunArgs,
}

/// What stood behind shorter texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Padding {
    /// As the model says: nothing if it masks padding, else zeros (one-hot) or id 0 (embedding)
    #[default]
    Auto,
    /// Nothing
    None,
    /// Rows of zeros
    Zeros,
    /// Id 0
    #[value(name = "id-0")]
    Id0,
}

/// An end of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    /// Before it
    Left,
    /// Behind it
    #[default]
    Right,
}

/// Runs `s2s import`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    match args.from {
        From::Keras(args) => run_keras(*args, global),
        From::Onnx(args) => run_onnx(*args, global),
        From::Optimum(args) => run_optimum(args, global),
        From::Pytorch(args) => pytorch::run(*args, global),
    }
}

fn run_optimum(args: OptimumArgs, global: &Global) -> Result<()> {
    let stem = || args.folder.file_stem().map(|name| name.to_string_lossy().into_owned());
    let output = args.output.clone().unwrap_or_else(|| {
        Path::new("exported").join(args.name.clone().or_else(stem).unwrap_or_else(|| "model".to_owned()))
    });
    let verification = args.checks.options()?;
    let OptimumArgs { folder, name, licence, attribution, dtype, force, .. } = args;
    let options = optimum::Options { folder, name, licence, attribution, dtype, force };
    let optimum::Imported { report, remarks } = optimum::import(&options, &output, &verification)?;
    show_report(&report, global)?;
    if !global.quiet {
        for remark in &remarks {
            eprintln!("{}", printable::line(remark));
        }
        let place = output.display().to_string();
        eprintln!("Wrote {} ({} checks).", printable::line(&place), report.checks.len());
    }
    Ok(())
}

fn run_onnx(args: OnnxArgs, global: &Global) -> Result<()> {
    let stem =
        || args.encoder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let output = args.output.clone().unwrap_or_else(|| {
        Path::new("exported").join(args.name.clone().or_else(stem).unwrap_or_else(|| "model".to_owned()))
    });
    let target = args.target_vocabulary.unwrap_or_else(|| args.source_vocabulary.clone());
    let options = onnx::Options {
        encoder: args.encoder,
        decoder: args.decoder,
        vocabularies: [args.source_vocabulary, target],
        special: onnx::Special {
            given: [args.pad, args.start, args.end, args.unknown],
            around: [args.source_start, args.source_end],
        },
        name: args.name,
        max_new_tokens: args.max_new_tokens.map(|tokens| tokens as usize),
    };
    let imported = onnx::import(&options, &output, args.force)?;
    let onnx::Imported { folder, manifest, remarks } = &imported;
    if global.json {
        let report = json!({
            "bundle": folder,
            "wiring": manifest.wiring,
            "special_ids": manifest.special_ids,
            "found": remarks.found,
            "guessed": remarks.guessed,
        });
        println!("{}", printable::json(&report.to_string()));
    } else if !global.quiet {
        for sentence in &remarks.found {
            eprintln!("  {}", printable::line(sentence));
        }
        if !remarks.guessed.is_empty() {
            eprintln!("Guessed; compare some outputs with those of your own loop:");
        }
        for sentence in &remarks.guessed {
            eprintln!("  {}", printable::line(sentence));
        }
        eprintln!("Wrote {}. Next: s2s verify {}", folder.display(), folder.display());
    }
    Ok(())
}

fn run_keras(args: KerasArgs, global: &Global) -> Result<()> {
    let origin = match (args.vocabulary, args.pairs) {
        (Some(file), _) => Origin::File(file),
        (None, pairs) => {
            Origin::Pairs { file: pairs.unwrap_or_default(), samples: args.num_samples as usize }
        }
    };
    let filling = match (args.padding_symbol, args.padding) {
        (Some(symbol), _) => Filling::Symbol(symbol),
        (None, Padding::Auto) => Filling::Auto,
        (None, Padding::None) => Filling::Nothing,
        (None, Padding::Zeros) => Filling::Zeros,
        (None, Padding::Id0) => Filling::IdZero,
    };
    let run = args.run;
    let output = run.output.unwrap_or_else(|| {
        Path::new("runs").join(run.name.clone().unwrap_or_else(|| keras::default_name(&args.model)))
    });
    let options = Options {
        model: args.model,
        decoder: args.decoder,
        config: args.config,
        origin,
        name: run.name,
        filling,
        side: match args.padding_side {
            Side::Left => PaddingSide::Left,
            Side::Right => PaddingSide::Right,
        },
        source_length: args.source_length.map(usize::from),
        target_length: args.target_length.map(usize::from),
        licence: run.licence,
        attribution: run.attribution,
    };
    let imported = keras::import(&options, &output, run.force)?;
    show(&imported, global)
}

fn show(imported: &Imported, global: &Global) -> Result<()> {
    let Imported { run, keras, encoder, decoder } = imported;
    let architecture = run.network.architecture();
    let padding = run.record.source.spec().padding.as_ref();
    if global.json {
        let report = json!({
            "run": run.folder,
            "keras": keras,
            "encoder": encoder,
            "decoder": decoder,
            "architecture": architecture,
            "padding": padding,
            "parameters": run.network.parameters::<f32>().len(),
        });
        println!("{report}");
    } else if !global.quiet {
        let padded = match padding {
            Some(padding) => {
                format!("short sources are filled up to {} symbols, as in training", padding.length)
            }
            None => "padding is masked".to_owned(),
        };
        eprintln!(
            "Read {} and {} (Keras {keras}): {} units, {} source and {} target symbols; {padded}.",
            encoder.join(", "),
            decoder.join(", "),
            architecture.hidden,
            architecture.source_vocabulary,
            architecture.target_vocabulary
        );
        eprintln!("Wrote {}. Next: s2s export {}", run.folder.display(), run.folder.display());
    }
    Ok(())
}
