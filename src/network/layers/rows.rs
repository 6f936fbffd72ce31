//! From rows of the layer below to the gates' pre-activations of a recurrent layer.

use std::ops::Range;

use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::{emit_folded, emit_parameter};
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{MatRef, Packed, Real, Store, matmul_packed};

/// The rows of W.
#[derive(Clone, Debug)]
pub struct Gates {
    /// How many there are.
    pub count: usize,
    /// Those that are large at padding: W has a column for that in the graphs.
    pub held: Range<usize>,
}

/// The projection of rows (tokens, width): `W` (1, gates, width + 1), whose last column is the bias.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    width: usize,
    gates: usize,
    w: ParameterId,
    /// Whether gates are held at padding.
    is_held: bool,
}

/// [`Rows`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedRows<R> {
    /// W without the bias, transposed: (width, gates).
    forward: Packed<R>,
    /// W without the bias, (gates, width).
    backward: Packed<R>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct RowsTape<R> {
    /// The rows after dropout.
    rows: Vec<R>,
    /// What each value was multiplied by.
    factors: Vec<R>,
    /// Whether there was dropout.
    is_dropped: bool,
}

impl Rows {
    /// Registers W of a layer.
    pub fn new(p: &mut Layout, layer: &str, width: usize, gates: Gates) -> Self {
        let (count, is_held) = (gates.count, !gates.held.is_empty());
        let w = p.add_held(format!("{layer}.W"), &[1, count, width + 1], gates.held);
        Self { width, gates: count, w, is_held }
    }

    /// Packs the weights into the memory of `old`.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, old: PreparedRows<R>) -> PreparedRows<R> {
        let w = MatRef::strided(p.get(self.w), self.gates, self.width, self.width + 1);
        PreparedRows { forward: old.forward.repacked(w.transposed()), backward: old.backward.repacked(w) }
    }

    /// Fills `gates` (tokens, gates) with W x + b of the rows (tokens, width).
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedRows<R>,
        rows: &[R],
        gates: &mut [R],
        tape: &mut RowsTape<R>,
    ) {
        let rows = match pass.dropout {
            Some(dropout) => {
                dropout.factors(rows.len(), &mut tape.factors);
                tape.rows.clear();
                tape.rows.extend(rows.iter().zip(&tape.factors).map(|(&x, &f)| x * f));
                &tape.rows
            }
            None => rows,
        };
        let bias = bias_column(pass.parameters, self.w, self.width);
        let rows = MatRef::new(rows, rows.len() / self.width, self.width);
        matmul_packed(gates, Store::Bias(&bias), rows, &prepared.forward, pass.scratch);
    }

    /// Overwrites `d_rows` (tokens, width) with the gradient of the rows, from that of the pre-activations,
    /// `d_gates` (tokens, gates).
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedRows<R>,
        d_gates: &[R],
        tape: &mut RowsTape<R>,
        d_rows: &mut Vec<R>,
    ) {
        let tokens = d_gates.len() / self.gates;
        tape.is_dropped = pass.dropout.is_some();
        d_rows.resize(tokens * self.width, R::ZERO);
        let d_gates = MatRef::new(d_gates, tokens, self.gates);
        matmul_packed(d_rows, Store::Overwrite, d_gates, &prepared.backward, pass.scratch);
        if tape.is_dropped {
            d_rows.iter_mut().zip(&tape.factors).for_each(|(d, &f)| *d *= f);
        }
    }

    /// Lists the gradients of W; `d_bias` (gates) are the sums of `d_gates` (tokens, gates).
    pub fn summands<'a, R: Real>(
        &self,
        rows: &'a [R],
        d_gates: &'a [R],
        d_bias: &'a [R],
        tape: &'a RowsTape<R>,
        out: &mut Summands<'a, R>,
    ) {
        let rows = if tape.is_dropped { &tape.rows } else { rows };
        let tokens = rows.len() / self.width;
        let (d_gates, rows) =
            (MatRef::new(d_gates, tokens, self.gates), MatRef::new(rows, tokens, self.width));
        out.push((self.w, Summand::over_rows(d_gates, rows)));
        out.push((self.w, Summand::Column { at: self.width, values: d_bias }));
    }

    /// Draws W (Glorot uniform, as Keras does); sets the bias of the gates in `ones` to 1, the rest to 0.
    pub fn initialise(&self, p: &mut Parameters<f32>, ones: Range<usize>, random: &mut Random) {
        let limit = (6.0 / (self.width + self.gates) as f64).sqrt();
        for (gate, row) in p.get_mut(self.w).chunks_exact_mut(self.width + 1).enumerate() {
            row[..self.width].iter_mut().for_each(|x| *x = random.symmetric(limit));
            row[self.width] = if ones.contains(&gate) { 1.0 } else { 0.0 };
        }
    }

    /// Writes the layer's input (time, batch, width + 1), the last channel the `mask`, and its W, for the
    /// rows `below` (time, batch, width) of whole texts; where gates are held, the mask's opposite behind it.
    pub fn emit_sequence(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        below: &Value,
        mask: &Value,
    ) -> (Value, Value) {
        let mut parts = vec![below.clone(), mask.clone()];
        if self.is_held {
            let one = g.float(&[], &[1.0]);
            parts.push(g.node("Sub", &[&one, mask], &[]));
        }
        let parts: Vec<&Value> = parts.iter().collect();
        let x = g.node("Concat", &parts, &[("axis", Attribute::Int(2))]);
        (x, emit_parameter(p, self.w, g))
    }

    /// Writes W x + b (batch, gates) of one step, x (batch, width), with W as a training graph carries it.
    pub fn emit_unfolded_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, x: &Value) -> Value {
        // A channel that is 1 for the bias, and one that is 0 where gates are held at padding.
        let wide = self.width + if self.is_held { 2 } else { 1 };
        let pads = g.int64(&[4], &[0, 0, 0, (wide - self.width) as i64]);
        let x = g.node("Pad", &[x, &pads], &[]);
        let mut token = vec![0.0; wide];
        token[self.width] = 1.0;
        let token = g.float(&[wide], &token);
        let x = g.node("Add", &[&x, &token], &[]);
        let w = emit_parameter(p, self.w, g);
        let direction = g.int64(&[1], &[0]);
        let w = g.node("Squeeze", &[&w, &direction], &[]);
        let w = g.node("Transpose", &[&w], &[("perm", Attribute::Ints(vec![1, 0]))]);
        g.node("MatMul", &[&x, &w], &[])
    }

    /// Writes W x + b (batch, gates) of one step, x (batch, width).
    pub fn emit_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, x: &Value) -> Value {
        self.emit_product(p, g, "input", x, (&[], 0))
    }

    /// Writes W x + b + R h (batch, gates) of one step as one product; x (batch, width), R (1, gates,
    /// hidden), h (batch, hidden).
    pub fn emit_step_with_state(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        x: &Value,
        (r, h): (ParameterId, &Value),
    ) -> Value {
        let hidden = p.get(r).len() / self.gates;
        let both = g.node("Concat", &[x, h], &[("axis", Attribute::Int(1))]);
        self.emit_product(p, g, "input_and_state", &both, (p.get(r), hidden))
    }

    /// Writes the product of `x` (batch, width + hidden) with W and, beside it, R (gates, hidden), plus the
    /// bias; `name` tells them from other weights of the layer.
    fn emit_product(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        name: &str,
        x: &Value,
        (r, hidden): (&[f32], usize),
    ) -> Value {
        let layer = p.entry(self.w).name.trim_end_matches(".W");
        let (weights, bias) = stacked(p.get(self.w), r, self.width, hidden);
        let weights =
            emit_folded(g, &format!("{layer}.{name}"), &[self.width + hidden, self.gates], &weights);
        let bias = emit_folded(g, &format!("{layer}.bias"), &[self.gates], &bias);
        let product = g.node("MatMul", &[x, &weights], &[]);
        g.node("Add", &[&product, &bias], &[])
    }
}

/// Gives the bias, the last column of W (gates, width + 1).
pub(super) fn bias_column<R: Real>(p: &Parameters<R>, w: ParameterId, width: usize) -> Vec<R> {
    p.get(w).chunks_exact(width + 1).map(|row| row[width]).collect()
}

/// Gives W (gates, width + 1) without its bias column over R (gates, hidden), both transposed: (width +
/// hidden, gates); and the bias column.
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
