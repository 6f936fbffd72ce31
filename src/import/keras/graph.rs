//! The layers of a model and how they are connected, models within models included.
//!
//! A model that is called as a layer is passed through: its output is that of a layer within it, and its
//! inputs are what it was called with.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use serde_json::Value;

use super::saved::{is_model, name_of, path_of};
use crate::error::{Error, ErrorKind, Result};

/// A layer as the config describes it.
struct Layer<'a> {
    class: &'a str,
    config: &'a Value,
    /// The tensors that go into each of its calls.
    calls: Vec<Vec<Tensor>>,
    /// Of a model: the tensors that it takes and gives, within it.
    ends: Option<[Vec<Tensor>; 2]>,
    /// The model that it is in, by its path; none for the outermost.
    model: Option<String>,
}

/// One output of one call of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    /// The layer's path.
    pub(super) layer: String,
    pub(super) call: usize,
    pub(super) output: usize,
}

/// All layers of a model.
pub(super) struct Graph<'a> {
    layers: HashMap<String, Layer<'a>>,
    /// All layers, for errors.
    listing: String,
    /// Which call of a model within the model is followed: the first that is met.
    entered: RefCell<HashMap<String, usize>>,
    /// How many layers may still be walked over: a damaged file may lead in a circle.
    steps: Cell<usize>,
    /// What the model gives.
    pub(super) outputs: Vec<Tensor>,
}

/// Layers of a model that are walked over; deep ones have a few dozen.
const MOST_STEPS: usize = 10_000;
/// Layers that are named in an error.
const MOST_NAMES: usize = 60;

/// What any other form is told.
pub(super) const EXPECTED: &str = "expected is: inputs (one-hot rows, or ids through Embedding) -> encoder \
    LSTM or GRU (return_state=True); its states as initial_state of a decoder LSTM or GRU \
    (return_sequences=True) -> Dense(softmax), with attention between these or none, in one functional model \
    or in two; docs/keras.md has all kinds";

/// An error of a model.
pub(super) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Data, message)
}

impl<'a> Graph<'a> {
    /// Reads the config that Keras saved.
    pub(super) fn read(config: &'a Value) -> Result<Self> {
        let class = config["class_name"].as_str().unwrap_or("no class");
        if !(config["config"]["layers"].is_array() && config["config"]["output_layers"].is_array()) {
            let message = format!(
                "the model is of class {class}, whose layers are not connected to each other in the file"
            );
            return Err(wrong(message)
                .help(format!("a subclassed model must be rebuilt as a functional one; {EXPECTED}")));
        }
        let mut layers = HashMap::new();
        let mut names = Vec::new();
        let mut open: Vec<(Vec<String>, &Value)> = vec![(Vec::new(), config)];
        while let Some((models, model)) = open.pop() {
            let (calls, _) = connections(&models, model);
            for (layer, calls) in model["config"]["layers"].as_array().into_iter().flatten().zip(calls) {
                let class = layer["class_name"].as_str().unwrap_or("?");
                let name = name_of(layer).unwrap_or("?").to_owned();
                let path = path_of(&models, &name);
                let mut ends = None;
                if is_model(layer) {
                    let within: Vec<String> = models.iter().cloned().chain([name.clone()]).collect();
                    ends = Some(connections(&within, layer).1);
                    open.push((within, layer));
                } else {
                    names.push(format!("{path} ({class})"));
                }
                let model = (!models.is_empty())
                    .then(|| path_of(&models[..models.len() - 1], &models[models.len() - 1]));
                layers.insert(path, Layer { class, config: &layer["config"], calls, ends, model });
            }
        }
        if names.len() > MOST_NAMES {
            names.truncate(MOST_NAMES);
            names.push("and more".to_owned());
        }
        let mut outputs = Vec::new();
        collect(&config["config"]["output_layers"], &[], &mut outputs);
        Ok(Self {
            layers,
            listing: names.join(", "),
            entered: RefCell::default(),
            steps: Cell::new(MOST_STEPS),
            outputs,
        })
    }

    /// The model is of another form.
    pub(super) fn other(&self, message: &str) -> Error {
        wrong(format!(
            "not an encoder-decoder of a form that can be imported: {message}; its layers are {}",
            self.listing
        ))
        .help(EXPECTED)
    }

    /// A layer stands where it should not.
    pub(super) fn foreign(&self, layer: &str, wanted: &str) -> Error {
        let class = self.layers.get(layer).map_or("?", |layer| layer.class);
        self.other(&format!("layer {layer:?} is {class} where {wanted} is expected"))
    }

    fn layer(&self, name: &str) -> Result<&Layer<'a>> {
        self.layers
            .get(name)
            .ok_or_else(|| self.other(&format!("a layer {name:?} is used and not described")))
    }

    /// Class and config of what a layer does to each step: those of the layer within for `TimeDistributed`.
    pub(super) fn what(&self, name: &str) -> Result<(&'a str, &'a Value)> {
        let layer = self.layer(name)?;
        Ok(match layer.class {
            "TimeDistributed" => (
                layer.config["layer"]["class_name"].as_str().unwrap_or("?"),
                &layer.config["layer"]["config"],
            ),
            class => (class, layer.config),
        })
    }

    /// The same tensor, as the layer gives it that computes it: models are passed through, inwards and
    /// outwards, and so are layers that change nothing.
    pub(super) fn origin(&self, tensor: &Tensor) -> Result<Tensor> {
        let mut at = tensor.clone();
        loop {
            let layer = self.layer(&at.layer)?;
            if let Some([_, gives]) = &layer.ends {
                let call = *self.entered.borrow_mut().entry(at.layer.clone()).or_insert(at.call);
                if call != at.call {
                    let message = format!("model {:?} is called more than once", at.layer);
                    return Err(self.other(&message));
                }
                self.step()?;
                let given = gives.get(at.output).cloned();
                at = given.ok_or_else(|| {
                    self.other(&format!("model {:?} has no output {}", at.layer, at.output))
                })?;
            } else if let ("InputLayer", Some(model)) = (layer.class, &layer.model) {
                self.step()?;
                let outer = self.layer(model)?;
                let takes = outer.ends.iter().flat_map(|[takes, _]| takes);
                let index = takes.clone().position(|input| input.layer == at.layer).unwrap_or(usize::MAX);
                let call = self.entered.borrow().get(model).copied().unwrap_or_default();
                // Keras counts the call that made the model too, or not; where there is one, it is that.
                let call = if outer.calls.len() == 1 { 0 } else { call };
                let given = outer.calls.get(call).and_then(|given| given.get(index)).cloned();
                at = given.ok_or_else(|| {
                    self.other(&format!("model {model:?} is not called with as many tensors as it takes"))
                })?;
            } else if is_idle(self.what(&at.layer)?.0) {
                at = self.single(&at)?;
            } else {
                return Ok(at);
            }
        }
    }

    fn step(&self) -> Result<()> {
        let Some(left) = self.steps.get().checked_sub(1) else {
            return Err(self.other("its layers go in a circle"));
        };
        self.steps.set(left);
        Ok(())
    }

    /// What goes into the call that gave `tensor`, as it was passed.
    fn inputs(&self, tensor: &Tensor) -> Result<&[Tensor]> {
        self.step()?;
        let calls = &self.layer(&tensor.layer)?.calls;
        let call = calls.get(tensor.call).map(Vec::as_slice);
        call.ok_or_else(|| self.other(&format!("layer {:?} is never called", tensor.layer)))
    }

    fn single(&self, tensor: &Tensor) -> Result<Tensor> {
        match self.inputs(tensor)? {
            [input] => Ok(input.clone()),
            inputs => Err(self.other(&format!("layer {:?} has {} inputs", tensor.layer, inputs.len()))),
        }
    }

    /// What goes into the call that gave `tensor`, each as the layer gives it that computes it.
    pub(super) fn into(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        self.inputs(tensor)?.iter().map(|input| self.origin(input)).collect()
    }

    /// The only thing that goes into that call.
    pub(super) fn only(&self, tensor: &Tensor) -> Result<Tensor> {
        self.origin(&self.single(tensor)?)
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

/// The tensors that go into each call of each layer of a model, and those that the model takes and gives.
fn connections(models: &[String], model: &Value) -> (Vec<Vec<Vec<Tensor>>>, [Vec<Tensor>; 2]) {
    let layers: Vec<&Value> = model["config"]["layers"].as_array().into_iter().flatten().collect();
    let at =
        |layer: &Value| Tensor { layer: path_of(models, name_of(layer).unwrap_or("?")), call: 0, output: 0 };
    if model["class_name"].as_str() == Some("Sequential") {
        // Each layer is called with the one before it; the input is always written down.
        let calls = layers.iter().enumerate().map(|(i, _)| match i.checked_sub(1) {
            Some(before) => vec![vec![at(layers[before])]],
            None => Vec::new(),
        });
        let ends =
            [layers.first(), layers.last()].map(|layer| layer.map(|layer| at(layer)).into_iter().collect());
        return (calls.collect(), ends);
    }
    let all = |value: &Value| {
        let mut found = Vec::new();
        collect(value, models, &mut found);
        found
    };
    let calls =
        layers.iter().map(|layer| layer["inbound_nodes"].as_array().into_iter().flatten().map(all).collect());
    (calls.collect(), ["input_layers", "output_layers"].map(|key| all(&model["config"][key])))
}

/// All tensors that a call, or a model's outputs, name, in order.
///
/// Keras 2 writes `[layer, call, output, {arguments}]`, Keras 3 objects with a `keras_history` of the same
/// three.
pub(super) fn tensors(value: &Value) -> Vec<Tensor> {
    let mut found = Vec::new();
    collect(value, &[], &mut found);
    found
}

/// Masks are left out: layers compute them from what they read.
fn collect(value: &Value, models: &[String], found: &mut Vec<Tensor>) {
    match value {
        Value::Array(items) => match &items[..] {
            [Value::String(layer), call, output, rest @ ..] if call.is_u64() && output.is_u64() => {
                let number = |value: &Value| {
                    value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
                };
                found.push(Tensor {
                    layer: path_of(models, layer),
                    call: number(call),
                    output: number(output),
                });
                rest.iter().for_each(|value| collect(value, models, found));
            }
            _ => items.iter().for_each(|value| collect(value, models, found)),
        },
        Value::Object(map) => match value["config"].get("keras_history") {
            Some(history) => collect(history, models, found),
            None => {
                let arguments = map.iter().filter(|(key, _)| *key != "mask");
                arguments.for_each(|(_, value)| collect(value, models, found));
            }
        },
        _ => {}
    }
}

/// Whether a layer is a softmax over its last axis.
pub(super) fn is_softmax(class: &str, config: &Value) -> bool {
    class == "Softmax" && matches!(config["axis"].as_i64(), Some(-1) | None)
        || class == "Activation" && text(config, "activation") == Some("softmax")
}

/// A setting that a layer must not have.
pub(super) fn unsupported(layer: &str, key: &str, value: &Value, wanted: &str) -> Error {
    let value = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    wrong(format!("layer {layer:?}: {key} is {value}; only {wanted} can be imported"))
        .help("train such a model again with that setting, or with `s2s train`")
}

/// A text of a config.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value[key].as_str()
}
