//! How the graphs are wired: which output goes into which input, and what neither gives.

use serde::{Deserialize, Serialize};

use crate::checked::MOST_AXES;
use crate::vocabulary::PaddingSide;

/// Names of the graphs' inputs and outputs, and which output becomes which input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring {
    /// The encoder's input.
    pub encoder_input: String,
    /// The encoder's second input, which says where its sources are padding; (batch, source_time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_mask: Option<MaskWire>,
    /// The encoder's input that says how many tokens each source has, (batch) or (batch, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_lengths: Option<String>,
    /// Where sources of different lengths are filled up; on the left unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_padding: Option<PaddingSide>,
    /// What stands before each source, as an id of the source vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_start: Option<u32>,
    /// What stands behind each source, as an id of the source vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_end: Option<u32>,
    /// The decoder's token input.
    pub decoder_input: String,
    /// The decoder has no states: each step feeds it all tokens so far, START first, (batch, target_time),
    /// and reads its scores (batch, target_time, vocabulary) at each row's last token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decoder_prefix: bool,
    /// The decoder's input that says where the sources are padding; (batch, source_time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_mask: Option<MaskWire>,
    /// The decoder's scores.
    pub decoder_output: String,
    /// What the scores are.
    #[serde(default)]
    pub output: OutputForm,
    /// Recurrent states, renewed at each step; none of a decoder that is fed the whole prefix.
    #[serde(default)]
    pub states: Vec<StateWire>,
    /// What the encoder gives once and every step reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryWire>,
    /// The decoder's attention weights, f32 (batch, source_time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<String>,
    /// How the encoder is run token by token; of bundles that have the graph for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_step: Option<EncoderStepWiring>,
}

impl Wiring {
    /// The encoder's inputs: the source, then its mask and its lengths if there are any.
    pub fn encoder_inputs(&self) -> Vec<&str> {
        let mask = self.encoder_mask.iter().map(|mask| mask.input.as_str());
        std::iter::once(self.encoder_input.as_str())
            .chain(mask)
            .chain(self.encoder_lengths.as_deref())
            .collect()
    }

    /// The encoder's outputs that decoding reads: first values of states, then memory.
    pub fn encoder_outputs(&self) -> Vec<&str> {
        let states = self.states.iter().filter_map(StateWire::from_encoder);
        states.chain(self.memory.iter().map(|wire| wire.encoder_output.as_str())).collect()
    }

    /// The decoder's inputs: the token, states, memory, then the sources' mask if there is one.
    pub fn decoder_inputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|wire| wire.decoder_input.as_str());
        let memory = self.memory.iter().map(|wire| wire.decoder_input.as_str());
        let mask = self.decoder_mask.iter().map(|mask| mask.input.as_str());
        std::iter::once(self.decoder_input.as_str()).chain(states).chain(memory).chain(mask).collect()
    }

    /// The decoder's outputs: the scores, next states, then the attention weights if there are any.
    pub fn decoder_outputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|wire| wire.decoder_output.as_str());
        std::iter::once(self.decoder_output.as_str()).chain(states).chain(self.attention.as_deref()).collect()
    }
}

/// How the graph `encoder_step` is run over left-padded sources, one column a call.
///
/// All states begin as zeros and stay zeros through the padding. After the last column the graph has given all
/// that the encoder gives: `last` are outputs of the last call, `memory` outputs of every call, stacked along
/// a new axis behind the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderStepWiring {
    /// The token input, int64 (batch, 1); with one-hot tensors f32 (batch, 1, source_vocabulary).
    pub input: String,
    /// The states, f32 (batch, width).
    pub states: Vec<StepState>,
    /// The encoder's outputs that are known after the last token.
    pub last: Vec<StepOutput>,
    /// The encoder's outputs that every token adds a column to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<StepOutput>,
}

impl EncoderStepWiring {
    /// The graph's inputs: the token, then the states.
    pub fn inputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|state| state.step_input.as_str());
        std::iter::once(self.input.as_str()).chain(states).collect()
    }

    /// The graph's outputs: the next states, then what else the encoder's outputs are made of, each once.
    pub fn outputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|state| state.step_output.as_str());
        let others = self.last.iter().chain(&self.memory).map(|output| output.step_output.as_str());
        let mut outputs = Vec::new();
        for name in states.chain(others) {
            if !outputs.contains(&name) {
                outputs.push(name);
            }
        }
        outputs
    }
}

/// One state of the encoder's step; zeros before the first token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepState {
    /// Reads it.
    pub step_input: String,
    /// Gives its next value.
    pub step_output: String,
}

/// An output of the encoder, and the output of its step that it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOutput {
    /// As the encoder calls it.
    pub encoder_output: String,
    /// As its step calls it.
    pub step_output: String,
}

/// What the decoder's scores are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputForm {
    /// Logarithms of probabilities, up to a constant of each row.
    #[default]
    Logits,
    /// Probabilities.
    Probabilities,
    /// Logarithms of probabilities, as `LogSoftmax` gives them; they are read as logits are.
    LogProbabilities,
}

/// One state. Its first value is one of `encoder_output`, `zeros` and `empty`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateWire {
    /// Gives its first value; empty where the encoder does not give it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub encoder_output: String,
    /// Its first value is zeros, f32 (batch, these axes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeros: Option<Vec<usize>>,
    /// Its first value has no elements, f32 (batch, these axes), 0 at the axis that `grows` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Vec<usize>>,
    /// The axis that each step makes longer by one, the batch not counted: the graph itself appends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows: Option<usize>,
    /// Reads it.
    pub decoder_input: String,
    /// Gives its next value.
    pub decoder_output: String,
}

impl StateWire {
    /// The encoder's output that is its first value, if it is one.
    pub fn from_encoder(&self) -> Option<&str> {
        Some(self.encoder_output.as_str()).filter(|name| !name.is_empty())
    }

    /// What is wrong with the keys together: which key, what, and what helps.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        const ONE: &str = "write one of encoder_output, zeros and empty";
        let given = [self.from_encoder().is_some(), self.zeros.is_some(), self.empty.is_some()];
        let given = given.into_iter().filter(|given| *given).count();
        let input = &self.decoder_input;
        if given != 1 {
            return Some(("encoder_output", format!("the state `{input}` has {given} first values"), ONE));
        }
        if let Some(row) = &self.zeros {
            let elements = row.iter().try_fold(1usize, |n, &length| n.checked_mul(length));
            if self.grows.is_some() {
                let help = "a state that grows begins with `empty`, or with what the encoder gives";
                return Some(("grows", format!("the state `{input}` begins with zeros"), help));
            }
            if row.len() >= MOST_AXES || !elements.is_some_and(|n| (1..=MOST_ELEMENTS).contains(&n)) {
                let help = "write the axes of one row without the batch, for example [256]";
                return Some(("zeros", format!("the state `{input}` cannot have rows of {row:?}"), help));
            }
        }
        if let Some(row) = &self.empty {
            let others =
                |grows: usize| row.iter().enumerate().all(|(at, &length)| (length == 0) == (at == grows));
            let elements = row.iter().try_fold(1usize, |n, &length| n.checked_mul(length.max(1)));
            let right = self.grows.is_some_and(|grows| grows < row.len() && others(grows));
            if !right || row.len() >= MOST_AXES || elements.is_none_or(|n| n > MOST_ELEMENTS) {
                let help = "write the axes of one row without the batch, 0 at the axis that `grows` names, \
                    for example empty: [8, 0, 64], grows: 1";
                return Some((
                    "empty",
                    format!("the state `{input}` cannot begin with rows of {row:?}"),
                    help,
                ));
            }
        }
        None
    }
}

/// An input that says which source columns are padding; in the element type that the graph declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskWire {
    /// Reads it.
    pub input: String,
    /// What 1 stands for.
    #[serde(default)]
    pub one: MaskedOne,
}

/// What the ones of a mask stand for; zeros for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskedOne {
    /// A token.
    #[default]
    Token,
    /// Padding.
    Padding,
}

/// Elements of one row of a state that the encoder does not give.
const MOST_ELEMENTS: usize = 1 << 20;

/// One tensor that stays the same from step to step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryWire {
    /// Gives it.
    pub encoder_output: String,
    /// Reads it.
    pub decoder_input: String,
}
