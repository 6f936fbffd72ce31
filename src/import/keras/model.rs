//! From a saved model to a run.

use std::path::Path;

use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::VocabularySpec;
use serde_json::{Value, json};

use super::filling::filling;
use super::options::{Options, default_name};
use super::parts::Masked;
use super::vocabulary::Origin;
use super::{file, pair, parts, vocabulary, weights};
use crate::data::corpus::Statistics;
use crate::error::{Error, ErrorKind, Result};
use crate::families::recurrent::{Run, StoredTexts};
use crate::import::run::{self, RunConfig};
use crate::network::{Architecture, Network, Seq2Seq};

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
    let config = RunConfig {
        name: &name,
        is_name_typed: options.name.is_some(),
        data: pairs(&options.origin)?,
        units: [symbols.unit; 2],
        licence: options.licence.as_deref(),
        attribution: options.attribution.as_deref(),
        architecture: &tensors.architecture,
        // The tutorial's loop stops once more than `limit` characters are written, the newline counted.
        max_new_tokens: (limit > 0).then_some(limit + 1),
    };
    let config = config.parse(output)?;
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

    let run = run::create(output, config, stored, force, parameters)?;
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

/// Where the config of the run finds pairs: where the vocabulary came from, or else in a file that may be put
/// into the run folder.
fn pairs(origin: &Origin) -> Result<Value> {
    let Origin::Pairs { file, samples } = origin else { return Ok(json!({ "train": "pairs.tsv" })) };
    let file = std::path::absolute(file).map_err(|e| Error::io(file, e))?;
    Ok(json!({ "folder": file.parent(), "train": file_name(&file), "limit": (*samples).max(2) }))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
