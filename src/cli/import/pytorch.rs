//! `s2s import pytorch`.

use std::path::{Path, PathBuf};

use s2s_runtime::printable;
use serde_json::json;

use super::run_args::RunArgs;
use crate::cli::Global;
use crate::error::{Error, ErrorKind, Result};
use crate::import::pytorch::{self, Imported, Options, SHIPPED};
use crate::network::Network;

const HELP: &str = "\
A mapping is a short YAML file that says which tensor is which part of the model. g2p-en, opennmt and tutorial (that of \
pytorch.org) come with the program; `--mapping NAME --show-mapping` prints one, to start another from. What it can say: \
docs/pytorch.md. Nothing of a .pt file is run.

Then: s2s export RUN";

/// An encoder-decoder of nn.LSTM or nn.GRU, as .safetensors, .pt or .npz; PyTorch itself is not needed
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct PytorchArgs {
    /// Files of weights, or a folder of s2s export --format pytorch; PREFIX=FILE puts PREFIX and a dot in
    /// front of its names
    #[arg(value_name = "CHECKPOINT", required_unless_present = "show_mapping")]
    checkpoints: Vec<String>,
    /// Which tensor is what: a file, or the name of a mapping that comes with the program [default:
    /// mapping.yaml beside the checkpoint]
    #[arg(long, value_name = "NAME|FILE", env = "S2S_MAPPING")]
    mapping: Option<String>,
    /// Print the mapping of that name and read nothing
    #[arg(long, requires = "mapping")]
    show_mapping: bool,
    /// Symbols of the source by row: one a line, or JSON [default: as the mapping says]
    #[arg(long, value_name = "FILE", env = "S2S_SOURCE_VOCABULARY")]
    source_vocabulary: Option<PathBuf>,
    /// Symbols of the target
    #[arg(long, value_name = "FILE", env = "S2S_TARGET_VOCABULARY")]
    target_vocabulary: Option<PathBuf>,
    /// Tokens after which decoding stops [default: as the mapping says]
    #[arg(long, value_name = "N", env = "S2S_MAX_NEW_TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    #[command(flatten)]
    run: RunArgs,
}

/// `PREFIX=FILE`, or a file alone, whatever its name.
fn checkpoint(argument: &str) -> (String, PathBuf) {
    match argument.split_once('=') {
        Some((prefix, file)) if !Path::new(argument).exists() => (prefix.to_owned(), file.into()),
        _ => (String::new(), argument.into()),
    }
}

pub(super) fn run(args: PytorchArgs, global: &Global) -> Result<()> {
    if args.show_mapping {
        return show_mapping(&args.mapping.unwrap_or_default());
    }
    let checkpoints: Vec<(String, PathBuf)> = args.checkpoints.iter().map(|c| checkpoint(c)).collect();
    let options = Options {
        checkpoints,
        mapping: args.mapping,
        vocabularies: [args.source_vocabulary, args.target_vocabulary],
        name: args.run.name,
        max_new_tokens: args.max_new_tokens.map(|tokens| tokens as usize),
        licence: args.run.licence,
        attribution: args.run.attribution,
    };
    let Imported { run, tensors } = pytorch::import(&options, args.run.output.as_deref(), args.run.force)?;
    let architecture = run.network.architecture();
    let parameters = run.network.parameters::<f32>().len();
    if global.json {
        let report = json!({
            "run": run.folder,
            "tensors": tensors,
            "architecture": architecture,
            "parameters": parameters,
        });
        println!("{report}");
    } else if !global.quiet {
        eprintln!(
            "Read {tensors} tensors: {} units, {} source and {} target symbols, {parameters} parameters.",
            architecture.hidden, architecture.source_vocabulary, architecture.target_vocabulary
        );
        let place = run.folder.display().to_string();
        let place = printable::line(&place);
        eprintln!("Wrote {place}. Next: s2s export {place}");
    }
    Ok(())
}

fn show_mapping(name: &str) -> Result<()> {
    let known = SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("`{name}` does not come with the program"))
            .help(format!("those that do are {known}"))
    })?;
    print!("{text}");
    Ok(())
}
