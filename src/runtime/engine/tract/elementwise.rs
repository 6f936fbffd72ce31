//! Element-wise operators over vectorised kernels.

use s2s_kernels::{Activation, Arithmetic};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Mul, PowConst, Sub, Tanh};

use super::operands::for_each_element;
use super::pattern::{activation, constant_scalar};

/// Applies a function to each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Apply(pub(super) Activation);

/// Combines each value of the first input with that of the second, which is as large or is repeated along axes of
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Combine(Arithmetic);

impl Op for Apply {
    fn name(&self) -> StaticName {
        "Apply".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.0)])
    }

    op_as_typed_op!();
}

impl EvalOp for Apply {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut values = args_1!(inputs).into_tensor();
        self.0.apply(values.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(tvec!(values.into_tvalue()))
    }
}

impl TypedOp for Apply {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1 && inputs[0].datum_type == DatumType::F32, "Apply takes one f32 tensor");
        Ok(tvec!(DatumType::F32.fact(inputs[0].shape.clone())))
    }
}

impl Op for Combine {
    fn name(&self) -> StaticName {
        "Combine".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.0)])
    }

    op_as_typed_op!();
}

impl EvalOp for Combine {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (values, other) = args_2!(inputs);
        let mut output = values.into_tensor();
        let shape: TVec<usize> = output.shape().into();
        let repeats = |(axis, &size): (usize, &usize)| other.shape()[axis] == 1 && size != 1;
        let fits = |(&size, &own): (&usize, &usize)| own == size || own == 1;
        ensure!(
            other.rank() == shape.len() && shape.iter().zip(other.shape()).all(fits),
            "{:?} is combined with {:?}",
            shape,
            other.shape()
        );
        // The axes at the end along which the second is either as large or one value.
        let last_repeats = shape.iter().enumerate().next_back().is_some_and(repeats);
        let alike = |&(axis, size): &(usize, &usize)| *size == 1 || repeats((axis, size)) == last_repeats;
        let inner_axes = shape.iter().enumerate().rev().take_while(alike).count();
        let (outer, inner) = shape.split_at(shape.len() - inner_axes);
        let inner: usize = inner.iter().product();
        let stride = |(axis, &size): (usize, &usize)| {
            if repeats((axis, &size)) { 0 } else { other.shape()[axis + 1..].iter().product() }
        };
        let strides: TVec<usize> = outer.iter().enumerate().map(stride).collect();
        let others = other.try_as_plain_ram()?;
        let others = others.as_slice::<f32>()?;
        let mut view = output.try_as_plain_ram_mut()?;
        let mut data = view.as_slice_mut::<f32>()?;
        if inner > 0 {
            for_each_element(outer, |element| {
                let start: usize = element.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
                let (values, rest) = std::mem::take(&mut data).split_at_mut(inner);
                data = rest;
                if last_repeats {
                    self.0.apply_one(values, others[start]);
                } else {
                    self.0.apply(values, &others[start..start + inner]);
                }
            });
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Combine {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let is_f32 = inputs.iter().all(|fact| fact.datum_type == DatumType::F32);
        ensure!(inputs.len() == 2 && is_f32, "Combine takes two f32 tensors");
        Ok(tvec!(DatumType::F32.fact(inputs[0].shape.clone())))
    }
}

/// Whether an operator takes f32 tensors in the host's memory alone.
fn takes_f32(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let facts = model.node_input_facts(node.id)?;
    Ok(facts.iter().all(|fact| fact.datum_type == DatumType::F32 && fact.is_plain()))
}

/// An operator on two tensors, one of them as large as the result, becomes a [`Combine`].
pub(super) fn combined(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &TypedBinOp,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(op.1.is_none() && takes_f32(model, node)?);
    let operation = if op.0.is::<Add>() {
        Arithmetic::Add
    } else if op.0.is::<Sub>() {
        Arithmetic::Subtract
    } else if op.0.is::<Mul>() {
        Arithmetic::Multiply
    } else if op.0.is::<Div>() {
        Arithmetic::Divide
    } else {
        return Ok(None);
    };
    let shape = &model.outlet_fact(node.id.into())?.shape;
    let whole = |slot: usize| model.outlet_fact(node.inputs[slot]).is_ok_and(|fact| fact.shape == *shape);
    let constant = |slot: usize| model.outlet_fact(node.inputs[slot]).is_ok_and(|fact| fact.konst.is_some());
    let (first, second) = (node.inputs[0], node.inputs[1]);
    let (inputs, operation) = if whole(0) && !(constant(0) && whole(1)) {
        ([first, second], operation)
    } else if whole(1) {
        ([second, first], operation.flipped())
    } else {
        return Ok(None);
    };
    TypedModelPatch::replace_single_op(model, node, &inputs, Combine(operation)).map(Some)
}

/// An activation becomes an [`Apply`].
pub(super) fn applied(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &ElementWiseOp,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!(activation = activation(op));
    rule_if!(takes_f32(model, node)?);
    TypedModelPatch::replace_single_op(model, node, &node.inputs, Apply(activation)).map(Some)
}

/// Gelu through tanh, spelled out as x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), becomes an [`Apply`].
pub(super) fn spelled_out_gelu(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &TypedBinOp,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(op.0.is::<Mul>() && op.1.is_none() && takes_f32(model, node)?);
    for slot in [0, 1] {
        let Some(input) = gelu_input(model, node.inputs[slot], node.inputs[1 - slot]) else { continue };
        if model.outlet_fact(input)?.shape != model.outlet_fact(node.id.into())?.shape {
            continue;
        }
        let gelu = Apply(Activation::GeluTanh);
        return TypedModelPatch::replace_single_op(model, node, &[input], gelu).map(Some);
    }
    Ok(None)
}

/// The x of half x and 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
fn gelu_input(model: &TypedModel, half: OutletId, factor: OutletId) -> Option<OutletId> {
    let near = |value: f32, want: f32| (value - want).abs() < 1e-6;
    let x = with_scalar::<Mul>(model, half).filter(|&(_, value)| near(value, 0.5))?.0;
    let tanh = with_scalar::<Add>(model, factor).filter(|&(_, value)| near(value, 1.0))?.0;
    let tanh = model.node(tanh.node);
    tanh.op_as::<ElementWiseOp>().filter(|op| op.0.is::<Tanh>())?;
    let root = (2.0 / std::f32::consts::PI).sqrt();
    let sum = with_scalar::<Mul>(model, tanh.inputs[0]).filter(|&(_, value)| near(value, root))?.0;
    let sum = model.node(sum.node);
    sum.op_as::<TypedBinOp>().filter(|op| op.0.is::<Add>() && op.1.is_none())?;
    let slot = sum.inputs.iter().position(|&input| input == x)?;
    let cube =
        with_scalar::<Mul>(model, sum.inputs[1 - slot]).filter(|&(_, value)| near(value, 0.044_715))?.0;
    let cube = model.node(cube.node);
    let power = cube.op_as::<ElementWiseOp>().and_then(|op| op.0.downcast_ref::<PowConst>())?;
    (power.exponent == 3.0 && cube.inputs[0] == x).then_some(x)
}

/// The operand of an operation with a constant of one value, and that value.
pub(super) fn with_scalar<O: tract_onnx::tract_core::ops::binary::BinMiniOp>(
    model: &TypedModel,
    outlet: OutletId,
) -> Option<(OutletId, f32)> {
    let node = model.node(outlet.node);
    node.op_as::<TypedBinOp>().filter(|op| op.0.is::<O>() && op.1.is_none())?;
    let of = |slot: usize| Some((node.inputs[slot], constant_scalar(model, node.inputs[1 - slot])?));
    of(0).or_else(|| of(1))
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::ops::math::{add, div, mul, pow, sub, tanh};

    use super::super::rewrite::faster;
    use super::super::testing::{has, numbers};
    use super::*;

    #[test]
    fn what_is_repeated_along_any_axes_is_combined_in_either_order() -> TractResult<()> {
        let shapes: [&[usize]; 9] = [
            &[3, 4, 5, 6],
            &[1, 1, 1, 1],
            &[1, 1, 1, 6],
            &[3, 4, 5, 1],
            &[3, 1, 1, 6],
            &[1, 4, 1, 1],
            &[3, 1, 5, 1],
            &[1, 4, 1, 6],
            &[1, 1, 5, 6],
        ];
        let operations = [("add", add()), ("sub", sub()), ("mul", mul()), ("div", div())];
        for other in shapes {
            for (name, operation) in &operations {
                for swapped in [false, true] {
                    let (x, y) = (numbers(&[3, 4, 5, 6], 1), numbers(other, 2));
                    let mut model = TypedModel::default();
                    let a = model.add_source("a", DatumType::F32.fact([3, 4, 5, 6]))?;
                    let b = model.add_source("b", DatumType::F32.fact(other))?;
                    let wires = if swapped { [b, a] } else { [a, b] };
                    let wire = model.wire_node("result", operation.clone(), &wires)?;
                    model.select_output_outlets(&wire)?;
                    let model = faster(model)?;
                    assert_eq!(has(&model, "Combine"), 1);
                    let inputs = tvec!(x.clone().into_tvalue(), y.clone().into_tvalue());
                    let result = model.into_runnable()?.run(inputs)?;
                    let result = result[0].try_as_plain_ram()?.to_array_view::<f32>()?.to_owned();
                    let (x, y) = (x.into_plain_array::<f32>()?, y.into_plain_array::<f32>()?);
                    let (x, y) = if swapped { (y, x) } else { (x, y) };
                    let want = match *name {
                        "add" => &x + &y,
                        "sub" => &x - &y,
                        "mul" => &x * &y,
                        _ => &x / &y,
                    };
                    assert_eq!(result, want, "{name} with {other:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_spelled_out_gelu_is_one_operator() -> TractResult<()> {
        let x = numbers(&[2, 300], 1);
        let mut model = TypedModel::default();
        let source = model.add_source("x", DatumType::F32.fact([2, 300]))?;
        let mut scalar = 0;
        let mut with = |model: &mut TypedModel, op: TypedBinOp, input: OutletId, value: f32| {
            scalar += 1;
            let constant = model.add_const(format!("constant.{scalar}"), tensor2(&[[value]]))?;
            Ok::<_, TractError>(model.wire_node(format!("with.{scalar}"), op, &[input, constant])?[0])
        };
        let cube = with(&mut model, pow(), source, 3.0)?;
        let cube = with(&mut model, mul(), cube, 0.044_715)?;
        let sum = model.wire_node("sum", add(), &[source, cube])?[0];
        let sum = with(&mut model, mul(), sum, 0.797_884_6)?;
        let function = model.wire_node("tanh", tanh(), &[sum])?[0];
        let function = with(&mut model, add(), function, 1.0)?;
        let half = with(&mut model, mul(), source, 0.5)?;
        let result = model.wire_node("result", mul(), &[half, function])?;
        model.select_output_outlets(&result)?;
        let model = faster(model.into_decluttered()?)?;
        assert_eq!(model.nodes().len(), 2, "{model}");
        let result = model.into_runnable()?.run(tvec!(x.clone().into_tvalue()))?;
        let result = result[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        for (&x, got) in x.try_as_plain_ram()?.as_slice::<f32>()?.iter().zip(result) {
            let x = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let want = 0.5 * x * (1.0 + inner.tanh());
            assert!((f64::from(got) - want).abs() < 1e-6);
        }
        Ok(())
    }
}
