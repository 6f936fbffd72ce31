//! The GRU whose reset gate stands before the product: one step forward and backward on packed rows, and its
//! two ONNX forms.
//!
//! Gates in ONNX's order z, r, n: `n = tanh(W x + b + R (r h))`, `h' = (1 - z) n + z h` (Cho et al. 2014;
//! `linear_before_reset = 0`, Keras's `reset_after=False`).

use std::ops::Range;

use s2s_runtime::contract::state_h;

use super::cell::{BackwardStep, RecurrentCell, RecurrentWeights, SequenceWeights, StateName, Step};
use super::gates::GateActivation;
use super::gru::emit_update;
use crate::network::ground::graph::split_sizes;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::Real;

/// Where the update gate of a value (rows, hidden) stands among the gates (rows, 3 hidden).
fn place(hidden: usize, at: usize) -> usize {
    at / hidden * 3 * hidden + at % hidden
}

/// This gated recurrent unit as a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct GruResetBefore {
    pub(super) gates: GateActivation,
}

impl RecurrentCell for GruResetBefore {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn gates(&self) -> usize {
        3
    }

    fn states(&self) -> &'static [StateName] {
        &[state_h]
    }

    fn takes_sum(&self) -> bool {
        false
    }

    /// The candidate's.
    fn reset_rows(&self, hidden: usize) -> Range<usize> {
        2 * hidden..3 * hidden
    }

    fn needs_scan(&self) -> bool {
        self.gates != GateActivation::Sigmoid
    }

    /// Leaves the activated gates, and r h.
    fn forward<R: Real>(&self, step: Step<'_, R>, mut r: RecurrentWeights<'_, R>) {
        let hidden = step.hidden;
        r.by_ref().write(step.before.h, step.recurrent);
        for (at, &h) in step.before.h.iter().enumerate() {
            let z = place(hidden, at);
            let reset = z + hidden;
            step.gates[z] = self.gates.apply(step.gates[z] + step.recurrent[z]);
            step.gates[reset] = self.gates.apply(step.gates[reset] + step.recurrent[reset]);
            step.kept[at] = step.gates[reset] * h;
        }
        r.write(step.kept, step.recurrent);
        for (at, &h) in step.before.h.iter().enumerate() {
            let z = place(hidden, at);
            let n = z + 2 * hidden;
            step.gates[n] = (step.gates[n] + step.recurrent[n]).tanh::<false>();
            step.after.h[at] = step.gates[n] + step.gates[z] * (h - step.gates[n]);
        }
    }

    fn backward<R: Real>(&self, step: BackwardStep<'_, R>, mut r: RecurrentWeights<'_, R>) {
        let (hidden, d_h) = (step.hidden, step.d_states.h);
        step.recurrent.fill(R::ZERO);
        for (at, d_h) in d_h.iter_mut().enumerate() {
            let z_at = place(hidden, at);
            let (z, n) = (step.gates[z_at], step.gates[z_at + 2 * hidden]);
            let d_n = *d_h * (R::ONE - z) * (R::ONE - n * n);
            step.gates[z_at] = *d_h * (step.before.h[at] - n) * self.gates.derivative(z);
            step.gates[z_at + 2 * hidden] = d_n;
            step.recurrent[z_at + 2 * hidden] = d_n;
            *d_h *= z;
        }
        let mut d_reset_h = vec![R::ZERO; d_h.len()];
        r.by_ref().write(step.recurrent, &mut d_reset_h);
        for (at, (d_h, &d)) in d_h.iter_mut().zip(&d_reset_h).enumerate() {
            let z_at = place(hidden, at);
            let reset = step.gates[z_at + hidden];
            step.gates[z_at + hidden] = d * step.before.h[at] * self.gates.derivative(reset);
            *d_h += d * reset;
            step.recurrent[z_at] = step.gates[z_at];
            step.recurrent[z_at + hidden] = step.gates[z_at + hidden];
            step.recurrent[z_at + 2 * hidden] = R::ZERO;
        }
        r.add(step.recurrent, d_h);
        for at in 0..d_h.len() {
            let n = place(hidden, at) + 2 * hidden;
            step.recurrent[n] = step.gates[n];
        }
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
        let attributes = [("hidden_size", Attribute::Int(hidden as i64))];
        g.node_n("GRU", &[x, weights.w, weights.r, &none, &none, &states[0]], &attributes, 2)
    }

    fn emit_step(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        products: &[Value],
        states: &[Value],
    ) -> Vec<Value> {
        let axis = [("axis", Attribute::Int(1))];
        let sizes = split_sizes(g, &[2 * hidden, hidden]);
        let x = g.node_n("Split", &[&products[0], &sizes], &axis, 2);
        let weights = g.node_n("Split", &[&products[1], &sizes], &axis, 2);
        let product = g.node("MatMul", &[&states[0], &weights[0]], &[]);
        let sum = g.node("Add", &[&x[0], &product], &[]);
        let gates = self.gates.emit(g, &sum);
        let sizes = split_sizes(g, &[hidden, hidden]);
        let gates = g.node_n("Split", &[&gates, &sizes], &axis, 2);
        let reset = g.node("Mul", &[&gates[1], &states[0]], &[]);
        let product = g.node("MatMul", &[&reset, &weights[1]], &[]);
        vec![emit_update(g, &gates[0], [&x[1], &product], &states[0])]
    }
}
