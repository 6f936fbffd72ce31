//! What export and verification ask of a sequence-to-sequence network, whatever it is made of.

use std::fmt;

use s2s_runtime::manifest::{EncoderStepWiring, Io, Role, Wiring};
use s2s_runtime::vocabulary::Vocabulary;

use super::{Exported, Layout, Parameters};
use crate::error::Result;
use crate::onnx::GraphBuilder;

/// What a teacher-forced pass gives, for comparisons with the exported graphs.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<R> {
    /// What the encoder hands to the decoder, by the names of the wiring's `encoder_output`: each (batch,
    /// ...), row-major.
    pub states: Vec<(String, Vec<R>)>,
    /// (batch, target_time, target_vocabulary), zero where a text is padded.
    pub logits: Vec<R>,
    /// Steps of the longest decoder input.
    pub target_time: usize,
}

impl Forward<f64> {
    /// Rounds every value to f32.
    pub fn rounded(&self) -> Forward<f32> {
        let round = |values: &[f64]| values.iter().map(|&x| x as f32).collect();
        Forward {
            states: self.states.iter().map(|(name, values)| (name.clone(), round(values))).collect(),
            logits: round(&self.logits),
            target_time: self.target_time,
        }
    }
}

/// Gives the tensor of a name: its shape and row-major values.
pub type FindTensor<'a> = dyn FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> + 'a;

/// Something that a model or the way it is exported asks of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// GRU nodes.
    Gru,
    /// GRU nodes with `linear_before_reset=0`.
    GruResetBefore,
    /// The source read backwards: GatherElements over ids that the graph computes.
    Bidirectional,
    /// Attention over a source of any length.
    Attention,
    /// Greedy decoding inside a graph.
    Loop,
    /// 8-bit weights that DequantizeLinear restores.
    Int8,
    /// Tensors of one row a symbol instead of ids.
    OneHot,
}

impl Need {
    /// Says how to do without, in terms of the config and of the flags of `s2s export`.
    pub(crate) fn instead(self) -> &'static str {
        match self {
            Self::Gru => "use --encoder-form step or train with `cell: lstm`",
            Self::GruResetBefore => "use --encoder-form step or train with `cell: gru`",
            Self::Bidirectional => "train with `bidirectional: false`",
            Self::Attention => "train with `attention: none`",
            Self::Loop => "leave --fused out",
            Self::Int8 => "use --dtype f16 or f32",
            Self::OneHot => "leave --io out",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gru => "GRU",
            Self::GruResetBefore => "a GRU that resets before its product",
            Self::Bidirectional => "a source read backwards",
            Self::Attention => "attention",
            Self::Loop => "Loop (--fused)",
            Self::Int8 => "8-bit weights (--dtype int8)",
            Self::OneHot => "one-hot tensors (--io one-hot)",
        })
    }
}

/// A network from source ids to target ids, as export, verification and the bundle's documents see it.
///
/// Another family of such networks (a transformer) implements this trait, and gets a line in
/// [`rebuild`](super::rebuild), to be exported, verified and described. The values of its parameters live
/// in [`Parameters`]; ids 0 to 3 are PAD, START, END and UNK, sources are left-padded.
pub trait SequenceNetwork: fmt::Debug + Send + Sync {
    /// Number of source symbols and of target symbols, the four special ones counted.
    fn vocabularies(&self) -> [usize; 2];

    /// The architecture as manifests hold it, from which
    /// [`sequence_network`](super::rebuild::sequence_network) makes the network again.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) if it cannot be written as JSON.
    fn architecture_json(&self) -> Result<serde_json::Value>;

    /// Names, shapes and number of the parameters.
    fn parameter_layout(&self) -> &Layout;

    /// What it is called among the tags of model hubs, for example `lstm`.
    fn tag(&self) -> &'static str;

    /// The graphs that it can write: the three of every bundle, and perhaps the one that decodes by itself.
    fn roles(&self) -> &'static [Role] {
        &Role::ALL
    }

    /// What its graphs ask of a runtime.
    fn needs(&self) -> Vec<Need>;

    /// How the graphs of encoder and decoder fit together.
    fn wiring(&self, io: Io) -> Wiring;

    /// How its encoder is run token by token, which the graph of [`Role::EncoderStep`] is for.
    ///
    /// # Errors
    /// Says why it has no such form.
    fn encoder_step(&self) -> std::result::Result<EncoderStepWiring, &'static str> {
        Err("this network has no encoder of one token")
    }

    /// The same network with graphs that read a short source as `source` says they do
    /// (`graph_padding`); so do the passes, which the graphs are held against.
    fn reading(&self, source: &Vocabulary) -> Box<dyn SequenceNetwork>;

    /// Writes the graph of one of its [`roles`](Self::roles) into an empty builder.
    ///
    /// - `io`: the tensors that stand for tokens; the graph that decodes by itself takes ids alone.
    fn emit(&self, role: Role, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io);

    /// The teacher-forced pass as training computes it, over texts of any lengths without padding.
    ///
    /// - `inputs`: START and target ids, as many as `sources`.
    fn forward(&self, p: &Parameters<f32>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<f32>;

    /// The same pass in f64, which tells what rounding does to the network.
    fn forward_exact(&self, p: &Parameters<f64>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<f64>;

    /// The parameters as the graphs carry them.
    fn export_tensors<'a>(&self, p: &'a Parameters<f32>) -> Vec<Exported<'a, f32>>;

    /// The parameters out of tensors that [`export_tensors`](Self::export_tensors) named.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`](crate::error::ErrorKind::Bundle) for a tensor that is missing or of another
    /// shape.
    fn import_tensors(&self, find: &mut FindTensor<'_>) -> Result<Parameters<f32>>;
}
