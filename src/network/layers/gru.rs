//! The GRU cell: one step forward and backward on packed rows, and its two ONNX forms.
//!
//! Gates in ONNX's order z, r, n, the reset gate after the product (`linear_before_reset = 1`, as cuDNN and
//! Keras 3 have it, because two runtimes lack the other form): `n = tanh(W x + b + r (R h))`,
//! `h' = (1 - z) n + z h` (Cho et al. 2014). A bias inside the reset product, `r (R h + b_n)`, would move a
//! zero state at padding; there the update gate is held at 1 instead, so that `h' = h` exactly.

use std::ops::Range;

use s2s_runtime::contract::state_h;

use super::cell::{BackwardStep, RecurrentCell, RecurrentWeights, SequenceWeights, StateName, Step};
use super::gates::{GateActivation, gru_backward, gru_forward};
use crate::network::ground::graph::split_sizes;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::{Real, gru_gates_backward, gru_gates_forward};

/// The gated recurrent unit as a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gru {
    /// Whether the candidate's part of R h has a bias of its own.
    pub(super) reset_bias: bool,
    pub(super) gates: GateActivation,
}

impl RecurrentCell for Gru {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn gates(&self) -> usize {
        3
    }

    fn states(&self) -> &'static [StateName] {
        &[state_h]
    }

    /// The candidate's.
    fn recurrent_bias(&self, hidden: usize) -> Range<usize> {
        if self.reset_bias { 2 * hidden..3 * hidden } else { 0..0 }
    }

    /// The update gate.
    fn held(&self, hidden: usize) -> Range<usize> {
        if self.reset_bias { 0..hidden } else { 0..0 }
    }

    /// The reset gate multiplies a part of R h before it meets W x + b.
    fn takes_sum(&self) -> bool {
        false
    }

    fn needs_scan(&self) -> bool {
        self.gates != GateActivation::Sigmoid
    }

    /// Leaves the activated gates, and the candidate's part of R h.
    fn forward<R: Real>(&self, step: Step<'_, R>, r: RecurrentWeights<'_, R>) {
        r.write(step.before.h, step.recurrent);
        if self.needs_scan() {
            let after = (step.kept, step.after.h);
            let (gates, before) = (step.gates, step.before.h);
            return gru_forward(self.gates, step.hidden, gates, step.recurrent, before, after);
        }
        gru_gates_forward(step.hidden, step.gates, step.recurrent, step.before.h, step.kept, step.after.h);
    }

    fn backward<R: Real>(&self, step: BackwardStep<'_, R>, r: RecurrentWeights<'_, R>) {
        let d_h = step.d_states.h;
        if self.needs_scan() {
            let before = (step.before.h, step.kept);
            gru_backward(self.gates, step.hidden, step.gates, step.recurrent, before, d_h);
        } else {
            gru_gates_backward(step.hidden, step.gates, step.recurrent, step.before.h, step.kept, d_h);
        }
        r.add(step.recurrent, d_h);
    }

    fn emit_sequence(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        x: &Value,
        weights: SequenceWeights<'_>,
        states: &[Value],
    ) -> Vec<Value> {
        let none = Value::none();
        let attributes =
            [("hidden_size", Attribute::Int(hidden as i64)), ("linear_before_reset", Attribute::Int(1))];
        g.node_n(
            "GRU",
            &[x, weights.w, weights.r, weights.b.unwrap_or(&none), &none, &states[0]],
            &attributes,
            2,
        )
    }

    fn emit_step(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        products: &[Value],
        states: &[Value],
    ) -> Vec<Value> {
        let axis = [("axis", Attribute::Int(1))];
        let mut split = |value: &Value| {
            let sizes = split_sizes(g, &[2 * hidden, hidden]);
            g.node_n("Split", &[value, &sizes], &axis, 2)
        };
        let (x, q) = (split(&products[0]), split(&products[1]));
        let sum = g.node("Add", &[&x[0], &q[0]], &[]);
        let gates = self.gates.emit(g, &sum);
        let sizes = split_sizes(g, &[hidden, hidden]);
        let gates = g.node_n("Split", &[&gates, &sizes], &axis, 2);
        let reset = g.node("Mul", &[&gates[1], &q[1]], &[]);
        vec![emit_update(g, &gates[0], [&x[1], &reset], &states[0])]
    }
}

/// Writes the end of a step: n = tanh of the sum of `candidate`, and (1 - z) n + z h.
pub(super) fn emit_update(g: &mut GraphBuilder, z: &Value, candidate: [&Value; 2], h: &Value) -> Value {
    let sum = g.node("Add", &candidate, &[]);
    let n = g.node("Tanh", &[&sum], &[]);
    let difference = g.node("Sub", &[h, &n], &[]);
    let kept = g.node("Mul", &[z, &difference], &[]);
    g.node("Add", &[&n, &kept], &[])
}
