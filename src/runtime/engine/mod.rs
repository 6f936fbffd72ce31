//! What the decoding loop needs from an ONNX engine, and the state that it carries from step to step.
//!
//! [`Engine`] is small so that tests drive the loop with a scripted one. The real ones are [`onnx::OnnxEngine`] over a
//! [`graph::Graph`] runner: `tract` (pure Rust, the default) or `ort` (ONNX Runtime, loaded when the program runs).

pub mod graph;
pub mod onnx;
#[cfg(feature = "ort")]
pub mod ort;
#[cfg(feature = "tract")]
pub mod tract;

use crate::error::Result;

/// Ids of several texts, (rows, columns) row-major; sources are left-padded with [`PAD`](crate::contract::PAD).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMatrix {
    /// Texts.
    pub rows: usize,
    /// Tokens of the longest text.
    pub columns: usize,
    /// `rows * columns` ids.
    pub data: Vec<i64>,
}

/// One tensor of the decoder's state for all rows of the batch, f32 row-major (batch, `row_shape`...).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateTensor {
    /// Shape of one row: `[hidden]` for a recurrent state, `[source_time, hidden]` for `encoder_output`.
    pub row_shape: Vec<usize>,
    /// `batch * row_shape.product()` values.
    pub data: Vec<f32>,
}

/// Everything that one decoder step reads besides the token: recurrent states, renewed at each step, and the memory
/// (`encoder_output`, `encoder_mask`), which stays. In the order of the manifest's wiring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecoderState {
    /// Rows.
    pub batch: usize,
    /// `state_h_0`, `state_c_0`, ...
    pub recurrent: Vec<StateTensor>,
    /// Empty without attention.
    pub memory: Vec<StateTensor>,
}

/// What one decoder step gives; the buffers are reused from step to step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutput {
    /// Logits, f32 (batch, target_vocabulary) row-major.
    pub logits: Vec<f32>,
    /// Attention weights, f32 (batch, source_time) row-major; empty without attention.
    pub attention: Vec<f32>,
}

/// An encoder and a single-step decoder, ready to run. One engine belongs to one worker.
pub trait Engine: Send {
    /// `tract`, `ort`, or the name of a scripted one.
    fn name(&self) -> &str;

    /// Target symbols, PAD to UNK counted: the width of a row of logits.
    fn target_vocabulary(&self) -> usize;

    /// Encodes a batch of sources and gives the state before the first decoder step.
    ///
    /// - `source`: ids int64 (batch, source_time), left-padded; at least one row and one column, ids within the vocabulary.
    fn encode(&mut self, source: &IdMatrix) -> Result<DecoderState>;

    /// One decoder step: reads `state`, replaces its recurrent part, fills `output`.
    ///
    /// - `tokens`: ids int64 (batch), the last token of each row.
    fn step(&mut self, tokens: &[i64], state: &mut DecoderState, output: &mut StepOutput) -> Result<()>;

    /// Another engine over the same weights, for another worker.
    fn fork(&self) -> Result<Box<dyn Engine>>;
}

impl StateTensor {
    /// Values of one row.
    pub fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }
}

impl DecoderState {
    /// Keeps `rows` in that order; a row may be named several times (beams) or not at all (finished).
    pub fn select(&mut self, rows: &[usize]) {
        let identity = rows.len() == self.batch && rows.iter().enumerate().all(|(i, &r)| i == r);
        if identity {
            return;
        }
        for tensor in self.recurrent.iter_mut().chain(&mut self.memory) {
            let len = tensor.row_len();
            if rows.iter().enumerate().all(|(to, &from)| to <= from) {
                // Ascending selections (dropped rows) move within the buffer.
                for (to, &from) in rows.iter().enumerate() {
                    tensor.data.copy_within(from * len..(from + 1) * len, to * len);
                }
                tensor.data.truncate(rows.len() * len);
            } else {
                tensor.data = rows.iter().flat_map(|&r| &tensor.data[r * len..(r + 1) * len]).copied().collect();
            }
        }
        self.batch = rows.len();
    }
}
