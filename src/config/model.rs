//! Section `model`: the network but for its vocabularies.

use super::raw::{Field, Value};
use crate::error::Result;
use crate::network::ground::limits::{MOST_LAYERS, WIDEST};
use crate::network::{
    Architecture, AttentionOutput, AttentionScore, Bridge, BridgeSource, Cell, Feeding, GateActivation,
    InputForm, Network, Seq2Seq,
};

/// Section `model`: an [`Architecture`] without the vocabulary sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Model(Architecture);

impl Model {
    /// The architecture, once the vocabularies are known.
    pub fn architecture(&self, source_vocabulary: usize, target_vocabulary: usize) -> Architecture {
        Architecture { source_vocabulary, target_vocabulary, ..self.0.clone() }
    }

    /// The first key of the section, as one types it, that says something else than in `other`.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let [old, new] = [self, other].map(|model| serde_json::to_value(&model.0).unwrap_or_default());
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().map_or_else(Vec::new, |map| map.keys().cloned().collect())
        };
        let key = keys(&old).into_iter().chain(keys(&new)).find(|key| old.get(key) != new.get(key))?;
        Some(if key.ends_with("_input") { "input".to_owned() } else { key })
    }
}

/// The words for cells.
const CELLS: [(&str, Cell); 4] = [
    ("lstm", Cell::Lstm),
    ("gru", Cell::Gru),
    ("gru_reset_bias", Cell::GruResetBias),
    ("gru_reset_before", Cell::GruResetBefore),
];

/// The words for the activation of gates.
const GATE_ACTIVATIONS: [(&str, GateActivation); 3] = [
    ("sigmoid", GateActivation::Sigmoid),
    ("hard_sigmoid_fifth", GateActivation::HardSigmoidFifth),
    ("hard_sigmoid_sixth", GateActivation::HardSigmoidSixth),
];

/// The words for bridges.
const BRIDGES: [(&str, Bridge); 4] =
    [("none", Bridge::None), ("linear", Bridge::Linear), ("tanh", Bridge::Tanh), ("relu", Bridge::Relu)];

/// The words for what a bridge reads.
const BRIDGE_SOURCES: [(&str, BridgeSource); 2] =
    [("states", BridgeSource::States), ("hidden", BridgeSource::Hidden)];

/// The words for scores of attention.
const ATTENTION: [(&str, AttentionScore); 4] = [
    ("none", AttentionScore::None),
    ("dot", AttentionScore::Dot),
    ("general", AttentionScore::General),
    ("additive", AttentionScore::Additive),
];

/// The words for what the output layer reads.
const ATTENTION_OUTPUTS: [(&str, AttentionOutput); 4] = [
    ("combined", AttentionOutput::Combined),
    ("combined_linear", AttentionOutput::CombinedLinear),
    ("concatenated", AttentionOutput::Concatenated),
    ("state", AttentionOutput::State),
];

/// The words for what is fed.
const FEEDINGS: [(&str, Feeding); 3] =
    [("none", Feeding::None), ("output", Feeding::Output), ("context", Feeding::Context)];

/// Reads the section.
pub(super) fn model(field: &Field<'_>) -> Result<Model> {
    let section = field.section(&[
        "cell",
        "gate_activation",
        "layers",
        "decoder_layers",
        "hand_over",
        "hidden",
        "encoder_hidden",
        "input",
        "bidirectional",
        "bridge",
        "bridge_source",
        "attention",
        "attention_width",
        "attention_bias",
        "attention_output",
        "feeding",
        "tied_embeddings",
    ])?;
    let count = |key: &str, most: usize| {
        section.get(key).map(|f| f.count(1..=u32::try_from(most).unwrap_or(u32::MAX))).transpose()
    };
    let flag = |key: &str| section.get(key).map_or(Ok(false), |f| f.boolean());
    let hidden = section.required("hidden", "256")?.count(1..=WIDEST as u32)?;
    let input = section.required("input", "one_hot")?;
    let has = |key: &str| matches!(&input.node().value, Value::Map(entries) if entries.iter().any(|(k, _)| k == key));
    let (source_input, target_input) = if has("source") || has("target") {
        let sides = input.section(&["source", "target"])?;
        (
            input_form(&sides.required("source", "one_hot")?)?,
            input_form(&sides.required("target", "one_hot")?)?,
        )
    } else {
        let both = input_form(&input)?;
        (both, both)
    };
    let hand_over = section.get("hand_over").map(|f| layers(&f)).transpose()?;
    // With the smallest vocabularies there are; the real ones are counted once they are known.
    let model = Architecture {
        source_vocabulary: 4,
        target_vocabulary: 4,
        source_input,
        target_input,
        cell: word(&section.get("cell"), &CELLS)?,
        gate_activation: word(&section.get("gate_activation"), &GATE_ACTIVATIONS)?,
        hidden,
        encoder_hidden: count("encoder_hidden", WIDEST)?,
        layers: count("layers", MOST_LAYERS)?.unwrap_or(1),
        decoder_layers: count("decoder_layers", MOST_LAYERS)?,
        hand_over,
        bridge: word(&section.get("bridge"), &BRIDGES)?,
        bridge_source: word(&section.get("bridge_source"), &BRIDGE_SOURCES)?,
        bidirectional: flag("bidirectional")?,
        attention: word(&section.get("attention"), &ATTENTION)?,
        attention_width: count("attention_width", WIDEST)?,
        attention_bias: flag("attention_bias")?,
        attention_output: word(&section.get("attention_output"), &ATTENTION_OUTPUTS)?,
        feeding: word(&section.get("feeding"), &FEEDINGS)?,
        tied_embeddings: flag("tied_embeddings")?,
    };
    Seq2Seq::new(model.clone()).map_err(|e| field.error(e.message(), e.help_text().unwrap_or_default()))?;
    Ok(Model(model))
}

/// One word of a fixed set; where nothing is said, the default.
fn word<T: Copy + Default>(field: &Option<Field<'_>>, words: &[(&str, T)]) -> Result<T> {
    field.as_ref().map_or(Ok(T::default()), |f| f.choice(words))
}

/// A list of layers, counted from 0, or null.
fn layers(field: &Field<'_>) -> Result<Vec<Option<usize>>> {
    let layer = |item: Field<'_>| match item.is_null() {
        true => Ok(None),
        false => item.count(0..=MOST_LAYERS as u32 - 1).map(Some),
    };
    field.list()?.into_iter().map(layer).collect()
}

fn input_form(field: &Field<'_>) -> Result<InputForm> {
    match &field.node().value {
        Value::String(word) if word == "one_hot" => Ok(InputForm::OneHot),
        Value::Map(_) => {
            let section = field.section(&["embedding"])?;
            Ok(InputForm::Embedding(section.required("embedding", "64")?.count(1..=WIDEST as u32)?))
        }
        _ => Err(field.error(
            "this is no form of input",
            "give `one_hot`, `{embedding: 64}`, or both sides: `{source: ..., target: ...}`",
        )),
    }
}
