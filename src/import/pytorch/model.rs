//! From checkpoints and a mapping to a run.

use std::path::{Path, PathBuf};

use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::{Unit, VocabularySpec};
use serde_json::json;

use super::checkpoint::Checkpoint;
use super::mapping::Mapping;
use super::parts::Parts;
use super::vocabulary;
use crate::config::{Config, LoadOptions};
use crate::data::corpus::Statistics;
use crate::error::{Error, ErrorKind, Result};
use crate::families::recurrent::{Run, StoredTexts};
use crate::network::{Architecture, InputForm, Network, Seq2Seq};
use crate::train::lock::RunLock;
use crate::train::{Start, Which};

/// What is imported, and how it is to be understood.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files of tensors, each with what is put in front of its names.
    pub checkpoints: Vec<(String, PathBuf)>,
    /// A mapping that comes with the program, by its name, or a file.
    pub mapping: String,
    /// Symbols by row of source and target, where the mapping does not say them.
    pub vocabularies: [Option<PathBuf>; 2],
    /// The run's name.
    pub name: String,
    /// Tokens after which decoding stops; by default as the mapping says.
    pub max_new_tokens: Option<usize>,
    /// Licence of the training data.
    pub licence: Option<String>,
    /// Attribution of the training data.
    pub attribution: Option<String>,
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
pub fn import(options: &Options, output: &Path, force: bool) -> Result<Imported> {
    let mapping = Mapping::open(&options.mapping)?;
    let (mut checkpoints, mut data) = (Vec::new(), Vec::new());
    for (prefix, path) in &options.checkpoints {
        let (checkpoint, sha256) = Checkpoint::open(path)?;
        checkpoints.push(checkpoint.under(prefix));
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        data.push(DataFile { file, sha256, pairs: 0 });
    }
    let file = match &options.checkpoints[..] {
        [(_, path)] => path.as_path(),
        _ => &mapping.path,
    };
    let parts = Parts::gather(&mapping, &mut checkpoints).map_err(|e| e.in_file(file))?;
    let [source_file, target_file] = options.vocabularies.each_ref().map(Option::as_deref);
    let source = vocabulary::source(&mapping, source_file, &checkpoints, parts.source.shape[0])?;
    let target = vocabulary::target(&mapping, target_file, &checkpoints, parts.target.shape[0])?;
    let architecture = parts.architecture(&mapping, &source, &target);
    let network = Seq2Seq::new(architecture.clone()).map_err(|e| {
        let error = Error::new(ErrorKind::Data, e.message()).in_file(file);
        error.help("a model of such sizes cannot be imported")
    })?;
    let units = [source.spec.unit, target.spec.unit];
    let limit = options.max_new_tokens.or(mapping.max_new_tokens);
    let config = config(options, &architecture, units, limit, output)?;
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
    let _lock = RunLock::take(output)?;
    let run = Run::create(output, config, stored, force, |_| {
        Ok(Some(Start { which: Which::Best, parameters, optimiser: None }))
    })?;
    Ok(Imported { run, tensors: parts.used.len() })
}

/// The config of the run; it names a file of pairs that may be put into the run folder.
fn config(
    options: &Options,
    architecture: &Architecture,
    units: [Unit; 2],
    limit: Option<usize>,
    output: &Path,
) -> Result<Config> {
    let unit = |unit: Unit| json!({ "unit": if unit == Unit::Token { "token" } else { "character" } });
    let input = |form: InputForm| match form {
        InputForm::OneHot => json!("one_hot"),
        InputForm::Embedding(width) => json!({ "embedding": width }),
    };
    let mut data = json!({
        "train": "pairs.tsv",
        "columns": { "extra": "ignore" },
        "validation": { "split": "tail", "fraction": 0.2 },
        "vocabulary": "all",
        "source": unit(units[0]),
        "target": unit(units[1]),
    });
    for (key, text) in [("licence", &options.licence), ("attribution", &options.attribution)] {
        if let Some(text) = text {
            data[key] = json!(text);
        }
    }
    // The section has the keys of an architecture, but for the vocabularies and the forms of input.
    let mut model = serde_json::to_value(architecture)
        .map_err(|e| Error::new(ErrorKind::Internal, "the architecture cannot be written").caused_by(e))?;
    if let Some(keys) = model.as_object_mut() {
        for key in ["source_vocabulary", "target_vocabulary", "source_input", "target_input"] {
            keys.remove(key);
        }
    }
    model["input"] =
        json!({ "source": input(architecture.source_input), "target": input(architecture.target_input) });
    let mut config = json!({
        "name": options.name,
        "data": data,
        "model": model,
        "training": { "epochs": 1, "batch_size": 64, "learning_rate": 0.001 },
    });
    if let Some(limit) = limit {
        config["decoding"] = json!({ "max_new_tokens": limit });
    }
    let yaml = serde_yaml::to_string(&config)
        .map_err(|e| Error::new(ErrorKind::Internal, "the config cannot be written as YAML").caused_by(e))?;
    Config::parse(&yaml, &output.join("config.yaml"), &LoadOptions::default()).map_err(|error| {
        // The only value that a user typed.
        match error.to_string().contains("name") {
            true => Error::new(ErrorKind::Usage, error.message()).help(error.help_text().unwrap_or_default()),
            false => error,
        }
    })
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
