//! The options of the layers, as configs and checkpoints spell them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::cell::{BackwardStep, RecurrentCell, RecurrentWeights, SequenceWeights, StateName, Step};
pub use super::gates::GateActivation;
use super::gru::Gru;
use super::gru_reset_before::GruResetBefore;
use super::lstm::Lstm;
use crate::onnx::builder::{GraphBuilder, Value};
use s2s_kernels::Real;

/// How ids become the input of the first recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputForm {
    /// One channel a symbol; PAD is the zero vector.
    OneHot,
    /// A learnt row of this width a symbol; the row of PAD is zero and stays zero.
    Embedding(usize),
}

/// The kind of a recurrent layer's cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Long short-term memory, gates in ONNX's order i, o, f, c.
    #[default]
    Lstm,
    /// Gated recurrent unit, gates in ONNX's order z, r, n, the reset gate after the product.
    Gru,
    /// The same with a bias of its own inside the reset product, as PyTorch's and Keras's `reset_after` have
    /// it.
    GruResetBias,
    /// Gated recurrent unit with the reset gate before the product, as Keras's `reset_after=False` has it.
    GruResetBefore,
}

/// A kind of cell and its gates: what a layer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatedCell {
    /// The kind.
    pub cell: Cell,
    /// The activation of its gates.
    pub gates: GateActivation,
}

impl From<Cell> for GatedCell {
    fn from(cell: Cell) -> Self {
        Self { cell, gates: GateActivation::Sigmoid }
    }
}

/// Calls a method of the cell that a kind stands for: the one place where a kind becomes a cell.
macro_rules! cell {
    ($kind:ident.$method:ident($($argument:expr),*)) => {{
        let gates = $kind.gates;
        match $kind.cell {
            Cell::Lstm => Lstm { gates }.$method($($argument),*),
            Cell::Gru => Gru { reset_bias: false, gates }.$method($($argument),*),
            Cell::GruResetBias => Gru { reset_bias: true, gates }.$method($($argument),*),
            Cell::GruResetBefore => GruResetBefore { gates }.$method($($argument),*),
        }
    }};
}

impl Cell {
    /// Returns the name that layers carry in front of their number, as in `encoder.lstm_0`.
    pub fn name(self) -> &'static str {
        GatedCell::from(self).name()
    }

    /// Names the states of layer `l` as the graphs have them: h and, for the LSTM, c.
    pub fn state_names(self, l: usize) -> Vec<String> {
        GatedCell::from(self).states().iter().map(|name| name(l)).collect()
    }
}

/// A kind of cell does what the cell does, so that a layer's cell may be chosen when the program runs; each
/// step costs one predictable branch for it.
impl RecurrentCell for GatedCell {
    fn name(&self) -> &'static str {
        cell!(self.name())
    }

    fn gates(&self) -> usize {
        cell!(self.gates())
    }

    fn states(&self) -> &'static [StateName] {
        cell!(self.states())
    }

    fn ones(&self, hidden: usize) -> Range<usize> {
        cell!(self.ones(hidden))
    }

    fn recurrent_bias(&self, hidden: usize) -> Range<usize> {
        cell!(self.recurrent_bias(hidden))
    }

    fn held(&self, hidden: usize) -> Range<usize> {
        cell!(self.held(hidden))
    }

    fn reset_rows(&self, hidden: usize) -> Range<usize> {
        cell!(self.reset_rows(hidden))
    }

    fn needs_scan(&self) -> bool {
        cell!(self.needs_scan())
    }

    fn takes_sum(&self) -> bool {
        cell!(self.takes_sum())
    }

    fn forward<R: Real>(&self, step: Step<'_, R>, r: RecurrentWeights<'_, R>) {
        cell!(self.forward(step, r));
    }

    fn backward<R: Real>(&self, step: BackwardStep<'_, R>, r: RecurrentWeights<'_, R>) {
        cell!(self.backward(step, r));
    }

    fn emit_sequence(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        x: &Value,
        weights: SequenceWeights<'_>,
        states: &[Value],
    ) -> Vec<Value> {
        cell!(self.emit_sequence(g, hidden, x, weights, states))
    }

    fn emit_step(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        products: &[Value],
        states: &[Value],
    ) -> Vec<Value> {
        cell!(self.emit_step(g, hidden, products, states))
    }
}

/// How the decoder looks back at the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionScore {
    /// Not at all: only the final states are handed over.
    #[default]
    None,
    /// Score h . m (Luong et al., arXiv 1508.04025).
    Dot,
    /// Score (h K) . m with a learnt K (the same).
    General,
    /// Score v . tanh(h W + m U + b) with learnt W, U, v and perhaps b (Bahdanau et al., arXiv 1409.0473).
    Additive,
}

/// What the output layer reads, with the context c that attention found and the top decoder state h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionOutput {
    /// tanh([c, h] C), and perhaps a bias before the tanh.
    #[default]
    Combined,
    /// [c, h] C, and perhaps a bias.
    CombinedLinear,
    /// [c, h].
    Concatenated,
    /// h, where the context is [fed](Feeding::Context).
    State,
}

/// What enters the decoder's first layer beside the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feeding {
    /// Nothing.
    #[default]
    None,
    /// What the output layer read in the step before, zeros in the first (Luong et al., arXiv 1508.04025).
    Output,
    /// What attention finds with the state before the step (Bahdanau et al., arXiv 1409.0473).
    Context,
}

/// A dense layer between a last state of the encoder and a first one of the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bridge {
    /// None: the states are handed over as they are.
    #[default]
    None,
    /// s B + b.
    Linear,
    /// tanh(s B + b).
    Tanh,
    /// max(0, s B + b).
    Relu,
}

/// What a bridge reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeSource {
    /// Each state that of its kind: h from h, and c from c.
    #[default]
    States,
    /// All of them the hidden state.
    Hidden,
}
