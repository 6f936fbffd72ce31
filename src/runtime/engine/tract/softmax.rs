//! Softmax along the last axis, whose result for a text does not depend on how far the batch pads it.

use s2s_kernels::softmax_rows;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

/// Turns scores (..., n), f32, into probabilities along n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SoftmaxRows;

impl Op for SoftmaxRows {
    fn name(&self) -> StaticName {
        "SoftmaxRows".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SoftmaxRows {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut scores = args_1!(inputs).into_tensor();
        let width = *scores.shape().last().context("scores have an axis")?;
        softmax_rows(scores.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?, width);
        Ok(tvec!(scores.into_tvalue()))
    }
}

impl TypedOp for SoftmaxRows {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(
            inputs.len() == 1 && inputs[0].datum_type == DatumType::F32 && inputs[0].rank() > 0,
            "SoftmaxRows takes one f32 tensor that has axes"
        );
        Ok(tvec!(DatumType::F32.fact(inputs[0].shape.clone())))
    }
}

/// tract's softmax of f32 scores along the last axis becomes a [`SoftmaxRows`].
pub(super) fn along_the_last_axis(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &Softmax,
) -> TractResult<Option<TypedModelPatch>> {
    let fact = model.outlet_fact(node.inputs[0])?;
    rule_if!(op.kind == SoftmaxKind::Softmax && op.quant_output_dt.is_none());
    rule_if!(fact.datum_type == DatumType::F32 && fact.is_plain());
    rule_if!(op.axes.len() == 1 && op.axes[0] + 1 == fact.rank());
    TypedModelPatch::replace_single_op(model, node, &node.inputs, SoftmaxRows).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::faster;
    use super::super::testing::{assert_near, has, numbers};
    use super::*;

    #[test]
    fn a_softmax_is_our_own_and_means_the_same() -> TractResult<()> {
        for (axis, own) in [(2, 1), (1, 0)] {
            let x = numbers(&[2, 3, 20], 1);
            let mut model = TypedModel::default();
            let source = model.add_source("x", DatumType::F32.fact([2, 3, 20]))?;
            let softmax = Softmax { axes: tvec!(axis), quant_output_dt: None, kind: SoftmaxKind::Softmax };
            let result = model.wire_node("softmax", softmax, &[source])?;
            model.select_output_outlets(&result)?;
            let model = faster(model)?;
            assert_eq!(has(&model, "SoftmaxRows"), own, "axis {axis}");
            let result = model.into_optimized()?.into_runnable()?.run(tvec!(x.clone().into_tvalue()))?;
            let x = x.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|&x| f64::from(x).exp());
            let (x, stride) = (x.collect::<Vec<f64>>(), if axis == 2 { 1 } else { 20 });
            let length = if axis == 2 { 20 } else { 3 };
            let sum_at = |at: usize| {
                let first = at - (at / stride % length) * stride;
                (0..length).map(|step| x[first + step * stride]).sum::<f64>()
            };
            let want: Vec<f64> = x.iter().enumerate().map(|(at, x)| x / sum_at(at)).collect();
            assert_near(&result[0], &want);
        }
        Ok(())
    }
}
