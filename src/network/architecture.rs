//! What kind of network it is: everything that fixes names and shapes of the parameters, and nothing else.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::parameters::Layout;
use crate::error::{Error, ErrorKind, Result};

/// The sizes and options of one network; stored in checkpoints and in bundles, so that both can be read
/// alone.
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

/// Most recurrent (or, of a perceptron, hidden) layers of one side.
pub const MOST_LAYERS: usize = 64;
/// Widest hidden state or embedding.
pub const WIDEST: usize = 65_536;
/// Most symbols of a vocabulary.
pub const MOST_SYMBOLS: usize = 10_000_000;
/// Most parameters: 2 GiB of f32, as much as one ONNX file can hold.
pub const MOST_PARAMETERS: usize = 1 << 29;

impl Architecture {
    /// Whether such a network can be built: the bounds of the config, wherever the sizes were read (a config,
    /// a checkpoint, a manifest, a model of another program).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the option in question.
    pub fn check(&self) -> Result<()> {
        within("layers", self.layers, 1..=MOST_LAYERS)?;
        within("hidden", self.hidden, 1..=WIDEST)?;
        for (name, form) in [("source_input", self.source_input), ("target_input", self.target_input)] {
            if let InputForm::Embedding(width) = form {
                within(name, width, 1..=WIDEST)?;
            }
        }
        // The four special symbols are always there.
        within("source_vocabulary", self.source_vocabulary, 4..=MOST_SYMBOLS)?;
        within("target_vocabulary", self.target_vocabulary, 4..=MOST_SYMBOLS)?;
        let error = |message: &str, help: &str| Err(Error::new(ErrorKind::Config, message).help(help));
        if self.bidirectional && !self.hidden.is_multiple_of(2) {
            return error("`hidden` must be even with `bidirectional`", "each direction has half of it");
        }
        if self.tied_embeddings && self.target_input != InputForm::Embedding(self.hidden) {
            return error(
                "`tied_embeddings` needs a target embedding as wide as `hidden`",
                "the output layer uses it as its weight",
            );
        }
        Ok(())
    }
}

/// Whether an option of an architecture lies in its range.
pub(super) fn within(name: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    let error = Error::new(ErrorKind::Config, format!("`{name}` is {value}, and can be {least} to {most}"));
    Err(error.help("no network of such sizes can be trained here; is the file damaged?"))
}

/// Whether so many parameters can be trained and exported.
pub(super) fn check_count(layout: &Layout) -> Result<()> {
    if layout.len() <= MOST_PARAMETERS {
        return Ok(());
    }
    let message =
        format!("a network of these sizes has {} parameters, and can have {MOST_PARAMETERS}", layout.len());
    Err(Error::new(ErrorKind::Config, message)
        .help("that is what one ONNX file holds; choose smaller `hidden`, `layers` or embeddings"))
}

/// Whether a file of so many `bytes` can hold the values of `layout`, each in at least `width` bytes: asked
/// before memory is, so that a small file cannot ask for much.
///
/// # Errors
/// [`ErrorKind::Data`] without a place.
pub fn check_stored(layout: &Layout, bytes: usize, width: usize) -> Result<()> {
    if layout.len().saturating_mul(width) <= bytes {
        return Ok(());
    }
    let message =
        format!("the architecture asks for {} parameters, and the file has {bytes} bytes", layout.len());
    Err(Error::new(ErrorKind::Data, message))
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
