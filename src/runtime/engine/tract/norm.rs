//! Layer normalisation as one operator.

use std::sync::Arc;

use s2s_kernels::layer_norm_rows;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math::{Add, Mul, Sub};
use tract_onnx::tract_core::ops::nn::rms_norm::RmsNorm;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use super::pattern::{alone, constant_row, constant_scalar};

/// Normalises along the last axis, then multiplies by a row and adds one.
#[derive(Clone, Debug)]
pub(super) struct LayerNorm {
    width: usize,
    epsilon: f32,
    scale: Arc<Vec<f32>>,
    shift: Arc<Vec<f32>>,
    /// Whether something was multiplied by `scale`, and whether `shift` was added, in the graph.
    taken: (bool, bool),
}

impl PartialEq for LayerNorm {
    fn eq(&self, other: &Self) -> bool {
        let bits = |norm: &Self| (norm.width, norm.epsilon.to_bits());
        bits(self) == bits(other)
            && (&self.scale, &self.shift, self.taken) == (&other.scale, &other.shift, other.taken)
    }
}

impl Eq for LayerNorm {}

impl Op for LayerNorm {
    fn name(&self) -> StaticName {
        "LayerNorm".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("width: {}, scale and shift: {:?}", self.width, self.taken)])
    }

    op_as_typed_op!();
}

impl EvalOp for LayerNorm {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        ensure!(input.shape().last() == Some(&self.width), "rows of {} values", self.width);
        let mut output = input.into_tensor();
        let mut view = output.try_as_plain_ram_mut()?;
        layer_norm_rows(view.as_slice_mut::<f32>()?, &self.scale, &self.shift, self.epsilon);
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for LayerNorm {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            inputs.len() == 1 && inputs[0].datum_type == DatumType::F32,
            "LayerNorm takes one f32 tensor"
        );
        Ok(tvec!(DatumType::F32.fact(inputs[0].shape.clone())))
    }
}

/// What is normalised to mean 0, then to mean square 1, becomes a [`LayerNorm`].
pub(super) fn centred(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &RmsNorm,
) -> TractResult<Option<TypedModelPatch>> {
    let fact = model.outlet_fact(node.inputs[0])?;
    rule_if!(fact.datum_type == DatumType::F32 && fact.is_plain() && op.axis + 1 == fact.rank());
    rule_if_let!(Ok(width) = fact.shape[op.axis].to_usize());
    rule_if!(alone(model, node.inputs[0]));
    let centred = model.node(node.inputs[0].node);
    rule_if!(centred.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Sub>() && op.1.is_none()));
    let (values, mean) = (centred.inputs[0], model.node(centred.inputs[1].node));
    rule_if!(mean.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Mul>() && op.1.is_none()));
    let factor = [0, 1].map(|slot| constant_scalar(model, mean.inputs[slot]));
    let (sum, factor) = match factor {
        [None, Some(factor)] => (mean.inputs[0], factor),
        [Some(factor), None] => (mean.inputs[1], factor),
        _ => return Ok(None),
    };
    rule_if!(factor == 1.0 / width as f32);
    let sum = model.node(sum.node);
    rule_if_some!(reduce = sum.op_as::<Reduce>());
    rule_if!(matches!(reduce.reducer, Reducer::Sum) && *reduce.axes == [op.axis] && sum.inputs[0] == values);
    rule_if!(model.outlet_fact(values)?.shape == fact.shape);
    let (scale, shift) = (Arc::new(vec![1.0; width]), Arc::new(vec![0.0; width]));
    let epsilon = op.eps.cast_to_scalar::<f32>()?;
    let norm = LayerNorm { width, epsilon, scale, shift, taken: (false, false) };
    TypedModelPatch::replace_single_op(model, node, &[values], norm).map(Some)
}

/// A row that a [`LayerNorm`] is multiplied by, or that is added to it, becomes its own.
pub(super) fn scaled_or_shifted(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &TypedBinOp,
) -> TractResult<Option<TypedModelPatch>> {
    let (scales, shifts) = (op.0.is::<Mul>(), op.0.is::<Add>());
    rule_if!((scales || shifts) && op.1.is_none());
    for slot in [0, 1] {
        let outlet = node.inputs[slot];
        let before = model.node(outlet.node);
        let Some(norm) = before.op_as::<LayerNorm>().filter(|_| alone(model, outlet)) else { continue };
        let Some(row) = constant_row(model, node.inputs[1 - slot], norm.width)? else { continue };
        if model.outlet_fact(node.id.into())?.shape != model.outlet_fact(outlet)?.shape {
            continue;
        }
        let (row, norm) = (Arc::new(row), norm.clone());
        let norm = match (scales, norm.taken) {
            (true, (false, false)) => LayerNorm { scale: row, taken: (true, false), ..norm },
            (false, (scaled, false)) => LayerNorm { shift: row, taken: (scaled, true), ..norm },
            _ => continue,
        };
        return TypedModelPatch::replace_single_op(model, node, &[before.inputs[0]], norm).map(Some);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::ops::math::{add, mul, sub};

    use super::super::rewrite::faster;
    use super::super::testing::{assert_near, has, numbers};
    use super::*;

    #[test]
    fn a_spelled_out_layer_norm_is_one_operator_and_means_the_same() -> TractResult<()> {
        let (rows, width) = (3, 20);
        let (x, scale, shift) =
            (numbers(&[rows, width], 1), numbers(&[1, width], 2), numbers(&[1, width], 3));
        let mut model = TypedModel::default();
        let source = model.add_source("x", DatumType::F32.fact([rows, width]))?;
        let reduce = Reduce { axes: tvec!(1), reducer: Reducer::Sum };
        let total = model.wire_node("sum", reduce, &[source])?[0];
        let count = model.add_const("count", tensor2(&[[1.0 / width as f32]]))?;
        let mean = model.wire_node("mean", mul(), &[total, count])?[0];
        let centred = model.wire_node("centred", sub(), &[source, mean])?[0];
        let norm = RmsNorm { axis: 1, eps: Arc::new(tensor0(1e-3f32)) };
        let norm = model.wire_node("norm", norm, &[centred])?[0];
        let factors = model.add_const("scale", scale.clone())?;
        let norm = model.wire_node("scaled", mul(), &[factors, norm])?[0];
        let row = model.add_const("shift", shift.clone())?;
        let norm = model.wire_node("shifted", add(), &[norm, row])?[0];
        model.select_output_outlets(&[norm])?;
        let model = faster(model)?;
        assert_eq!(
            ["LayerNorm", "RmsNorm", "Sub", "Mul", "Add"].map(|name| has(&model, name)),
            [1, 0, 0, 0, 0]
        );
        let result = model.into_optimized()?.into_runnable()?.run(tvec!(x.clone().into_tvalue()))?;
        let values = |tensor: &Tensor| -> TractResult<Vec<f64>> {
            Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|&x| f64::from(x)).collect())
        };
        let (x, scale, shift) = (values(&x)?, values(&scale)?, values(&shift)?);
        let mut want = Vec::new();
        for row in x.chunks(width) {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let normal = row.iter().map(|x| (x - mean) / (variance + 1e-3).sqrt());
            want.extend(normal.zip(&scale).zip(&shift).map(|((x, scale), shift)| x * scale + shift));
        }
        assert_near(&result[0], &want);
        Ok(())
    }
}
