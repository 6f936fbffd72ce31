//! Products of two computed operands, each matrix read where it lies.

use s2s_kernels::{AttentionScratch, MatMut, matmul_once};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::operands::{Axes, axes, for_each_element, has_rows, is_readable};

/// Multiplies the matrices of two tensors, one product for each element of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    axes: Axes,
    /// The same as an expression, which knows the result's shape.
    expression: EinSum,
}

impl Op for Product {
    fn name(&self) -> StaticName {
        "Product".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.expression.info()
    }

    op_as_typed_op!();
}

impl EvalOp for Product {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (a, b) = args_2!(inputs);
        let Axes { a: in_a, b: in_b, c: in_c } = &self.axes;
        let mut batch: TVec<usize> = in_a.batch.iter().map(|_| 0).collect();
        in_a.widen(a.shape(), &mut batch);
        in_b.widen(b.shape(), &mut batch);
        let (left, right) = (in_a.find(a.shape(), &batch)?, in_b.find(b.shape(), &batch)?);
        ensure!(left.size.1 == right.size.0, "{} values are multiplied by {}", left.size.1, right.size.0);
        let (m, n) = (left.size.0, right.size.1);
        let places = in_c.batch.iter().zip(&batch).map(|(&axis, &size)| (axis, size));
        let shape = result_shape(places, (in_c.rows, m), (in_c.columns, n));
        let mut output = Tensor::zero_dt(DatumType::F32, &shape)?;
        let found = in_c.find(&shape, &batch)?;
        let (a, b) = (a.try_as_plain_ram()?, b.try_as_plain_ram()?);
        let (a, b) = (a.as_slice::<f32>()?, b.as_slice::<f32>()?);
        let mut view = output.try_as_plain_ram_mut()?;
        let data = view.as_slice_mut::<f32>()?;
        let mut scratch = AttentionScratch::default();
        if m * n > 0 {
            for_each_element(&batch, |element| {
                let c = MatMut::new(&mut data[found.start(element)..], m, n, found.row_stride());
                matmul_once(c, left.matrix(a, element), right.matrix(b, element), &mut scratch);
            });
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

/// The shape of a result, from its axes and their sizes.
pub(super) fn result_shape(
    batch: impl Iterator<Item = (Option<usize>, usize)>,
    rows: (Option<usize>, usize),
    columns: (Option<usize>, usize),
) -> TVec<usize> {
    let mut axes: TVec<(usize, usize)> =
        batch.chain([rows, columns]).filter_map(|(axis, size)| Some((axis?, size))).collect();
    axes.sort_unstable();
    axes.into_iter().map(|(_, size)| size).collect()
}

impl TypedOp for Product {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.expression.output_facts(inputs)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        self.expression.cost(inputs)
    }
}

/// A product of two computed operands becomes a [`Product`].
pub(super) fn of_computed(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &EinSum,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!(axes = axes(model, node, op)?);
    rule_if!(is_readable(&axes.a) && is_readable(&axes.b) && has_rows(&axes.c));
    let product = Product { axes, expression: op.clone() };
    TypedModelPatch::replace_single_op(model, node, &node.inputs, product).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::faster;
    use super::super::testing::{assert_near, defined, has, numbers};
    use super::*;

    #[test]
    fn a_product_of_two_computed_operands_is_what_its_axes_mean_wherever_they_lie() -> TractResult<()> {
        let cases: [(&str, &[usize], &[usize]); 10] = [
            ("abmk,abkn->abmn", &[2, 3, 1, 9], &[2, 3, 9, 5]),
            ("ambk,abnk->abmn", &[2, 1, 3, 9], &[2, 3, 5, 9]),
            ("abmk,akbn->ambn", &[2, 3, 4, 9], &[2, 9, 3, 5]),
            ("abmk,abkn->abmn", &[2, 3, 6, 9], &[2, 1, 9, 5]),
            ("ak,ank->an", &[2, 9], &[2, 5, 9]),
            ("an,anh->ah", &[2, 9], &[2, 9, 70]),
            ("km,kn->mn", &[9, 6], &[9, 7]),
            ("mk,nk->mn", &[6, 9], &[7, 9]),
            ("k,kn->n", &[9], &[9, 7]),
            ("abk,abk->ab", &[2, 1, 9], &[2, 1, 9]),
        ];
        for (expression, left, right) in cases {
            let (a, b) = (numbers(left, 1), numbers(right, 2));
            let mut model = TypedModel::default();
            let wires = [
                model.add_source("a", DatumType::F32.fact(left))?,
                model.add_source("b", DatumType::F32.fact(right))?,
            ];
            let op = EinSum::new(expression.parse()?, DatumType::F32);
            let wire = model.wire_node("product", op, &wires)?;
            model.select_output_outlets(&wire)?;
            let want = defined(expression, &a, &b);
            let model = faster(model)?;
            // What has no axis of its own on the right is left to tract.
            assert_eq!(has(&model, "Product"), usize::from(expression != "abk,abk->ab"), "{expression}");
            let results =
                model.into_optimized()?.into_runnable()?.run(tvec!(a.into_tvalue(), b.into_tvalue()))?;
            assert_near(&results[0], &want);
        }
        Ok(())
    }
}
