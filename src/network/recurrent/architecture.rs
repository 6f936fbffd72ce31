//! What kind of network it is: everything that fixes names and shapes of the parameters, and nothing else.
//!
//! With H = `hidden`, E = `encoder_hidden`, A = `attention_width`, V the target vocabulary and O what the
//! output layer reads, the options add these parameters to those of the layers:
//!
//! | parameter | shape | of |
//! |---|---|---|
//! | `decoder.bridge.{state}.weight` | (E, H) | `bridge`, a state such as `state_h_0` |
//! | `decoder.bridge.{state}.bias` | (H) | `bridge` |
//! | `decoder.attention.key` | (H, E) | `attention: general`, K |
//! | `decoder.attention.query` | (H, A) | `attention: additive`, W |
//! | `decoder.attention.memory` | (E, A) | `attention: additive`, U |
//! | `decoder.attention.score_bias` | (A) | `attention: additive` with `attention_bias`, b |
//! | `decoder.attention.score` | (A) | `attention: additive`, v |
//! | `decoder.attention.combine` | (E + H, H) | `attention_output: combined` or `combined_linear`, C |
//! | `decoder.attention.combine_bias` | (H) | the same with `attention_bias` |
//! | `decoder.{cell}_0.feed` | (F, gates * H) | `feeding`; F is H of an output, E of a context |
//! | `decoder.dense.weight` | (O, V) | every network that is not tied |

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::limits::{MOST_LAYERS, MOST_SYMBOLS, WIDEST, within};
use crate::network::layers::kinds::{
    AttentionOutput, AttentionScore, Bridge, BridgeSource, Cell, Feeding, GateActivation, InputForm,
};

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
    /// The activation of the cells' gates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gate_activation: GateActivation,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Width of the encoder's outputs, of both directions together; [`hidden`](Self::hidden) where it is not
    /// said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoder_hidden: Option<usize>,
    /// Recurrent layers of each side.
    pub layers: usize,
    /// Recurrent layers of the decoder; [`layers`](Self::layers) where it is not said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decoder_layers: Option<usize>,
    /// For each decoder layer the encoder layer, counted from 0, whose last states it starts from; `None` for
    /// one that starts from zeros. Not said, each starts from the layer of its own number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hand_over: Option<Vec<Option<usize>>>,
    /// What lies between the encoder's last states and the decoder's first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bridge: Bridge,
    /// What the bridge reads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bridge_source: BridgeSource,
    /// Whether each encoder layer reads both ways, each with half of the encoder's width.
    #[serde(default)]
    pub bidirectional: bool,
    /// How the decoder looks back at the source.
    #[serde(default)]
    pub attention: AttentionScore,
    /// Width of additive scores before they are summed; [`hidden`](Self::hidden) where it is not said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention_width: Option<usize>,
    /// Whether additive scores and the combining layer have a bias.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention_bias: bool,
    /// What the output layer reads where there is attention.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention_output: AttentionOutput,
    /// What enters the decoder's first layer beside the token.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feeding: Feeding,
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
            gate_activation: GateActivation::Sigmoid,
            hidden: 256,
            encoder_hidden: None,
            layers: 1,
            decoder_layers: None,
            hand_over: None,
            bridge: Bridge::None,
            bridge_source: BridgeSource::States,
            bidirectional: false,
            attention: AttentionScore::None,
            attention_width: None,
            attention_bias: false,
            attention_output: AttentionOutput::Combined,
            feeding: Feeding::None,
            tied_embeddings: false,
        }
    }
}

/// Tells values that need not be written, so that what was written before an option existed stays as it was.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Architecture {
    /// Width of the encoder's outputs and states, of both directions together.
    pub fn encoder_width(&self) -> usize {
        self.encoder_hidden.unwrap_or(self.hidden)
    }

    /// Number of the decoder's layers.
    pub fn decoder_depth(&self) -> usize {
        self.decoder_layers.unwrap_or(self.layers)
    }

    /// For each decoder layer the encoder layer whose last states it starts from, if any.
    pub fn starts(&self) -> Vec<Option<usize>> {
        self.hand_over.clone().unwrap_or_else(|| (0..self.decoder_depth()).map(Some).collect())
    }

    /// Width of additive scores before they are summed.
    pub fn score_width(&self) -> usize {
        self.attention_width.unwrap_or(self.hidden)
    }

    /// Width of what the output layer reads.
    pub fn output_width(&self) -> usize {
        match self.attention {
            AttentionScore::None => self.hidden,
            _ => match self.attention_output {
                AttentionOutput::Combined | AttentionOutput::CombinedLinear | AttentionOutput::State => {
                    self.hidden
                }
                AttentionOutput::Concatenated => self.encoder_width() + self.hidden,
            },
        }
    }

    /// Width of what enters the decoder's first layer beside the token, if anything does.
    pub fn fed_width(&self) -> Option<usize> {
        match self.feeding {
            Feeding::None => None,
            Feeding::Output => Some(self.hidden),
            Feeding::Context => Some(self.encoder_width()),
        }
    }

    /// Whether such a network can be built: the bounds of the config, wherever the sizes were read (a config,
    /// a checkpoint, a manifest, a model of another program).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the option in question.
    pub fn check(&self) -> Result<()> {
        within("layers", self.layers, 1..=MOST_LAYERS)?;
        within("decoder_layers", self.decoder_depth(), 1..=MOST_LAYERS)?;
        within("hidden", self.hidden, 1..=WIDEST)?;
        within("encoder_hidden", self.encoder_width(), 1..=WIDEST)?;
        within("attention_width", self.score_width(), 1..=WIDEST)?;
        for (name, form) in [("source_input", self.source_input), ("target_input", self.target_input)] {
            if let InputForm::Embedding(width) = form {
                within(name, width, 1..=WIDEST)?;
            }
        }
        // The four special symbols are always there.
        within("source_vocabulary", self.source_vocabulary, 4..=MOST_SYMBOLS)?;
        within("target_vocabulary", self.target_vocabulary, 4..=MOST_SYMBOLS)?;
        self.check_hand_over()?;
        self.check_attention()?;
        if self.bidirectional && !self.encoder_width().is_multiple_of(2) {
            let (key, help) = match self.encoder_hidden {
                None => ("hidden", "each direction has half of it"),
                Some(_) => ("encoder_hidden", "each direction has half of it"),
            };
            return error(&format!("`{key}` must be even with `bidirectional`"), help);
        }
        if self.tied_embeddings && self.target_input != InputForm::Embedding(self.output_width()) {
            return error(
                "`tied_embeddings` needs a target embedding as wide as what the output layer reads: `hidden`, \
                 unless it reads `concatenated`",
                "the output layer uses it as its weight",
            );
        }
        Ok(())
    }

    /// Whether the decoder can start from what the encoder gives it.
    fn check_hand_over(&self) -> Result<()> {
        let depth = self.decoder_depth();
        match &self.hand_over {
            None if depth != self.layers => {
                return error(
                    "`decoder_layers` differs from `layers`, and `hand_over` does not say what each decoder \
                     layer starts from",
                    "for each decoder layer the number of an encoder layer, counted from 0, or null for zeros: \
                     `hand_over: [1]`",
                );
            }
            Some(starts) if starts.len() != depth => {
                return error(
                    &format!("`hand_over` has {} entries for {depth} decoder layers", starts.len()),
                    "it has one for each: the number of an encoder layer, counted from 0, or null for zeros",
                );
            }
            Some(starts) => {
                if let Some(layer) = starts.iter().flatten().find(|&&layer| layer >= self.layers) {
                    return error(
                        &format!("`hand_over` names the encoder layer {layer} of {}", self.layers),
                        "they are counted from 0",
                    );
                }
            }
            None => {}
        }
        let starts = self.starts();
        if self.attention == AttentionScore::None && !starts.contains(&Some(self.layers - 1)) {
            return error(
                "nothing reads the encoder's top layer: no decoder layer starts from it, and there is no attention",
                "name it in `hand_over`, choose `attention`, or leave the layer out",
            );
        }
        let hands_over = starts.iter().any(Option::is_some);
        if hands_over && self.bridge == Bridge::None && self.encoder_width() != self.hidden {
            return error(
                "`encoder_hidden` differs from `hidden`, and no `bridge` lies between the states",
                "choose `bridge: linear`, or `hand_over` of nulls alone",
            );
        }
        if !hands_over && self.bridge != Bridge::None {
            return error("`bridge` has nothing to read: `hand_over` is null everywhere", "leave it out");
        }
        if self.bridge == Bridge::None && self.bridge_source != BridgeSource::States {
            return error("`bridge_source` is of a `bridge`, and there is none", "leave it out");
        }
        Ok(())
    }

    /// Whether attention can be as it is said.
    fn check_attention(&self) -> Result<()> {
        if self.attention == AttentionScore::None {
            for (key, is_said) in [
                ("attention_width", self.attention_width.is_some()),
                ("attention_bias", self.attention_bias),
                ("attention_output", self.attention_output != AttentionOutput::default()),
                ("feeding", self.feeding != Feeding::None),
            ] {
                if is_said {
                    return error(
                        &format!("`{key}` is of attention, and there is none"),
                        "choose `attention`",
                    );
                }
            }
        }
        if self.attention == AttentionScore::Dot && self.encoder_width() != self.hidden {
            return error(
                "`attention: dot` needs an encoder as wide as the decoder",
                "choose `general` or `additive`, or leave `encoder_hidden` out",
            );
        }
        if self.attention_width.is_some() && self.attention != AttentionScore::Additive {
            return error("`attention_width` is of additive scores", "choose `attention: additive`");
        }
        let combines = [AttentionOutput::Combined, AttentionOutput::CombinedLinear];
        if self.feeding == Feeding::Output && !combines.contains(&self.attention_output) {
            return error(
                "`feeding: output` feeds what the combining layer gives, and there is none",
                "choose `attention_output: combined`, or `feeding: context`",
            );
        }
        if self.attention_output == AttentionOutput::State && self.feeding != Feeding::Context {
            return error(
                "with `attention_output: state` nothing reads what attention finds",
                "choose `feeding: context` beside it",
            );
        }
        Ok(())
    }
}

fn error(message: &str, help: &str) -> Result<()> {
    Err(Error::new(ErrorKind::Config, message).help(help.to_owned()))
}
