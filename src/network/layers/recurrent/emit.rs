//! The ONNX forms of a recurrent layer: over whole texts, and of one step.

use s2s_runtime::contract::axis::BATCH;

use super::Recurrent;
use crate::network::ground::graph::{GraphSide, Io, emit_folded, emit_parameter, squeeze, unsqueeze};
use crate::network::ground::parameters::Parameters;
use crate::network::layers::cell::{RecurrentCell, SequenceWeights};
use crate::network::layers::projection::Projection;
use crate::onnx::builder::{Attribute, Axis, GraphBuilder, Value};
use crate::onnx::messages::DataType;

impl<C: RecurrentCell> Recurrent<C> {
    /// Writes the cell's operator over a whole text.
    ///
    /// - `below` (time, batch, width): the layer below; `None` for the first, which reads `side`.
    /// - `states`: each (1, batch, hidden).
    ///
    /// Returns the outputs (time, 1, batch, hidden) and the final states.
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
        let b = self.b.map(|b| emit_parameter(p, b, g));
        if self.cell.needs_scan() {
            let w = transposed_matrix(g, &w);
            let inputs = g.node("MatMul", &[&x, &w], &[]);
            return self.emit_scan(p, g, &inputs, states);
        }
        let weights = SequenceWeights { w: &w, r: &r, b: b.as_ref() };
        self.cell.emit_sequence(g, self.hidden, &x, weights, states)
    }

    /// Writes W x + b (time, batch, gates * hidden) of whole texts, of a first layer.
    pub fn emit_inputs(&self, p: &Parameters<f32>, g: &mut GraphBuilder, side: &GraphSide) -> Value {
        g.scope(&self.name);
        let (x, w) = self.projection.emit_sequence(p, g, side, None);
        let w = transposed_matrix(g, &w);
        g.node("MatMul", &[&x, &w], &[])
    }

    /// Writes a whole text as a Scan over steps, from W x + b (time, batch, gates * hidden); otherwise as
    /// [`emit_sequence`](Self::emit_sequence).
    fn emit_scan(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        inputs: &Value,
        states: &[Value],
    ) -> Vec<Value> {
        let states = &states[..self.states()];
        let carried: Vec<Value> = states.iter().map(|state| squeeze(g, state, 0)).collect();
        let axes = |width| [Axis::Symbol(BATCH), Axis::Fixed(width)];
        let body = g.body("step", |g| {
            let name = |what: &str, n: usize| format!("{}.scan.{what}_{n}", self.name);
            let before: Vec<Value> = (0..states.len())
                .map(|n| g.input(&name("state", n), DataType::Float, &axes(self.hidden)))
                .collect();
            let inputs = g.input(&name("inputs", 0), DataType::Float, &axes(self.gates()));
            let after = self.emit_products_and_step(p, g, inputs, &before);
            for (n, state) in after.iter().enumerate() {
                g.output(&name("next", n), state, DataType::Float, &axes(self.hidden));
            }
            let rows = g.node("Identity", &[&after[0]], &[]);
            g.output(&name("rows", 0), &rows, DataType::Float, &axes(self.hidden));
        });
        g.scope(&self.name);
        let reads: Vec<&Value> = carried.iter().chain([inputs]).collect();
        let attributes = [("body", body), ("num_scan_inputs", Attribute::Int(1))];
        let mut outputs = g.node_n("Scan", &reads, &attributes, states.len() + 1);
        let rows = outputs.pop().unwrap_or_else(Value::none);
        let rows = unsqueeze(g, &rows, 1);
        let lasts: Vec<Value> = outputs.iter().map(|state| unsqueeze(g, state, 0)).collect();
        [rows].into_iter().chain(lasts).collect()
    }

    /// Writes one step with the parameters as a training graph carries them.
    ///
    /// - `input`: W x + b (batch, gates * hidden) of a first layer, h (batch, hidden) of the layer below for
    ///   the others; `fed` and `states` as in [`emit_step`](Self::emit_step).
    ///
    /// Returns the next states.
    pub fn emit_unfolded_step(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        input: &Value,
        fed: Option<&Value>,
        states: &[Value],
    ) -> Vec<Value> {
        g.scope(&self.name);
        let mut inputs = match &self.projection {
            Projection::Rows(rows) => rows.emit_unfolded_step(p, g, input),
            Projection::Symbols(_) => input.clone(),
        };
        if let (Some((feed, _)), Some(fed)) = (self.feed, fed) {
            let feed = emit_parameter(p, feed, g);
            let product = g.node("MatMul", &[fed, &feed], &[]);
            inputs = g.node("Add", &[&inputs, &product], &[]);
        }
        self.emit_products_and_step(p, g, inputs, states)
    }

    /// Writes R transposed, (hidden, gates * hidden).
    fn emit_recurrent_weights(&self, p: &Parameters<f32>, g: &mut GraphBuilder) -> Value {
        let direction = g.int64(&[1], &[0]);
        let r = emit_parameter(p, self.r, g);
        let r = g.node("Squeeze", &[&r, &direction], &[]);
        g.node("Transpose", &[&r], &[("perm", Attribute::Ints(vec![1, 0]))])
    }

    /// Writes what follows W x + b (batch, gates * hidden) in a step, with the parameters as a training graph
    /// carries them.
    fn emit_products_and_step(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        inputs: Value,
        states: &[Value],
    ) -> Vec<Value> {
        let r = self.emit_recurrent_weights(p, g);
        if !self.cell.reset_rows(self.hidden).is_empty() {
            return self.cell.emit_step(g, self.hidden, &[inputs, r], states);
        }
        let mut recurrent = g.node("MatMul", &[&states[0], &r], &[]);
        if let Some(b) = self.b {
            // Behind as many zeros.
            let b = emit_parameter(p, b, g);
            let gates = self.gates() as i64;
            let [from, to, axis] = [gates, 2 * gates, 1].map(|value| g.int64(&[1], &[value]));
            let b = g.node("Slice", &[&b, &from, &to, &axis], &[]);
            recurrent = g.node("Add", &[&recurrent, &b], &[]);
        }
        let products = if self.cell.takes_sum() {
            vec![g.node("Add", &[&recurrent, &inputs], &[])]
        } else {
            vec![inputs, recurrent]
        };
        self.cell.emit_step(g, self.hidden, &products, states)
    }

    /// Writes one step.
    ///
    /// - `input`: the token (batch, 1) for the first layer, h (batch, hidden) of the layer below for the
    ///   others.
    /// - `fed`: the rows beside it (batch, width), of a layer that [is fed](Self::fed).
    /// - `states`: each (batch, hidden).
    ///
    /// Returns the next states.
    pub fn emit_step(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        io: Io,
        input: &Value,
        fed: Option<&Value>,
        states: &[Value],
    ) -> Vec<Value> {
        g.scope(&self.name);
        let h = &states[0];
        let products = match &self.projection {
            Projection::Rows(rows) if self.cell.takes_sum() => {
                vec![rows.emit_step_with_state(p, g, input, (self.r, h))]
            }
            projection => {
                let mut inputs = projection.emit_step(p, g, io, input);
                if let (Some((feed, _)), Some(fed)) = (self.feed, fed) {
                    let feed = emit_parameter(p, feed, g);
                    let product = g.node("MatMul", &[fed, &feed], &[]);
                    inputs = g.node("Add", &[&inputs, &product], &[]);
                }
                // The same bytes as in the training graph; engines fold the transposition when they load.
                let r = self.emit_recurrent_weights(p, g);
                if !self.cell.reset_rows(self.hidden).is_empty() {
                    return self.cell.emit_step(g, self.hidden, &[inputs, r], states);
                }
                let mut recurrent = g.node("MatMul", &[h, &r], &[]);
                if self.b.is_some() {
                    let bias = self.recurrent_bias(p);
                    let bias = emit_folded(g, &format!("{}.recurrent_bias", self.name), &[bias.len()], &bias);
                    recurrent = g.node("Add", &[&recurrent, &bias], &[]);
                }
                if self.cell.takes_sum() {
                    vec![g.node("Add", &[&recurrent, &inputs], &[])]
                } else {
                    vec![inputs, recurrent]
                }
            }
        };
        self.cell.emit_step(g, self.hidden, &products, states)
    }
}

/// The transpose (columns, rows) of a parameter (1, rows, columns).
fn transposed_matrix(g: &mut GraphBuilder, parameter: &Value) -> Value {
    let direction = g.int64(&[1], &[0]);
    let matrix = g.node("Squeeze", &[parameter, &direction], &[]);
    g.node("Transpose", &[&matrix], &[("perm", Attribute::Ints(vec![1, 0]))])
}
