//! The LSTM cell: one step forward and backward on packed rows, and its two ONNX forms.
//!
//! Gates in ONNX's order i, o, f, c; `c' = f c + i g`, `h' = o tanh(c')` (Hochreiter and Schmidhuber 1997
//! with forget gates, Gers et al. 2000).

use std::ops::Range;

use s2s_runtime::contract::{state_c, state_h};

use super::cell::{BackwardStep, RecurrentCell, RecurrentWeights, SequenceWeights, StateName, Step};
use super::gates::{GateActivation, lstm_backward, lstm_forward};
use crate::network::ground::graph::{emit_zeros, split_sizes};
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::{Real, lstm_gates_backward, lstm_gates_forward};

/// Long short-term memory as a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lstm {
    pub(super) gates: GateActivation,
}

impl RecurrentCell for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn gates(&self) -> usize {
        4
    }

    fn states(&self) -> &'static [StateName] {
        &[state_h, state_c]
    }

    /// The forget gate (Jozefowicz et al. 2015).
    fn ones(&self, hidden: usize) -> Range<usize> {
        2 * hidden..3 * hidden
    }

    fn takes_sum(&self) -> bool {
        true
    }

    fn needs_scan(&self) -> bool {
        self.gates != GateActivation::Sigmoid
    }

    /// Leaves the activated gates, and tanh c'.
    fn forward<R: Real>(&self, step: Step<'_, R>, r: RecurrentWeights<'_, R>) {
        r.add(step.before.h, step.gates);
        if self.needs_scan() {
            let after = (step.after.c, step.kept, step.after.h);
            return lstm_forward(self.gates, step.hidden, step.gates, step.before.c, after);
        }
        lstm_gates_forward(step.hidden, step.gates, step.before.c, step.after.c, step.kept, step.after.h);
    }

    fn backward<R: Real>(&self, step: BackwardStep<'_, R>, r: RecurrentWeights<'_, R>) {
        let d = step.d_states;
        if self.needs_scan() {
            lstm_backward(self.gates, step.hidden, step.gates, (step.before.c, step.kept), d.h, d.c);
        } else {
            lstm_gates_backward(step.hidden, step.gates, step.before.c, step.kept, d.h, d.c);
        }
        r.write(step.gates, d.h);
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
        // The bias is in W, behind the mask; OpenCV refuses a node without one of its own all the same.
        let bias = emit_zeros(g, &[1, 2 * self.gates() * hidden]);
        g.node_n("LSTM", &[x, weights.w, weights.r, &bias, &none, &states[0], &states[1]], &attributes, 3)
    }

    fn emit_step(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        products: &[Value],
        states: &[Value],
    ) -> Vec<Value> {
        let axis = [("axis", Attribute::Int(1))];
        let sizes = split_sizes(g, &[3 * hidden, hidden]);
        let parts = g.node_n("Split", &[&products[0], &sizes], &axis, 2);
        let gates = self.gates.emit(g, &parts[0]);
        let candidate = g.node("Tanh", &[&parts[1]], &[]);
        let sizes = split_sizes(g, &[hidden, hidden, hidden]);
        let gates = g.node_n("Split", &[&gates, &sizes], &axis, 3);
        let kept = g.node("Mul", &[&gates[2], &states[1]], &[]);
        let added = g.node("Mul", &[&gates[0], &candidate], &[]);
        let c = g.node("Add", &[&kept, &added], &[]);
        let squashed = g.node("Tanh", &[&c], &[]);
        let h = g.node("Mul", &[&gates[1], &squashed], &[]);
        vec![h, c]
    }
}
