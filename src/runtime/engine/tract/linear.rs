//! Products with a constant matrix as one operator: weights packed once, bias and activation in the same pass.

use std::sync::Arc;

use s2s_kernels::{Activation, MatMut, MatRef, Scratch, Store, Weights, add_assign, matmul_weights};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::Add;

use super::elementwise::Apply;
use super::pattern::{alone, constant, constant_row};

/// Products of more values are left to tract: packing takes a copy of the matrix.
const MOST_WEIGHTS: usize = 1 << 30;

/// Multiplies rows by a constant matrix: (rows..., summed...) to (rows..., columns...). A second input, of the shape of
/// the result, is added to it.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    weights: Arc<Weights>,
    /// How many axes at the end of the input are summed over.
    summed: usize,
    /// The axes of the output behind those of the rows.
    columns: TVec<usize>,
    bias: Option<Arc<Vec<f32>>>,
    activation: Option<Activation>,
}

/// Weights are the same if they are the same memory: two large matrices are never compared.
impl PartialEq for Linear {
    fn eq(&self, other: &Self) -> bool {
        let bias = match (&self.bias, &other.bias) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        bias && Arc::ptr_eq(&self.weights, &other.weights)
            && (self.summed, &self.columns, self.activation)
                == (other.summed, &other.columns, other.activation)
    }
}

impl Eq for Linear {}

impl Op for Linear {
    fn name(&self) -> StaticName {
        "Linear".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let ((k, n), bias) = (self.weights.shape(), self.bias.is_some());
        Ok(vec![format!("({k}, {n}), bias: {bias}, activation: {:?}", self.activation)])
    }

    op_as_typed_op!();
}

impl Linear {
    /// The axes of the output for an input of these axes.
    fn shape<D: Clone + From<usize>>(&self, input: &[D]) -> TractResult<TVec<D>> {
        let rows =
            input.len().checked_sub(self.summed).context("an input with the axes that are summed over")?;
        Ok(input[..rows].iter().cloned().chain(self.columns.iter().map(|&n| D::from(n))).collect())
    }
}

impl EvalOp for Linear {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut inputs = inputs.into_iter();
        let (Some(input), residual, None) = (inputs.next(), inputs.next(), inputs.next()) else {
            bail!("Linear takes one tensor or two");
        };
        let (k, n) = self.weights.shape();
        let shape = self.shape(input.shape())?;
        let rows = shape.len() - self.columns.len();
        let summed: usize = input.shape()[rows..].iter().product();
        ensure!(summed == k, "{summed} values are multiplied by a matrix of {k} rows");
        let rows = shape[..rows].iter().product();
        let mut store = self.bias.as_deref().map_or(Store::Overwrite, |bias| Store::Bias(bias));
        let adds = residual.is_some();
        let mut output = match residual {
            Some(residual) => residual.into_tensor(),
            None => Tensor::zero_dt(DatumType::F32, &shape)?,
        };
        ensure!(output.shape() == &*shape, "{:?} is added to {shape:?}", output.shape());
        let mut view = output.try_as_plain_ram_mut()?;
        let data = view.as_slice_mut::<f32>()?;
        if adds {
            if let Store::Bias(bias) = store {
                data.chunks_exact_mut(n).for_each(|row| add_assign(row, bias));
            }
            store = Store::Add;
        }
        let a = MatRef::new(input.try_as_plain_ram()?.as_slice::<f32>()?, rows, k);
        matmul_weights(MatMut::new(data, rows, n, n), store, a, &self.weights, &mut Scratch::default());
        if let Some(activation) = self.activation {
            activation.apply(data);
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Linear {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let is_f32 = inputs.iter().all(|fact| fact.datum_type == DatumType::F32);
        ensure!((1..=2).contains(&inputs.len()) && is_f32, "Linear takes one f32 tensor or two");
        Ok(tvec!(DatumType::F32.fact(self.shape(&inputs[0].shape.to_tvec())?)))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let (k, n) = self.weights.shape();
        let rows: TDim = inputs[0].shape.iter().rev().skip(self.summed).product();
        Ok(tvec!((Cost::FMA(DatumType::F32), rows * k * n)))
    }
}

/// An axis of an [`EinSum`] and where it is in the varying operand, the constant one and the result.
type Place = (Option<usize>, Option<usize>, Option<usize>);

/// A product of a varying operand and a constant matrix becomes a [`Linear`].
pub(super) fn product_with_constant(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &EinSum,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(op.q_params.is_none() && op.operating_dt == DatumType::F32 && node.inputs.len() == 2);
    let constants = [0, 1].map(|slot| constant(model, node.inputs[slot]));
    let (varying, weights) = match constants {
        [None, Some(weights)] => (0, weights),
        [Some(weights), None] => (1, weights),
        _ => return Ok(None),
    };
    let fact = model.outlet_fact(node.inputs[varying])?;
    rule_if!(fact.datum_type == DatumType::F32 && fact.is_plain());
    rule_if!(weights.len() <= MOST_WEIGHTS);
    let one = |places: &TVec<usize>| (places.len() <= 1).then(|| places.first().copied());
    let places: Option<Vec<Place>> = op
        .axes
        .iter_all_axes()
        .map(|axis| {
            let matrix = one(&axis.inputs[1 - varying])?;
            // An axis of one is none, unless it is summed over with one or is the result's alone.
            let (input, output) = (one(&axis.inputs[varying])?, one(&axis.outputs[0])?);
            let broadcast =
                matrix.is_some_and(|at| weights.shape()[at] == 1) && input.is_some() && output.is_some();
            Some((input, matrix.filter(|_| !broadcast), output))
        })
        .collect();
    rule_if_some!(places = places);
    let (mut rows, mut summed, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    // Axes of one that the result alone has, or the input alone; tract makes them part of the product.
    let (mut added, mut dropped) = (Vec::new(), Vec::new());
    let result = &model.outlet_fact(node.id.into())?.shape;
    for place in places {
        match place {
            (Some(input), None, Some(output)) => rows.push((output, input)),
            (Some(input), Some(matrix), None) => {
                rule_if!(fact.shape[input] == weights.shape()[matrix].to_dim());
                summed.push((input, matrix));
            }
            (None, Some(matrix), Some(output)) => columns.push((output, matrix)),
            (None, None, Some(output)) if result[output].is_one() => added.push(output),
            (Some(input), None, None) if fact.shape[input].is_one() => dropped.push(input),
            // Of one value, and in nothing but the matrix.
            (None, Some(matrix), None) if weights.shape()[matrix] == 1 => {}
            _ => return Ok(None),
        }
    }
    rule_if!(!summed.is_empty() && !columns.is_empty());
    rows.sort_unstable();
    summed.sort_unstable();
    columns.sort_unstable();
    added.sort_unstable();
    rule_if_some!(packed = packed(&weights, &summed, &columns)?);
    let sizes = columns.iter().map(|&(_, matrix)| weights.shape()[matrix]).collect();
    let linear = Linear {
        weights: Arc::new(packed),
        summed: dropped.len() + summed.len(),
        columns: sizes,
        bias: None,
        activation: None,
    };
    let mut patch = TypedModelPatch::new("a packed product");
    let mut wire = patch.tap_model(model, node.inputs[varying])?;
    let order: Vec<usize> = rows
        .iter()
        .map(|&(_, input)| input)
        .chain(dropped)
        .chain(summed.iter().map(|&(input, _)| input))
        .collect();
    for (at, move_axis) in perm_to_ops(&order).into_iter().enumerate() {
        wire = patch.wire_node(format!("{name}.rows.{at}"), move_axis, &[wire])?[0];
    }
    let mut row_axes: Vec<usize> = rows.iter().map(|&(output, _)| output).collect();
    for output in added {
        let at = row_axes.partition_point(|&other| other < output);
        row_axes.insert(at, output);
        wire = patch.wire_node(format!("{name}.added.{output}"), AxisOp::Add(at), &[wire])?[0];
    }
    wire = patch.wire_node(name, linear, &[wire])?[0];
    // Where each axis of the result is in what the product gives.
    let given: Vec<usize> = row_axes.into_iter().chain(columns.iter().map(|&(output, _)| output)).collect();
    let mut order = vec![0; given.len()];
    for (at, &output) in given.iter().enumerate() {
        order[output] = at;
    }
    for (at, move_axis) in perm_to_ops(&order).into_iter().enumerate() {
        wire = patch.wire_node(format!("{name}.result.{at}"), move_axis, &[wire])?[0];
    }
    patch.shunt_outside(model, node.id.into(), wire)?;
    Ok(Some(patch))
}

/// The weights as (summed, columns); pairs of (a place elsewhere, the axis of the weights).
fn packed(
    weights: &Tensor,
    summed: &[(usize, usize)],
    columns: &[(usize, usize)],
) -> TractResult<Option<Weights>> {
    let axes = |pairs: &[(usize, usize)]| pairs.iter().map(|&(_, axis)| axis).collect::<Vec<_>>();
    let (summed, columns) = (axes(summed), axes(columns));
    let size = |axes: &[usize]| axes.iter().map(|&axis| weights.shape()[axis]).product::<usize>();
    let (k, n) = (size(&summed), size(&columns));
    rule_if!(k > 0 && n > 0);
    let others = (0..weights.rank()).filter(|axis| !summed.contains(axis) && !columns.contains(axis));
    let others: Vec<usize> = others.collect();
    let in_order = |first: &[usize], second: &[usize]| [&others, first, second].concat();
    let is_ordered = |order: &[usize]| {
        // Axes of one may stand anywhere.
        order.iter().filter(|&&axis| weights.shape()[axis] > 1).is_sorted()
    };
    if is_ordered(&in_order(&columns, &summed)) {
        let matrix = MatRef::new(weights.try_as_plain_ram()?.as_slice::<f32>()?, n, k);
        return Ok(Some(Weights::of(matrix.transposed())));
    }
    let order = in_order(&summed, &columns);
    let moved = if is_ordered(&order) { None } else { Some(weights.clone().permute_axes(&order)?) };
    let data = moved.as_ref().unwrap_or(weights).try_as_plain_ram()?;
    Ok(Some(Weights::of(MatRef::new(data.as_slice::<f32>()?, k, n))))
}

/// The [`Linear`] of one input without activation that gives this outlet to one reader alone.
fn linear(model: &TypedModel, outlet: OutletId) -> Option<(&TypedNode, &Linear)> {
    let node = model.node(outlet.node);
    let linear =
        node.op_as::<Linear>().filter(|linear| linear.activation.is_none() && node.inputs.len() == 1)?;
    alone(model, outlet).then_some((node, linear))
}

/// A row that is added to each row of a product is added while it is written.
pub(super) fn bias(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &TypedBinOp,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(op.0.is::<Add>() && op.1.is_none());
    for slot in [0, 1] {
        let Some((product, linear)) = linear(model, node.inputs[slot]) else { continue };
        let [columns] = *linear.columns else { continue };
        let shape = &model.outlet_fact(node.inputs[slot])?.shape;
        let Some(row) = constant_row(model, node.inputs[1 - slot], columns)? else { continue };
        if linear.bias.is_some() || model.outlet_fact(node.id.into())?.shape != *shape {
            continue;
        }
        let linear = Linear { bias: Some(Arc::new(row)), ..linear.clone() };
        return TypedModelPatch::replace_single_op(model, node, &product.inputs, linear).map(Some);
    }
    Ok(None)
}

/// What a product is added to, of the same shape, is where the product is written. Comes after [`bias`].
pub(super) fn residual(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &TypedBinOp,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(op.0.is::<Add>() && op.1.is_none());
    for slot in [0, 1] {
        let (outlet, other) = (node.inputs[slot], node.inputs[1 - slot]);
        let Some((product, linear)) = linear(model, outlet) else { continue };
        let (fact, other_fact) = (model.outlet_fact(outlet)?, model.outlet_fact(other)?);
        let fits = other_fact.shape == fact.shape && other_fact.datum_type == DatumType::F32;
        if !fits || !other_fact.is_plain() || other_fact.konst.is_some() {
            continue;
        }
        let inputs = [product.inputs[0], other];
        return TypedModelPatch::replace_single_op(model, node, &inputs, linear.clone()).map(Some);
    }
    Ok(None)
}

/// An activation of a product is applied while its values are near.
pub(super) fn activated(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    &Apply(activation): &Apply,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!((product, linear) = linear(model, node.inputs[0]));
    let linear = Linear { activation: Some(activation), ..linear.clone() };
    TypedModelPatch::replace_single_op(model, node, &product.inputs, linear).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::faster;
    use super::super::testing::{assert_near, defined, has, numbers};
    use super::*;

    #[test]
    fn a_product_with_a_constant_is_what_its_axes_mean_wherever_they_lie() -> TractResult<()> {
        let cases: [(&str, &[usize], &[usize]); 12] = [
            ("amk,kn->amn", &[2, 3, 20], &[20, 70]),
            ("amk,nk->amn", &[2, 3, 20], &[70, 20]),
            ("ambk,bkn->amn", &[2, 3, 4, 5], &[4, 5, 17]),
            ("ambk,kbn->amn", &[2, 3, 4, 5], &[5, 4, 17]),
            ("mk,kn->nm", &[7, 9], &[9, 11]),
            ("kam,kn->anm", &[9, 2, 3], &[9, 11]),
            ("abmk,bkn->abmn", &[2, 3, 4, 9], &[1, 9, 11]),
            ("amk,khd->ahmd", &[2, 3, 9], &[9, 4, 5]),
            ("amk,akn->amn", &[1, 3, 9], &[1, 9, 4]),
            ("mk,kn->man", &[7, 9], &[9, 11]),
            ("mk,kn->amnb", &[7, 9], &[9, 11]),
            ("mak,kn->mn", &[7, 1, 9], &[9, 11]),
        ];
        for (expression, varying, matrix) in cases {
            for first in [true, false] {
                let (inputs, output) = expression.split_once("->").expect("an arrow");
                let (left, right) = inputs.split_once(',').expect("two operands");
                let expression = match first {
                    true => expression.to_owned(),
                    false => format!("{right},{left}->{output}"),
                };
                let (x, weights) = (numbers(varying, 1), numbers(matrix, 2));
                let mut model = TypedModel::default();
                let source = model.add_source("x", DatumType::F32.fact(varying))?;
                let constant = model.add_const("w", weights.clone())?;
                let wires = if first { [source, constant] } else { [constant, source] };
                let op = EinSum::new(expression.parse()?, DatumType::F32);
                let wire = model.wire_node("product", op, &wires)?;
                model.select_output_outlets(&wire)?;
                let want = if first {
                    defined(&expression, &x, &weights)
                } else {
                    defined(&expression, &weights, &x)
                };
                let model = faster(model)?;
                assert_eq!(has(&model, "Linear"), 1, "{expression}");
                let result = model.into_optimized()?.into_runnable()?.run(tvec!(x.into_tvalue()))?;
                assert_near(&result[0], &want);
            }
        }
        Ok(())
    }

    #[test]
    fn a_bias_and_an_activation_are_part_of_the_product_unless_someone_else_reads_it() -> TractResult<()> {
        let (x, weights, bias) = (numbers(&[3, 9], 1), numbers(&[9, 20], 2), numbers(&[1, 20], 3));
        for shared in [false, true] {
            let mut model = TypedModel::default();
            let source = model.add_source("x", DatumType::F32.fact([3, 9]))?;
            let matrix = model.add_const("w", weights.clone())?;
            let row = model.add_const("b", bias.clone())?;
            let op = EinSum::new("mk,kn->mn".parse()?, DatumType::F32);
            let product = model.wire_node("product", op, &[source, matrix])?[0];
            let add = tract_onnx::tract_core::ops::math::add();
            let sum = model.wire_node("sum", add, &[row, product])?[0];
            let tanh = tract_onnx::tract_core::ops::math::tanh();
            let result = model.wire_node("tanh", tanh, &[sum])?[0];
            let outputs = if shared { vec![result, product, sum] } else { vec![result] };
            model.select_output_outlets(&outputs)?;
            let model = faster(model)?;
            // An addition of its own is a [`Combine`](super::super::elementwise::Combine).
            assert_eq!((has(&model, "Linear"), has(&model, "Combine")), (1, usize::from(shared)));
            let results = model.into_optimized()?.into_runnable()?.run(tvec!(x.clone().into_tvalue()))?;
            let row = bias.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
            let product = defined("mk,kn->mn", &x, &weights);
            let sums: Vec<f64> =
                product.iter().zip(row.iter().cycle()).map(|(x, b)| x + f64::from(*b)).collect();
            let want: Vec<f64> = sums.iter().map(|x| x.tanh()).collect();
            assert_near(&results[0], &want);
            if shared {
                assert_near(&results[1], &product);
                assert_near(&results[2], &sums);
            }
        }
        Ok(())
    }

    #[test]
    fn a_product_is_written_into_what_it_is_added_to() -> TractResult<()> {
        let (x, other, weights) = (numbers(&[3, 9], 1), numbers(&[3, 20], 2), numbers(&[9, 20], 3));
        let row = numbers(&[1, 20], 4);
        let mut model = TypedModel::default();
        let source = model.add_source("x", DatumType::F32.fact([3, 9]))?;
        let residual = model.add_source("residual", DatumType::F32.fact([3, 20]))?;
        let matrix = model.add_const("w", weights.clone())?;
        let bias = model.add_const("b", row.clone())?;
        let op = EinSum::new("mk,kn->mn".parse()?, DatumType::F32);
        let product = model.wire_node("product", op, &[source, matrix])?[0];
        let add = tract_onnx::tract_core::ops::math::add;
        let sum = model.wire_node("biased", add(), &[product, bias])?[0];
        let sum = model.wire_node("sum", add(), &[residual, sum])?[0];
        model.select_output_outlets(&[sum])?;
        let model = faster(model)?;
        assert_eq!((has(&model, "Linear"), has(&model, "Combine")), (1, 0));
        let inputs = tvec!(x.clone().into_tvalue(), other.clone().into_tvalue());
        let results = model.into_optimized()?.into_runnable()?.run(inputs)?;
        let values = |tensor: &Tensor| -> TractResult<Vec<f64>> {
            Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|&x| f64::from(x)).collect())
        };
        let (other, row) = (values(&other)?, values(&row)?);
        let sums = defined("mk,kn->mn", &x, &weights).into_iter().zip(&other).zip(row.iter().cycle());
        assert_near(&results[0], &sums.map(|((x, y), z)| x + y + z).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn an_input_of_another_width_is_an_error() -> TractResult<()> {
        let weights = numbers(&[9, 20], 2);
        let matrix = Weights::of(MatRef::new(weights.try_as_plain_ram()?.as_slice::<f32>()?, 9, 20));
        let linear =
            Linear { weights: Arc::new(matrix), summed: 1, columns: tvec!(20), bias: None, activation: None };
        assert!(linear.eval_out_of_plan(tvec!(numbers(&[2, 8], 1).into_tvalue())).is_err());
        assert!(linear.eval_out_of_plan(tvec!(numbers(&[], 1).into_tvalue())).is_err());
        Ok(())
    }
}
