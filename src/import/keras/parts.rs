//! The parts of an encoder-decoder, found by how its layers are connected: names of layers mean nothing.
//!
//! From the output back: a dense softmax, attention if there is some, the decoder's recurrent layers, their
//! input; from the states that these start with, and from what attention reads: the encoder's recurrent
//! layers, their input.

use serde_json::Value;

use super::attention::Attention;
use super::graph::{EXPECTED, Graph, Tensor, is_softmax, text, unsupported, wrong};
use crate::error::Result;

/// The layers of an encoder-decoder, by their paths in the file.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) encoder: Side,
    pub(super) decoder: Side,
    /// What all recurrent layers are made of.
    pub(super) cell: Cell,
    /// Whether the encoder's layers read both ways.
    pub(super) bidirectional: bool,
    /// Of each decoder layer, the encoder layer whose last states it starts from; else from zeros.
    pub(super) starts: Vec<Option<usize>>,
    pub(super) attention: Option<Attention>,
    /// The layer that holds the output's weights.
    pub(super) dense: String,
}

/// One side of it.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Recurrent layers, the lowest first.
    pub(super) layers: Vec<String>,
    /// The embedding, if ids come in; else one-hot rows do.
    pub(super) embedding: Option<String>,
    /// What padding is masked.
    pub(super) masked: Masked,
}

/// What a side takes for padding and never reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Masked {
    /// Nothing.
    #[default]
    Nothing,
    /// Rows of zeros: `Masking` over one-hot rows. No symbol has such a row.
    ZeroRows,
    /// Id 0: `mask_zero`.
    IdZero,
}

/// The kind of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lstm,
    /// GRU, `reset_after`.
    GruAfter,
    /// GRU, the reset gate before the product.
    GruBefore,
}

/// What a recurrent layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) kind: Kind,
    /// Whether its gates are hard sigmoids.
    pub(super) hard: bool,
}

impl Cell {
    /// How many states a layer has.
    fn states(self) -> usize {
        if self.kind == Kind::Lstm { 2 } else { 1 }
    }
}

/// A recurrent layer on the way down.
struct Found {
    name: String,
    cell: Cell,
    both_ways: bool,
    /// What it starts from.
    states: Vec<Tensor>,
}

/// Finds the parts in the config that Keras saved.
pub(super) fn find(config: &Value) -> Result<Model> {
    let graph = Graph::read(config)?;
    let [output] = &graph.outputs[..] else {
        return Err(graph.other(&format!("the model has {} outputs", graph.outputs.len())));
    };
    let (dense, below) = graph.dense(output)?;
    let (attention, top) = match graph.attention(&below)? {
        Some((attention, query, memory)) => (Some((attention, memory)), query),
        None => (None, below),
    };
    let mut decoder = Side::default();
    let found = graph.chain(&top, &mut decoder)?;
    if found.is_empty() {
        return Err(graph.other("there is no LSTM or GRU between the inputs and the output"));
    }
    let mut starts = Vec::new();
    for layer in &found {
        graph.returns_sequences(&layer.name)?;
        if layer.both_ways {
            return Err(graph.other(&format!("decoder layer {:?} is Bidirectional", layer.name)));
        }
        starts.push(graph.start(layer)?);
    }
    let mut tops: Vec<Tensor> = starts.iter().flatten().cloned().collect();
    let Some(first) = tops.first() else {
        let message = format!("decoder layer {:?} starts from no states (no initial_state)", found[0].name);
        return Err(graph.other(&message));
    };
    let mut longest = (Vec::new(), Side::default(), first.clone());
    tops.extend(attention.iter().map(|(_, memory)| memory.clone()));
    for top in &tops {
        let mut encoder = Side::default();
        let layers = graph.chain(top, &mut encoder)?;
        if layers.len() > longest.0.len() {
            longest = (layers, encoder, top.clone());
        }
    }
    let (layers, encoder, _) = longest;
    let place = |tensor: &Tensor| -> Result<usize> {
        let at = encoder.layers.iter().position(|layer| *layer == tensor.layer);
        at.ok_or_else(|| {
            let all = encoder.layers.join(", ");
            graph.other(&format!("layer {:?} is no part of the encoder, {all}", tensor.layer))
        })
    };
    for layer in &layers {
        if !layer.states.is_empty() {
            let name = &layer.name;
            let message = format!("encoder layer {name:?} starts from states of its own (initial_state)");
            return Err(graph.other(&message));
        }
        if layer.both_ways != layers[0].both_ways {
            let message = format!(
                "encoder layers {:?} and {:?} do not both read one way or both ways",
                layers[0].name, layer.name
            );
            return Err(graph.other(&message));
        }
    }
    if let Some((_, memory)) = &attention {
        if place(memory)? + 1 != encoder.layers.len() {
            let message = format!("attention reads layer {:?}, not the top of the encoder", memory.layer);
            return Err(graph.other(&message));
        }
        graph.returns_sequences(&memory.layer)?;
    }
    let cell = found[0].cell;
    if let Some(other) = found.iter().chain(&layers).find(|layer| layer.cell != cell) {
        let message = format!("layers {:?} and {:?} are of different kinds", found[0].name, other.name);
        return Err(graph.other(&message));
    }
    let starts = starts.iter().map(|start| start.as_ref().map(&place).transpose()).collect::<Result<_>>()?;
    let bidirectional = layers[0].both_ways;
    let attention = attention.map(|(attention, _)| attention);
    Ok(Model { encoder, decoder, cell, bidirectional, starts, attention, dense })
}

impl Graph<'_> {
    /// From the model's output down to what the dense layer reads; the dense layer's name.
    fn dense(&self, output: &Tensor) -> Result<(String, Tensor)> {
        let (mut at, mut softmax) = (self.origin(output)?, false);
        loop {
            let (class, config) = self.what(&at.layer)?;
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
                    return Ok((at.layer.clone(), self.only(&at)?));
                }
                _ if is_softmax(class, config) && !softmax => softmax = true,
                _ => return Err(self.foreign(&at.layer, "Dense(softmax)")),
            }
            at = self.only(&at)?;
        }
    }

    /// The recurrent layers from `top` down to the model's input, the lowest first; what lies between is
    /// noted in `side`.
    fn chain(&self, top: &Tensor, side: &mut Side) -> Result<Vec<Found>> {
        let (mut at, mut found) = (self.origin(top)?, Vec::new());
        loop {
            let (class, config) = self.what(&at.layer)?;
            match class {
                "InputLayer" => break,
                "LSTM" | "GRU" | "Bidirectional" if side.embedding.is_none() => {
                    let both_ways = class == "Bidirectional";
                    let cell = if both_ways {
                        bidirectional(&at.layer, config)?
                    } else {
                        cell(&at.layer, class, config)?
                    };
                    let mut call = self.into(&at)?.into_iter();
                    let name = at.layer.clone();
                    at = call.next().ok_or_else(|| self.other(&format!("layer {name:?} reads nothing")))?;
                    side.layers.insert(0, name.clone());
                    found.insert(0, Found { name, cell, both_ways, states: call.collect() });
                    continue;
                }
                "Embedding" if side.embedding.is_none() => {
                    if config["mask_zero"].as_bool() == Some(true) {
                        side.masked = Masked::IdZero;
                    }
                    side.embedding = Some(at.layer.clone());
                }
                "Masking" if side.embedding.is_none() => {
                    if config["mask_value"].as_f64() != Some(0.0) {
                        return Err(unsupported(&at.layer, "mask_value", &config["mask_value"], "0"));
                    }
                    side.masked = Masked::ZeroRows;
                }
                _ => return Err(self.foreign(&at.layer, "LSTM, GRU, Embedding or the model's input")),
            }
            at = self.only(&at)?;
        }
        if side.embedding.is_some() && side.masked == Masked::ZeroRows {
            // No row of an embedding is of zeros alone.
            side.masked = Masked::Nothing;
        }
        Ok(found)
    }

    /// The layer whose last states a decoder layer starts from; `None` if from zeros.
    fn start(&self, layer: &Found) -> Result<Option<Tensor>> {
        let (decoder, given) = (&layer.name, &layer.states);
        if given.is_empty() {
            return Ok(None);
        }
        let count = layer.cell.states();
        let mut from: Vec<Option<Tensor>> = Vec::new();
        for (index, state) in given.iter().enumerate() {
            from.push(self.state(decoder, state, index, count)?);
        }
        match &from[..] {
            [Some(first), rest @ ..]
                if from.len() == count
                    && rest.iter().flatten().count() == rest.len()
                    && rest.iter().flatten().all(|state| state.layer == first.layer) =>
            {
                Ok(Some(Tensor { output: 0, ..first.clone() }))
            }
            _ => Err(self.other(&format!(
                "{decoder:?} starts from other tensors than the states ([h, c] of an LSTM, h of a GRU) \
                of one layer, in this order"
            ))),
        }
    }

    /// The layer whose state number `index` of `count` this is; `None` if it is another tensor of one.
    fn state(&self, decoder: &str, state: &Tensor, index: usize, count: usize) -> Result<Option<Tensor>> {
        let (class, config) = self.what(&state.layer)?;
        match class {
            "LSTM" | "GRU" => {
                let is_last = index == 0 && state.output == 0 && gives_last(config);
                Ok((state.output == index + 1 || is_last).then(|| state.clone()))
            }
            // Without return_sequences its output is the states of both ways, side by side.
            "Bidirectional" => {
                let inner = &config["layer"]["config"];
                let is_last = index == 0 && state.output == 0 && gives_last(inner);
                Ok(is_last.then(|| state.clone()))
            }
            "Concatenate" => {
                let parts = self.into(state)?;
                let [forward, backward] = &parts[..] else {
                    let message = format!("layer {:?} puts more than two states together", state.layer);
                    return Err(self.other(&message));
                };
                self.last_axis_of_rows(state)?;
                let fits = self.what(&forward.layer)?.0 == "Bidirectional"
                    && forward.layer == backward.layer
                    && (forward.output, backward.output) == (index + 1, index + 1 + count);
                Ok(fits.then(|| forward.clone()))
            }
            _ => Err(self.other(&format!(
                "{decoder:?} starts from what layer {:?} ({class}) gives, not from the states of an LSTM or \
                GRU",
                state.layer
            ))),
        }
    }

    fn last_axis_of_rows(&self, layer: &Tensor) -> Result<()> {
        let config = self.what(&layer.layer)?.1;
        match config["axis"].as_i64() {
            Some(-1 | 1) | None => Ok(()),
            _ => Err(unsupported(&layer.layer, "axis", &config["axis"], "-1")),
        }
    }

    fn returns_sequences(&self, layer: &str) -> Result<()> {
        let (class, config) = self.what(layer)?;
        let config = if class == "Bidirectional" { &config["layer"]["config"] } else { config };
        let value = &config["return_sequences"];
        if value.as_bool() == Some(true) {
            Ok(())
        } else {
            Err(unsupported(layer, "return_sequences", value, "true"))
        }
    }
}

/// What a recurrent layer computes.
fn cell(name: &str, class: &str, config: &Value) -> Result<Cell> {
    // Long names are of custom objects in the newer format.
    if text(config, "activation") != Some("tanh") {
        return Err(unsupported(name, "activation", &config["activation"], "tanh"));
    }
    let hard = match text(config, "recurrent_activation") {
        Some("sigmoid") => false,
        Some("hard_sigmoid") => true,
        _ => {
            let value = &config["recurrent_activation"];
            return Err(unsupported(name, "recurrent_activation", value, "sigmoid or hard_sigmoid"));
        }
    };
    for key in ["stateful", "go_backwards", "time_major"] {
        if config[key].as_bool() == Some(true) {
            return Err(unsupported(name, key, &config[key], "false"));
        }
    }
    // Versions before 2.1 had no such key, and reset before the product.
    let kind = match (class, config["reset_after"].as_bool().unwrap_or(false)) {
        ("GRU", true) => Kind::GruAfter,
        ("GRU", false) => Kind::GruBefore,
        _ => Kind::Lstm,
    };
    Ok(Cell { kind, hard })
}

/// What the layer computes that a `Bidirectional` runs both ways.
fn bidirectional(name: &str, config: &Value) -> Result<Cell> {
    if text(config, "merge_mode") != Some("concat") {
        return Err(unsupported(name, "merge_mode", &config["merge_mode"], "concat"));
    }
    let inner = |layer: &Value| -> Result<Cell> {
        let class = layer["class_name"].as_str().unwrap_or("?");
        let mut config = layer["config"].clone();
        // The layer that reads back says so itself.
        config["go_backwards"] = Value::Bool(false);
        match class {
            "LSTM" | "GRU" => cell(name, class, &config),
            _ => Err(wrong(format!(
                "layer {name:?} runs {class} both ways; only LSTM and GRU can be imported"
            ))
            .help(EXPECTED)),
        }
    };
    let forward = &config["layer"];
    if forward["config"]["go_backwards"].as_bool() == Some(true) {
        return Err(unsupported(name, "go_backwards", &forward["config"]["go_backwards"], "false"));
    }
    let cell = inner(forward)?;
    let backward = &config["backward_layer"];
    if !backward.is_null() && inner(backward)? != cell {
        return Err(
            wrong(format!("the two directions of layer {name:?} compute different things")).help(EXPECTED)
        );
    }
    Ok(cell)
}

/// Whether a layer gives its last output alone.
fn gives_last(config: &Value) -> bool {
    config["return_sequences"].as_bool() == Some(false)
}
