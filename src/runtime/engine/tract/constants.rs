//! Weights that are kept in 8 or 16 bits and restored by operators become the f32 constants that they are.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::konst::Const;

/// Computes what depends on constants alone and is no larger than one of them, which tract leaves to each call where
/// more than 4 MiB come of less. All of it is at most four values for each that the model has.
pub(super) fn fold(mut model: TypedModel) -> TractResult<TypedModel> {
    let constants = model.nodes().iter().filter_map(|node| node.op_as::<Const>());
    let mut left: usize = constants.map(|constant| constant.val().len()).sum::<usize>().saturating_mul(4);
    let mut folded: HashMap<OutletId, Arc<Tensor>> = HashMap::new();
    let mut last = Vec::new();
    for id in model.eval_order()? {
        let node = model.node(id);
        let restores = node.op_is::<Cast>() || node.op_is::<TypedBinOp>() || node.op_is::<AxisOp>();
        if !restores || node.outputs[0].fact.konst.is_some() {
            continue;
        }
        let constant = |outlet: &OutletId| {
            let known = || model.outlet_fact(*outlet).ok()?.konst.clone();
            folded.get(outlet).cloned().or_else(known)
        };
        let inputs: Option<Vec<Arc<Tensor>>> = node.inputs.iter().map(constant).collect();
        let (Some(inputs), fact) = (inputs, &node.outputs[0].fact) else { continue };
        let size = fact.shape.as_concrete().map(|shape| shape.iter().product::<usize>());
        let largest = inputs.iter().map(|input| input.len()).max().unwrap_or(0);
        let Some(size) = size.filter(|&size| size <= largest && size <= left) else { continue };
        if !matches!(fact.datum_type, DatumType::F32 | DatumType::F16) {
            continue;
        }
        let inputs: TVec<TValue> = inputs.into_iter().map(IntoTValue::into_tvalue).collect();
        let Some(mut outputs) = node.op.eval_out_of_plan(inputs)? else { continue };
        left -= size;
        // What only led to this one is needed no longer.
        for input in &node.inputs {
            if model.node(input.node).outputs[0].successors.len() == 1 {
                folded.remove(input);
            }
        }
        folded.insert(id.into(), outputs.remove(0).into_arc_tensor());
        last.push(OutletId::from(id));
    }
    for outlet in last {
        let Some(values) = folded.remove(&outlet) else { continue };
        let mut patch = TypedModelPatch::new("a constant that was computed");
        let name = format!("{}.folded", model.node(outlet.node).name);
        let wire = patch.add_const(name, values)?;
        patch.shunt_outside(&model, outlet, wire)?;
        patch.apply(&mut model)?;
    }
    model.compact()?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::ops::array::Gather;
    use tract_onnx::tract_core::ops::cast::cast;
    use tract_onnx::tract_core::ops::einsum::EinSum;
    use tract_onnx::tract_core::ops::math::mul;

    use super::super::rewrite::faster;
    use super::super::testing::has;
    use super::*;

    #[test]
    fn large_weights_in_8_bits_are_restored_once() -> TractResult<()> {
        // More than a million values, which tract restores at each call.
        let (k, n) = (64, 20_000);
        let integers: Vec<i8> = (0..k * n).map(|i| (((i * 7919) % 255) as i16 - 127) as i8).collect();
        let integer = |row: usize, column: usize| f64::from(integers[row * n + column]);
        let scales: Vec<f32> = (0..n).map(|column| 0.001 + column as f32 * 1e-7).collect();
        let mut model = TypedModel::default();
        let x = model.add_source("x", DatumType::F32.fact([2, k]))?;
        let row = model.add_source("row", DatumType::I64.fact([1]))?;
        let weights = model.add_const("w", Tensor::from_shape(&[k, n], &integers)?)?;
        let scale = model.add_const("scale", Tensor::from_shape(&[1, n], &scales)?)?;
        let weights = model.wire_node("restored", cast(DatumType::F32), &[weights])?[0];
        let weights = model.wire_node("scaled", mul(), &[weights, scale])?[0];
        let op = EinSum::new("mk,kn->mn".parse()?, DatumType::F32);
        let product = model.wire_node("product", op, &[x, weights])?[0];
        let gathered = model.wire_node("gathered", Gather::new(0), &[weights, row])?[0];
        model.select_output_outlets(&[product, gathered])?;
        let model = faster(model.into_decluttered()?)?;
        let counts = ["Linear", "Gather", "Cast", "Mul", "Combine"].map(|name| has(&model, name));
        assert_eq!(counts, [1, 1, 0, 0, 0]);
        let x: Vec<f32> = (0..2 * k).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
        let inputs = tvec!(Tensor::from_shape(&[2, k], &x)?.into_tvalue(), tensor1(&[5i64]).into_tvalue());
        let results = model.into_optimized()?.into_runnable()?.run(inputs)?;
        let values = results.iter().map(|result| Ok(result.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()));
        let values = values.collect::<TractResult<Vec<_>>>()?;
        for column in (0..n).step_by(371) {
            let scale = f64::from(scales[column]);
            for row in 0..2 {
                let sum: f64 = (0..k).map(|at| f64::from(x[row * k + at]) * integer(at, column)).sum();
                // Weights on a grid of 8 bits are multiplied by rows of 16 bits: 3e-5 of what is typical.
                assert!((f64::from(values[0][row * n + column]) - sum * scale).abs() < 1e-4);
            }
            assert!((f64::from(values[1][column]) - integer(5, column) * scale).abs() < 1e-7);
        }
        Ok(())
    }

    #[test]
    fn what_grows_is_left_to_each_call() -> TractResult<()> {
        let mut model = TypedModel::default();
        let rows = model.add_const("rows", Tensor::zero::<f32>(&[3000, 1])?)?;
        let columns = model.add_const("columns", Tensor::zero::<f32>(&[1, 3000])?)?;
        let product = model.wire_node("product", mul(), &[rows, columns])?[0];
        model.select_output_outlets(&[product])?;
        let model = fold(model)?;
        assert_eq!(has(&model, "Mul"), 1);
        Ok(())
    }
}
