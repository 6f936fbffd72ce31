//! Values written to places that indices name.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{ScatterNd, ScatterReduction};

/// Overwrites parts of the first input, at the places that the second names, with those of the third.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scatter;

impl Op for Scatter {
    fn name(&self) -> StaticName {
        "Scatter".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Scatter {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (data, indices, updates) = args_3!(inputs);
        let mut output = data.into_tensor();
        let shape: TVec<usize> = output.shape().into();
        let depth = indices.shape().last().copied().unwrap_or(0);
        ensure!((1..=shape.len()).contains(&depth), "{depth} indices into {} axes", shape.len());
        let width: usize = shape[depth..].iter().product();
        let (places, updates) = (indices.try_as_plain_ram()?, updates.try_as_plain_ram()?);
        let (places, updates) = (places.as_slice::<i64>()?, updates.as_slice::<f32>()?);
        ensure!(updates.len() == places.len() / depth * width, "an update for each place");
        let mut view = output.try_as_plain_ram_mut()?;
        let data = view.as_slice_mut::<f32>()?;
        for (at, place) in places.chunks_exact(depth).enumerate() {
            let mut offset = 0;
            for (&index, &size) in place.iter().zip(&shape) {
                let own = usize::try_from(index).ok().filter(|&index| index < size);
                offset =
                    offset * size + own.with_context(|| format!("index {index} into an axis of {size}"))?;
            }
            data[offset * width..][..width].copy_from_slice(&updates[at * width..][..width]);
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Scatter {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 3, "Scatter takes data, indices and updates");
        Ok(tvec!(DatumType::F32.fact(inputs[0].shape.clone())))
    }
}

/// A `ScatterND` of f32 values, which tract writes one value after the other through views, becomes a [`Scatter`].
pub(super) fn overwritten(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &ScatterNd,
) -> TractResult<Option<TypedModelPatch>> {
    let facts = model.node_input_facts(node.id)?;
    let kinds = facts.iter().map(|fact| fact.datum_type);
    rule_if!(op.reduction == ScatterReduction::None && facts.iter().all(|fact| fact.is_plain()));
    rule_if!(kinds.eq([DatumType::F32, DatumType::I64, DatumType::F32]));
    TypedModelPatch::replace_single_op(model, node, &node.inputs, Scatter).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::faster;
    use super::super::testing::has;
    use super::*;

    #[test]
    fn updates_are_written_where_indices_say_and_nowhere_else() -> TractResult<()> {
        let run = |indices: Tensor, updates: Tensor| {
            let mut model = TypedModel::default();
            let data = tensor2(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
            let tensors = [data, indices, updates];
            let mut wires = Vec::new();
            for (at, tensor) in tensors.iter().enumerate() {
                wires.push(model.add_source(format!("{at}"), tensor.datum_type().fact(tensor.shape()))?);
            }
            let scatter = ScatterNd { reduction: ScatterReduction::None };
            let wire = model.wire_node("scatter", scatter, &wires)?;
            model.select_output_outlets(&wire)?;
            let model = faster(model)?;
            assert_eq!(has(&model, "Scatter"), 1);
            let inputs = tensors.into_iter().map(IntoTValue::into_tvalue).collect();
            let result = model.into_runnable()?.run(inputs)?;
            Ok::<_, TractError>(result[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        let rows = run(tensor2(&[[2i64], [0]]), tensor2(&[[7f32, 8.0], [9.0, 10.0]]))?;
        assert_eq!(rows, [9.0, 10.0, 3.0, 4.0, 7.0, 8.0]);
        let values = run(tensor2(&[[1i64, 1], [2, 0]]), tensor1(&[7f32, 8.0]))?;
        assert_eq!(values, [1.0, 2.0, 3.0, 7.0, 8.0, 6.0]);
        assert!(run(tensor2(&[[3i64]]), tensor2(&[[7f32, 8.0]])).is_err());
        assert!(run(tensor2(&[[-1i64]]), tensor2(&[[7f32, 8.0]])).is_err());
        Ok(())
    }
}
