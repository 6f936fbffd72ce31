//! Softmax along the last axis, whose result for a text does not depend on how far the batch pads it, and its
//! logarithm.

use s2s_kernels::search::{log_sum_exp, maximum};
use s2s_kernels::softmax_rows;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::Ln;
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
    rule_if!(fact.datum_type == DatumType::F32 && fact.is_plain() && is_along_the_last_of(op, fact.rank()));
    TypedModelPatch::replace_single_op(model, node, &node.inputs, SoftmaxRows).map(Some)
}

fn is_along_the_last_of(op: &Softmax, axes: usize) -> bool {
    op.kind == SoftmaxKind::Softmax
        && op.quant_output_dt.is_none()
        && op.axes.len() == 1
        && op.axes[0] + 1 == axes
}

/// Turns scores (..., n), f32, into logarithms of probabilities along n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogSoftmaxRows;

impl Op for LogSoftmaxRows {
    fn name(&self) -> StaticName {
        "LogSoftmaxRows".into()
    }

    op_as_typed_op!();
}

impl EvalOp for LogSoftmaxRows {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut scores = args_1!(inputs).into_tensor();
        let width = *scores.shape().last().context("scores have an axis")?;
        let mut values = scores.try_as_plain_ram_mut()?;
        for row in values.as_slice_mut::<f32>()?.chunks_exact_mut(width.max(1)) {
            // Of what is no distribution, nothing is a number.
            let highest = maximum(row).filter(|highest| *highest > f32::NEG_INFINITY);
            let sum = highest.map_or(f32::NAN, |highest| log_sum_exp(row, highest));
            row.iter_mut().for_each(|score| *score -= sum);
        }
        Ok(tvec!(scores.into_tvalue()))
    }
}

impl TypedOp for LogSoftmaxRows {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        SoftmaxRows.output_facts(inputs)
    }
}

/// The logarithm of a softmax along the last axis, which is how tract reads LogSoftmax, becomes a
/// [`LogSoftmaxRows`]: a probability that f32 has no number for has a logarithm all the same.
pub(super) fn logarithm(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &ElementWiseOp,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(op.0.is::<Ln>());
    let before = model.node(node.inputs[0].node);
    let fact = model.outlet_fact(node.inputs[0])?;
    rule_if!(fact.datum_type == DatumType::F32 && fact.is_plain());
    rule_if!(
        before.op_is::<SoftmaxRows>()
            || before.op_as::<Softmax>().is_some_and(|op| is_along_the_last_of(op, fact.rank()))
    );
    TypedModelPatch::replace_single_op(model, node, &before.inputs, LogSoftmaxRows).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::faster;
    use super::super::testing::{assert_near, has, numbers};
    use super::*;

    #[test]
    fn the_logarithm_of_a_softmax_is_finite_however_far_its_scores_lie_apart() -> TractResult<()> {
        let x = tensor2(&[[0f32, -300.0, 200.0], [-1e5, 1.0, 2.0], [f32::NEG_INFINITY, 0.0, 0.0]]);
        let mut model = TypedModel::default();
        let source = model.add_source("x", DatumType::F32.fact([3, 3]))?;
        let softmax = Softmax { axes: tvec!(1), quant_output_dt: None, kind: SoftmaxKind::Softmax };
        let probabilities = model.wire_node("softmax", softmax, &[source])?;
        let result = model.wire_node("ln", tract_onnx::tract_core::ops::math::ln(), &probabilities)?;
        model.select_output_outlets(&result)?;
        let model = faster(model)?;
        assert_eq!((has(&model, "LogSoftmaxRows"), has(&model, "Ln")), (1, 0));
        let result = model.into_optimized()?.into_runnable()?.run(tvec!(x.into_tvalue()))?;
        let sum = (1f64 + 1f64.exp()).ln();
        let want = [
            -200.0,
            -500.0,
            0.0,
            -1e5 - 1.0 - sum,
            -sum,
            1.0 - sum,
            f64::NEG_INFINITY,
            -2f64.ln(),
            -2f64.ln(),
        ];
        let found = result[0].try_as_plain_ram()?.as_slice::<f32>()?;
        for (found, want) in found.iter().zip(want) {
            let error = f64::from(*found) - want;
            assert!(f64::from(*found) == want || error.abs() < 1e-6 * want.abs().max(1.0), "{found} {want}");
        }
        Ok(())
    }

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
