//! From what an import has understood of a model to a run.

use std::path::Path;

use s2s_runtime::vocabulary::Unit;
use serde_json::{Value, json};

use crate::config::{Config, LoadOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::families::recurrent::{Run, StoredTexts};
use crate::network::{Architecture, InputForm, Parameters};
use crate::train::lock::RunLock;
use crate::train::{Start, Which};

/// What the config of an imported run says.
pub(super) struct RunConfig<'a> {
    /// The run's name, and whether a user typed it.
    pub(super) name: &'a str,
    pub(super) is_name_typed: bool,
    /// The section `data`, as far as it says where pairs are.
    pub(super) data: Value,
    /// Units of source and target.
    pub(super) units: [Unit; 2],
    /// Licence and attribution of the training data.
    pub(super) licence: Option<&'a str>,
    pub(super) attribution: Option<&'a str>,
    pub(super) architecture: &'a Architecture,
    /// Tokens after which decoding stops.
    pub(super) max_new_tokens: Option<usize>,
}

impl RunConfig<'_> {
    /// The config of the run in the folder `output`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a typed name that cannot be one.
    pub(super) fn parse(self, output: &Path) -> Result<Config> {
        let unit = |unit: Unit| json!({ "unit": if unit == Unit::Token { "token" } else { "character" } });
        let [source, target] = self.units.map(unit);
        let mut data = self.data;
        for (key, value) in [
            ("columns", json!({ "extra": "ignore" })),
            ("validation", json!({ "split": "tail", "fraction": 0.2 })),
            ("vocabulary", json!("all")),
            ("source", source),
            ("target", target),
        ] {
            data[key] = value;
        }
        for (key, text) in [("licence", self.licence), ("attribution", self.attribution)] {
            if let Some(text) = text {
                data[key] = json!(text);
            }
        }
        let mut config = json!({
            "name": self.name,
            "data": data,
            "model": model(self.architecture)?,
            "training": { "epochs": 1, "batch_size": 64, "learning_rate": 0.001 },
        });
        if let Some(limit) = self.max_new_tokens {
            config["decoding"] = json!({ "max_new_tokens": limit });
        }
        let yaml = serde_yaml::to_string(&config).map_err(|e| {
            Error::new(ErrorKind::Internal, "the config cannot be written as YAML").caused_by(e)
        })?;
        Config::parse(&yaml, &output.join("config.yaml"), &LoadOptions::default()).map_err(|error| {
            // The only value that a user typed.
            if self.is_name_typed && error.to_string().contains("name") {
                return Error::new(ErrorKind::Usage, error.message())
                    .help(error.help_text().unwrap_or_default());
            }
            error
        })
    }
}

/// The section `model`: the architecture's own keys, but for the vocabularies and the sides' inputs.
fn model(architecture: &Architecture) -> Result<Value> {
    let input = |form: InputForm| match form {
        InputForm::OneHot => json!("one_hot"),
        InputForm::Embedding(width) => json!({ "embedding": width }),
    };
    let mut model = serde_json::to_value(architecture)
        .map_err(|e| Error::new(ErrorKind::Internal, "the architecture cannot be written").caused_by(e))?;
    if let Some(keys) = model.as_object_mut() {
        keys.retain(|key, _| !key.ends_with("_vocabulary") && !key.ends_with("_input"));
    }
    model["input"] =
        json!({ "source": input(architecture.source_input), "target": input(architecture.target_input) });
    Ok(model)
}

/// Writes the run folder `output`.
///
/// # Errors
/// [`ErrorKind::Usage`] if there is a run already and `force` is not set.
pub(super) fn create(
    output: &Path,
    config: Config,
    stored: StoredTexts,
    force: bool,
    parameters: Parameters<f32>,
) -> Result<Run> {
    let _lock = RunLock::take(output)?;
    Run::create(output, config, stored, force, |_| {
        Ok(Some(Start { which: Which::Best, parameters, optimiser: None }))
    })
}
