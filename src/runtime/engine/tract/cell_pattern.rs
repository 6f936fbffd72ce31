//! Finds steps of LSTM and GRU that are spelt out: h' = o tanh c', c' = f c + i g, and h' = n + z (h - n).
//!
//! The gates are slices of one sum (of two in a GRU), before or after their activation, in any order.

use std::sync::Arc;

use s2s_kernels::{MatRef, Weights};
use tract_onnx::prelude::{DatumType, OutletId, Tensor, TractResult, TypedModel, TypedModelPatch};
use tract_onnx::tract_core::internal::DimLike as _;
use tract_onnx::tract_core::ops::array::{Gather, Slice};
use tract_onnx::tract_core::ops::math::{Add, Mul, Sub, Tanh};
use tract_onnx::tract_core::ops::nn::Sigmoid;

use super::cell::{Cell, Kind, Sum};
use super::reading::{RowProduct, argument, constant, either, floats, maker, operands};

/// Makes each step of an LSTM or GRU that `model` spells out one operator.
pub(super) fn with_cells(mut model: TypedModel) -> TractResult<TypedModel> {
    for id in 0..model.nodes().len() {
        let h = OutletId::new(id, 0);
        let found = Found::lstm(&model, h).or_else(|| Found::gru(&model, h));
        if let Some(Found { inputs, cell, outputs }) = found {
            let mut patch = TypedModelPatch::default();
            let inputs = patch.taps(&model, &inputs)?;
            let name = format!("{}.cell", model.node(id).name);
            for (new, old) in patch.wire_node(name, cell, &inputs)?.into_iter().zip(outputs) {
                patch.shunt_outside(&model, old, new)?;
            }
            patch.apply(&mut model)?;
        }
    }
    Ok(model)
}

struct Found {
    inputs: Vec<OutletId>,
    cell: Cell,
    /// What the cell gives instead.
    outputs: Vec<OutletId>,
}

/// An activated part of a sum.
#[derive(Clone, Copy, Debug)]
struct Gate {
    sum: OutletId,
    /// Its first column.
    start: usize,
}

impl Gate {
    /// The gate that `outlet` is, `activation` of it taken before or after it is cut.
    fn of<Activation: tract_onnx::tract_core::ops::element_wise::ElementWiseMiniOp>(
        model: &TypedModel,
        outlet: OutletId,
    ) -> Option<Self> {
        let outer = Self::cut(model, outlet)?;
        let activated = argument::<Activation>(model, outer.sum)?;
        let inner = Self::cut(model, activated)?;
        Some(Self { sum: inner.sum, start: outer.start + inner.start })
    }

    /// `outlet` as some of the last axis of another; all of itself, if it is none.
    fn cut(model: &TypedModel, outlet: OutletId) -> Option<Self> {
        let mut gate = Self { sum: outlet, start: 0 };
        while let Some(slice) = maker(model, gate.sum).op_as::<Slice>() {
            if slice.axis + 1 != model.outlet_fact(gate.sum).ok()?.rank() {
                return None;
            }
            gate = Self {
                sum: maker(model, gate.sum).inputs[0],
                start: gate.start + slice.start.to_usize().ok()?,
            };
        }
        Some(gate)
    }
}

/// The size of the last axis.
fn width(model: &TypedModel, outlet: OutletId) -> Option<usize> {
    model.outlet_fact(outlet).ok()?.shape.last()?.to_usize().ok()
}

impl Found {
    /// The LSTM whose h' is `h`.
    fn lstm(model: &TypedModel, h: OutletId) -> Option<Self> {
        either(operands::<Mul>(model, h)?).into_iter().find_map(|[o, squashed]| {
            let o = Gate::of::<Sigmoid>(model, o)?;
            let next_c = argument::<Tanh>(model, squashed)?;
            either(operands::<Add>(model, next_c)?).into_iter().find_map(|[kept, new]| {
                let (kept, new) = (operands::<Mul>(model, kept)?, operands::<Mul>(model, new)?);
                let (i, g) = either(new)
                    .into_iter()
                    .find_map(|[i, g]| Some((Gate::of::<Sigmoid>(model, i)?, Gate::of::<Tanh>(model, g)?)))?;
                let (f, c) = either(kept).into_iter().find_map(|[f, c]| {
                    Gate::of::<Sigmoid>(model, f).filter(|f| f.sum == o.sum).map(|f| (f, c))
                })?;
                let hidden = width(model, c)?;
                let same = [i, o, f, g].iter().all(|gate| gate.sum == o.sum);
                if !same || !has_shape_of(model, h, c) || !has_shape_of(model, next_c, c) {
                    return None;
                }
                let columns = Columns::new(hidden, &[i.start, o.start, f.start, g.start])?;
                let (sum, mut inputs) = Terms::of(model, o.sum, &columns)?.packed(&columns);
                inputs.push(c);
                let cell = Cell { hidden, kind: Arc::new(Kind::Lstm(sum)) };
                Some(Self { inputs, cell, outputs: vec![h, next_c] })
            })
        })
    }

    /// The GRU whose h' is `next`: n + z (h - n) with n = tanh(x_n + r q_n).
    fn gru(model: &TypedModel, next: OutletId) -> Option<Self> {
        either(operands::<Add>(model, next)?).into_iter().find_map(|[n, kept]| {
            let candidate = argument::<Tanh>(model, n)?;
            let (z, h) = either(operands::<Mul>(model, kept)?).into_iter().find_map(|[z, difference]| {
                let [h, minus] = operands::<Sub>(model, difference)?;
                (minus == n).then_some((z, h))
            })?;
            let (z, hidden) = (Gate::of::<Sigmoid>(model, z)?, width(model, h)?);
            either(operands::<Add>(model, candidate)?).into_iter().find_map(|[x, reset]| {
                either(operands::<Mul>(model, reset)?).into_iter().find_map(|[r, q]| {
                    let r = Gate::of::<Sigmoid>(model, r)?;
                    let (x, q) = (Gate::cut(model, x)?, Gate::cut(model, q)?);
                    // z and r are slices of a sum of slices of both sides.
                    let side = |gate: Gate, of: Gate| {
                        operands::<Add>(model, gate.sum)?.into_iter().find_map(|part| {
                            let part = Gate::cut(model, part)?;
                            (part.sum == of.sum).then_some(part.start + gate.start)
                        })
                    };
                    let starts = |of: Gate| Columns::new(hidden, &[side(z, of)?, side(r, of)?, of.start]);
                    if x.sum == q.sum || !has_shape_of(model, next, h) {
                        return None;
                    }
                    let (of_x, of_q) = (starts(x)?, starts(q)?);
                    let (inner, mut inputs) = Terms::of(model, x.sum, &of_x)?.packed(&of_x);
                    let (reset, more) = Terms::of(model, q.sum, &of_q)?.packed(&of_q);
                    inputs.extend(more);
                    inputs.push(h);
                    let cell = Cell { hidden, kind: Arc::new(Kind::Gru(inner, reset)) };
                    Some(Self { inputs, cell, outputs: vec![next] })
                })
            })
        })
    }
}

fn has_shape_of(model: &TypedModel, a: OutletId, b: OutletId) -> bool {
    let fact = |outlet| model.outlet_fact(outlet).ok();
    let (Some(a), Some(b)) = (fact(a), fact(b)) else { return false };
    a.shape == b.shape && [a, b].iter().all(|fact| fact.datum_type == DatumType::F32)
}

/// Where the columns of each gate begin in a sum, in the order in which the cell wants them.
struct Columns {
    hidden: usize,
    starts: Vec<usize>,
}

impl Columns {
    /// `None` unless the gates are all columns.
    fn new(hidden: usize, starts: &[usize]) -> Option<Self> {
        let mut sorted = starts.to_vec();
        sorted.sort_unstable();
        let all = hidden > 0 && sorted.iter().enumerate().all(|(at, &start)| start == at * hidden);
        all.then(|| Self { hidden, starts: starts.to_vec() })
    }

    fn width(&self) -> usize {
        self.hidden * self.starts.len()
    }

    fn is_in_order(&self) -> bool {
        self.starts.is_sorted()
    }

    /// Rows (.., width) with their columns in order.
    fn ordered(&self, rows: &[f32]) -> Vec<f32> {
        let mut ordered = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(self.width()) {
            self.starts.iter().for_each(|&start| ordered.extend_from_slice(&row[start..][..self.hidden]));
        }
        ordered
    }
}

/// What a sum of gates is made of.
struct Terms {
    products: Vec<RowProduct>,
    /// Tables and the ids that choose their rows.
    tables: Vec<(Arc<Tensor>, OutletId)>,
    others: Vec<OutletId>,
    biases: Vec<Arc<Tensor>>,
}

/// Summands that are looked at.
const MOST_TERMS: usize = 8;

impl Terms {
    fn of(model: &TypedModel, sum: OutletId, columns: &Columns) -> Option<Self> {
        let fact = model.outlet_fact(sum).ok()?;
        if width(model, sum)? != columns.width() || fact.datum_type != DatumType::F32 {
            return None;
        }
        let mut terms = Self { products: vec![], tables: vec![], others: vec![], biases: vec![] };
        let mut waiting = vec![sum];
        while let Some(term) = waiting.pop() {
            let count = terms.products.len() + terms.tables.len() + terms.others.len() + terms.biases.len();
            if count > MOST_TERMS {
                return None;
            }
            if let Some(value) = constant(model, term) {
                let is_row = value.len() == columns.width() && value.shape().last() == Some(&columns.width());
                floats(&value).filter(|_| is_row)?;
                terms.biases.push(value);
                continue;
            }
            if model.outlet_fact(term).ok()?.shape != fact.shape {
                return None;
            }
            if let Some(both) = operands::<Add>(model, term) {
                waiting.extend(both);
            } else if let Some(product) = RowProduct::of(model, term) {
                terms.products.push(product);
            } else if let Some(table) = lookup(model, term) {
                terms.tables.push(table);
            } else if columns.is_in_order() {
                terms.others.push(term);
            } else {
                return None;
            }
        }
        Some(terms)
    }

    /// The sum, and its inputs.
    fn packed(self, columns: &Columns) -> (Sum, Vec<OutletId>) {
        let mut inputs: Vec<_> = self.products.iter().map(|product| product.rows).collect();
        inputs.extend(self.tables.iter().map(|(_, ids)| *ids));
        inputs.extend(&self.others);
        let ordered = |tensor: &Tensor| columns.ordered(floats(tensor).unwrap_or_default());
        let mut bias: Vec<f32> = vec![];
        for more in self.biases.iter().map(|bias| ordered(bias)) {
            if bias.is_empty() {
                bias = more;
            } else {
                bias.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
        let products = self.products.iter().map(|product| packed(product, columns)).collect();
        let tables = self.tables.into_iter().map(|(table, _)| {
            if columns.is_in_order() {
                return table;
            }
            Tensor::from_shape(table.shape(), &ordered(&table)).map_or(table, Arc::new)
        });
        (Sum { products, tables: tables.collect(), others: self.others.len(), bias }, inputs)
    }
}

/// Rows of a constant table of f32 (symbols, width), and the ids that choose them.
fn lookup(model: &TypedModel, outlet: OutletId) -> Option<(Arc<Tensor>, OutletId)> {
    let node = maker(model, outlet);
    let is_first_axis = node.op_as::<Gather>()?.axis == 0;
    let table = constant(model, node.inputs[0]).filter(|table| is_first_axis && table.rank() == 2)?;
    floats(&table)?;
    Some((table, node.inputs[1]))
}

fn packed(product: &RowProduct, columns: &Columns) -> Weights {
    let (values, width) = (floats(&product.matrix).unwrap_or_default(), columns.width());
    let k = values.len() / width;
    if columns.is_in_order() {
        return Weights::of(if product.is_transposed {
            MatRef::new(values, width, k).transposed()
        } else {
            MatRef::new(values, k, width)
        });
    }
    if product.is_transposed {
        let rows = columns.starts.iter().flat_map(|&start| &values[start * k..][..columns.hidden * k]);
        let values: Vec<f32> = rows.copied().collect();
        return Weights::of(MatRef::new(&values, width, k).transposed());
    }
    Weights::of(MatRef::new(&columns.ordered(values), k, width))
}
