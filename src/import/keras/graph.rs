//! The parts of an encoder-decoder, found by how its layers are connected: names of layers mean nothing.
//!
//! From the output back: a dense softmax, the decoder's LSTMs, their input; from the states that these start
//! with: the encoder's LSTMs, their input. Layers that do nothing outside training are passed over.

use std::cell::Cell;
use std::collections::HashMap;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// The layers of an encoder-decoder, by their names in the file.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) encoder: Side,
    pub(super) decoder: Side,
    /// The layer that holds the output's weights.
    pub(super) dense: String,
}

/// One side of it.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// LSTM layers, the lowest first.
    pub(super) layers: Vec<String>,
    /// The embedding, if ids come in; else one-hot rows do.
    pub(super) embedding: Option<String>,
    /// Whether padding is masked.
    pub(super) masked: bool,
}

/// A layer as the config describes it.
struct Layer<'a> {
    class: &'a str,
    config: &'a Value,
    /// The tensors that go into each of its calls.
    calls: Vec<Vec<Tensor>>,
}

/// One output of one call of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tensor {
    layer: String,
    call: usize,
    output: usize,
}

struct Graph<'a> {
    layers: HashMap<&'a str, Layer<'a>>,
    /// All layers, for errors.
    listing: String,
    /// How many layers may still be walked over: a damaged file may lead in a circle.
    steps: Cell<usize>,
}

/// Layers of a model that are walked over; deep ones have a dozen.
const MOST_STEPS: usize = 10_000;

const EXPECTED: &str = "expected is: inputs (one-hot rows, or ids through Embedding) -> encoder \
    LSTM(return_state=True); its states as \
     initial_state of a decoder LSTM(return_sequences=True) -> Dense(softmax), in one functional model";

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Data, message)
}

/// Finds the parts in the config that Keras saved.
pub(super) fn find(config: &Value) -> Result<Model> {
    let graph = Graph::read(config)?;
    let outputs = tensors(&config["config"]["output_layers"]);
    let [output] = &outputs[..] else {
        return Err(graph.other(&format!("the model has {} outputs", outputs.len())));
    };
    let (dense, below) = graph.output(output.clone())?;
    let mut decoder = Side::default();
    let mut starts = Vec::new();
    let mut at = below;
    while let Some((name, call)) = graph.lstm(&mut at, &mut decoder)? {
        let [_, h, c] = &call[..] else {
            return Err(graph.other(&format!("LSTM {name:?} starts from no states (no initial_state)")));
        };
        graph.flag(&name, "return_sequences", true)?;
        starts.push((name.clone(), graph.states(&name, h, c)?));
        decoder.layers.insert(0, name);
    }
    let Some((_, top)) = starts.first() else {
        return Err(graph.other("there is no LSTM between the inputs and the output"));
    };
    let mut encoder = Side::default();
    let mut at = top.clone();
    while let Some((name, call)) = graph.lstm(&mut at, &mut encoder)? {
        if call.len() != 1 {
            return Err(
                graph.other(&format!("encoder LSTM {name:?} starts from states of its own (initial_state)"))
            );
        }
        encoder.layers.insert(0, name);
    }
    starts.reverse();
    let pairs: Vec<String> =
        starts.iter().map(|(layer, from)| format!("{layer} starts from {}", from.layer)).collect();
    if !starts.iter().map(|(_, from)| &from.layer).eq(encoder.layers.iter()) {
        let message = format!(
            "decoder and encoder do not go layer by layer: {}; the encoder is {}",
            pairs.join(", "),
            encoder.layers.join(", ")
        );
        return Err(graph.other(&message));
    }
    Ok(Model { encoder, decoder, dense })
}

impl<'a> Graph<'a> {
    fn read(config: &'a Value) -> Result<Self> {
        let layers = config["config"]["layers"].as_array();
        let class = config["class_name"].as_str().unwrap_or("no class");
        let Some(list) = layers.filter(|_| config["config"]["output_layers"].is_array()) else {
            let message = format!(
                "the model is of class {class}, whose layers are not connected to each other in the file"
            );
            return Err(wrong(message)
                .help(format!("a subclassed model must be rebuilt as a functional one; {EXPECTED}")));
        };
        let mut layers = HashMap::new();
        let mut names = Vec::new();
        for layer in list {
            let class = layer["class_name"].as_str().unwrap_or("?");
            let name = layer["config"]["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or("?");
            names.push(format!("{name} ({class})"));
            let calls = layer["inbound_nodes"].as_array().into_iter().flatten().map(tensors).collect();
            layers.insert(name, Layer { class, config: &layer["config"], calls });
        }
        Ok(Self { layers, listing: names.join(", "), steps: Cell::new(MOST_STEPS) })
    }

    /// The model is of another form.
    fn other(&self, message: &str) -> Error {
        wrong(format!(
            "not an encoder-decoder of the tutorial's form: {message}; its layers are {}",
            self.listing
        ))
        .help(EXPECTED)
    }

    fn layer(&self, name: &str) -> Result<&Layer<'a>> {
        self.layers
            .get(name)
            .ok_or_else(|| self.other(&format!("a layer {name:?} is used and not described")))
    }

    /// What goes into the call that gave `tensor`.
    fn inputs(&self, tensor: &Tensor) -> Result<&[Tensor]> {
        let Some(left) = self.steps.get().checked_sub(1) else {
            return Err(self.other("its layers go in a circle"));
        };
        self.steps.set(left);
        let layer = self.layer(&tensor.layer)?;
        layer
            .calls
            .get(tensor.call)
            .map(Vec::as_slice)
            .ok_or_else(|| self.other(&format!("layer {:?} is never called", tensor.layer)))
    }

    /// The only thing that goes into that call.
    fn input(&self, tensor: &Tensor) -> Result<Tensor> {
        match self.inputs(tensor)? {
            [input] => Ok(input.clone()),
            inputs => Err(self.other(&format!("layer {:?} has {} inputs", tensor.layer, inputs.len()))),
        }
    }

    /// From the model's output down to what the dense layer reads; the dense layer's name.
    fn output(&self, mut at: Tensor) -> Result<(String, Tensor)> {
        let mut softmax = false;
        loop {
            let layer = self.layer(&at.layer)?;
            let (class, config) = match layer.class {
                "TimeDistributed" => (
                    text(&layer.config["layer"], "class_name").unwrap_or("?"),
                    &layer.config["layer"]["config"],
                ),
                class => (class, layer.config),
            };
            match class {
                "Dense" => {
                    match text(config, "activation") {
                        Some("softmax") if !softmax => {}
                        Some("linear") => {}
                        _ => {
                            return Err(unsupported(
                                &at.layer,
                                "activation",
                                &config["activation"],
                                "softmax (or linear, with a softmax after it)",
                            ));
                        }
                    }
                    return Ok((at.layer.clone(), self.input(&at)?));
                }
                "Softmax" if !softmax => softmax = true,
                "Activation" if !softmax && text(config, "activation") == Some("softmax") => softmax = true,
                class if is_idle(class) => {}
                _ => return Err(self.foreign(&at.layer, "Dense(softmax)")),
            }
            at = self.input(&at)?;
        }
    }

    /// The next LSTM below `at` and the tensors that go into it; `None` at the model's input. `at` moves
    /// below it; what lies between is noted in `side`.
    fn lstm(&self, at: &mut Tensor, side: &mut Side) -> Result<Option<(String, Vec<Tensor>)>> {
        loop {
            let layer = self.layer(&at.layer)?;
            match layer.class {
                "InputLayer" => return Ok(None),
                "LSTM" if side.embedding.is_none() => {
                    check_lstm(&at.layer, layer.config)?;
                    let call = self.inputs(at)?.to_vec();
                    let name = at.layer.clone();
                    *at = call
                        .first()
                        .cloned()
                        .ok_or_else(|| self.other(&format!("layer {name:?} reads nothing")))?;
                    return Ok(Some((name, call)));
                }
                "Embedding" if side.embedding.is_none() => {
                    side.masked |= layer.config["mask_zero"].as_bool().unwrap_or(false);
                    side.embedding = Some(at.layer.clone());
                }
                "Masking" if side.embedding.is_none() => {
                    if layer.config["mask_value"].as_f64() != Some(0.0) {
                        return Err(unsupported(&at.layer, "mask_value", &layer.config["mask_value"], "0"));
                    }
                    side.masked = true;
                }
                class if is_idle(class) => {}
                "GRU" => {
                    let message = format!("layer {:?} is a GRU; only LSTM layers can be imported", at.layer);
                    return Err(wrong(message).help(
                        "Keras's GRU adds a bias inside the reset product, which our cell does not have",
                    ));
                }
                "Bidirectional" => {
                    let message = format!(
                        "layer {:?} is Bidirectional; only layers that read one way can be imported",
                        at.layer
                    );
                    return Err(wrong(message).help(EXPECTED));
                }
                _ => return Err(self.foreign(&at.layer, "LSTM, Embedding or the model's input")),
            }
            *at = self.input(at)?;
        }
    }

    /// The layer whose final h and c these are.
    fn states(&self, decoder: &str, h: &Tensor, c: &Tensor) -> Result<Tensor> {
        for state in [h, c] {
            if self.layer(&state.layer)?.class != "LSTM" {
                let class = self.layer(&state.layer)?.class;
                let message = format!(
                    "{decoder:?} starts from what layer {:?} ({class}) gives, not from an LSTM's states",
                    state.layer
                );
                return match class {
                    "GRU" | "Bidirectional" => {
                        self.lstm(&mut h.clone(), &mut Side::default()).and(Err(self.other(&message)))
                    }
                    _ => Err(self.other(&message)),
                };
            }
        }
        if (h.output, c.output) != (1, 2) || h.layer != c.layer {
            return Err(self.other(&format!(
                "{decoder:?} starts from other tensors than the states [h, c] of one LSTM, in this order"
            )));
        }
        Ok(h.clone())
    }

    fn flag(&self, layer: &str, key: &str, wanted: bool) -> Result<()> {
        let value = &self.layer(layer)?.config[key];
        if value.as_bool() == Some(wanted) {
            Ok(())
        } else {
            Err(unsupported(layer, key, value, &wanted.to_string()))
        }
    }

    fn foreign(&self, layer: &str, wanted: &str) -> Error {
        let class = self.layers.get(layer).map_or("?", |layer| layer.class);
        self.other(&format!("layer {layer:?} is {class} where {wanted} is expected"))
    }
}

/// Layers that change nothing outside training.
fn is_idle(class: &str) -> bool {
    matches!(
        class,
        "Dropout"
            | "SpatialDropout1D"
            | "GaussianNoise"
            | "GaussianDropout"
            | "AlphaDropout"
            | "ActivityRegularization"
    )
}

/// Whether a layer computes what our LSTM computes.
fn check_lstm(name: &str, config: &Value) -> Result<()> {
    for (key, wanted) in [("activation", "tanh"), ("recurrent_activation", "sigmoid")] {
        // Long names are of custom objects in the newer format.
        if text(config, key) != Some(wanted) {
            return Err(unsupported(name, key, &config[key], wanted));
        }
    }
    for key in ["stateful", "go_backwards", "time_major"] {
        if config[key].as_bool() == Some(true) {
            return Err(unsupported(name, key, &config[key], "false"));
        }
    }
    Ok(())
}

fn unsupported(layer: &str, key: &str, value: &Value, wanted: &str) -> Error {
    let value = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    wrong(format!("layer {layer:?}: {key} is {value}; only {wanted} can be imported"))
        .help("train such a model again with that setting, or with `s2s train`")
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value[key].as_str()
}

/// All tensors that a call, or the model's outputs, name, in order; masks are left out.
///
/// Keras 2 writes `[layer, call, output, {arguments}]`, Keras 3 objects with a `keras_history` of the same
/// three.
fn tensors(value: &Value) -> Vec<Tensor> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<Tensor>) {
    match value {
        Value::Array(items) => match &items[..] {
            [Value::String(layer), call, output, rest @ ..] if call.is_u64() && output.is_u64() => {
                let number = |value: &Value| {
                    value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
                };
                found.push(Tensor { layer: layer.clone(), call: number(call), output: number(output) });
                rest.iter().for_each(|value| collect(value, found));
            }
            _ => items.iter().for_each(|value| collect(value, found)),
        },
        Value::Object(map) => match value["config"].get("keras_history") {
            Some(history) => collect(history, found),
            None => map.iter().filter(|(key, _)| *key != "mask").for_each(|(_, value)| collect(value, found)),
        },
        _ => {}
    }
}
