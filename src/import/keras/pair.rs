//! An encoder model and a decoder model as the one model that they are together.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::graph::tensors;
use super::saved::{Saved, WITHIN, layers_of, name_of};
use crate::error::{Error, ErrorKind, Result};

/// The model of two that are used one after the other, as people save an encoder and a decoder: one
/// functional model that calls both. What the encoder gives goes into the decoder in the order of its
/// inputs, sequences into those of three axes.
pub(super) fn joined(encoder: Saved, decoder: Saved) -> Result<Saved> {
    let wrong = |message: String| {
        Error::new(ErrorKind::Data, message).help(
            "the encoder model's outputs must be the states (and, for attention, the outputs) that the \
            decoder model takes behind its token",
        )
    };
    let (given, taken) = (outputs(&encoder.config), &decoder.config["config"]["input_layers"]);
    let taken = names_of(taken);
    let (mut sequences, mut states) = (Vec::new(), Vec::new());
    for (at, is_sequence) in given.iter().enumerate() {
        if *is_sequence { sequences.push(at) } else { states.push(at) }
    }
    let (mut sequences, mut states) = (sequences.into_iter(), states.into_iter());
    let mut arguments = vec![json!(["target", 0, 0, {}])];
    for name in taken.iter().skip(1) {
        let of = if axes(&decoder.config, name) == Some(3) { &mut sequences } else { &mut states };
        let at = of.next().ok_or_else(|| {
            wrong(format!(
                "the decoder model takes {} tensors behind its token, and the encoder model gives {}",
                taken.len() - 1,
                given.len()
            ))
        })?;
        arguments.push(json!(["encoder", 0, at, {}]));
    }
    if states.next().is_some() {
        return Err(wrong("the encoder model gives states that the decoder model does not take".to_owned()));
    }
    let input =
        |name: &str| json!({ "class_name": "InputLayer", "config": { "name": name }, "inbound_nodes": [] });
    let model = |name: &str, model: &Value, calls: Value| {
        json!({
            "class_name": model["class_name"], "config": model["config"],
            "inbound_nodes": calls, "called": name,
        })
    };
    let config = json!({ "class_name": "Functional", "config": {
        "layers": [
            input("source"),
            input("target"),
            model("encoder", &encoder.config, json!([[["source", 0, 0, {}]]])),
            model("decoder", &decoder.config, json!([arguments])),
        ],
        "output_layers": [["decoder", 0, 0]],
    }});
    let version = encoder.version;
    let mut layers = BTreeMap::new();
    for (model, of) in [("encoder", encoder.layers), ("decoder", decoder.layers)] {
        layers.extend(of.into_iter().map(|(name, arrays)| (format!("{model}{WITHIN}{name}"), arrays)));
    }
    Ok(Saved { config, version, layers })
}

/// Of each output of a functional model, whether it is a sequence: the first output of a recurrent layer.
fn outputs(config: &Value) -> Vec<bool> {
    let mut found = Vec::new();
    tensors(&config["config"]["output_layers"]).iter().for_each(|tensor| {
        let layer = layers_of(config).into_iter().find(|layer| name_of(layer) == Some(&tensor.layer));
        let inner = |layer: &Value| match layer["class_name"].as_str() {
            Some("Bidirectional") => layer["config"]["layer"]["config"]["return_sequences"].as_bool(),
            _ => layer["config"]["return_sequences"].as_bool(),
        };
        found.push(tensor.output == 0 && layer.and_then(inner) == Some(true));
    });
    found
}

/// The layers that a list of inputs or outputs names.
fn names_of(list: &Value) -> Vec<String> {
    tensors(list).into_iter().map(|tensor| tensor.layer).collect()
}

/// How many axes an input has, the batch counted.
fn axes(config: &Value, input: &str) -> Option<usize> {
    let layer = layers_of(config).into_iter().find(|layer| name_of(layer) == Some(input))?;
    let shape = ["batch_input_shape", "batch_shape"]
        .iter()
        .find_map(|key| layer["config"].get(*key))
        .filter(|shape| !shape.is_null())?;
    shape.as_array().or_else(|| shape["items"].as_array()).map(Vec::len)
}
