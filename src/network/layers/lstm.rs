//! The LSTM cell: one step forward and backward on packed rows, and its two ONNX forms.
//!
//! Gates in ONNX's order i, o, f, c; `c' = f c + i g`, `h' = o tanh(c')` (Hochreiter and Schmidhuber 1997
//! with forget gates, Gers et al. 2000). The loop over time and the weights are those of
//! [`Recurrent`](super::recurrent::Recurrent).

use crate::network::ground::graph::split_sizes;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};

/// Gates.
pub(super) const GATES: usize = 4;

/// The gates whose bias starts at 1: the forget gate (Jozefowicz et al. 2015).
pub(super) fn biased_gates(hidden: usize) -> std::ops::Range<usize> {
    2 * hidden..3 * hidden
}

/// ONNX, a whole text: the LSTM operator over time.
///
/// - `x` (time, batch, inputs + 1), `w`, `r`: as [`Projection`](super::projection::Projection) emits them.
/// - `states`: h and c, (1, batch, hidden).
///
/// Gives the outputs (time, 1, batch, hidden) and the final h and c.
pub(super) fn emit_sequence(
    g: &mut GraphBuilder,
    hidden: usize,
    x: &Value,
    w: &Value,
    r: &Value,
    states: &[Value],
) -> Vec<Value> {
    let none = Value::none();
    let attributes = [("hidden_size", Attribute::Int(hidden as i64))];
    // The bias is in W, behind the mask; OpenCV refuses a node without one of its own all the same.
    let width = 2 * GATES * hidden;
    let bias = g.initializer(&format!("constant.zeros_{width}"), &[1, width], &vec![0.0; width]);
    g.node_n("LSTM", &[x, w, r, &bias, &none, &states[0], &states[1]], &attributes, 3)
}

/// ONNX, one step, spelled out: the form that is fastest and that every runtime takes.
///
/// - `gates` (batch, 4 hidden): all pre-activations; `c` (batch, hidden). Gives the next h and c.
pub(super) fn emit_step(g: &mut GraphBuilder, hidden: usize, gates: &Value, c: &Value) -> Vec<Value> {
    let axis = [("axis", Attribute::Int(1))];
    let sizes = split_sizes(g, &[3 * hidden, hidden]);
    let parts = g.node_n("Split", &[gates, &sizes], &axis, 2);
    let gates = g.node("Sigmoid", &[&parts[0]], &[]);
    let candidate = g.node("Tanh", &[&parts[1]], &[]);
    let sizes = split_sizes(g, &[hidden, hidden, hidden]);
    let gates = g.node_n("Split", &[&gates, &sizes], &axis, 3);
    let kept = g.node("Mul", &[&gates[2], c], &[]);
    let added = g.node("Mul", &[&gates[0], &candidate], &[]);
    let c = g.node("Add", &[&kept, &added], &[]);
    let squashed = g.node("Tanh", &[&c], &[]);
    let h = g.node("Mul", &[&gates[1], &squashed], &[]);
    vec![h, c]
}
