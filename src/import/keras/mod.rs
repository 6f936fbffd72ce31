//! Keras models of the ten-minute tutorial's form: an LSTM encoder whose states start an LSTM decoder, and a
//! softmax.
//!
//! Nothing is traced and Keras is not needed: `file` reads the saved file, `graph` finds the parts of the
//! model by how its layers are connected, `vocabulary` names its rows, `weights` reorders gates and rows.
//!
//! Keras models often learnt with padding that they read (the tutorial masks nothing, so that its encoder
//! steps on over rows of zeros up to the longest text). Such a model is itself only with as much of that
//! padding; it becomes an ordinary symbol that fills sources up ([`Padding`]). Masked padding needs nothing:
//! it is our own exact padding.

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::{Padding, PaddingSide, Unit, VocabularySpec};
use serde_json::json;

use crate::config::{Config, LoadOptions};
use crate::data::corpus::Statistics;
use crate::error::{Error, ErrorKind, Result};
use crate::families::recurrent::{Run, StoredTexts};
use crate::network::{Architecture, InputForm, Network, Seq2Seq};
use crate::train::lock::RunLock;
use crate::train::{Start, Which};

mod file;
mod graph;
mod hdf5;
#[cfg(test)]
mod tests;
mod vocabulary;
mod weights;

pub use vocabulary::Origin;

/// What the encoder of the model read behind (or before) shorter texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filling {
    /// As the model says: nothing if padding is masked, else rows of zeros (one-hot) or id 0 (embedding).
    #[default]
    Auto,
    /// Nothing: texts were never padded.
    Nothing,
    /// Rows of zeros.
    Zeros,
    /// Id 0.
    IdZero,
    /// This symbol of the source vocabulary, as later versions of the tutorial have it with a space.
    Symbol(String),
}

/// What is imported, and how it is to be understood.
#[derive(Clone, Debug)]
pub struct Options {
    /// The saved model.
    pub model: PathBuf,
    /// Where the symbols of its rows come from.
    pub origin: Origin,
    /// The run's name; by default the file's.
    pub name: Option<String>,
    /// What short sources are filled up with.
    pub filling: Filling,
    /// Which end of them.
    pub side: PaddingSide,
    /// Up to how many symbols; by default the vocabulary's longest source.
    pub source_length: Option<usize>,
    /// Most characters that the tutorial's loop writes; by default the vocabulary's longest target.
    pub target_length: Option<usize>,
    /// Licence of the training data.
    pub licence: Option<String>,
    /// Attribution of the training data.
    pub attribution: Option<String>,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The run, written.
    pub run: Run,
    /// Version of Keras that saved the model.
    pub keras: String,
    /// Recurrent layers of the encoder, by their names in the model, the lowest first.
    pub encoder: Vec<String>,
    /// Those of the decoder.
    pub decoder: Vec<String>,
}

/// The name that a model's file suggests.
pub fn default_name(model: &Path) -> String {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() { "keras".to_owned() } else { name }
}

/// Reads the model and writes the run folder `output`; nothing is written unless all of it fits.
///
/// # Errors
/// [`ErrorKind::Data`] for a damaged file, a model of another form (naming the layer and its key), or a
/// vocabulary that does not fit; [`ErrorKind::Usage`] if there is a run already and `force` is not set.
pub fn import(options: &Options, output: &Path, force: bool) -> Result<Imported> {
    let path = &options.model;
    let bytes = files::read(path, files::FOREIGN_MODEL)?;
    let hash = sha256(&bytes);
    let saved = file::read(bytes).map_err(|e| e.in_file(path))?;
    let model = graph::find(&saved.config).map_err(|e| e.in_file(path))?;
    let tensors = weights::Tensors::gather(&model, &saved).map_err(|e| e.in_file(path))?;
    let symbols = vocabulary::read(&options.origin, tensors.source_rows, tensors.target_rows)?;

    let filling = filling(options, &model, &symbols)?;
    let source = vocabulary::source(&symbols, filling.as_ref(), model.encoder.masked)?;
    let target = vocabulary::target(&symbols, model.decoder.masked)?;
    let architecture = Architecture {
        source_vocabulary: source.spec.symbols.len(),
        target_vocabulary: target.spec.symbols.len(),
        source_input: tensors.source_input,
        target_input: tensors.target_input,
        hidden: tensors.hidden,
        layers: model.encoder.layers.len(),
        ..Architecture::default()
    };
    let network = Seq2Seq::new(architecture.clone()).map_err(|e| {
        Error::new(ErrorKind::Data, e.message())
            .in_file(path)
            .help("a model of such sizes cannot be imported")
    })?;
    let limit = options.target_length.unwrap_or(symbols.longest_target);
    let name = options.name.clone().unwrap_or_else(|| default_name(path));
    let config = config(options, &model, &tensors, &symbols, &name, limit, output)?;
    let longest = |of: usize| of.saturating_sub(2);
    let stored = StoredTexts {
        examples: symbols.examples.clone(),
        source: VocabularySpec { longest: symbols.longest_source, ..source.spec },
        target: VocabularySpec { longest: longest(symbols.longest_target), ..target.spec },
        statistics: Statistics {
            samples: symbols.pairs,
            training: symbols.pairs,
            validation: 0,
            source_tokens: symbols.source.len(),
            target_tokens: symbols.target.len(),
            longest_source: symbols.longest_source,
            longest_target: symbols.longest_target,
        },
        init_from: None,
        data: std::iter::once(DataFile { file: file_name(path), sha256: hash, pairs: 0 })
            .chain(symbols.file.clone())
            .collect(),
    };
    debug_assert_eq!(
        architecture,
        config.model.architecture(stored.source.symbols.len(), stored.target.symbols.len())
    );
    let parameters = tensors.parameters(&network, &source.rows, &target.rows)?;

    let _lock = RunLock::take(output)?;
    let run = Run::create(output, config, stored, force, |_| {
        Ok(Some(Start { which: Which::Best, parameters, optimiser: None }))
    })?;
    let names = |side: &graph::Side| side.layers.clone();
    Ok(Imported { keras: saved.version, encoder: names(&model.encoder), decoder: names(&model.decoder), run })
}

/// Reads a saved model as far as that goes without a vocabulary. Hidden: it is the door of the fuzz targets,
/// which have bytes and no symbols.
///
/// # Errors
/// As [`import`].
#[doc(hidden)]
pub fn read_bytes(bytes: Vec<u8>) -> Result<()> {
    let saved = file::read(bytes)?;
    let model = graph::find(&saved.config)?;
    weights::Tensors::gather(&model, &saved).map(drop)
}

/// What sources are filled up with: the row of the model that stands there (none for zeros), and a
/// vocabulary's entry for it.
struct Filler {
    symbol: Option<String>,
    row: Option<usize>,
    padding: Padding,
}

fn filling(options: &Options, model: &graph::Model, symbols: &vocabulary::Symbols) -> Result<Option<Filler>> {
    let usage = |message: String, help: &str| {
        Err(Error::new(ErrorKind::Usage, message).in_file(&options.model).help(help.to_owned()))
    };
    let one_hot = model.encoder.embedding.is_none();
    let kind = match &options.filling {
        Filling::Auto if model.encoder.masked => &Filling::Nothing,
        Filling::Auto if one_hot => &Filling::Zeros,
        Filling::Auto => &Filling::IdZero,
        given => given,
    };
    if model.encoder.masked && *kind != Filling::Nothing {
        return usage(
            "the model masks padding, so that its encoder never reads any".to_owned(),
            "leave --padding out",
        );
    }
    let (symbol, row) = match kind {
        Filling::Auto | Filling::Nothing => return Ok(None),
        Filling::Zeros if !one_hot => {
            return usage(
                "an embedding has no row of zeros".to_owned(),
                "--padding id-0 is what zeros in a matrix of ids stand for",
            );
        }
        Filling::Zeros => (None, None),
        Filling::IdZero => {
            (symbols.source.iter().find(|(_, row)| *row == 0).map(|(symbol, _)| symbol.clone()), Some(0))
        }
        Filling::Symbol(symbol) => match symbols.source.iter().find(|(known, _)| known == symbol) {
            Some((symbol, row)) => (Some(symbol.clone()), Some(*row)),
            None => {
                return usage(
                    format!("{symbol:?} is no symbol of the source vocabulary"),
                    "--padding-symbol names one of its symbols",
                );
            }
        },
    };
    let Some(length) = options.source_length.or(Some(symbols.longest_source).filter(|&length| length > 0))
    else {
        return usage(
            "the model's encoder reads padding, and nothing says up to which length".to_owned(),
            "give --source-length (the tutorial's max_encoder_seq_length) or `longest_source` in the vocabulary; --padding none if texts were never padded",
        );
    };
    let name = symbol.clone().unwrap_or_else(|| vocabulary::unused(&symbols.source));
    Ok(Some(Filler { symbol, row, padding: Padding { symbol: name, length, side: options.side } }))
}

/// The config of the run. It names the pairs where they are known; else a file that may be put into the run
/// folder.
fn config(
    options: &Options,
    model: &graph::Model,
    tensors: &weights::Tensors<'_>,
    symbols: &vocabulary::Symbols,
    name: &str,
    limit: usize,
    output: &Path,
) -> Result<Config> {
    let input = |form: InputForm| match form {
        InputForm::OneHot => json!("one_hot"),
        InputForm::Embedding(width) => json!({ "embedding": width }),
    };
    let unit = json!({ "unit": if symbols.unit == Unit::Token { "token" } else { "character" } });
    let mut data = json!({ "train": "pairs.tsv" });
    if let Origin::Pairs { file, samples } = &options.origin {
        let file = std::path::absolute(file).map_err(|e| Error::io(file, e))?;
        data = json!({ "folder": file.parent(), "train": file_name(&file), "limit": (*samples).max(2) });
    }
    for (key, value) in [
        ("columns", json!({ "extra": "ignore" })),
        ("validation", json!({ "split": "tail", "fraction": 0.2 })),
        ("vocabulary", json!("all")),
        ("source", unit.clone()),
        ("target", unit),
    ] {
        data[key] = value;
    }
    for (key, text) in [("licence", &options.licence), ("attribution", &options.attribution)] {
        if let Some(text) = text {
            data[key] = json!(text);
        }
    }
    let mut config = json!({
        "name": name,
        "data": data,
        "model": {
            "cell": "lstm",
            "hidden": tensors.hidden,
            "layers": model.encoder.layers.len(),
            "input": { "source": input(tensors.source_input), "target": input(tensors.target_input) },
        },
        "training": { "epochs": 1, "batch_size": 64, "learning_rate": 0.001 },
    });
    if limit > 0 {
        // The tutorial's loop stops once more than `limit` characters are written, the newline counted.
        config["decoding"] = json!({ "max_new_tokens": limit + 1 });
    }
    let yaml = serde_yaml::to_string(&config)
        .map_err(|e| Error::new(ErrorKind::Internal, "the config cannot be written as YAML").caused_by(e))?;
    Config::parse(&yaml, &output.join("config.yaml"), &LoadOptions::default()).map_err(|error| match options
        .name
    {
        // The only values that a user typed.
        Some(_) if error.to_string().contains("name") => {
            Error::new(ErrorKind::Usage, error.message()).help(error.help_text().unwrap_or_default())
        }
        _ => error,
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
