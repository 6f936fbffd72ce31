//! The GRU cell: its two ONNX forms; the arithmetic of a step is
//! [`gru_gates_forward`](s2s_kernels::gru_gates_forward).
//!
//! Gates in ONNX's order z, r, n, the reset gate after the product (`linear_before_reset = 1`, as cuDNN and
//! Keras 3 have it, because two runtimes lack the other form): `n = tanh(W x + b + r (R h))`, `h' = (1 - z) n
//! + z h` (Cho et al. 2014). There is no bias inside the reset product: at padding it would move a zero
//! state.

use crate::network::ground::graph::split_sizes;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};

/// Gates.
pub(super) const GATES: usize = 3;

/// ONNX, a whole text: the GRU operator over time; see [`lstm::emit_sequence`](super::lstm).
pub(super) fn emit_sequence(
    g: &mut GraphBuilder,
    hidden: usize,
    x: &Value,
    w: &Value,
    r: &Value,
    states: &[Value],
) -> Vec<Value> {
    let none = Value::none();
    let attributes =
        [("hidden_size", Attribute::Int(hidden as i64)), ("linear_before_reset", Attribute::Int(1))];
    g.node_n("GRU", &[x, w, r, &none, &none, &states[0]], &attributes, 2)
}

/// ONNX, one step, spelled out.
///
/// - `inputs` (batch, 3 hidden): W x + b; `recurrent` (batch, 3 hidden): R h; `h` (batch, hidden). Gives the
///   next h.
pub(super) fn emit_step(
    g: &mut GraphBuilder,
    hidden: usize,
    inputs: &Value,
    recurrent: &Value,
    h: &Value,
) -> Vec<Value> {
    let axis = [("axis", Attribute::Int(1))];
    let mut split = |value: &Value| {
        let sizes = split_sizes(g, &[2 * hidden, hidden]);
        g.node_n("Split", &[value, &sizes], &axis, 2)
    };
    let (x, q) = (split(inputs), split(recurrent));
    let sum = g.node("Add", &[&x[0], &q[0]], &[]);
    let gates = g.node("Sigmoid", &[&sum], &[]);
    let sizes = split_sizes(g, &[hidden, hidden]);
    let gates = g.node_n("Split", &[&gates, &sizes], &axis, 2);
    let reset = g.node("Mul", &[&gates[1], &q[1]], &[]);
    let sum = g.node("Add", &[&x[1], &reset], &[]);
    let candidate = g.node("Tanh", &[&sum], &[]);
    let difference = g.node("Sub", &[h, &candidate], &[]);
    let kept = g.node("Mul", &[&gates[0], &difference], &[]);
    vec![g.node("Add", &[&candidate, &kept], &[])]
}
