//! What rules ask of a graph.

use std::sync::Arc;

use s2s_kernels::Activation;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Erf, Exp, Tanh};
use tract_onnx::tract_core::ops::nn::gelu_exact::GeluExact;
use tract_onnx::tract_core::ops::nn::silu::Silu;
use tract_onnx::tract_core::ops::nn::{GeluApproximate, Sigmoid};

/// The constant f32 values of an outlet.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    let values = model.outlet_fact(outlet).ok()?.konst.clone()?;
    (values.datum_type() == DatumType::F32 && values.is_plain_ram()).then_some(values)
}

/// A constant of `width` values along its last axis and of one along each other.
pub(super) fn constant_row(
    model: &TypedModel,
    outlet: OutletId,
    width: usize,
) -> TractResult<Option<Vec<f32>>> {
    rule_if_some!(values = constant(model, outlet));
    rule_if!(values.len() == width && values.shape().last() == Some(&width));
    Ok(Some(values.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
}

/// A constant of one value.
pub(super) fn constant_scalar(model: &TypedModel, outlet: OutletId) -> Option<f32> {
    let values = constant(model, outlet)?;
    let value = values.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.first().copied();
    value.filter(|_| values.len() == 1)
}

/// Whether one node reads this outlet, and nobody outside of the graph.
pub(super) fn alone(model: &TypedModel, outlet: OutletId) -> bool {
    let successors = &model.node(outlet.node).outputs[outlet.slot].successors;
    successors.len() == 1 && !model.outputs.contains(&outlet)
}

/// The activation of the kernels that an operator of tract is.
pub(super) fn activation(op: &ElementWiseOp) -> Option<Activation> {
    let function = &op.0;
    Some(if function.is::<Sigmoid>() {
        Activation::Sigmoid
    } else if function.is::<Tanh>() {
        Activation::Tanh
    } else if function.is::<Silu>() {
        Activation::Swish
    } else if function.is::<GeluExact>() {
        Activation::Gelu
    } else if function.downcast_ref::<GeluApproximate>().is_some_and(|gelu| !gelu.fast_impl) {
        Activation::GeluTanh
    } else if function.is::<Erf>() {
        Activation::Erf
    } else if function.is::<Exp>() {
        Activation::Exp
    } else {
        return None;
    })
}
