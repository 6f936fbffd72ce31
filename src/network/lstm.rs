//! The LSTM layer: its parameters, forward, backward, and its two ONNX forms.
//!
//! Gates in ONNX's order i, o, f, c; `h' = o tanh(c')`, `c' = f c + i g` (Hochreiter and Schmidhuber 1997 with forget
//! gates, Gers et al. 2000). Rows lie as [`Packing`] says.

use super::graph::{GraphSide, Io, split_sizes};
use super::packing::Packing;
use super::parameters::{ParameterId, Parameters};
use super::symbols::{PreparedSymbols, Symbols, add_to_w, emit_parameter};
use crate::kernels::{MatRef, Packed, Real, Scratch, Store, add_assign, lstm_gates_backward, lstm_gates_forward, matmul, matmul_packed};
use crate::network::InputForm;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use crate::random::Random;

/// One LSTM layer.
///
/// Parameters: `W` (1, 4 hidden, inputs + 1), the last column the bias; `R` (1, 4 hidden, hidden).
#[derive(Clone, Debug)]
pub struct Lstm {
    name: String,
    hidden: usize,
    input: LayerInput,
    r: ParameterId,
}

/// What the layer reads.
#[derive(Clone, Debug)]
enum LayerInput {
    /// Ids.
    Symbols(Symbols),
    /// Rows (tokens, width) of the layer below.
    Rows { width: usize, w: ParameterId },
}

/// What a layer reads in a forward or backward pass.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, R> {
    /// Ids of the packed rows.
    Ids(&'a [u32]),
    /// Packed rows (tokens, width).
    Rows(&'a [R]),
}

/// The layer laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug)]
pub struct PreparedLstm<R> {
    input: PreparedInput<R>,
    /// R transposed, (hidden, 4 hidden).
    r_forward: Packed<R>,
    /// R, (4 hidden, hidden).
    r_backward: Packed<R>,
}

#[derive(Clone, Debug)]
enum PreparedInput<R> {
    Symbols(PreparedSymbols<R>),
    Rows {
        /// W transposed, (width, 4 hidden).
        forward: Packed<R>,
        /// W, (4 hidden, width).
        backward: Packed<R>,
    },
}

/// What the forward pass leaves for the backward pass; the caller keeps it and its memory is reused.
#[derive(Clone, Debug, Default)]
pub struct LstmTape<R> {
    /// Activated gates (tokens, 4 hidden); gradients of the pre-activations after the backward pass.
    gates: Vec<R>,
    /// (tokens, hidden).
    c: Vec<R>,
    tanh_c: Vec<R>,
    /// Hidden states (tokens, hidden): the layer's output.
    pub h: Vec<R>,
    /// States before the first step, (batch, hidden) in the packing's order.
    pub h_0: Vec<R>,
    /// As `h_0`.
    pub c_0: Vec<R>,
    /// Embedded rows.
    embedded: Vec<R>,
    /// Hidden states before each row's step (tokens, hidden), and other memory of the backward pass.
    buffer: Vec<R>,
}

impl Lstm {
    /// A first layer over `vocabulary` symbols; `side` is `encoder` or `decoder`.
    pub fn over_symbols<R: Real>(p: &mut Parameters<R>, side: &str, vocabulary: usize, hidden: usize, form: InputForm) -> Self {
        let name = format!("{side}.lstm_0");
        let input = LayerInput::Symbols(Symbols::new(p, side, &name, vocabulary, 4 * hidden, form));
        let r = p.add(format!("{name}.R"), &[1, 4 * hidden, hidden]);
        Self { name, hidden, input, r }
    }

    /// Layer `layer` (from 1) over rows of the layer below.
    pub fn over_rows<R: Real>(p: &mut Parameters<R>, side: &str, layer: usize, width: usize, hidden: usize) -> Self {
        let name = format!("{side}.lstm_{layer}");
        let w = p.add(format!("{name}.W"), &[1, 4 * hidden, width + 1]);
        let r = p.add(format!("{name}.R"), &[1, 4 * hidden, hidden]);
        Self { name, hidden, input: LayerInput::Rows { width, w }, r }
    }

    /// The parameter that is kept transposed, if any; see [`Symbols`].
    pub fn transposed(&self) -> Option<ParameterId> {
        match &self.input {
            LayerInput::Symbols(symbols) => symbols.transposed(),
            LayerInput::Rows { .. } => None,
        }
    }

    /// Draws initial values as Keras does: Glorot-uniform W, orthogonal R, bias 0 but 1 for the forget gate
    /// (Jozefowicz et al. 2015).
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        let hidden = self.hidden;
        let forget = 2 * hidden..3 * hidden;
        match &self.input {
            LayerInput::Symbols(symbols) => {
                symbols.initialise(p, random);
                symbols.set_bias(p, forget, 1.0);
            }
            &LayerInput::Rows { width, w } => {
                let limit = (6.0 / (width + 4 * hidden) as f64).sqrt();
                for (gate, row) in p.get_mut(w).chunks_exact_mut(width + 1).enumerate() {
                    row[..width].iter_mut().for_each(|x| *x = ((2.0 * random.unit() - 1.0) * limit) as f32);
                    row[width] = if forget.contains(&gate) { 1.0 } else { 0.0 };
                }
            }
        }
        orthogonal_columns(p.get_mut(self.r), hidden, random);
    }

    /// Packs the weights; `tokens` is about how many ids a shard will bring.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, tokens: usize) -> PreparedLstm<R> {
        let gates = 4 * self.hidden;
        let input = match &self.input {
            LayerInput::Symbols(symbols) => PreparedInput::Symbols(symbols.prepare(p, tokens)),
            &LayerInput::Rows { width, w } => {
                let w = MatRef::strided(p.get(w), gates, width, width + 1);
                PreparedInput::Rows { forward: Packed::new(w.transposed()), backward: Packed::new(w) }
            }
        };
        let r = MatRef::new(p.get(self.r), gates, self.hidden);
        PreparedLstm { input, r_forward: Packed::new(r.transposed()), r_backward: Packed::new(r) }
    }

    /// Runs over all steps, from `tape.h_0` and `tape.c_0`; leaves the hidden states in `tape.h`.
    pub fn forward<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedLstm<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut LstmTape<R>,
        scratch: &mut Scratch<R>,
    ) {
        let (hidden, gates) = (self.hidden, 4 * self.hidden);
        tape.gates.resize(packing.rows * gates, R::ZERO);
        for buffer in [&mut tape.c, &mut tape.tanh_c, &mut tape.h] {
            buffer.resize(packing.rows * hidden, R::ZERO);
        }
        match (&self.input, &prepared.input, input) {
            (LayerInput::Symbols(symbols), PreparedInput::Symbols(prepared), Input::Ids(ids)) => {
                symbols.forward(p, prepared, ids, &mut tape.gates, &mut tape.embedded, scratch);
            }
            (&LayerInput::Rows { width, w }, PreparedInput::Rows { forward, .. }, Input::Rows(rows)) => {
                let bias: Vec<R> = p.get(w).chunks_exact(width + 1).map(|row| row[width]).collect();
                tape.gates.chunks_exact_mut(gates).for_each(|row| row.copy_from_slice(&bias));
                matmul_packed(&mut tape.gates, gates, Store::Add, MatRef::new(rows, packing.rows, width), forward, scratch);
            }
            _ => unreachable!("a layer reads what it was made for"),
        }
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets) {
            let rows = first * hidden..(first + n) * hidden;
            let (h_done, h) = tape.h.split_at_mut(rows.start);
            let (c_done, c) = tape.c.split_at_mut(rows.start);
            let (h_before, c_before) = match packing.before(first) {
                Some(previous) => (&h_done[previous * hidden..], &c_done[previous * hidden..]),
                None => (tape.h_0.as_slice(), tape.c_0.as_slice()),
            };
            let step = &mut tape.gates[first * gates..(first + n) * gates];
            matmul_packed(step, gates, Store::Add, MatRef::new(h_before, n, hidden), &prepared.r_forward, scratch);
            let len = n * hidden;
            lstm_gates_forward(hidden, step, &c_before[..len], &mut c[..len], &mut tape.tanh_c[rows], &mut h[..len]);
        }
    }

    /// The states after each text's last token, (batch, hidden) in the packing's order: h, then c.
    pub fn final_states<R: Real>(&self, packing: &Packing, tape: &LstmTape<R>) -> (Vec<R>, Vec<R>) {
        let mut states = (tape.h_0.clone(), tape.c_0.clone());
        for (position, row) in packing.last_rows().enumerate() {
            if let Some(row) = row {
                let (to, from) = (position * self.hidden, row * self.hidden);
                states.0[to..to + self.hidden].copy_from_slice(&tape.h[from..from + self.hidden]);
                states.1[to..to + self.hidden].copy_from_slice(&tape.c[from..from + self.hidden]);
            }
        }
        states
    }

    /// Backpropagation through time.
    ///
    /// - `d_rows` (tokens, hidden): gradient of the outputs; `None` where nothing above reads them.
    /// - `d_h`, `d_c` (batch, hidden): gradients of the final states; become those of the initial states.
    /// - `d_input` (tokens, width): overwritten with the gradient of the input rows, for layers over rows.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedLstm<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut LstmTape<R>,
        d_rows: Option<&[R]>,
        d_h: &mut [R],
        d_c: &mut [R],
        d_input: &mut Vec<R>,
        scratch: &mut Scratch<R>,
        gradients: &mut Parameters<R>,
    ) {
        let (hidden, gates) = (self.hidden, 4 * self.hidden);
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets).rev() {
            let rows = first * hidden..(first + n) * hidden;
            let len = n * hidden;
            if let Some(d_rows) = d_rows {
                add_assign(&mut d_h[..len], &d_rows[rows.clone()]);
            }
            let c_before = match packing.before(first) {
                Some(previous) => &tape.c[previous * hidden..][..len],
                None => &tape.c_0[..len],
            };
            let step = &mut tape.gates[first * gates..(first + n) * gates];
            lstm_gates_backward(hidden, step, c_before, &tape.tanh_c[rows], &d_h[..len], &mut d_c[..len]);
            matmul_packed(d_h, hidden, Store::Overwrite, MatRef::new(step, n, gates), &prepared.r_backward, scratch);
        }

        // The recurrent weights' gradient is one product over all steps, on the states before them.
        tape.buffer.resize(packing.rows * hidden, R::ZERO);
        for (&n, &first) in packing.sizes.iter().zip(&packing.offsets) {
            let before = match packing.before(first) {
                Some(previous) => &tape.h[previous * hidden..][..n * hidden],
                None => &tape.h_0[..n * hidden],
            };
            tape.buffer[first * hidden..][..n * hidden].copy_from_slice(before);
        }
        let d_gates = MatRef::new(&tape.gates, packing.rows, gates);
        let h_before = MatRef::new(&tape.buffer, packing.rows, hidden);
        matmul(gradients.get_mut(self.r), hidden, Store::Add, d_gates.transposed(), h_before, scratch);

        match (&self.input, &prepared.input, input) {
            (LayerInput::Symbols(symbols), PreparedInput::Symbols(prepared), Input::Ids(ids)) => {
                symbols.backward(p, prepared, ids, &tape.gates, &tape.embedded, &mut tape.buffer, scratch, gradients);
            }
            (&LayerInput::Rows { width, w }, PreparedInput::Rows { backward, .. }, Input::Rows(rows)) => {
                add_to_w(gradients.get_mut(w), width, d_gates, &tape.gates, rows, scratch);
                d_input.resize(packing.rows * width, R::ZERO);
                matmul_packed(d_input, width, Store::Overwrite, d_gates, backward, scratch);
            }
            _ => unreachable!("a layer reads what it was made for"),
        }
    }

    /// ONNX, a whole text: the LSTM operator over time.
    ///
    /// - `below` (time, batch, hidden): the layer below, `None` for the first.
    /// - `h_0`, `c_0` (1, batch, hidden).
    ///
    /// Gives the outputs (time, 1, batch, hidden) and the final h and c, (1, batch, hidden).
    pub fn emit_sequence(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        side: &GraphSide,
        below: Option<&Value>,
        states: (&Value, &Value),
    ) -> Vec<Value> {
        g.scope(&self.name);
        let (x, w) = match (&self.input, below) {
            (LayerInput::Symbols(symbols), None) => symbols.emit_sequence(p, g, side),
            (&LayerInput::Rows { w, .. }, Some(below)) => {
                let x = g.node("Concat", &[below, &side.mask], &[("axis", Attribute::Int(2))]);
                (x, emit_parameter(p, w, g))
            }
            _ => unreachable!("a layer reads what it was made for"),
        };
        let r = emit_parameter(p, self.r, g);
        let none = Value::none();
        let attributes = [("hidden_size", Attribute::Int(self.hidden as i64))];
        g.node_n("LSTM", &[&x, &w, &r, &none, &none, states.0, states.1], &attributes, 3)
    }

    /// ONNX, one step: the cell spelled out, the form that is fastest and that every runtime takes.
    ///
    /// - `input`: the token (batch, 1) for the first layer, h (batch, hidden) of the layer below for the others.
    /// - `h`, `c` (batch, hidden); gives the next h and c.
    pub fn emit_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io, input: &Value, h: &Value, c: &Value) -> [Value; 2] {
        g.scope(&self.name);
        let hidden = self.hidden;
        let pre = match &self.input {
            LayerInput::Symbols(symbols) => {
                let rows = symbols.emit_step(p, g, io, input);
                // The same bytes as in the training graph; engines fold the transposition when they load.
                let direction = g.int64(&[1], &[0]);
                let r = emit_parameter(p, self.r, g);
                let r = g.node("Squeeze", &[&r, &direction], &[]);
                let r = g.node("Transpose", &[&r], &[("perm", Attribute::Ints(vec![1, 0]))]);
                let product = g.node("MatMul", &[h, &r], &[]);
                g.node("Add", &[&product, &rows], &[])
            }
            &LayerInput::Rows { width, w } => {
                let (weights, bias) = stacked(p.get(w), p.get(self.r), width, hidden);
                let weights = g.initializer(&format!("{}.input_and_state", self.name), &[width + hidden, 4 * hidden], &weights);
                let bias = g.initializer(&format!("{}.bias", self.name), &[4 * hidden], &bias);
                let both = g.node("Concat", &[input, h], &[("axis", Attribute::Int(1))]);
                let product = g.node("MatMul", &[&both, &weights], &[]);
                g.node("Add", &[&product, &bias], &[])
            }
        };
        let (three, one) = (3 * hidden, hidden);
        let axis = [("axis", Attribute::Int(1))];
        let sizes = split_sizes(g, &[three, one]);
        let parts = g.node_n("Split", &[&pre, &sizes], &axis, 2);
        let gates = g.node("Sigmoid", &[&parts[0]], &[]);
        let candidate = g.node("Tanh", &[&parts[1]], &[]);
        let sizes = split_sizes(g, &[one, one, one]);
        let gates = g.node_n("Split", &[&gates, &sizes], &axis, 3);
        let kept = g.node("Mul", &[&gates[2], c], &[]);
        let added = g.node("Mul", &[&gates[0], &candidate], &[]);
        let c = g.node("Add", &[&kept, &added], &[]);
        let squashed = g.node("Tanh", &[&c], &[]);
        let h = g.node("Mul", &[&gates[1], &squashed], &[]);
        [h, c]
    }
}

/// W without its bias column over R, both transposed, (width + hidden, 4 hidden); and the bias column.
fn stacked(w: &[f32], r: &[f32], width: usize, hidden: usize) -> (Vec<f32>, Vec<f32>) {
    let gates = 4 * hidden;
    let mut weights = vec![0.0; (width + hidden) * gates];
    for gate in 0..gates {
        for (i, &x) in w[gate * (width + 1)..][..width].iter().chain(&r[gate * hidden..][..hidden]).enumerate() {
            weights[i * gates + gate] = x;
        }
    }
    (weights, w.chunks_exact(width + 1).map(|row| row[width]).collect())
}

/// Fills a (rows, columns) matrix, rows >= columns, with orthonormal columns: normal numbers, then Gram and Schmidt.
fn orthogonal_columns(matrix: &mut [f32], columns: usize, random: &mut Random) {
    let rows = matrix.len() / columns;
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(columns);
    for _ in 0..columns {
        let mut vector: Vec<f64> = (0..rows).map(|_| random.normal()).collect();
        // Twice, because one pass loses orthogonality to rounding (Giraud et al. 2005).
        for _ in 0..2 {
            for other in &basis {
                let dot: f64 = other.iter().zip(&vector).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(x, o)| *x -= dot * o);
            }
        }
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        basis.push(vector);
    }
    for (row, out) in matrix.chunks_exact_mut(columns).enumerate() {
        out.iter_mut().zip(&basis).for_each(|(x, vector)| *x = vector[row] as f32);
    }
}
