//! The contract of the graphs: every name, axis and file, spelled once, used by the exporter and by the
//! runtime.
//!
//! | graph | inputs | outputs |
//! |---|---|---|
//! | encoder | [`ENCODER_INPUT`] int64 (batch, source_time) | [`state_h`]`(l)`, [`state_c`]`(l)` f32 (batch, hidden); with attention [`ENCODER_OUTPUT`] f32 (batch, source_time, encoder width) and [`ENCODER_MASK`] f32 (batch, source_time), with additive scores [`ENCODER_KEYS`] |
//! | decoder | [`DECODER_INPUT`] int64 (batch, 1), the states, [`FED_OUTPUT`] if it is fed that, with attention what the encoder gives for it | [`DECODER_OUTPUT`] f32 (batch, 1, target_vocabulary), [`next`]` of each state`; with attention [`ATTENTION`] f32 (batch, source_time) |
//! | training | [`ENCODER_INPUT`], [`DECODER_INPUT`] and [`DECODER_TARGET`] int64 (batch, target_time) | [`DECODER_OUTPUT`] (batch, target_time, target_vocabulary), [`LOSS`] f32 () |
//! | encoder_step (only if asked for) | [`ENCODER_INPUT`] int64 (batch, 1), the states | [`next`]` of each state`; behind a bridge [`first`]` of each of the decoder's states` f32 (batch, hidden); with attention [`ENCODER_MASK`] f32 (batch), with additive scores [`ENCODER_KEYS`] f32 (batch, attention width) |
//! | translate (only if asked for) | [`ENCODER_INPUT`], [`MAX_NEW_TOKENS`] int64 () | [`GENERATED_IDS`] int64 (batch, generated_time), [`GENERATED_LENGTHS`] int64 (batch) |
//!
//! Sources are left-padded with [`PAD`], targets right-padded. `DECODER_OUTPUT` holds logits. Of a model that
//! learnt with padding which it reads, the graphs make that padding themselves (`source.graph_padding` in the
//! manifest): nothing changes for the caller. With one-hot tensors (`--io one-hot`) the ids become f32
//! (batch, time, vocabulary), PAD an all-zero row, and `DECODER_OUTPUT` probabilities.

use serde::{Deserialize, Serialize};

/// Source ids, int64 (batch, source_time), left-padded with [`PAD`].
pub const ENCODER_INPUT: &str = "encoder_input";
/// Target ids that start with [`START`], int64 (batch, target_time); (batch, 1) in the decoder.
pub const DECODER_INPUT: &str = "decoder_input";
/// Target ids that end with [`END`], int64 (batch, target_time).
pub const DECODER_TARGET: &str = "decoder_target";
/// Logits, f32 (batch, target_time, target_vocabulary).
pub const DECODER_OUTPUT: &str = "decoder_output";
/// Mean nats per target token, padding left out; f32, a scalar.
pub const LOSS: &str = "loss";
/// The encoder's hidden states, f32 (batch, source_time, hidden); only with attention.
pub const ENCODER_OUTPUT: &str = "encoder_output";
/// Output of the encoder and input of the decoder: what additive scores make of the encoder's outputs, f32
/// (batch, source_time, attention width).
pub const ENCODER_KEYS: &str = "encoder_keys";
/// Input of a decoder that is fed what its output layer read one step before, zeros at first, f32 (batch,
/// hidden).
pub const FED_OUTPUT: &str = "fed_output";
/// 1 at source tokens, 0 at padding, f32 (batch, source_time); only with attention.
pub const ENCODER_MASK: &str = "encoder_mask";
/// The weights of this step, f32 (batch, source_time); only with attention.
pub const ATTENTION: &str = "attention";

/// Most tokens that greedy decoding within a graph writes, END counted; int64, a scalar.
pub const MAX_NEW_TOKENS: &str = "max_new_tokens";
/// What greedy decoding within a graph wrote, int64 (batch, generated_time): neither START nor END,
/// right-padded with [`PAD`].
pub const GENERATED_IDS: &str = "generated_ids";
/// How many of them belong to each row, int64 (batch).
pub const GENERATED_LENGTHS: &str = "generated_lengths";

/// The hidden state of `layer`, f32 (batch, hidden).
pub fn state_h(layer: usize) -> String {
    format!("state_h_{layer}")
}

/// The cell state of `layer` (LSTM only), f32 (batch, hidden).
pub fn state_c(layer: usize) -> String {
    format!("state_c_{layer}")
}

/// The decoder output that becomes the input `state` of the next step.
pub fn next(state: &str) -> String {
    format!("next_{state}")
}

/// The output of the encoder's step that the decoder's `state` starts from, where it is none of the next
/// states.
pub fn first(state: &str) -> String {
    format!("first_{state}")
}

/// Symbolic axes, as they are named in the graphs.
pub mod axis {
    /// Rows decoded together.
    pub const BATCH: &str = "batch";
    /// Source tokens, padding counted.
    pub const SOURCE_TIME: &str = "source_time";
    /// Source tokens and what the graphs put behind them by themselves.
    pub const MEMORY_TIME: &str = "memory_time";
    /// Target tokens, padding counted.
    pub const TARGET_TIME: &str = "target_time";
    /// Tokens that greedy decoding within a graph wrote, padding counted.
    pub const GENERATED_TIME: &str = "generated_time";
}

/// Padding.
pub const PAD: u32 = 0;
/// The first decoder input.
pub const START: u32 = 1;
/// The last decoder target.
pub const END: u32 = 2;
/// A symbol outside the vocabulary.
pub const UNK: u32 = 3;

/// The ids of the special symbols. A manifest may give others than those above, which are the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialIds {
    /// Padding.
    pub pad: u32,
    /// The first decoder input.
    pub start: u32,
    /// The last decoder target.
    pub end: u32,
    /// A symbol outside the vocabulary.
    pub unk: u32,
}

impl Default for SpecialIds {
    fn default() -> Self {
        Self { pad: PAD, start: START, end: END, unk: UNK }
    }
}

impl SpecialIds {
    /// All four, in the order of [`SPECIAL_SYMBOLS`].
    pub fn all(self) -> [u32; 4] {
        [self.pad, self.start, self.end, self.unk]
    }
}

/// How the four special ids are written in vocabularies, in id order; they can never be produced by splitting
/// text.
pub const SPECIAL_SYMBOLS: [&str; 4] = ["<pad>", "<start>", "<end>", "<unk>"];

/// Files of a bundle.
pub mod file {
    /// The manifest.
    pub const MANIFEST: &str = "s2s.yaml";
    /// Text to states.
    pub const ENCODER: &str = "encoder.onnx";
    /// One token and states to logits and states.
    pub const DECODER: &str = "decoder.onnx";
    /// Teacher forcing, with the loss.
    pub const TRAINING: &str = "training.onnx";
    /// One source token and states to states, for runtimes without LSTM and GRU.
    pub const ENCODER_STEP: &str = "encoder_step.onnx";
    /// Text to text: the encoder and greedy decoding in one.
    pub const TRANSLATE: &str = "translate.onnx";
    /// Of networks from features to scores, which have one graph.
    pub const MODEL: &str = "model.onnx";
    /// What `verify` found.
    pub const CONFORMANCE: &str = "conformance.json";
    /// Vectors that are run whenever the bundle is opened.
    pub const SELF_TEST: &str = "self_test.json";
    /// For the reader of the folder.
    pub const README: &str = "README.md";
}

/// Keys of the graphs' `metadata_props`, so that each graph alone describes itself.
pub mod metadata {
    /// Version of this contract, as in the manifest.
    pub const FORMAT_VERSION: &str = "s2s.format_version";
    /// `encoder`, `decoder`, `training`, `translate` or `encoder_step`.
    pub const ROLE: &str = "s2s.role";
    /// The kind of network, where it is none from texts to texts: `mlp`.
    pub const KIND: &str = "s2s.kind";
    /// JSON object: unit, normalisation and symbols of the source.
    pub const SOURCE_VOCABULARY: &str = "s2s.source_vocabulary";
    /// JSON object: unit, normalisation and symbols of the target.
    pub const TARGET_VOCABULARY: &str = "s2s.target_vocabulary";
    /// JSON object: `pad`, `start`, `end`, `unk`.
    pub const SPECIAL_IDS: &str = "s2s.special_ids";
    /// sha256 of all weights; equal in the graphs of one export.
    pub const WEIGHTS_SHA256: &str = "s2s.weights_sha256";
    /// Licence of the training data.
    pub const DATA_LICENCE: &str = "s2s.data_licence";
    /// Attribution of the training data.
    pub const DATA_ATTRIBUTION: &str = "s2s.data_attribution";
}

/// Version of this contract, as each graph says it: older majors are always read, newer minors too.
pub const FORMAT_VERSION: &str = "1.0";
/// Version of the manifest. 1.1 lists side files with their hashes; 1.2 has example texts and
/// `source.graph_padding`, which graphs make by themselves. Programs that read an older minor version pass
/// over what they do not know, and are right. Keys without which a bundle would be decoded wrongly (first
/// values, masks, special ids, tokenisers) came without another version, so that programs that do not know
/// them say so.
pub const MANIFEST_VERSION: &str = "1.2";
