//! From checkpoints and a mapping to a run.

use std::path::{Path, PathBuf};

use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::VocabularySpec;
use serde_json::json;

use super::checkpoint::Checkpoint;
use super::mapping::Mapping;
use super::parts::Parts;
use super::vocabulary;
use crate::data::corpus::Statistics;
use crate::error::{Error, ErrorKind, Result};
use crate::families::recurrent::{Run, StoredTexts};
use crate::import::run::{self, RunConfig};
use crate::import::run_name;
use crate::network::{Network, Seq2Seq};

/// What is imported, and how it is to be understood.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files of tensors, each with what is put in front of its names.
    pub checkpoints: Vec<(String, PathBuf)>,
    /// A mapping that comes with the program, by its name, or a file; by default the one beside the first
    /// checkpoint.
    pub mapping: Option<String>,
    /// Symbols by row of source and target, where the mapping does not say them.
    pub vocabularies: [Option<PathBuf>; 2],
    /// The run's name; by default that of the mapping, or of the first checkpoint.
    pub name: Option<String>,
    /// Tokens after which decoding stops; by default as the mapping says.
    pub max_new_tokens: Option<usize>,
    /// Licence of the training data.
    pub licence: Option<String>,
    /// Attribution of the training data.
    pub attribution: Option<String>,
}

/// The mapping in a folder of `s2s export --format pytorch`.
const MAPPING: &str = "mapping.yaml";

/// The weights of such a folder, or the file itself.
fn file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() }
}

/// Tells what an import found and wrote.
#[derive(Debug)]
pub struct Imported {
    /// The run, which lies in its folder.
    pub run: Run,
    /// How many tensors were read.
    pub tensors: usize,
}

/// Reads the checkpoints and writes the run folder `output`; nothing is written unless all of it fits.
///
/// # Errors
/// [`ErrorKind::Config`] for a mapping that cannot be read; [`ErrorKind::Data`] for a damaged file, tensors
/// that do not fit each other (naming them), or a vocabulary that does not fit; [`ErrorKind::Usage`] if there
/// is a run already and `force` is not set.
pub fn import(options: &Options, output: Option<&Path>, force: bool) -> Result<Imported> {
    // A folder of `s2s export --format pytorch`, or one that its train.py wrote.
    let files: Vec<(&str, PathBuf)> =
        options.checkpoints.iter().map(|(p, path)| (&p[..], file(path))).collect();
    let (mut checkpoints, mut data) = (Vec::new(), Vec::new());
    for (prefix, path) in &files {
        let (checkpoint, sha256) = Checkpoint::open(path)?;
        checkpoints.push(checkpoint.under(prefix));
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        data.push(DataFile { file, sha256, pairs: 0 });
    }
    let beside = || files.first().map(|(_, path)| path.with_file_name(MAPPING));
    let mapping = match (&options.mapping, beside()) {
        (Some(name), _) => Mapping::open(name)?,
        (None, Some(path)) if path.exists() => Mapping::read_file(&path)?,
        (None, _) => {
            let message = format!("no {MAPPING} lies beside the checkpoint to say which tensor is what");
            return Err(Error::new(ErrorKind::Usage, message)
                .help("name one with --mapping: a file, or one that comes with the program"));
        }
    };
    let default = || files.first().map_or_else(String::new, |(_, path)| run_name(path, "pytorch"));
    let name = options.name.clone().or(mapping.name.clone()).unwrap_or_else(default);
    let output = output.map_or_else(|| Path::new("runs").join(&name), Path::to_owned);
    let file = match &files[..] {
        [(_, path)] => path.as_path(),
        _ => &mapping.path,
    };
    let parts = Parts::gather(&mapping, &mut checkpoints).map_err(|e| e.in_file(file))?;
    let [source_file, target_file] = options.vocabularies.each_ref().map(Option::as_deref);
    let source = vocabulary::source(&mapping, source_file, &checkpoints, parts.symbols[0])?;
    let target = vocabulary::target(&mapping, target_file, &checkpoints, parts.symbols[1])?;
    let architecture = parts.architecture(&mapping, &source, &target);
    let network = Seq2Seq::new(architecture.clone()).map_err(|e| {
        let error = Error::new(ErrorKind::Data, e.message()).in_file(file);
        error.help("a model of such sizes cannot be imported")
    })?;
    let limit = options.max_new_tokens.or(mapping.max_new_tokens);
    let config = RunConfig {
        name: &name,
        is_name_typed: true,
        // A file that may be put into the run folder.
        data: json!({ "train": "pairs.tsv" }),
        units: [source.spec.unit, target.spec.unit],
        licence: options.licence.as_deref(),
        attribution: options.attribution.as_deref(),
        architecture: &architecture,
        max_new_tokens: limit,
    };
    let config = config.parse(&output)?;
    let statistics = Statistics {
        samples: 0,
        training: 0,
        validation: 0,
        source_tokens: source.spec.symbols.len(),
        target_tokens: target.spec.symbols.len(),
        longest_source: 0,
        longest_target: 0,
    };
    let parameters = parts.parameters(&network, &source, &target)?;
    let stored = StoredTexts {
        examples: Vec::new(),
        source: source.spec,
        target: VocabularySpec { longest: limit.unwrap_or(0), ..target.spec },
        statistics,
        init_from: None,
        data,
    };
    let run = run::create(&output, config, stored, force, parameters)?;
    Ok(Imported { run, tensors: parts.used.len() })
}

/// Reads a checkpoint of any bytes, and every tensor in it. Hidden: it is the door of the fuzz targets.
///
/// # Errors
/// As [`import`].
#[doc(hidden)]
pub fn read_bytes(bytes: Vec<u8>) -> Result<()> {
    /// Each tensor may name the same memory, which is read for each of them.
    const MOST_READ: usize = 16;
    let mut checkpoint = Checkpoint::read(bytes)?;
    let names: Vec<String> = checkpoint.names().take(MOST_READ).map(str::to_owned).collect();
    names.iter().try_for_each(|name| checkpoint.tensor(name).map(drop))
}
