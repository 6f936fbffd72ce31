//! The options of the layers, as configs and checkpoints spell them.

use serde::{Deserialize, Serialize};

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
