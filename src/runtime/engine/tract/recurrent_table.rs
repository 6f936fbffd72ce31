//! LSTM and GRU operators whose inputs are chosen by ids alone: rows of an embedding, perhaps with a column
//! that says whether they are padding. There are only as many input sides W x + b as symbols, so a table of
//! them takes the place of the product, and of everything between the ids and the operator.

use std::collections::HashMap;
use std::sync::Arc;

use s2s_kernels::{MatMut, MatRef, Scratch, Store, matmul_weights};
use tract_onnx::prelude::{
    DatumType, IntoTValue, OutletId, TDim, TValue, TVec, Tensor, TractResult, TypedModel, TypedModelPatch,
};
use tract_onnx::tract_core::internal::DimLike as _;
use tract_onnx::tract_core::ops::array::{Gather, OneHot, Pad, Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::Iff;

use super::reading::{constant, floats, maker};
use super::recurrent::{Direction, Input, Recurrent};

/// Values of a table that is not worth its memory (16 MiB).
const LARGEST_TABLE: usize = 4 << 20;
/// Operators between the ids and X that are looked at.
const MOST_OPERATORS: usize = 64;

/// Gives recurrent operators tables where their inputs are chosen by ids, and takes from all of them the
/// outputs that nobody reads.
pub(super) fn with_tables(mut model: TypedModel) -> TractResult<TypedModel> {
    for id in 0..model.nodes().len() {
        if let Some(patch) = patch(&model, id)? {
            patch.apply(&mut model)?;
        }
    }
    Ok(model)
}

fn patch(model: &TypedModel, id: usize) -> TractResult<Option<TypedModelPatch>> {
    let node = model.node(id);
    let Some(op) = node.op_as::<Recurrent>() else { return Ok(None) };
    let is_read = |slot: usize| {
        !node.outputs[slot].successors.is_empty() || model.outputs.contains(&OutletId::new(id, slot))
    };
    let mut slots = (0..node.outputs.len()).filter(|&slot| is_read(slot));
    let mut slot = 0;
    let wanted = op.wanted.map(|was_wanted| {
        slot += usize::from(was_wanted);
        was_wanted && is_read(slot - 1)
    });
    let table = Lookup::of(model, node.inputs[0]).and_then(|lookup| lookup.tables(model, op));
    if wanted == op.wanted && table.is_none() || !wanted.contains(&true) {
        return Ok(None);
    }
    let mut inputs = node.inputs.clone();
    let mut new = Recurrent { wanted, ..op.clone() };
    if let Some((ids, directions)) = table {
        inputs[0] = ids;
        new.directions = directions;
    }
    let mut patch = TypedModelPatch::default();
    let inputs = patch.taps(model, &inputs)?;
    for output in patch.wire_node(format!("{}.ours", node.name), new, &inputs)? {
        if let Some(slot) = slots.next() {
            patch.shunt_outside(model, OutletId::new(id, slot), output)?;
        }
    }
    Ok(Some(patch))
}

/// What lies between ids (time, batch) and X (time, batch, input): each value of X depends on the id at the
/// same place alone.
struct Lookup {
    ids: OutletId,
    /// How many ids there are.
    symbols: usize,
    /// In the order in which they are computed.
    nodes: Vec<usize>,
    x: OutletId,
}

impl Lookup {
    fn of(model: &TypedModel, x: OutletId) -> Option<Self> {
        let ids = ids_of(model, x)?;
        let mut lookup = Self { ids, symbols: usize::MAX, nodes: vec![], x };
        lookup.visit(model, x)?;
        (lookup.symbols <= LARGEST_TABLE && lookup.nodes.len() <= MOST_OPERATORS).then_some(lookup)
    }

    /// Whether `outlet` is (time, batch, ...) and each of its values depends on the id at the same place
    /// alone.
    fn visit(&mut self, model: &TypedModel, outlet: OutletId) -> Option<()> {
        if outlet == self.ids || self.nodes.contains(&outlet.node) {
            return Some(());
        }
        if self.nodes.len() > MOST_OPERATORS || outlet.slot != 0 {
            return None;
        }
        let node = maker(model, outlet);
        let is_inner = |axis: usize| axis >= 2;
        let keeps_place = if let Some(axis) = node.op_as::<AxisOp>() {
            matches!(axis, AxisOp::Add(axis) | AxisOp::Rm(axis) if is_inner(*axis))
        } else if let Some(pad) = node.op_as::<Pad>() {
            pad.pads.iter().take(2).all(|&pad| pad == (0, 0))
        } else if let Some(one_hot) = node.op_as::<OneHot>() {
            self.symbols = self.symbols.min(one_hot.dim);
            is_inner(one_hot.axis)
        } else if let Some(concat) = node.op_as::<TypedConcat>() {
            is_inner(concat.axis)
        } else if let Some(slice) = node.op_as::<Slice>() {
            is_inner(slice.axis)
        } else if let Some(gather) = node.op_as::<Gather>() {
            let table = constant(model, node.inputs[0])?;
            self.symbols = self.symbols.min(*table.shape().first()?);
            // The ids are chosen among its rows; as a shape they are (time, batch).
            let of_rank_2 = model.outlet_fact(node.inputs[1]).ok()?.rank() == 2;
            self.visit(model, node.inputs[1])?;
            self.nodes.push(outlet.node);
            return (gather.axis == 0 && of_rank_2).then_some(());
        } else {
            node.op_is::<Cast>()
                || node.op_is::<ElementWiseOp>()
                || node.op_is::<TypedBinOp>()
                || node.op_is::<Iff>()
        };
        if !keeps_place {
            return None;
        }
        for &input in &node.inputs {
            match constant(model, input) {
                // The same at every place, whatever it is.
                Some(value) => value.shape().iter().take(2).all(|&size| size == 1).then_some(())?,
                None => self.visit(model, input)?,
            }
        }
        self.nodes.push(outlet.node);
        Some(())
    }

    /// Whether a value (time, batch, ...) is not too large when there are as many places as symbols.
    fn fits(&self, shape: &[TDim]) -> Option<()> {
        let inner = shape.get(2..)?.iter().map(|size| size.to_usize().ok()).product::<Option<usize>>()?;
        (self.symbols.checked_mul(inner)? <= LARGEST_TABLE).then_some(())
    }

    /// X of each symbol, (symbols, 1, input).
    fn evaluated(&self, model: &TypedModel) -> Option<TValue> {
        let ids: Vec<i64> = (0..self.symbols as i64).collect();
        let ids = Tensor::from_shape(&[self.symbols, 1], &ids).ok()?;
        let ids = ids.cast_to_dt(model.outlet_fact(self.ids).ok()?.datum_type).ok()?.into_owned();
        let mut values = HashMap::from([(self.ids, ids.into_tvalue())]);
        for node in self.nodes.iter().map(|&id| model.node(id)) {
            self.fits(&node.outputs[0].fact.shape)?;
            let input = |&input: &OutletId| match values.get(&input) {
                Some(value) => Some(value.clone()),
                None => Some(constant(model, input)?.into_tvalue()),
            };
            let inputs = node.inputs.iter().map(input).collect::<Option<TVec<_>>>()?;
            let output = node.op.eval_out_of_plan(inputs).ok()??.into_iter().next()?;
            values.insert(node.id.into(), output);
        }
        values.remove(&self.x)
    }

    /// The ids and the directions of `op`, with tables.
    fn tables(&self, model: &TypedModel, op: &Recurrent) -> Option<(OutletId, Arc<[Direction]>)> {
        let values: usize =
            op.directions.iter().map(|direction| direction.recurrence.gates() * op.hidden).sum();
        if self.symbols.checked_mul(values)? > LARGEST_TABLE || self.nodes.is_empty() {
            return None;
        }
        let x = self.evaluated(model)?;
        let (&[symbols, 1, input], Some(x)) = (x.shape(), floats(&x)) else { return None };
        if symbols != self.symbols {
            return None;
        }
        let directions = op.directions.iter().map(|direction| {
            let Input::Product { w, bias } = &direction.input else { return None };
            if w.shape().0 != input {
                return None;
            }
            let n = bias.len();
            let mut rows = vec![0.0; symbols * n];
            let to = MatMut::new(&mut rows, symbols, n, n);
            matmul_weights(to, Store::Bias(bias), MatRef::new(x, symbols, input), w, &mut Scratch::default());
            Some(direction.with_table(rows, n))
        });
        Some((self.ids, directions.collect::<Option<Vec<_>>>()?.into()))
    }
}

/// What the rows of X are chosen by: the ids (time, batch) of a lookup in front of it.
fn ids_of(model: &TypedModel, x: OutletId) -> Option<OutletId> {
    let (mut waiting, mut seen) = (vec![x], vec![]);
    while let Some(outlet) = waiting.pop() {
        if seen.contains(&outlet) {
            continue;
        }
        if seen.len() > MOST_OPERATORS {
            return None;
        }
        seen.push(outlet);
        let node = maker(model, outlet);
        let chosen_by = match (node.op_is::<Gather>(), node.op_is::<OneHot>()) {
            (true, _) => constant(model, node.inputs[0]).map(|_| node.inputs[1]),
            (_, true) => Some(node.inputs[0]),
            _ => None,
        };
        let Some(mut ids) = chosen_by else {
            waiting.extend(node.inputs.iter().copied());
            continue;
        };
        let is_integer = |outlet| {
            model
                .outlet_fact(outlet)
                .is_ok_and(|fact| [DatumType::I32, DatumType::I64].contains(&fact.datum_type))
        };
        while maker(model, ids).op_is::<Cast>() && is_integer(maker(model, ids).inputs[0]) {
            ids = maker(model, ids).inputs[0];
        }
        return (is_integer(ids) && model.outlet_fact(ids).ok()?.rank() == 2).then_some(ids);
    }
    None
}
