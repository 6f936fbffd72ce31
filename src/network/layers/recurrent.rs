//! A recurrent layer in one direction: its weights, the loop over time, backpropagation through it.
//!
//! Rows lie as [`Packing`] says, so no padded step is computed. The input side of all steps is one product
//! before the loop; inside it there is one product a step against weights packed once an optimiser step; the
//! gradient of the recurrent weights is one product over all steps of all shards.

use std::ops::Range;

use super::cell::{BackwardStep, RecurrentCell, RecurrentWeights, States, Step};
use super::kinds::{GatedCell, InputForm};
use super::projection::{Gates, Input, PreparedProjection, Projection, ProjectionTape};
use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::packing::Packing;
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use s2s_kernels::random::Random;
use s2s_kernels::{
    MatRef, Packed, Real, Store, add_assign, add_column_sums, matmul_packed, subtract_projection,
};

/// One recurrent layer in one direction.
///
/// Parameters: `W` (1, gates * hidden, inputs + 1), the last column the bias; `R` (1, gates * hidden,
/// hidden); `B` (hidden), the bias of R h of a cell that has one. The graphs have one more column in W where
/// the cell [holds](RecurrentCell::held) its state at padding, and B behind zeros, as ONNX wants it.
#[derive(Clone, Debug)]
pub struct Recurrent<C = GatedCell> {
    name: String,
    cell: C,
    hidden: usize,
    projection: Projection,
    r: ParameterId,
    b: Option<ParameterId>,
    /// What rows beside the input are multiplied with, and their width.
    feed: Option<(ParameterId, usize)>,
}

/// The layer laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedRecurrent<R> {
    projection: PreparedProjection<R>,
    /// R transposed, (hidden, gates * hidden).
    r_forward: Packed<R>,
    /// R, (gates * hidden, hidden).
    r_backward: Packed<R>,
    /// The bias of R h (gates * hidden); empty where the cell has none.
    r_bias: Vec<R>,
    /// The weight of the rows beside the input, (width, gates * hidden), and its transpose.
    feed: Option<[Packed<R>; 2]>,
}

/// What the forward pass leaves for the backward pass; the caller keeps it and its memory is reused.
#[derive(Clone, Debug, Default)]
pub struct Tape<R> {
    /// The hidden states (tokens, hidden): the layer's output.
    pub h: Vec<R>,
    /// The states before the first step, h and, where the cell has it, c: (batch, hidden) in the packing's
    /// order.
    pub initial: Vec<Vec<R>>,
    /// Whether those are zeros that need no gradient: the products of the first step with them are left out.
    pub from_zero: bool,
    /// Rows beside the input (tokens, width), of a layer that [is fed](Recurrent::fed); and their gradient.
    pub fed: Vec<R>,
    /// The gradient of `fed`.
    pub d_fed: Vec<R>,
    /// The second states (tokens, hidden) of a cell that has them.
    c: Vec<R>,
    /// What the cell keeps besides (tokens, hidden).
    kept: Vec<R>,
    /// What the cell makes of its gates (tokens, gates * hidden); the gradients of W x + b after the backward
    /// pass.
    gates: Vec<R>,
    /// For a cell that needs R h apart: R h of one step forward, the gradients of R h of all steps backward.
    recurrent: Vec<R>,
    /// The hidden states before each row's step (tokens, hidden).
    h_before: Vec<R>,
    /// The gradients of W x + b, summed over the tokens (gates * hidden).
    d_bias: Vec<R>,
    /// The gradients of R h, summed over the tokens (gates * hidden), of a cell that has a bias there.
    d_recurrent_bias: Vec<R>,
    projection: ProjectionTape<R>,
}

/// The gradients around a layer: those that come to it, and those that it gives on.
#[derive(Debug)]
pub struct RecurrentBackward<'a, R> {
    /// The gradient of the outputs (tokens, hidden); `None` where nothing above reads them.
    pub d_rows: Option<&'a [R]>,
    /// The gradients of the final states, each (batch, hidden); become those of the initial states, unless
    /// these are zeros (see [`Tape::from_zero`]).
    pub d_states: &'a mut [Vec<R>],
    /// Overwritten with the gradient of the input rows (tokens, width), where the layer reads rows.
    pub d_input: &'a mut Vec<R>,
}

/// What a layer is made to read.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Ids of so many symbols.
    Symbols(usize, InputForm),
    /// Rows of this width.
    Rows(usize),
}

impl<C: RecurrentCell> Recurrent<C> {
    /// Registers the parameters under `name`; `side` (`encoder` or `decoder`) names the embedding.
    pub fn new(p: &mut Layout, side: &str, name: String, cell: C, hidden: usize, source: Source) -> Self {
        let gates = Gates { count: hidden * cell.gates(), held: cell.held(hidden) };
        let count = gates.count;
        let projection = match source {
            Source::Symbols(vocabulary, form) => {
                Projection::over_symbols(p, side, &name, vocabulary, gates, form)
            }
            Source::Rows(width) => Projection::over_rows(p, &name, width, gates),
        };
        let r = p.add(format!("{name}.R"), &[1, count, hidden]);
        let biased = cell.recurrent_bias(hidden);
        let b = (!biased.is_empty()).then(|| {
            let front = count + biased.start;
            p.add_within(format!("{name}.B"), biased.len(), front, 2 * count)
        });
        Self { name, cell, hidden, projection, r, b, feed: None }
    }

    /// The same layer, which reads rows of this width beside its input: registers `{name}.feed` (width,
    /// gates * hidden).
    #[must_use]
    pub fn fed(self, p: &mut Layout, width: usize) -> Self {
        let feed = p.add(format!("{}.feed", self.name), &[width, self.gates()]);
        Self { feed: Some((feed, width)), ..self }
    }

    /// Width of the states.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Counts the states, of which the hidden state is the first.
    pub fn states(&self) -> usize {
        self.cell.states().len()
    }

    /// Draws initial values as Keras does: Glorot-uniform W, orthogonal R, bias 0 but 1 where the cell
    /// [asks for it](RecurrentCell::ones).
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        self.projection.initialise(p, self.cell.ones(self.hidden), random);
        orthogonal_columns(p.get_mut(self.r), self.hidden, random);
        if let Some((feed, width)) = self.feed {
            let limit = (6.0 / (width + self.gates()) as f64).sqrt();
            p.get_mut(feed).iter_mut().for_each(|x| *x = random.symmetric(limit));
        }
    }

    /// Packs the weights into the memory of `old`; `tokens` is about how many ids a shard will bring.
    pub fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        tokens: usize,
        dropout: bool,
        old: PreparedRecurrent<R>,
    ) -> PreparedRecurrent<R> {
        let r = MatRef::new(p.get(self.r), self.gates(), self.hidden);
        PreparedRecurrent {
            projection: self.projection.prepare(p, tokens, dropout, old.projection),
            r_forward: old.r_forward.repacked(r.transposed()),
            r_backward: old.r_backward.repacked(r),
            r_bias: self.recurrent_bias(p),
            feed: self.feed.map(|(id, width)| {
                let m = MatRef::new(p.get(id), width, self.gates());
                let [forward, backward] = old.feed.unwrap_or_default();
                [forward.repacked(m), backward.repacked(m.transposed())]
            }),
        }
    }

    /// Gives the bias of R h (gates * hidden); nothing where the cell has none.
    fn recurrent_bias<R: Real>(&self, p: &Parameters<R>) -> Vec<R> {
        let Some(b) = self.b else { return Vec::new() };
        let mut bias = vec![R::ZERO; self.gates()];
        bias[self.cell.recurrent_bias(self.hidden)].copy_from_slice(p.get(b));
        bias
    }

    /// Counts the rows of W and R.
    pub fn gates(&self) -> usize {
        self.hidden * self.cell.gates()
    }

    /// Runs over all steps from `tape.initial`; leaves the hidden states in `tape.h`.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedRecurrent<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut Tape<R>,
    ) {
        let (hidden, gates, has_c) = (self.hidden, self.gates(), self.states() > 1);
        tape.gates.resize(packing.rows * gates, R::ZERO);
        tape.h.resize(packing.rows * hidden, R::ZERO);
        tape.kept.resize(packing.rows * hidden, R::ZERO);
        if has_c {
            tape.c.resize(packing.rows * hidden, R::ZERO);
        }
        if !self.cell.takes_sum() {
            tape.recurrent.resize(packing.rows * gates, R::ZERO);
        }
        self.projection.forward(pass, &prepared.projection, input, &mut tape.gates, &mut tape.projection);
        if let (Some((_, width)), Some([feed, _])) = (self.feed, &prepared.feed) {
            let fed = MatRef::new(&tape.fed, packing.rows, width);
            matmul_packed(&mut tape.gates, Store::Add, fed, feed, pass.scratch);
        }
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets) {
            let rows = first * hidden..(first + n) * hidden;
            let previous = packing.before(first).map(|row| row * hidden);
            let (h_before, h) = around(&mut tape.h, &tape.initial[0], previous, rows.clone());
            let (c_before, c): (&[R], &mut [R]) = if has_c {
                around(&mut tape.c, &tape.initial[1], previous, rows.clone())
            } else {
                Default::default()
            };
            let room = if self.cell.takes_sum() { 0 } else { n * gates };
            let step = Step {
                hidden,
                gates: &mut tape.gates[first * gates..(first + n) * gates],
                recurrent: &mut tape.recurrent[..room],
                before: States { h: h_before, c: c_before },
                after: States { h, c },
                kept: &mut tape.kept[rows],
            };
            let is_idle = tape.from_zero && previous.is_none();
            let (packed, bias) = (&prepared.r_forward, &prepared.r_bias);
            let r = RecurrentWeights { packed, bias, is_idle, scratch: pass.scratch };
            self.cell.forward(step, r);
        }
    }

    /// Gives the states after each text's last token, (batch, hidden) in the packing's order.
    pub fn final_states<R: Real>(&self, packing: &Packing, tape: &Tape<R>) -> Vec<Vec<R>> {
        let mut states = tape.initial[..self.states()].to_vec();
        for (position, row) in packing.last_rows().enumerate() {
            if let Some(row) = row {
                let (to, from) = (position * self.hidden, row * self.hidden);
                for (state, all) in states.iter_mut().zip([&tape.h, &tape.c]) {
                    state[to..to + self.hidden].copy_from_slice(&all[from..from + self.hidden]);
                }
            }
        }
        states
    }

    /// Goes back through time, and leaves in the tape what [`summands`](Self::summands) lists.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedRecurrent<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut Tape<R>,
        gradients: RecurrentBackward<'_, R>,
    ) {
        let RecurrentBackward { d_rows, d_states, d_input } = gradients;
        let (hidden, gates, has_c) = (self.hidden, self.gates(), self.states() > 1);
        tape.d_bias.clear();
        tape.d_bias.resize(gates, R::ZERO);
        tape.d_recurrent_bias.clear();
        tape.d_recurrent_bias.resize(gates, R::ZERO);
        // The states before each step, side by side, for the gradient of R.
        tape.h_before.resize(packing.rows * hidden, R::ZERO);
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets) {
            let before = match packing.before(first) {
                Some(previous) => &tape.h[previous * hidden..][..n * hidden],
                None => &tape.initial[0][..n * hidden],
            };
            tape.h_before[first * hidden..][..n * hidden].copy_from_slice(before);
        }
        let (d_h, d_c) = d_states.split_at_mut(1);
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets).rev() {
            let (rows, len) = (first * hidden..(first + n) * hidden, n * hidden);
            let of_gates = first * gates..(first + n) * gates;
            let d_h = &mut d_h[0][..len];
            if let Some(d_rows) = d_rows {
                add_assign(d_h, &d_rows[rows.clone()]);
            }
            let previous = packing.before(first);
            let (c_before, d_c): (&[R], &mut [R]) = match d_c {
                [d_c, ..] if has_c => {
                    let before = previous.map_or(&tape.initial[1][..], |row| &tape.c[row * hidden..]);
                    (&before[..len], &mut d_c[..len])
                }
                _ => Default::default(),
            };
            let step = BackwardStep {
                hidden,
                gates: &mut tape.gates[of_gates.clone()],
                recurrent: if self.cell.takes_sum() {
                    &mut []
                } else {
                    &mut tape.recurrent[of_gates.clone()]
                },
                before: States { h: &tape.h_before[rows.clone()], c: c_before },
                kept: &tape.kept[rows],
                d_states: States { h: d_h, c: d_c },
            };
            let is_idle = tape.from_zero && previous.is_none();
            let r =
                RecurrentWeights { packed: &prepared.r_backward, bias: &[], is_idle, scratch: pass.scratch };
            self.cell.backward(step, r);
            if self.b.is_some() {
                add_column_sums(&mut tape.d_recurrent_bias, &tape.recurrent[of_gates.clone()]);
            }
            add_column_sums(&mut tape.d_bias, &tape.gates[of_gates]);
        }
        if let (Some((_, width)), Some([_, feed])) = (self.feed, &prepared.feed) {
            tape.d_fed.resize(packing.rows * width, R::ZERO);
            let d_gates = MatRef::new(&tape.gates, packing.rows, gates);
            matmul_packed(&mut tape.d_fed, Store::Overwrite, d_gates, feed, pass.scratch);
        }
        self.projection.backward(
            pass,
            &prepared.projection,
            input,
            &tape.gates,
            &mut tape.projection,
            d_input,
        );
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters; `input` is what the
    /// layer read.
    pub fn summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        packing: &Packing,
        input: Input<'a, R>,
        tape: &'a Tape<R>,
        out: &mut Summands<'a, R>,
    ) {
        let (hidden, gates) = (self.hidden, self.gates());
        let d_recurrent = if self.cell.takes_sum() { &tape.gates } else { &tape.recurrent };
        // Rows of the first step, whose states before are zero, add nothing.
        let skipped = if tape.from_zero { packing.sizes.first().copied().unwrap_or(0) } else { 0 };
        let rows = packing.rows - skipped;
        let d_rows = MatRef::new(&d_recurrent[skipped * gates..], rows, gates);
        let h_before = MatRef::new(&tape.h_before[skipped * hidden..], rows, hidden);
        let reset = self.cell.reset_rows(hidden);
        if reset.is_empty() {
            out.push((self.r, Summand::over_rows(d_rows, h_before)));
        } else {
            // Its last rows, which are multiplied with r h.
            let kept = MatRef::new(&tape.kept[skipped * hidden..], rows, hidden);
            let of = |range: Range<usize>| d_rows.block(0..rows, range).transposed();
            let (first, last) = (of(0..reset.start), of(reset.clone()));
            out.push((self.r, Summand::Product { first_row: 0, a: first, b: h_before }));
            out.push((self.r, Summand::Product { first_row: reset.start, a: last, b: kept }));
        }
        if let Some(b) = self.b {
            let values = &tape.d_recurrent_bias[self.cell.recurrent_bias(hidden)];
            out.push((b, Summand::Row { at: 0, values }));
        }
        if let Some((feed, width)) = self.feed {
            let fed = MatRef::new(&tape.fed, packing.rows, width);
            out.push((feed, Summand::over_rows(fed, MatRef::new(&tape.gates, packing.rows, gates))));
        }
        self.projection.summands(p, input, &tape.gates, &tape.d_bias, &tape.projection, out);
    }
}

/// A state of some rows before their step, where `previous` says (else the initial one), and room for theirs
/// after it.
fn around<'t, R>(
    all: &'t mut [R],
    initial: &'t [R],
    previous: Option<usize>,
    rows: Range<usize>,
) -> (&'t [R], &'t mut [R]) {
    let (done, rest) = all.split_at_mut(rows.start);
    let before = previous.map_or(initial, |at| &done[at..]);
    (&before[..rows.len()], &mut rest[..rows.len()])
}

/// Fills a (rows, columns) matrix, rows >= columns, with orthonormal columns: normal numbers, then Gram and
/// Schmidt.
fn orthogonal_columns(matrix: &mut [f32], columns: usize, random: &mut Random) {
    let rows = matrix.len() / columns;
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(columns);
    for _ in 0..columns {
        let mut vector: Vec<f64> = (0..rows).map(|_| random.normal()).collect();
        // Twice, because one pass loses orthogonality to rounding (Giraud et al. 2005).
        for _ in 0..2 {
            basis.iter().for_each(|other| subtract_projection(&mut vector, other));
        }
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        basis.push(vector);
    }
    for (row, out) in matrix.chunks_exact_mut(columns).enumerate() {
        out.iter_mut().zip(&basis).for_each(|(x, vector)| *x = vector[row] as f32);
    }
}

mod emit;
#[cfg(test)]
mod tests;
