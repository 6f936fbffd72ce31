//! A recurrent layer in one direction: its weights, the loop over time, backpropagation through it.
//!
//! Rows lie as [`Packing`] says, so no padded step is computed. The input side of all steps is one product
//! before the loop; inside it there is one product a step against weights packed once an optimiser step; the
//! gradient of the recurrent weights is one product over all steps of all shards.

use super::kinds::{Cell, InputForm};
use super::projection::{Input, PreparedProjection, Projection, ProjectionTape};
use super::{gru, lstm};
use crate::network::ground::dropout::Dropout;
use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::emit_parameter;
use crate::network::ground::graph::{GraphSide, Io};
use crate::network::ground::packing::Packing;
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{
    MatRef, Packed, Real, Scratch, Store, add_assign, add_column_sums, gru_gates_backward, gru_gates_forward,
    lstm_gates_backward, lstm_gates_forward, matmul_packed, subtract_projection,
};

/// One recurrent layer in one direction.
///
/// Parameters: `W` (1, gates * hidden, inputs + 1), the last column the bias; `R` (1, gates * hidden,
/// hidden).
#[derive(Clone, Debug)]
pub struct Recurrent {
    name: String,
    cell: Cell,
    hidden: usize,
    projection: Projection,
    r: ParameterId,
}

/// The layer laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedRecurrent<R> {
    projection: PreparedProjection<R>,
    /// R transposed, (hidden, gates * hidden).
    r_forward: Packed<R>,
    /// R, (gates * hidden, hidden).
    r_backward: Packed<R>,
}

/// What the forward pass leaves for the backward pass; the caller keeps it and its memory is reused.
#[derive(Clone, Debug, Default)]
pub struct Tape<R> {
    /// Hidden states (tokens, hidden): the layer's output.
    pub h: Vec<R>,
    /// States before the first step, h and (LSTM) c, (batch, hidden) in the packing's order.
    pub initial: Vec<Vec<R>>,
    /// Whether those are zeros that need no gradient: the products of the first step with them are left out.
    pub from_zero: bool,
    /// Activated gates (tokens, gates * hidden); gradients of W x + b after the backward pass.
    gates: Vec<R>,
    /// LSTM: cell states (tokens, hidden). GRU: the candidate's part of R h.
    inner: Vec<R>,
    /// LSTM: tanh of the cell states.
    tanh_c: Vec<R>,
    /// GRU: R h of one step forward; gradients of R h for all steps backward.
    recurrent: Vec<R>,
    /// Hidden states before each row's step (tokens, hidden).
    h_before: Vec<R>,
    /// Gradients of W x + b, summed over the tokens (gates * hidden).
    d_bias: Vec<R>,
    projection: ProjectionTape<R>,
}

/// What the layer reads: symbols or rows of this width.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Ids of so many symbols.
    Symbols(usize, InputForm),
    /// Rows of this width.
    Rows(usize),
}

impl Recurrent {
    /// Registers the parameters under `name`; `side` (`encoder` or `decoder`) names the embedding.
    pub fn new(p: &mut Layout, side: &str, name: String, cell: Cell, hidden: usize, source: Source) -> Self {
        let gates = hidden * gates_of(cell);
        let projection = match source {
            Source::Symbols(vocabulary, form) => {
                Projection::over_symbols(p, side, &name, vocabulary, gates, form)
            }
            Source::Rows(width) => Projection::over_rows(p, &name, width, gates),
        };
        let r = p.add(format!("{name}.R"), &[1, gates, hidden]);
        Self { name, cell, hidden, projection, r }
    }

    /// Width of the states.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// States: h and, for the LSTM, c.
    pub fn states(&self) -> usize {
        match self.cell {
            Cell::Lstm => 2,
            Cell::Gru => 1,
        }
    }

    /// The parameter that is kept transposed, if any.
    pub fn transposed(&self) -> Option<ParameterId> {
        self.projection.transposed()
    }

    /// Draws initial values as Keras does: Glorot-uniform W, orthogonal R, bias 0 but 1 for the LSTM's forget
    /// gate.
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        let ones = match self.cell {
            Cell::Lstm => lstm::biased_gates(self.hidden),
            Cell::Gru => 0..0,
        };
        self.projection.initialise(p, ones, random);
        orthogonal_columns(p.get_mut(self.r), self.hidden, random);
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
        }
    }

    fn gates(&self) -> usize {
        self.hidden * gates_of(self.cell)
    }

    /// Runs over all steps from `tape.initial`; leaves the hidden states in `tape.h`.
    #[allow(clippy::too_many_arguments)]
    pub fn forward<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedRecurrent<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut Tape<R>,
        dropout: Option<Dropout>,
        scratch: &mut Scratch<R>,
    ) {
        let (hidden, gates) = (self.hidden, self.gates());
        tape.gates.resize(packing.rows * gates, R::ZERO);
        for buffer in [&mut tape.inner, &mut tape.tanh_c, &mut tape.h] {
            buffer.resize(packing.rows * hidden, R::ZERO);
        }
        self.projection.forward(
            p,
            &prepared.projection,
            input,
            &mut tape.gates,
            &mut tape.projection,
            dropout,
            scratch,
        );
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets) {
            let (rows, len) = (first * hidden..(first + n) * hidden, n * hidden);
            let (h_done, h) = tape.h.split_at_mut(rows.start);
            let (inner_done, inner) = tape.inner.split_at_mut(rows.start);
            let previous = packing.before(first).map(|row| row * hidden);
            let h_before = &previous.map_or(tape.initial[0].as_slice(), |at| &h_done[at..])[..len];
            let step = &mut tape.gates[first * gates..(first + n) * gates];
            let h_ref = MatRef::new(h_before, n, hidden);
            let is_zero = tape.from_zero && previous.is_none();
            match self.cell {
                Cell::Lstm => {
                    if !is_zero {
                        matmul_packed(step, gates, Store::Add, h_ref, &prepared.r_forward, scratch);
                    }
                    let c_before =
                        &previous.map_or(tape.initial[1].as_slice(), |at| &inner_done[at..])[..len];
                    lstm_gates_forward(
                        hidden,
                        step,
                        c_before,
                        &mut inner[..len],
                        &mut tape.tanh_c[rows],
                        &mut h[..len],
                    );
                }
                Cell::Gru => {
                    tape.recurrent.resize(packing.rows * gates, R::ZERO);
                    let recurrent = &mut tape.recurrent[..n * gates];
                    if is_zero {
                        recurrent.fill(R::ZERO);
                    } else {
                        matmul_packed(
                            recurrent,
                            gates,
                            Store::Overwrite,
                            h_ref,
                            &prepared.r_forward,
                            scratch,
                        );
                    }
                    gru_gates_forward(hidden, step, recurrent, h_before, &mut inner[..len], &mut h[..len]);
                }
            }
        }
    }

    /// The states after each text's last token, h and (LSTM) c, (batch, hidden) in the packing's order.
    pub fn final_states<R: Real>(&self, packing: &Packing, tape: &Tape<R>) -> Vec<Vec<R>> {
        let mut states = tape.initial[..self.states()].to_vec();
        for (position, row) in packing.last_rows().enumerate() {
            if let Some(row) = row {
                let (to, from) = (position * self.hidden, row * self.hidden);
                for (state, all) in states.iter_mut().zip([&tape.h, &tape.inner]) {
                    state[to..to + self.hidden].copy_from_slice(&all[from..from + self.hidden]);
                }
            }
        }
        states
    }

    /// Backpropagation through time.
    ///
    /// - `d_rows` (tokens, hidden): gradient of the outputs; `None` where nothing above reads them.
    /// - `d_states`, each (batch, hidden): gradients of the final states; become those of the initial states,
    ///   unless these are zeros (`tape.from_zero`).
    /// - `d_input` (tokens, width): overwritten with the gradient of the input rows, for layers over rows.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedRecurrent<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut Tape<R>,
        d_rows: Option<&[R]>,
        d_states: &mut [Vec<R>],
        dropout: bool,
        d_input: &mut Vec<R>,
        scratch: &mut Scratch<R>,
    ) {
        let (hidden, gates) = (self.hidden, self.gates());
        tape.d_bias.clear();
        tape.d_bias.resize(gates, R::ZERO);
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
        let d_h = &mut d_h[0];
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets).rev() {
            let (rows, len) = (first * hidden..(first + n) * hidden, n * hidden);
            if let Some(d_rows) = d_rows {
                add_assign(&mut d_h[..len], &d_rows[rows.clone()]);
            }
            let step = &mut tape.gates[first * gates..(first + n) * gates];
            let ends_here = tape.from_zero && packing.before(first).is_none();
            match self.cell {
                Cell::Lstm => {
                    let c_before = match packing.before(first) {
                        Some(previous) => &tape.inner[previous * hidden..][..len],
                        None => &tape.initial[1][..len],
                    };
                    lstm_gates_backward(
                        hidden,
                        step,
                        c_before,
                        &tape.tanh_c[rows],
                        &d_h[..len],
                        &mut d_c[0][..len],
                    );
                    add_column_sums(&mut tape.d_bias, step);
                    if !ends_here {
                        matmul_packed(
                            d_h,
                            hidden,
                            Store::Overwrite,
                            MatRef::new(step, n, gates),
                            &prepared.r_backward,
                            scratch,
                        );
                    }
                }
                Cell::Gru => {
                    let recurrent = &mut tape.recurrent[first * gates..(first + n) * gates];
                    let (h_before, inner) = (&tape.h_before[rows.clone()], &tape.inner[rows]);
                    gru_gates_backward(hidden, step, recurrent, h_before, inner, &mut d_h[..len]);
                    add_column_sums(&mut tape.d_bias, step);
                    if !ends_here {
                        matmul_packed(
                            d_h,
                            hidden,
                            Store::Add,
                            MatRef::new(recurrent, n, gates),
                            &prepared.r_backward,
                            scratch,
                        );
                    }
                }
            }
        }
        let projection = &mut tape.projection;
        self.projection.backward(
            p,
            &prepared.projection,
            input,
            &tape.gates,
            projection,
            dropout,
            d_input,
            scratch,
        );
    }

    /// What [`backward`](Self::backward) found, as gradients of the parameters; `input` is what the layer
    /// read.
    pub fn summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        packing: &Packing,
        input: Input<'a, R>,
        tape: &'a Tape<R>,
        out: &mut Summands<'a, R>,
    ) {
        let (hidden, gates) = (self.hidden, self.gates());
        let d_recurrent = match self.cell {
            Cell::Lstm => &tape.gates,
            Cell::Gru => &tape.recurrent,
        };
        // Rows of the first step, whose states before are zero, add nothing.
        let skipped = if tape.from_zero { packing.sizes.first().copied().unwrap_or(0) } else { 0 };
        let rows = packing.rows - skipped;
        let d_rows = MatRef::new(&d_recurrent[skipped * gates..], rows, gates);
        let h_before = MatRef::new(&tape.h_before[skipped * hidden..], rows, hidden);
        out.push((self.r, Summand::over_rows(d_rows, h_before)));
        self.projection.summands(p, input, &tape.gates, &tape.d_bias, &tape.projection, out);
    }

    /// ONNX, a whole text: the LSTM or GRU operator over time.
    pub fn emit_sequence(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        side: &GraphSide,
        below: Option<&Value>,
        states: &[Value],
    ) -> Vec<Value> {
        g.scope(&self.name);
        let (x, w) = self.projection.emit_sequence(p, g, side, below);
        let r = emit_parameter(p, self.r, g);
        match self.cell {
            Cell::Lstm => lstm::emit_sequence(g, self.hidden, &x, &w, &r, states),
            Cell::Gru => gru::emit_sequence(g, self.hidden, &x, &w, &r, states),
        }
    }

    /// ONNX, one step.
    ///
    /// - `input`: the token (batch, 1) for the first layer, h (batch, hidden) of the layer below for the
    ///   others.
    /// - `states`: h and (LSTM) c, (batch, hidden); gives the next ones.
    pub fn emit_step(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        io: Io,
        input: &Value,
        states: &[Value],
    ) -> Vec<Value> {
        g.scope(&self.name);
        let h = &states[0];
        let inputs = match &self.projection {
            Projection::Symbols(symbols) => symbols.emit_step(p, g, io, input),
            &Projection::Rows { width, gates, w } => {
                if self.cell == Cell::Lstm {
                    // One product over both, because the LSTM only ever needs their sum.
                    let (weights, bias) = stacked(p.get(w), p.get(self.r), width, self.hidden);
                    let weights = g.initializer(
                        &format!("{}.input_and_state", self.name),
                        &[width + self.hidden, gates],
                        &weights,
                    );
                    let bias = g.initializer(&format!("{}.bias", self.name), &[gates], &bias);
                    let both = g.node("Concat", &[input, h], &[("axis", Attribute::Int(1))]);
                    let product = g.node("MatMul", &[&both, &weights], &[]);
                    let sum = g.node("Add", &[&product, &bias], &[]);
                    return lstm::emit_step(g, self.hidden, &sum, &states[1]);
                }
                let (weights, bias) = stacked(p.get(w), &[], width, 0);
                let weights = g.initializer(&format!("{}.input", self.name), &[width, gates], &weights);
                let bias = g.initializer(&format!("{}.bias", self.name), &[gates], &bias);
                let product = g.node("MatMul", &[input, &weights], &[]);
                g.node("Add", &[&product, &bias], &[])
            }
        };
        // The same bytes as in the training graph; engines fold the transposition when they load.
        let direction = g.int64(&[1], &[0]);
        let r = emit_parameter(p, self.r, g);
        let r = g.node("Squeeze", &[&r, &direction], &[]);
        let r = g.node("Transpose", &[&r], &[("perm", Attribute::Ints(vec![1, 0]))]);
        let recurrent = g.node("MatMul", &[h, &r], &[]);
        match self.cell {
            Cell::Lstm => {
                let sum = g.node("Add", &[&recurrent, &inputs], &[]);
                lstm::emit_step(g, self.hidden, &sum, &states[1])
            }
            Cell::Gru => gru::emit_step(g, self.hidden, &inputs, &recurrent, h),
        }
    }
}

fn gates_of(cell: Cell) -> usize {
    match cell {
        Cell::Lstm => lstm::GATES,
        Cell::Gru => gru::GATES,
    }
}

/// W (gates, width + 1) without its bias column over R (gates, hidden), both transposed: (width + hidden,
/// gates); and the bias column.
fn stacked(w: &[f32], r: &[f32], width: usize, hidden: usize) -> (Vec<f32>, Vec<f32>) {
    let gates = w.len() / (width + 1);
    let mut weights = vec![0.0; (width + hidden) * gates];
    for gate in 0..gates {
        for (i, &x) in
            w[gate * (width + 1)..][..width].iter().chain(&r[gate * hidden..][..hidden]).enumerate()
        {
            weights[i * gates + gate] = x;
        }
    }
    (weights, w.chunks_exact(width + 1).map(|row| row[width]).collect())
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
