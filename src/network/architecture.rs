//! What kind of network it is: everything that fixes names and shapes of the parameters, and nothing else.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The sizes and options of one network; stored in checkpoints and in bundles, so that both can be read alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Source symbols, PAD to UNK counted.
    pub source_vocabulary: usize,
    /// Target symbols, PAD to UNK counted.
    pub target_vocabulary: usize,
    /// How source ids enter the encoder.
    pub source_input: InputForm,
    /// How target ids enter the decoder.
    pub target_input: InputForm,
    /// The recurrent cell of both sides.
    #[serde(default)]
    pub cell: Cell,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Recurrent layers of each side.
    pub layers: usize,
    /// Whether each encoder layer reads both ways, each with half of `hidden`.
    #[serde(default)]
    pub bidirectional: bool,
    /// How the decoder looks back at the source.
    #[serde(default)]
    pub attention: AttentionScore,
    /// Whether the output layer uses the target embedding as its weight (Press and Wolf, arXiv 1608.05859).
    #[serde(default)]
    pub tied_embeddings: bool,
}

/// How the decoder looks back at the source (Luong et al., arXiv 1508.04025).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionScore {
    /// Not at all: only the final states are handed over.
    #[default]
    None,
    /// Score h . m.
    Dot,
    /// Score (h K) . m with a learnt K.
    General,
}

impl Default for Architecture {
    /// The tutorial's sizes, with empty vocabularies.
    fn default() -> Self {
        Self {
            source_vocabulary: 4,
            target_vocabulary: 4,
            source_input: InputForm::OneHot,
            target_input: InputForm::OneHot,
            cell: Cell::Lstm,
            hidden: 256,
            layers: 1,
            bidirectional: false,
            attention: AttentionScore::None,
            tied_embeddings: false,
        }
    }
}

impl Architecture {
    /// Whether such a network can be built.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the option in question.
    pub fn check(&self) -> Result<()> {
        let error = |message: &str, help: &str| Err(Error::new(ErrorKind::Config, message).help(help));
        let widths = [self.source_input, self.target_input].map(|form| match form {
            InputForm::OneHot => 1,
            InputForm::Embedding(width) => width,
        });
        if self.hidden == 0 || self.layers == 0 || widths.contains(&0) {
            return error("`hidden`, `layers` and embedding widths must be at least 1", "for example hidden: 256, layers: 1");
        }
        if self.source_vocabulary < 4 || self.target_vocabulary < 4 {
            return error("a vocabulary must hold at least the four special symbols", "PAD, START, END and UNK have ids 0 to 3");
        }
        if self.bidirectional && !self.hidden.is_multiple_of(2) {
            return error("`hidden` must be even with `bidirectional`", "each direction has half of it");
        }
        if self.tied_embeddings && self.target_input != InputForm::Embedding(self.hidden) {
            return error("`tied_embeddings` needs a target embedding as wide as `hidden`", "the output layer uses it as its weight");
        }
        Ok(())
    }
}

/// How ids become the input of the first recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputForm {
    /// One channel a symbol; PAD is the zero vector.
    OneHot,
    /// A learnt row of this width a symbol; the row of PAD is zero and stays zero.
    Embedding(usize),
}

/// The recurrent cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Long short-term memory, gates in ONNX's order i, o, f, c.
    #[default]
    Lstm,
    /// Gated recurrent unit, gates in ONNX's order z, r, n, the reset gate after the product.
    Gru,
}

impl Cell {
    /// As parameters are named after it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        }
    }
}
