//! One step of an LSTM or GRU that a graph spells out, as one operator of tract's plan.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use s2s_kernels::{MatMut, MatRef, Scratch, Store, Weights, add_assign, gru_cell, lstm_cell, matmul_weights};
use tract_onnx::prelude::{
    IntoTValue, IntoTensor as _, TValue, TVec, Tensor, TractError, TractResult, TypedFact, tvec,
};
use tract_onnx::tract_core::internal::{EvalContext, EvalOp, Op, StaticName, TypedOp, bail, ensure};
use tract_onnx::tract_core::{as_op, op_as_typed_op, op_out_of_plan};

use super::reading::floats;
use super::recurrent::table_row;

/// A sum of (..., width) that gates are made of: products with constant weights, rows of tables, other values
/// of that shape, and a bias.
pub(super) struct Sum {
    pub(super) products: Vec<Weights>,
    /// Each (symbols, width).
    pub(super) tables: Vec<Arc<Tensor>>,
    pub(super) others: usize,
    /// Empty if there is none.
    pub(super) bias: Vec<f32>,
}

/// What the gates become.
pub(super) enum Kind {
    /// Gates i, o, f, c of one sum; the state is c, the outputs are h and c.
    Lstm(Sum),
    /// Gates z, r, n of two sums, the second of which is reset; the state and the output are h.
    Gru(Sum, Sum),
}

/// A cell. Inputs: what its sums are made of, in their order, and the state (..., hidden).
#[derive(Clone)]
pub(super) struct Cell {
    pub(super) hidden: usize,
    pub(super) kind: Arc<Kind>,
}

#[derive(Default)]
struct Buffers {
    gates: Vec<f32>,
    recurrent: Vec<f32>,
    scratch: Scratch<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

impl Sum {
    /// Computes the sum of `rows` rows.
    fn compute(
        &self,
        rows: usize,
        width: usize,
        inputs: &mut std::slice::Iter<'_, TValue>,
        to: &mut Vec<f32>,
        scratch: &mut Scratch<f32>,
    ) -> TractResult<()> {
        let mut next = || inputs.next().ok_or_else(|| TractError::msg("an input is missing"));
        // Without clearing: everything is overwritten by the first summand.
        to.resize(rows * width, 0.0);
        let products = self.products.iter().map(|weights| Ok((weights, next()?)));
        let products = products.collect::<TractResult<TVec<_>>>()?;
        let mut is_first = true;
        for table in &self.tables {
            let values = floats(table).ok_or_else(|| TractError::msg("a table is not of floats"))?;
            let ids = next()?.cast_to::<i64>()?;
            let ids = ids.try_as_plain_ram()?.as_slice::<i64>()?;
            ensure!(ids.len() == rows, "{} ids for {rows} rows", ids.len());
            for (&id, to) in ids.iter().zip(to.chunks_exact_mut(width)) {
                let row = &values[table_row(id, table.shape()[0])? * width..][..width];
                put(is_first, to, row);
            }
            is_first = false;
        }
        for _ in 0..self.others {
            let other = next()?.try_as_plain_ram()?.as_slice::<f32>()?;
            ensure!(other.len() == to.len(), "a summand has {} values, not {}", other.len(), to.len());
            put(is_first, to, other);
            is_first = false;
        }
        let mut bias = Some(&*self.bias).filter(|bias| !bias.is_empty());
        for (weights, input) in products {
            let k = weights.shape().0;
            let a = input.try_as_plain_ram()?.as_slice::<f32>()?;
            ensure!(a.len() == rows * k, "{} values for a product of {rows} rows of {k}", a.len());
            let store = match (is_first, bias) {
                (false, _) => Store::Add,
                (true, Some(_)) => Store::Bias(bias.take().unwrap_or_default()),
                (true, None) => Store::Overwrite,
            };
            matmul_weights(
                MatMut::new(to, rows, width, width),
                store,
                MatRef::new(a, rows, k),
                weights,
                scratch,
            );
            is_first = false;
        }
        if let Some(bias) = bias {
            to.chunks_exact_mut(width).for_each(|row| put(is_first, row, bias));
        } else if is_first {
            to.fill(0.0);
        }
        Ok(())
    }
}

/// Adds a summand, or begins with it.
fn put(is_first: bool, to: &mut [f32], summand: &[f32]) {
    if is_first {
        to.copy_from_slice(summand);
    } else {
        add_assign(to, summand);
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("hidden", &self.hidden).finish_non_exhaustive()
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kind, &other.kind)
    }
}

impl Eq for Cell {}

impl Op for Cell {
    fn name(&self) -> StaticName {
        "RecurrentCell".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Cell {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let hidden = self.hidden;
        let Some(state) = inputs.pop() else { bail!("the state is missing") };
        ensure!(state.shape().last() == Some(&hidden), "the state has the shape {:?}", state.shape());
        let rows = state.len() / hidden;
        let mut inputs = inputs.iter();
        BUFFERS.with_borrow_mut(|Buffers { gates, recurrent, scratch }| {
            // In place where nobody else holds it.
            let mut state = state.into_tensor();
            match &*self.kind {
                Kind::Lstm(sum) => {
                    sum.compute(rows, 4 * hidden, &mut inputs, gates, scratch)?;
                    let mut h = Tensor::zero::<f32>(state.shape())?;
                    let (mut of_h, mut of_c) = (h.try_as_plain_ram_mut()?, state.try_as_plain_ram_mut()?);
                    lstm_cell(hidden, gates, of_c.as_slice_mut::<f32>()?, of_h.as_slice_mut::<f32>()?);
                    Ok(tvec!(h.into_tvalue(), state.into_tvalue()))
                }
                Kind::Gru(inner, reset) => {
                    inner.compute(rows, 3 * hidden, &mut inputs, gates, scratch)?;
                    reset.compute(rows, 3 * hidden, &mut inputs, recurrent, scratch)?;
                    gru_cell(hidden, gates, recurrent, state.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
                    Ok(tvec!(state.into_tvalue()))
                }
            }
        })
    }
}

impl TypedOp for Cell {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let Some(state) = inputs.last().map(|state| state.without_value()) else {
            bail!("the state is missing")
        };
        Ok(match &*self.kind {
            Kind::Lstm(_) => tvec!(state.clone(), state),
            Kind::Gru(..) => tvec!(state),
        })
    }
}
