//! What kind of network it is: everything that fixes names and shapes of the parameters, and nothing else.

use serde::{Deserialize, Serialize};

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
    pub attention: Attention,
    /// Whether the output layer uses the target embedding as its weight (Press and Wolf, arXiv 1608.05859).
    #[serde(default)]
    pub tied_embeddings: bool,
}

/// How the decoder looks back at the source (Luong et al., arXiv 1508.04025).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Not at all: only the final states are handed over.
    #[default]
    None,
    /// Score h . m.
    Dot,
    /// Score (h K) . m with a learnt K.
    General,
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
