//! Attention between decoder and output: Keras's layers, and Luong's attention spelt out in layers.

use serde_json::Value;

use super::graph::{Graph, Tensor, is_softmax, text, unsupported};
use crate::error::Result;

/// Attention between decoder and output.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) score: Score,
    /// The dense layer with tanh over context and state, if there is one.
    pub(super) combine: Option<String>,
    /// Whether the context comes before the state.
    pub(super) context_first: bool,
}

/// How a state h is scored against an encoder output m.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Score {
    /// h . m
    Dot,
    /// h . m times the number that this layer has.
    Scaled(String),
    /// (h K) . m with this dense layer's K.
    General(String),
    /// sum tanh(h + m), with the weights that this layer has, if any.
    Additive(Option<String>),
}

impl Graph<'_> {
    /// The attention whose result this is, the decoder's state that asks, and the encoder's outputs; `None`
    /// where it is none.
    pub(super) fn attention(&self, at: &Tensor) -> Result<Option<(Attention, Tensor, Tensor)>> {
        let (class, config) = self.what(&at.layer)?;
        let (combine, both) = match class {
            "Concatenate" => (None, at.clone()),
            "Dense" => {
                if text(config, "activation") != Some("tanh") {
                    return Err(unsupported(&at.layer, "activation", &config["activation"], "tanh"));
                }
                (Some(at.layer.clone()), self.only(at)?)
            }
            "Attention" | "AdditiveAttention" => {
                let message = format!(
                    "the output reads what layer {:?} gives, and not the decoder's state beside it",
                    at.layer
                );
                return Err(self.other(&message));
            }
            _ => return Ok(None),
        };
        if self.what(&both.layer)?.0 != "Concatenate" {
            return Err(self.foreign(&both.layer, "Concatenate of a context and a state"));
        }
        let parts = self.into(&both)?;
        let [a, b] = &parts[..] else {
            let message = format!("layer {:?} puts {} tensors together, not two", both.layer, parts.len());
            return Err(self.other(&message));
        };
        self.last_axis(&both)?;
        let is_context = |tensor: &Tensor| -> Result<bool> {
            Ok(matches!(self.what(&tensor.layer)?.0, "Attention" | "AdditiveAttention" | "Dot"))
        };
        let context_first = is_context(a)?;
        let (context, state) = if context_first { (a, b) } else { (b, a) };
        let (score, query, memory) = self.context(context)?;
        if query != *state {
            let message = format!(
                "attention asks with what layer {:?} gives, and the output reads {:?}",
                query.layer, state.layer
            );
            return Err(self.other(&message));
        }
        if memory.output != 0 {
            return Err(self.other(&format!("attention reads the states of layer {:?}", memory.layer)));
        }
        Ok(Some((Attention { score, combine, context_first }, query, memory)))
    }

    /// How a context is made: its score, the state that asks, and what it reads.
    fn context(&self, context: &Tensor) -> Result<(Score, Tensor, Tensor)> {
        let name = &context.layer;
        let (class, config) = self.what(name)?;
        let parts = self.into(context)?;
        if class == "Dot" {
            return self.spelt_out(context, &parts);
        }
        if !matches!(class, "Attention" | "AdditiveAttention") {
            return Err(self.foreign(name, "Attention, AdditiveAttention or Dot"));
        }
        let (query, value) = match &parts[..] {
            [query, value] => (query, value),
            [query, value, key] if key == value => (query, value),
            _ => {
                let message = format!("layer {name:?} has a key that is not its value");
                return Err(self.other(&message));
            }
        };
        for key in ["use_causal_mask", "causal"] {
            if config[key].as_bool() == Some(true) {
                return Err(unsupported(name, key, &config[key], "false"));
            }
        }
        if context.output != 0 {
            return Err(self.other(&format!("the scores of layer {name:?} go on into the model")));
        }
        let scale = config["use_scale"].as_bool() == Some(true);
        let mode = text(config, "score_mode").unwrap_or("dot");
        let score = match (class, mode) {
            ("AdditiveAttention", _) => Score::Additive(scale.then(|| name.clone())),
            (_, "dot") if scale => Score::Scaled(name.clone()),
            (_, "dot") => Score::Dot,
            _ => return Err(unsupported(name, "score_mode", &config["score_mode"], "dot")),
        };
        Ok((score, query.clone(), value.clone()))
    }

    /// Luong's attention of `Dot` layers: softmax(query . memory) . memory.
    fn spelt_out(&self, context: &Tensor, parts: &[Tensor]) -> Result<(Score, Tensor, Tensor)> {
        let other = |layer: &str| {
            self.other(&format!(
                "layer {layer:?} is a Dot, and attention of such layers is \
                Dot(axes=[2, 1])([softmax(Dot(axes=[2, 2])([state, outputs])), outputs])"
            ))
        };
        let axes = |layer: &str| -> Result<Vec<i64>> {
            let axes = &self.what(layer)?.1["axes"];
            let one = axes.as_i64().map(|axis| vec![axis, axis]);
            let list = || axes.as_array().or_else(|| axes["items"].as_array());
            Ok(one
                .or_else(|| list().map(|list| list.iter().filter_map(Value::as_i64).collect()))
                .unwrap_or_default())
        };
        let [weights, memory] = parts else { return Err(other(&context.layer)) };
        let (class, config) = self.what(&weights.layer)?;
        if !is_softmax(class, config) || !matches!(axes(&context.layer)?[..], [2 | -1, 1]) {
            return Err(other(&context.layer));
        }
        let scores = self.only(weights)?;
        let asked = self.into(&scores)?;
        let [query, read] = &asked[..] else { return Err(other(&scores.layer)) };
        let (class, config) = self.what(&scores.layer)?;
        let plain = class == "Dot" && config["normalize"].as_bool() != Some(true);
        if !plain || read != memory || !matches!(axes(&scores.layer)?[..], [2 | -1, 2 | -1]) {
            return Err(other(&scores.layer));
        }
        let (class, config) = self.what(&query.layer)?;
        if class != "Dense" {
            return Ok((Score::Dot, query.clone(), memory.clone()));
        }
        for (key, wanted) in [("activation", Value::from("linear")), ("use_bias", Value::from(false))] {
            if config[key] != wanted {
                return Err(unsupported(&query.layer, key, &config[key], &wanted.to_string()));
            }
        }
        Ok((Score::General(query.layer.clone()), self.only(query)?, memory.clone()))
    }

    fn last_axis(&self, layer: &Tensor) -> Result<()> {
        let config = self.what(&layer.layer)?.1;
        match config["axis"].as_i64() {
            Some(-1 | 2) | None => Ok(()),
            _ => Err(unsupported(&layer.layer, "axis", &config["axis"], "-1")),
        }
    }
}
