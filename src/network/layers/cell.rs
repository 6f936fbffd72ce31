//! What a recurrent layer asks of its cell.
//!
//! A cell is one file: its arithmetic over one step, forward and backward, and its two ONNX forms. The
//! weights and the loop over time are the layer's, [`Recurrent`](super::recurrent::Recurrent). With x the
//! input of a step and h the hidden state before it, the layer has W x + b of all steps at once; R h is the
//! cell's to ask for, step by step.

use std::fmt::Debug;
use std::ops::Range;

use crate::onnx::builder::{GraphBuilder, Value};
use s2s_kernels::{MatRef, Packed, Real, Scratch, Store, matmul_packed};

/// Names a state of a layer as the graphs have it.
pub type StateName = fn(usize) -> String;

/// A recurrent cell. Its gates are `hidden` rows of W and R each, one below the other.
pub trait RecurrentCell: Copy + Debug + Send + Sync {
    /// Returns the name that layers carry in front of their number, as in `encoder.lstm_0`.
    fn name(&self) -> &'static str;

    /// Counts the gates, to each of which W and R have `hidden` rows.
    fn gates(&self) -> usize;

    /// Lists the states, one or two, the hidden state first.
    fn states(&self) -> &'static [StateName];

    /// Tells which rows of W have a bias that starts at 1 instead of 0.
    fn ones(&self, _hidden: usize) -> Range<usize> {
        0..0
    }

    /// Tells which rows of R h have a bias of their own, apart from that of W x; where there are any, it is
    /// to the cell that [`RecurrentWeights::write`] adds it.
    fn recurrent_bias(&self, _hidden: usize) -> Range<usize> {
        0..0
    }

    /// Tells which rows of W are large at padding, so that their gates keep the state as it is: none where
    /// gates of zeros keep a state of zeros.
    fn held(&self, _hidden: usize) -> Range<usize> {
        0..0
    }

    /// Tells which rows of R are multiplied with what the cell [keeps](Step::kept), r h, instead of h: then
    /// the cell's step is written with R itself instead of a product.
    fn reset_rows(&self, _hidden: usize) -> Range<usize> {
        0..0
    }

    /// Whether no operator of ONNX is this cell in every runtime, so that a text is a Scan over its steps.
    fn needs_scan(&self) -> bool {
        false
    }

    /// Whether the cell reads nothing but the sum W x + b + R h, so that R h needs no room of its own and
    /// both products may be one.
    fn takes_sum(&self) -> bool;

    /// Computes the states after a step from those before it.
    fn forward<R: Real>(&self, step: Step<'_, R>, r: RecurrentWeights<'_, R>);

    /// Computes the gradients of a step; `r` gives products with R transposed, as gradients go.
    fn backward<R: Real>(&self, step: BackwardStep<'_, R>, r: RecurrentWeights<'_, R>);

    /// Writes the operator over a whole text.
    ///
    /// - `x` (time, batch, inputs + 1), the last channel 1 at tokens and 0 at padding; behind it, where rows
    ///   are [held](Self::held), one that is 0 at tokens and 1 at padding;
    /// - `states`: each (1, batch, hidden), one more than the cell has being left aside.
    ///
    /// Returns the outputs (time, 1, batch, hidden) and the final states.
    fn emit_sequence(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        x: &Value,
        weights: SequenceWeights<'_>,
        states: &[Value],
    ) -> Vec<Value>;

    /// Writes one step, spelled out: the form that is fastest and that every runtime takes.
    ///
    /// - `products`, each (batch, gates * hidden): the sum W x + b + R h where the cell
    ///   [takes it](Self::takes_sum), else W x + b and R h, or R transposed (hidden, gates * hidden) where
    ///   [some of its rows](Self::reset_rows) are not multiplied with h;
    /// - `states`: each (batch, hidden).
    ///
    /// Returns the next states.
    fn emit_step(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        products: &[Value],
        states: &[Value],
    ) -> Vec<Value>;
}

/// The weights of a cell's operator over a whole text.
#[derive(Clone, Copy, Debug)]
pub struct SequenceWeights<'a> {
    /// (1, gates * hidden, channels of the input), the column of the mask the bias.
    pub w: &'a Value,
    /// (1, gates * hidden, hidden).
    pub r: &'a Value,
    /// (1, 2 * gates * hidden): the bias of R h behind zeros, where the cell
    /// [has one](RecurrentCell::recurrent_bias).
    pub b: Option<&'a Value>,
}

/// Something of each state: of h, and of c where the cell has a second one; else the slice is empty.
#[derive(Debug)]
pub struct States<T> {
    /// The hidden state, which is also the output.
    pub h: T,
    /// The second state, which only the cell itself reads.
    pub c: T,
}

/// One step forward of the texts that still run, each a row.
#[derive(Debug)]
pub struct Step<'a, R> {
    /// Width of the states.
    pub hidden: usize,
    /// W x + b (rows, gates * hidden); becomes what the backward pass needs of the gates.
    pub gates: &'a mut [R],
    /// Room for R h (rows, gates * hidden); empty where the cell takes the sum.
    pub recurrent: &'a mut [R],
    /// The states before the step, (rows, hidden).
    pub before: States<&'a [R]>,
    /// The states after the step, (rows, hidden); overwritten.
    pub after: States<&'a mut [R]>,
    /// What else the backward pass needs, (rows, hidden); overwritten.
    pub kept: &'a mut [R],
}

/// One step backward of the texts that ran in it, each a row.
#[derive(Debug)]
pub struct BackwardStep<'a, R> {
    /// Width of the states.
    pub hidden: usize,
    /// What the forward pass left of the gates; becomes the gradient of W x + b (rows, gates * hidden).
    pub gates: &'a mut [R],
    /// Room for the gradient of R h (rows, gates * hidden); empty where the cell takes the sum, whose
    /// gradient it is.
    pub recurrent: &'a mut [R],
    /// The states before the step, (rows, hidden).
    pub before: States<&'a [R]>,
    /// What the forward pass kept, (rows, hidden).
    pub kept: &'a [R],
    /// The gradients of the states after the step, (rows, hidden); become those of the states before it.
    pub d_states: States<&'a mut [R]>,
}

/// The recurrent weights as a step multiplies with them.
#[derive(Debug)]
pub struct RecurrentWeights<'a, R> {
    /// R transposed (hidden, gates * hidden) forward, R (gates * hidden, hidden) backward.
    pub(super) packed: &'a Packed<R>,
    /// What is added to each row of a product that is written (n); empty if nothing is.
    pub(super) bias: &'a [R],
    /// Whether the states before the step are zeros that need no gradient: then nothing is multiplied.
    pub(super) is_idle: bool,
    /// Memory for operands that are packed for one product.
    pub(super) scratch: &'a mut Scratch<R>,
}

impl<R: Real> RecurrentWeights<'_, R> {
    /// Lends itself to one of several products.
    pub fn by_ref(&mut self) -> RecurrentWeights<'_, R> {
        RecurrentWeights {
            packed: self.packed,
            bias: self.bias,
            is_idle: self.is_idle,
            scratch: self.scratch,
        }
    }

    /// Overwrites `to` (rows, n) with the product of `rows` (rows, k) and the weights (k, n), plus their
    /// bias where they have one.
    pub fn write(self, rows: &[R], to: &mut [R]) {
        let bias = self.bias;
        match (self.is_idle, bias.is_empty()) {
            (true, true) => to.fill(R::ZERO),
            (true, false) => to.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)),
            (false, true) => self.multiply(rows, Store::Overwrite, to),
            (false, false) => self.multiply(rows, Store::Bias(bias), to),
        }
    }

    /// Adds the product of `rows` (rows, k) and the weights (k, n) to `to` (rows, n).
    pub fn add(self, rows: &[R], to: &mut [R]) {
        if !self.is_idle {
            self.multiply(rows, Store::Add, to);
        }
    }

    fn multiply(self, rows: &[R], store: Store<'_, R>, to: &mut [R]) {
        let k = self.packed.shape().0;
        matmul_packed(to, store, MatRef::new(rows, rows.len() / k, k), self.packed, self.scratch);
    }
}
