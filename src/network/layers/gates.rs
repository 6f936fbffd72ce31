//! Gates other than the logistic function: Keras's and PyTorch's `hard_sigmoid`.
//!
//! Such cells are rare, so they are written once as plain loops over rows, not as kernels. At 0 each
//! activation is 1/2, as the logistic function's is, so that padding leaves a state of zeros as it is.

use serde::{Deserialize, Serialize};

use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::Real;

/// The activation of a cell's gates; that of its candidate is tanh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateActivation {
    /// The logistic function.
    #[default]
    Sigmoid,
    /// max(0, min(1, x / 5 + 1/2)), Keras's `hard_sigmoid` until its version 2.
    HardSigmoidFifth,
    /// max(0, min(1, x / 6 + 1/2)), that of Keras 3 and PyTorch.
    HardSigmoidSixth,
}

impl GateActivation {
    /// The slope of the linear part of a hard sigmoid.
    fn slope(self) -> Option<f64> {
        match self {
            Self::Sigmoid => None,
            Self::HardSigmoidFifth => Some(0.2),
            Self::HardSigmoidSixth => Some(1.0 / 6.0),
        }
    }

    /// Computes the activation.
    pub(super) fn apply<R: Real>(self, x: R) -> R {
        let Some(slope) = self.slope() else { return x.sigmoid::<false>() };
        let y = x * R::from_f64(slope) + R::from_f64(0.5);
        if y < R::ZERO {
            R::ZERO
        } else if y > R::ONE {
            R::ONE
        } else {
            y
        }
    }

    /// Computes the derivative from the activation's own value.
    pub(super) fn derivative<R: Real>(self, y: R) -> R {
        match self.slope() {
            None => y * (R::ONE - y),
            Some(slope) if y > R::ZERO && y < R::ONE => R::from_f64(slope),
            Some(_) => R::ZERO,
        }
    }

    /// Writes the activation.
    pub(super) fn emit(self, g: &mut GraphBuilder, x: &Value) -> Value {
        match self.slope() {
            None => g.node("Sigmoid", &[x], &[]),
            Some(slope) => {
                let attributes = [("alpha", Attribute::Float(slope as f32)), ("beta", Attribute::Float(0.5))];
                g.node("HardSigmoid", &[x], &attributes)
            }
        }
    }
}

/// As `lstm_gates_forward` of the kernels, with any activation of the gates.
pub(super) fn lstm_forward<R: Real>(
    activation: GateActivation,
    hidden: usize,
    gates: &mut [R],
    c_before: &[R],
    (c, tanh_c, h): (&mut [R], &mut [R], &mut [R]),
) {
    for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
        for j in 0..hidden {
            let at = row * hidden + j;
            for gate in 0..3 {
                gates[gate * hidden + j] = activation.apply(gates[gate * hidden + j]);
            }
            gates[3 * hidden + j] = gates[3 * hidden + j].tanh::<false>();
            c[at] = gates[2 * hidden + j] * c_before[at] + gates[j] * gates[3 * hidden + j];
            tanh_c[at] = c[at].tanh::<false>();
            h[at] = gates[hidden + j] * tanh_c[at];
        }
    }
}

/// As `lstm_gates_backward` of the kernels, with any activation of the gates.
pub(super) fn lstm_backward<R: Real>(
    activation: GateActivation,
    hidden: usize,
    gates: &mut [R],
    (c_before, tanh_c): (&[R], &[R]),
    dh: &[R],
    dc: &mut [R],
) {
    for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
        for j in 0..hidden {
            let (at, t) = (row * hidden + j, tanh_c[row * hidden + j]);
            let [i, o, f, c] = [0, 1, 2, 3].map(|gate| gates[gate * hidden + j]);
            let d = dc[at] + dh[at] * o * (R::ONE - t * t);
            gates[j] = d * c * activation.derivative(i);
            gates[hidden + j] = dh[at] * t * activation.derivative(o);
            gates[2 * hidden + j] = d * c_before[at] * activation.derivative(f);
            gates[3 * hidden + j] = d * i * (R::ONE - c * c);
            dc[at] = d * f;
        }
    }
}

/// As `gru_gates_forward` of the kernels, with any activation of the gates.
pub(super) fn gru_forward<R: Real>(
    activation: GateActivation,
    hidden: usize,
    gates: &mut [R],
    recurrent: &[R],
    h_before: &[R],
    (inner, h): (&mut [R], &mut [R]),
) {
    let rows = gates.chunks_exact_mut(3 * hidden).zip(recurrent.chunks_exact(3 * hidden));
    for (row, (gates, recurrent)) in rows.enumerate() {
        for j in 0..hidden {
            let at = row * hidden + j;
            let z = activation.apply(gates[j] + recurrent[j]);
            let r = activation.apply(gates[hidden + j] + recurrent[hidden + j]);
            inner[at] = recurrent[2 * hidden + j];
            let n = (gates[2 * hidden + j] + r * inner[at]).tanh::<false>();
            (gates[j], gates[hidden + j], gates[2 * hidden + j]) = (z, r, n);
            h[at] = n + z * (h_before[at] - n);
        }
    }
}

/// As `gru_gates_backward` of the kernels, with any activation of the gates.
pub(super) fn gru_backward<R: Real>(
    activation: GateActivation,
    hidden: usize,
    gates: &mut [R],
    recurrent: &mut [R],
    (h_before, inner): (&[R], &[R]),
    dh: &mut [R],
) {
    let rows = gates.chunks_exact_mut(3 * hidden).zip(recurrent.chunks_exact_mut(3 * hidden));
    for (row, (gates, recurrent)) in rows.enumerate() {
        for j in 0..hidden {
            let at = row * hidden + j;
            let [z, r, n] = [0, 1, 2].map(|gate| gates[gate * hidden + j]);
            let dn = dh[at] * (R::ONE - z) * (R::ONE - n * n);
            gates[j] = dh[at] * (h_before[at] - n) * activation.derivative(z);
            gates[hidden + j] = dn * inner[at] * activation.derivative(r);
            gates[2 * hidden + j] = dn;
            recurrent[j] = gates[j];
            recurrent[hidden + j] = gates[hidden + j];
            recurrent[2 * hidden + j] = dn * r;
            dh[at] *= z;
        }
    }
}
