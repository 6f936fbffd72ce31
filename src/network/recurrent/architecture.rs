//! What kind of network it is: everything that fixes names and shapes of the parameters, and nothing else.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::limits::{MOST_LAYERS, MOST_SYMBOLS, WIDEST, within};
use crate::network::layers::kinds::{AttentionScore, Cell, InputForm};

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
