//! The schema of configs of `model.kind: mlp`.

use serde_json::{Map, Value, json};

use super::forms::{count, number, section, text, validation};
use super::training::training;

/// What of the section `training` a perceptron has.
const TRAINING: [&str; 14] = [
    "epochs",
    "batch_size",
    "seed",
    "threads",
    "learning_rate",
    "optimiser",
    "clip_norm",
    "label_smoothing",
    "schedule",
    "early_stopping",
    "reduce_lr_on_plateau",
    "terminate_on_nan",
    "csv_logger",
    "tensorboard",
];

/// The schema of the whole config.
pub(super) fn schema() -> Value {
    section(
        "An experiment with a multilayer perceptron: rows of numbers with a label.",
        &["name", "data", "model", "training"],
        &json!({
            "name": { "description": "Names the run folder and the bundle.", "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$" },
            "data": data(),
            "model": model(),
            "training": of_training(),
        }),
    )
}

fn data() -> Value {
    section(
        "Where the samples come from.",
        &["train", "validation"],
        &json!({
            "folder": text("Where the data files lie; --data and S2S_DATA win."),
            "train": text("The file of samples: numbers between commas, the label last; may be gzipped."),
            "validation": validation(),
            "scale": number("Features are divided by this.", &json!({ "exclusiveMinimum": 0, "default": 1 })),
            "licence": text("Of the data; stored in the bundle."),
            "attribution": text("Who made the data; stored in the bundle."),
        }),
    )
}

fn model() -> Value {
    section(
        "The network.",
        &["kind", "inputs", "hidden", "classes"],
        &json!({
            "kind": { "description": "A multilayer perceptron.", "const": "mlp" },
            "inputs": count("Features of a sample.", 1, None),
            "hidden": { "description": "Widths of the hidden layers; ReLU after each.", "type": "array", "items": count("Width.", 1, None) },
            "classes": count("Labels, counted from 0.", 2, None),
        }),
    )
}

fn of_training() -> Value {
    let mut whole = training();
    if let Some(Value::Object(properties)) = whole.get_mut("properties") {
        let kept: Map<String, Value> =
            TRAINING.iter().filter_map(|&key| Some((key.to_owned(), properties.remove(key)?))).collect();
        *properties = kept;
    }
    whole
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::LoadOptions;
    use crate::config::mlp::MlpConfig;
    use crate::config::raw::tests::KNOWN;
    use std::collections::BTreeSet;
    use std::path::Path;

    const FULL: &str = include_str!("../../../configs/mlp_mnist.yaml");

    fn refusal(assignment: String) -> crate::error::Error {
        MlpConfig::parse(FULL, Path::new("a.yaml"), &LoadOptions { overrides: vec![assignment], data: None })
            .unwrap_err()
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_of_perceptrons_knows() {
        let schema = schema();
        for at in ["", "data", "data.validation", "model", "training"] {
            let pointer = at
                .split('.')
                .filter(|key| !key.is_empty())
                .map(|key| format!("/properties/{key}"))
                .collect::<String>();
            let properties = schema.pointer(&pointer).unwrap()["properties"].as_object().unwrap();
            let error = refusal(format!("{at}{}qqqqqqqq=1", if at.is_empty() { "" } else { "." }));
            assert_eq!(error.message(), "unknown key", "{at}");
            assert_eq!(
                properties.keys().cloned().collect::<BTreeSet<_>>(),
                KNOWN.take().into_iter().collect(),
                "{at}"
            );
            for key in schema.pointer(&pointer).unwrap()["required"].as_array().unwrap() {
                let key = key.as_str().unwrap();
                let path = [at, key].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(".");
                let error = refusal(format!("{path}=null"));
                assert!(error.to_string().contains(key), "{path}: {error}");
            }
        }
    }
}
