//! Attention as one operator: scores, mask, softmax and weighted sum of one head after the other, while they are
//! near.

use s2s_kernels::{Addend, AttentionScratch, MatMut, attend};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::{Add, Mul};
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::elementwise::with_scalar;
use super::operands::{Axes, Matrices, axes, for_each_element, has_rows, is_readable};
use super::pattern::alone;
use super::product::result_shape;

/// Computes softmax(scale q keys^T + addends) values; its inputs are q, keys, values and the addends.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    /// q (m, k), keys (k, n) and their scores (m, n).
    scores: Axes,
    /// Probabilities (m, n), values (n, d) and the result (m, d), its batch in the order of `scores`.
    result: Axes,
    scale: f32,
}

impl PartialEq for Attention {
    fn eq(&self, other: &Self) -> bool {
        self.scores == other.scores
            && self.result == other.result
            && self.scale.to_bits() == other.scale.to_bits()
    }
}

impl Eq for Attention {}

impl Op for Attention {
    fn name(&self) -> StaticName {
        "Attention".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("scale: {}", self.scale)])
    }

    op_as_typed_op!();
}

impl EvalOp for Attention {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [q, keys, values, addends @ ..] = inputs.as_slice() else {
            bail!("Attention takes q, keys and values");
        };
        let (scores, result) = (&self.scores, &self.result);
        let mut batch: TVec<usize> = scores.a.batch.iter().map(|_| 0).collect();
        scores.a.widen(q.shape(), &mut batch);
        scores.b.widen(keys.shape(), &mut batch);
        result.b.widen(values.shape(), &mut batch);
        for addend in addends {
            ensure!(addend.rank() == scores.c.rank(), "an addend of another rank than the scores");
            scores.c.widen(addend.shape(), &mut batch);
        }
        let q_at = scores.a.find(q.shape(), &batch)?;
        let keys_at = scores.b.find(keys.shape(), &batch)?;
        let values_at = result.b.find(values.shape(), &batch)?;
        let (m, k, n, d) = (q_at.size.0, q_at.size.1, keys_at.size.1, values_at.size.1);
        ensure!(keys_at.size.0 == k && values_at.size.0 == n, "sizes of q, keys and values differ");
        let places = result.c.batch.iter().zip(&batch).map(|(&axis, &size)| (axis, size));
        let shape = result_shape(places, (result.c.rows, m), (result.c.columns, d));
        let result_at = result.c.find(&shape, &batch)?;
        let mut found = tvec!();
        for addend in addends {
            let at = scores.c.find(addend.shape(), &batch)?;
            ensure!(
                [1, m].contains(&at.size.0) && [1, n].contains(&at.size.1),
                "an addend that does not fit"
            );
            let strides = (if at.size.0 == 1 { 0 } else { at.row_stride }, at.column_stride());
            found.push((at, strides, addend.try_as_plain_ram()?.as_slice::<f32>()?));
        }
        let mut output = Tensor::zero_dt(DatumType::F32, &shape)?;
        let mut view = output.try_as_plain_ram_mut()?;
        let data = view.as_slice_mut::<f32>()?;
        let (q, keys, values) = (q.try_as_plain_ram()?, keys.try_as_plain_ram()?, values.try_as_plain_ram()?);
        let (q, keys, values) = (q.as_slice::<f32>()?, keys.as_slice::<f32>()?, values.as_slice::<f32>()?);
        let mut scratch = AttentionScratch::default();
        let mut addends: Vec<Addend<'_>> = Vec::with_capacity(found.len());
        if m * d > 0 && n > 0 {
            for_each_element(&batch, |element| {
                addends.clear();
                addends.extend(found.iter().map(|(at, (row_stride, column_stride), values)| Addend {
                    values: &values[at.start(element)..],
                    row_stride: *row_stride,
                    column_stride: *column_stride,
                }));
                attend(
                    MatMut::new(&mut data[result_at.start(element)..], m, d, result_at.row_stride()),
                    q_at.matrix(q, element),
                    keys_at.matrix(keys, element).transposed(),
                    values_at.matrix(values, element),
                    (self.scale, &addends),
                    &mut scratch,
                );
            });
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Attention {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 3, "Attention takes q, keys and values");
        let size = |axis: Option<usize>, input: usize| axis.map(|axis| inputs[input].shape[axis].clone());
        let (scores, result) = (&self.scores, &self.result);
        let mut axes: Vec<(usize, TDim)> = Vec::new();
        for at in 0..scores.a.batch.len() {
            let Some(axis) = result.c.batch[at] else { continue };
            let mut sizes: Vec<TDim> =
                [(scores.a.batch[at], 0), (scores.b.batch[at], 1), (result.b.batch[at], 2)]
                    .into_iter()
                    .filter_map(|(axis, input)| size(axis, input))
                    .collect();
            if let Some(in_scores) = scores.c.batch[at] {
                sizes.extend((3..inputs.len()).map(|input| inputs[input].shape[in_scores].clone()));
            }
            axes.push((
                axis,
                tract_onnx::tract_core::broadcast::multi_broadcast(
                    &sizes.iter().map(|size| [size.clone()]).collect::<Vec<_>>(),
                )?
                .remove(0),
            ));
        }
        axes.extend(result.c.rows.and_then(|axis| Some((axis, size(scores.a.rows, 0)?))));
        axes.extend(result.c.columns.and_then(|axis| Some((axis, size(result.b.columns, 2)?))));
        axes.sort_unstable_by_key(|(axis, _)| *axis);
        Ok(tvec!(DatumType::F32.fact(axes.into_iter().map(|(_, size)| size).collect::<TVec<_>>())))
    }
}

/// The node that gives this outlet to one reader alone.
fn behind(model: &TypedModel, outlet: OutletId) -> Option<&TypedNode> {
    (outlet.slot == 0 && alone(model, outlet)).then(|| model.node(outlet.node))
}

/// A product of values with the softmax of scores becomes an [`Attention`].
pub(super) fn fused(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &EinSum,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!(result = axes(model, node, op)?);
    // Scores are never written, so that their axes may lie in any order.
    rule_if!(is_readable(&result.b) && has_rows(&result.c));
    rule_if_some!(softmax = behind(model, node.inputs[0]));
    rule_if_some!(kind = softmax.op_as::<Softmax>());
    rule_if!(kind.kind == SoftmaxKind::Softmax && kind.quant_output_dt.is_none());
    rule_if!(result.a.columns.is_some_and(|axis| *kind.axes == [axis]));
    let shape = &model.outlet_fact(softmax.inputs[0])?.shape;
    let mut outlet = softmax.inputs[0];
    let (mut addends, mut scale) = (tvec!(), 1.0);
    let (scores, product) = loop {
        rule_if_some!(node = behind(model, outlet));
        if let Some(op) = node.op_as::<EinSum>() {
            rule_if_some!(axes = axes(model, node, op)?);
            rule_if!(is_readable(&axes.a) && is_readable(&axes.b));
            break (axes, node);
        }
        rule_if_some!(op = node.op_as::<TypedBinOp>());
        rule_if!(op.1.is_none());
        if op.0.is::<Add>() {
            // The scores are the operand that leads to a product and is as large as the sum.
            let is_scores = |slot: usize| {
                let outlet = node.inputs[slot];
                let wide = model.outlet_fact(outlet).is_ok_and(|fact| fact.shape == *shape);
                wide && behind(model, outlet)
                    .is_some_and(|node| node.op_is::<EinSum>() || node.op_is::<TypedBinOp>())
            };
            let slot = usize::from(!is_scores(0));
            rule_if!(is_scores(slot));
            let addend = model.outlet_fact(node.inputs[1 - slot])?;
            rule_if!(addend.datum_type == DatumType::F32 && addend.is_plain());
            addends.push(node.inputs[1 - slot]);
            outlet = node.inputs[slot];
        } else {
            // A factor behind an addend would be the addend's too: here the addend is nearer to the softmax.
            rule_if_some!((before, factor) = with_scalar::<Mul>(model, outlet));
            rule_if!(model.outlet_fact(before)?.shape == *shape);
            rule_if!(
                behind(model, before)
                    .is_some_and(|node| node.op_is::<EinSum>() || node.op_is::<TypedBinOp>())
            );
            (outlet, scale) = (before, scale * factor);
        }
    };
    rule_if_some!(result = in_order(&scores, result));
    rule_if!(model.outlet_fact(product.id.into())?.shape == *shape);
    let (mut q, mut keys) = (product.inputs[0], product.inputs[1]);
    for operand in [&mut q, &mut keys] {
        while let Some((before, factor)) = with_scalar::<Mul>(model, *operand) {
            if model.outlet_fact(before)?.shape != model.outlet_fact(*operand)?.shape {
                break;
            }
            (*operand, scale) = (before, scale * factor);
        }
    }
    let inputs = [q, keys, node.inputs[1]].into_iter().chain(addends).collect::<TVec<_>>();
    let attention = Attention { scores, result, scale };
    TypedModelPatch::replace_single_op(model, node, &inputs, attention).map(Some)
}

/// The axes of the second product with its batch in the order of the first, if what the first gives is what the
/// second takes.
fn in_order(scores: &Axes, result: Axes) -> Option<Axes> {
    if (result.a.rows, result.a.columns) != (scores.c.rows, scores.c.columns) {
        return None;
    }
    if result.a.batch.len() != scores.c.batch.len() {
        return None;
    }
    let order: Option<Vec<usize>> = (scores.c.batch.iter())
        .map(|axis| result.a.batch.iter().position(|other| other == axis && axis.is_some()))
        .collect();
    let order = order?;
    let ordered = |matrices: Matrices| Matrices {
        batch: order.iter().map(|&at| matrices.batch[at]).collect(),
        ..matrices
    };
    Some(Axes { a: ordered(result.a), b: ordered(result.b), c: ordered(result.c) })
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::ops::math::{add, mul};

    use super::super::rewrite::faster;
    use super::super::testing::{assert_near, defined, has, numbers};
    use super::*;

    fn values(tensor: &Tensor) -> TractResult<Vec<f64>> {
        Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|&x| f64::from(x)).collect())
    }

    #[test]
    fn scaled_and_masked_attention_is_one_operator_and_means_the_same() -> TractResult<()> {
        // (q, keys, values, the two expressions, the mask): scores with heads at their end, heads behind time and
        // before it, one row and many, values that all heads share, no heads and no time at all.
        type Axes = &'static [usize];
        let cases: [(Axes, Axes, Axes, &str, &str, Axes); 6] = [
            (
                &[2, 6, 3, 8],
                &[2, 5, 3, 8],
                &[2, 5, 3, 7],
                "ambk,anbk->amnb",
                "amnb,anbd->ambd",
                &[1, 6, 5, 3],
            ),
            (
                &[2, 1, 3, 8],
                &[2, 3, 5, 8],
                &[2, 3, 5, 8],
                "ambk,abnk->abmn",
                "abmn,abnd->ambd",
                &[2, 1, 1, 5],
            ),
            (
                &[2, 6, 3, 8],
                &[2, 5, 3, 8],
                &[2, 5, 3, 7],
                "ambk,anbk->abmn",
                "abmn,anbd->ambd",
                &[2, 1, 6, 5],
            ),
            (
                &[2, 3, 6, 8],
                &[2, 3, 8, 5],
                &[2, 1, 5, 70],
                "abmk,abkn->abmn",
                "abmn,abnd->abmd",
                &[1, 3, 6, 5],
            ),
            (&[2, 6, 8], &[2, 5, 8], &[2, 5, 9], "amk,ank->amn", "amn,and->amd", &[2, 6, 1]),
            (&[2, 8], &[2, 5, 8], &[2, 5, 9], "ak,ank->an", "an,and->ad", &[2, 5]),
        ];
        for (q, keys, of_values, first, second, mask) in cases {
            let tensors = [numbers(q, 1), numbers(keys, 2), numbers(of_values, 3), numbers(mask, 4)];
            let mut model = TypedModel::default();
            let mut sources = Vec::new();
            for (at, tensor) in tensors.iter().enumerate() {
                sources.push(model.add_source(format!("input.{at}"), DatumType::F32.fact(tensor.shape()))?);
            }
            let rank = q.len();
            let factor = tensor0(0.6f32).broadcast_into_rank(rank)?;
            let factor = model.add_const("factor", factor)?;
            let scaled = model.wire_node("scaled", mul(), &[sources[0], factor])?[0];
            let op = EinSum::new(first.parse()?, DatumType::F32);
            let scores = model.wire_node("scores", op, &[scaled, sources[1]])?[0];
            let output = first.split_once("->").map_or("", |(_, output)| output);
            let axis = output.find('n').expect("an axis of keys");
            let factor = model.add_const("scale", tensor0(1.5f32).broadcast_into_rank(output.len())?)?;
            let scores = model.wire_node("rescaled", mul(), &[scores, factor])?[0];
            let scores = model.wire_node("masked", add(), &[scores, sources[3]])?[0];
            let softmax = Softmax { axes: tvec!(axis), quant_output_dt: None, kind: SoftmaxKind::Softmax };
            let softmax = model.wire_node("softmax", softmax, &[scores])?[0];
            let op = EinSum::new(second.parse()?, DatumType::F32);
            let result = model.wire_node("result", op, &[softmax, sources[2]])?;
            model.select_output_outlets(&result)?;
            let model = faster(model)?;
            assert_eq!((has(&model, "Attention"), model.nodes().len()), (1, 5), "{first}");

            let mut shape = vec![0; output.len()];
            for (letter, size) in
                first.chars().zip(q.iter()).chain(first[rank + 1..].chars().zip(keys.iter()))
            {
                if let Some(axis) = output.find(letter) {
                    shape[axis] = *size;
                }
            }
            let mask = tensors[3].broadcast_to_shape(&shape)?;
            let scores = defined(first, &tensors[0], &tensors[1]);
            let n = shape[axis];
            let scores: Vec<f64> =
                scores.iter().zip(values(&mask)?).map(|(x, mask)| (x * 0.9 + mask).exp()).collect();
            let inner: usize = shape[axis + 1..].iter().product();
            let normal = |at: usize| {
                let first = at / (n * inner) * n * inner + at % inner;
                let sum: f64 = (0..n).map(|j| scores[first + j * inner]).sum();
                (scores[at] / sum) as f32
            };
            let normal: Vec<f32> = (0..scores.len()).map(normal).collect();
            let normal = Tensor::from_shape(&shape, &normal)?;
            let want = defined(second, &normal, &tensors[2]);
            let inputs = tensors.into_iter().map(IntoTValue::into_tvalue).collect();
            assert_near(&model.into_optimized()?.into_runnable()?.run(inputs)?[0], &want);
        }
        Ok(())
    }
}
