//! What is exported, and how.

use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::manifest::{Io, Provenance};
use s2s_runtime::vocabulary::Vocabulary;

use super::compression::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::network::{Parameters, SequenceNetwork};
use crate::onnx::{DEFAULT_OPSET, OPSETS};

/// Holds all that goes into a bundle.
#[derive(Clone, Debug)]
pub struct ExportInput<'a> {
    /// The network that the graphs are cut from.
    pub network: &'a dyn SequenceNetwork,
    /// The weights of the network, all of them finite.
    pub parameters: &'a Parameters<f32>,
    /// Source text to ids; as many symbols as the network's source vocabulary.
    pub source: &'a Vocabulary,
    /// Ids to target text; as many symbols as the network's target vocabulary.
    pub target: &'a Vocabulary,
    /// The model's name, as servers show it.
    pub name: &'a str,
    /// Decoding defaults of the bundle.
    pub decoding: DecodingOptions,
    /// Where the weights come from.
    pub provenance: Option<Provenance>,
}

/// The graphs that the encoder of a bundle is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncoderForm {
    /// One that reads whole texts, with LSTM or GRU nodes.
    #[default]
    Whole,
    /// That one, and `encoder_step.onnx` beside it, which reads one token a call, for runtimes that have
    /// neither LSTM nor GRU.
    Step,
}

/// Says how a bundle is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportOptions {
    /// The tensors that stand for tokens; ids by default.
    pub io: Io,
    /// Version of the standard operators, within [`OPSETS`](crate::onnx::OPSETS); 17 by default.
    pub opset: i64,
    /// How weights are stored.
    pub dtype: Dtype,
    /// The graphs that the encoder is written as.
    pub encoder_form: EncoderForm,
    /// A graph more with the whole of greedy decoding, for runtimes that have Loop.
    pub fused: bool,
    /// Encoder, decoder and manifest only: enough to decode, for scores during training.
    pub graphs_only: bool,
    /// Source texts for whoever tries the model; at most
    /// [`MOST_EXAMPLES`](s2s_runtime::manifest::MOST_EXAMPLES).
    pub examples: Vec<String>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            io: Io::Ids,
            opset: DEFAULT_OPSET,
            dtype: Dtype::F32,
            encoder_form: EncoderForm::Whole,
            fused: false,
            graphs_only: false,
            examples: Vec::new(),
        }
    }
}

/// Whether graphs with this version of the standard operators can be written.
///
/// # Errors
/// [`ErrorKind::Usage`] if not, with those that can be.
pub(super) fn check_opset(opset: i64) -> Result<()> {
    if OPSETS.contains(&opset) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Usage, format!("operator set {opset} cannot be written"));
    Err(error.help(format!("choose one from {} to {}", OPSETS.start(), OPSETS.end())))
}
