//! What the rules read in tract's graphs: constants, and which operators say what.

use std::sync::Arc;

use tract_onnx::prelude::{
    DatumType, IntoArcTensor, IntoTValue, OutletId, TVec, Tensor, TypedModel, TypedNode,
};
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_hir::internal::InOut;

/// Operators between a constant of the file and its reader that are looked through: a cast or a dequantisation,
/// a squeeze, a transposition.
const DEEPEST: usize = 6;
/// How much larger than its inputs a constant may become on the way; more is no weight.
const MOST_GROWTH: usize = 4;

/// The value of an outlet that depends on no input of the graph. Before tract has decluttered a graph, larger
/// constants are not folded yet.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    evaluated(model, outlet, DEEPEST)
}

fn evaluated(model: &TypedModel, outlet: OutletId, depth: usize) -> Option<Arc<Tensor>> {
    let fact = model.outlet_fact(outlet).ok()?;
    if let Some(konst) = &fact.konst {
        return Some(Arc::clone(konst));
    }
    let node = model.node(outlet.node);
    if depth == 0 || node.inputs.is_empty() {
        return None;
    }
    let volume: usize = fact.shape.as_concrete()?.iter().product();
    let inputs = node.inputs.iter().map(|&input| evaluated(model, input, depth - 1));
    let inputs = inputs.collect::<Option<TVec<_>>>()?;
    let given = inputs.iter().map(|tensor| tensor.len()).max().unwrap_or(0);
    if volume > MOST_GROWTH * given {
        return None;
    }
    let inputs = inputs.into_iter().map(IntoTValue::into_tvalue).collect();
    let outputs = node.op.eval_out_of_plan(inputs).ok()??;
    outputs.into_iter().nth(outlet.slot).map(IntoArcTensor::into_arc_tensor)
}

/// The node that gives `outlet`.
pub(super) fn maker(model: &TypedModel, outlet: OutletId) -> &TypedNode {
    model.node(outlet.node)
}

/// The two inputs of `outlet`'s node if it is this operator of two.
pub(super) fn operands<Op: BinMiniOp>(model: &TypedModel, outlet: OutletId) -> Option<[OutletId; 2]> {
    let node = maker(model, outlet);
    node.op_as::<TypedBinOp>()?.0.is::<Op>().then_some(())?;
    <[OutletId; 2]>::try_from(node.inputs.as_slice()).ok()
}

/// Both orders of two operands.
pub(super) fn either<T: Copy>([a, b]: [T; 2]) -> [[T; 2]; 2] {
    [[a, b], [b, a]]
}

/// The input of `outlet`'s node if it is this function of one value.
pub(super) fn argument<Op: ElementWiseMiniOp>(model: &TypedModel, outlet: OutletId) -> Option<OutletId> {
    let node = maker(model, outlet);
    node.op_as::<ElementWiseOp>()?.0.is::<Op>().then(|| node.inputs[0])
}

/// A product of every row (the last axis) of a computed value with one constant matrix of f32.
pub(super) struct RowProduct {
    /// The rows (..., k).
    pub(super) rows: OutletId,
    pub(super) matrix: Arc<Tensor>,
    /// Whether the matrix lies as (n, k).
    pub(super) is_transposed: bool,
}

impl RowProduct {
    /// The product that `outlet` is, (..., n).
    pub(super) fn of(model: &TypedModel, outlet: OutletId) -> Option<Self> {
        let node = maker(model, outlet);
        let op = node.op_as::<EinSum>()?;
        if op.q_params.is_some() || op.operating_dt != DatumType::F32 || node.inputs.len() != 2 {
            return None;
        }
        [[0, 1], [1, 0]].into_iter().find_map(|[rows, matrix]| {
            let rank = model.outlet_fact(node.inputs[rows]).ok()?.rank();
            let last = rank.checked_sub(1)?;
            if model.outlet_fact(outlet).ok()?.rank() != rank {
                return None;
            }
            let axis = |io: InOut, at: usize| op.axes.axis((io, at)).ok();
            for at in 0..last {
                let outer = axis(InOut::In(rows), at)?;
                let stays = outer.inputs[rows][..] == [at] && outer.outputs[0][..] == [at];
                if !stays || !outer.inputs[matrix].is_empty() {
                    return None;
                }
            }
            let (k, n) = (axis(InOut::In(rows), last)?, axis(InOut::Out(0), last)?);
            let (&[from], &[to]) = (&k.inputs[matrix][..], &n.inputs[matrix][..]) else { return None };
            if !k.outputs[0].is_empty() || !n.inputs[rows].is_empty() || k.inputs[rows][..] != [last] {
                return None;
            }
            let matrix = constant(model, node.inputs[matrix])?;
            let fits = matrix.rank() == 2 && matrix.datum_type() == DatumType::F32 && from + to == 1;
            fits.then(|| Self { rows: node.inputs[rows], matrix, is_transposed: from == 1 })
        })
    }
}

/// The values of a tensor of f32.
pub(super) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()
}
