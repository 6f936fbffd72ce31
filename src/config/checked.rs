//! What a config means: every value checked, defaults filled in, paths resolved.

use std::path::{Path, PathBuf};

use s2s_runtime::decoding::{DecodingOptions, OutputOptions};
use s2s_runtime::files;

use super::model::{Model, model};
use super::raw::{Field, Node, Value};
use super::training::{Training, training};
use crate::error::{Result, guess};

mod data;

pub(super) use data::validation;
pub use data::{
    Data, DataOrigin, DatesTask, Extra, Files, Format, FormatKind, Side, Validation, VocabularyFrom,
};

use data::data;

/// Everything that an experiment needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Letters, digits, `.`, `_`, `-`; the run folder and the bundle are called so.
    pub name: String,
    /// Where the pairs come from and how text becomes tokens.
    pub data: Data,
    /// The network but for its vocabularies.
    pub model: Model,
    /// How it is trained.
    pub training: Training,
    /// The decoding defaults that the bundle carries.
    pub decoding: DecodingOptions,
    /// The run folder, if the config names one.
    pub output: Option<PathBuf>,
    /// The config as typed, overrides laid over; written to the run folder and, as JSON, into bundles.
    effective: Node,
}

/// What the command line adds to a config.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `KEY=VALUE`, laid over the file in order.
    pub overrides: Vec<String>,
    /// Where the data files lie; else `data.folder`, else the config's folder.
    pub data: Option<PathBuf>,
}

impl Config {
    /// Reads and checks `file`.
    pub fn load(file: &Path, options: &LoadOptions) -> Result<Self> {
        Self::parse(&files::read_text(file, files::CONFIG)?, file, options)
    }

    /// Checks `text`; `file` is named in errors, and its folder is where relative paths start.
    pub fn parse(text: &str, file: &Path, options: &LoadOptions) -> Result<Self> {
        let effective = Node::overlaid(text, file, &options.overrides)?;
        let root = Field::root(file, &effective)
            .section(&["name", "data", "model", "training", "decoding", "output"])?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let name = root.required("name", "my_model")?.folder_name()?.to_owned();
        let data = data(&root.required("data", "{train: pairs.tsv, ...}")?, folder, options.data.as_deref())?;
        let model = model(&root.required("model", "{input: one_hot, hidden: 256}")?)?;
        let training = training(&root.required("training", "{epochs: 10, ...}")?)?;
        let decoding =
            root.get("decoding").map_or_else(|| Ok(DecodingOptions::default()), |f| decoding(&f))?;
        let output = root.get("output").map(|f| f.string().map(|s| folder.join(s))).transpose()?;
        Ok(Self { name, data, model, training, decoding, output, effective })
    }

    /// The config as typed with overrides, as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        self.effective.to_json()
    }

    /// The config as JSON for a bundle: without the paths of the machine that it was trained on.
    pub fn provenance(&self) -> serde_json::Value {
        self.effective.provenance()
    }

    /// What decides the weights: the config without keys that may change when a run is resumed.
    pub fn fingerprint(&self) -> serde_json::Value {
        self.effective.fingerprint(&["decoding", "name"], &self.training)
    }

    /// Fixes what the config left open, so that the copy in the run folder gives the same run from anywhere:
    /// the folder of the data and the number of threads.
    pub fn settle(&mut self, threads: usize, data_folder: Option<&Path>) -> Result<()> {
        self.training.threads = Some(threads);
        self.effective.settle(threads, data_folder)
    }
}

/// The bundle's decoding defaults; the runtime knows their names and ranges.
fn decoding(field: &Field<'_>) -> Result<DecodingOptions> {
    let Value::Map(entries) = &field.node().value else {
        return Err(field.error(
            "this is not a section of decoding options",
            "for example `decoding: {max_new_tokens: 64}`",
        ));
    };
    let known_keys = |field: &Field<'_>, entries: &[(String, Node)], known: &[&str]| {
        let unknown = entries.iter().find(|(key, _)| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |(key, node)| {
            Err(field
                .child(key, node)
                .error("unknown key", guess(key, "known keys here", known.iter().copied())))
        })
    };
    known_keys(field, entries, DecodingOptions::KEYS)?;
    if let Some((key, node)) = entries.iter().find(|(key, _)| key == "output")
        && let Value::Map(inner) = &node.value
    {
        known_keys(&field.child(key, node), inner, OutputOptions::KEYS)?;
    }
    let blame = |message: String| {
        // The reader of the options names the key in backquotes; its line is better than the section's.
        let hit = entries.iter().find(|(key, _)| message.contains(&format!("`{key}`")));
        let place = hit.map_or_else(|| field.clone(), |(key, node)| field.child(key, node));
        place.error(message, "see the decoding options in the documentation")
    };
    let options: DecodingOptions =
        serde_json::from_value(field.node().to_json()).map_err(|e| blame(e.to_string()))?;
    options.check().map_err(|e| blame(e.message().to_owned()))?;
    Ok(options)
}
