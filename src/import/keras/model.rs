//! From a saved model to a run.

use std::path::Path;

use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::{Unit, VocabularySpec};
use serde_json::json;

use super::filling::filling;
use super::options::{Options, default_name};
use super::parts::Masked;
use super::vocabulary::Origin;
use super::{file, pair, parts, vocabulary, weights};
use crate::config::{Config, LoadOptions};
use crate::data::corpus::Statistics;
use crate::error::{Error, ErrorKind, Result};
use crate::families::recurrent::{Run, StoredTexts};
use crate::network::{Architecture, InputForm, Network, Seq2Seq};
use crate::train::lock::RunLock;
use crate::train::{Start, Which};

/// Tells what an import found and wrote.
#[derive(Debug)]
pub struct Imported {
    /// The run, which lies in its folder.
    pub run: Run,
    /// Version of Keras that saved the model.
    pub keras: String,
    /// Recurrent layers of the encoder, by their names in the model, the lowest first.
    pub encoder: Vec<String>,
    /// Those of the decoder.
    pub decoder: Vec<String>,
}

/// Reads the model and writes the run folder `output`; nothing is written unless all of it fits.
///
/// # Errors
/// [`ErrorKind::Data`] for a damaged file, a model of another form (naming the layer and its key), or a
/// vocabulary that does not fit; [`ErrorKind::Usage`] if there is a run already and `force` is not set.
pub fn import(options: &Options, output: &Path, force: bool) -> Result<Imported> {
    let path = &options.model;
    let (mut saved, hash) = file::open(path, options.config.as_deref())?;
    let mut data = vec![DataFile { file: file_name(path), sha256: hash, pairs: 0 }];
    if let Some(decoder) = &options.decoder {
        let (second, hash) = file::open(decoder, None)?;
        saved = pair::joined(saved, second).map_err(|e| e.in_file(decoder))?;
        data.push(DataFile { file: file_name(decoder), sha256: hash, pairs: 0 });
    }
    let model = parts::find(&saved.config).map_err(|e| e.in_file(path))?;
    let tensors = weights::Tensors::gather(&model, &saved).map_err(|e| e.in_file(path))?;
    let symbols = vocabulary::read(&options.origin, tensors.source_rows, tensors.target_rows)?;

    let filling = filling(options, &model, &symbols)?;
    let masks = |side: &parts::Side| side.masked == Masked::IdZero;
    let source = vocabulary::source(&symbols, filling.as_ref(), masks(&model.encoder))?;
    let target = vocabulary::target(&symbols, masks(&model.decoder))?;
    let architecture = Architecture {
        source_vocabulary: source.spec.symbols.len(),
        target_vocabulary: target.spec.symbols.len(),
        ..tensors.architecture.clone()
    };
    let network = Seq2Seq::new(architecture.clone()).map_err(|e| {
        Error::new(ErrorKind::Data, e.message()).in_file(path).help("such a model cannot be imported")
    })?;
    let limit = options.target_length.unwrap_or(symbols.longest_target);
    let name = options.name.clone().unwrap_or_else(|| default_name(path));
    let config = config(options, &tensors.architecture, &symbols, &name, limit, output)?;
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
        data: data.into_iter().chain(symbols.file.clone()).collect(),
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
    let names = |side: &parts::Side| side.layers.clone();
    Ok(Imported { keras: saved.version, encoder: names(&model.encoder), decoder: names(&model.decoder), run })
}

/// Reads a saved model as far as that goes without a vocabulary. Hidden: it is the door of the fuzz targets,
/// which have bytes and no symbols.
///
/// # Errors
/// As [`import`].
#[doc(hidden)]
pub fn read_bytes(bytes: Vec<u8>) -> Result<()> {
    let saved = file::read(bytes, None)?;
    let model = parts::find(&saved.config)?;
    weights::Tensors::gather(&model, &saved).map(drop)
}

/// The config of the run. It names the pairs where they are known; else a file that may be put into the run
/// folder.
fn config(
    options: &Options,
    architecture: &Architecture,
    symbols: &vocabulary::Symbols,
    name: &str,
    limit: usize,
    output: &Path,
) -> Result<Config> {
    let input = |form: InputForm| match form {
        InputForm::OneHot => json!("one_hot"),
        InputForm::Embedding(width) => json!({ "embedding": width }),
    };
    // The section has the architecture's own keys, but for the sides' inputs.
    let mut model = serde_json::to_value(architecture)
        .map_err(|e| Error::new(ErrorKind::Internal, "the architecture cannot be written").caused_by(e))?;
    if let Some(keys) = model.as_object_mut() {
        keys.retain(|key, _| !key.ends_with("_vocabulary") && !key.ends_with("_input"));
    }
    model["input"] =
        json!({ "source": input(architecture.source_input), "target": input(architecture.target_input) });
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
        "model": model,
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
