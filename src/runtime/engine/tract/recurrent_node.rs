//! How an LSTM or GRU node of ONNX becomes [`Recurrent`].

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::ops::rec::common::{CommonRec, WireBody};
use tract_onnx::ops::rec::gru::GRU;
use tract_onnx::ops::rec::lstm::LSTM;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, OutletId, TVec, Tensor, TractResult, TypedModel};
use tract_onnx::tract_hir::internal::{
    Expansion, InferenceOp, InferenceResult, Solver, SpecialOps as _, StaticName, TensorProxy, bail, expand,
};
use tract_onnx::tract_hir::ops;

use s2s_kernels::{MatRef, Weights};

use super::reading::{constant, floats};
use super::recurrent::{Direction, Input, Recurrence, Recurrent};

/// Reads LSTM and GRU nodes as ours from now on.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("LSTM", lstm);
    onnx.op_register.insert("GRU", gru);
}

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

fn lstm(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (f, g, h) = (Box::new(ops::nn::sigmoid()), Box::new(ops::math::tanh()), Box::new(ops::math::tanh()));
    built(node, Kind::Lstm, Box::new(LSTM { f, g, h }))
}

fn gru(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let linear_before_reset = node.get_attr_opt("linear_before_reset")?.unwrap_or(false);
    let (f, g) = (Box::new(ops::nn::sigmoid()), Box::new(ops::math::tanh()));
    let kind = if linear_before_reset { Kind::Gru } else { Kind::GruResetFirst };
    built(node, kind, Box::new(GRU { f, g, linear_before_reset }))
}

fn built(node: &NodeProto, kind: Kind, body: Box<dyn WireBody>) -> Built {
    let tracts = CommonRec::from_node_and_options(node, 3, 0, body)?;
    let direction = match node.get_attr_opt::<&str>("direction")?.unwrap_or("forward") {
        "forward" => Some(false),
        "reverse" => Some(true),
        "bidirectional" => None,
        other => bail!("direction {other:?} is none of forward, reverse, bidirectional"),
    };
    Ok((expand(RecurrentNode { tracts, kind, is_reverse: direction }), vec![]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lstm,
    Gru,
    GruResetFirst,
}

/// A node whose inputs are known by name only.
#[derive(Clone, Debug)]
struct RecurrentNode {
    /// tract's own, which knows the rules of the shapes; it also runs the nodes whose weights are computed.
    tracts: CommonRec,
    kind: Kind,
    /// `None` if it has both directions.
    is_reverse: Option<bool>,
}

impl Expansion for RecurrentNode {
    fn name(&self) -> StaticName {
        self.tracts.name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.tracts.nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.tracts.rules(solver, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        target: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let Some(directions) = self.directions(target, inputs)? else {
            if self.is_reverse == Some(true) {
                bail!("an operator with direction=reverse needs constant weights in f32 and no peepholes");
            }
            return self.tracts.wire(prefix, target, inputs);
        };
        let tracts = &self.tracts;
        let optional = [
            tracts.optional_sequence_lens_input,
            tracts.optional_initial_h_input,
            tracts.optional_initial_c_input,
        ];
        let wanted = [tracts.optional_y_output, tracts.optional_y_h_output, tracts.optional_y_c_output]
            .map(|output| output.is_some());
        let hidden = directions[0].recurrence.hidden();
        let given = optional.map(|input| input.is_some());
        let inputs: Vec<_> =
            std::iter::once(0).chain(optional.into_iter().flatten()).map(|at| inputs[at]).collect();
        target.wire_node(prefix, Recurrent { hidden, directions: directions.into(), given, wanted }, &inputs)
    }
}

impl RecurrentNode {
    /// The weights of each direction; `None` where they are computed, no f32, or beside peepholes.
    fn directions(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<Option<Vec<Direction>>> {
        let tracts = &self.tracts;
        let is_f32 = model.outlet_fact(inputs[0])?.datum_type == DatumType::F32;
        let (w, r) = (constant(model, inputs[1]), constant(model, inputs[2]));
        let (Some(w), Some(r), true, None, false) =
            (w, r, is_f32, tracts.optional_p_input, tracts.batch_first)
        else {
            return Ok(None);
        };
        let bias = match tracts.optional_bias_input.map(|at| constant(model, inputs[at])) {
            None => None,
            Some(Some(bias)) => Some(bias),
            Some(None) => return Ok(None),
        };
        let gates = if self.kind == Kind::Lstm { 4 } else { 3 };
        let (&[count, rows, input], &[_, _, hidden]) = (w.shape(), r.shape()) else {
            bail!("W is {:?} and R {:?}, not of three axes", w.shape(), r.shape());
        };
        let fits = count == if self.is_reverse.is_some() { 1 } else { 2 }
            && rows == gates * hidden
            && hidden > 0
            && r.shape() == [count, rows, hidden]
            && bias.as_ref().is_none_or(|bias| bias.shape() == [count, 2 * rows]);
        if !fits {
            bail!("W is {:?} and R {:?}, which is not what the direction wants", w.shape(), r.shape());
        }
        let part = |tensor: &Tensor, direction: usize| {
            let size = tensor.len() / count;
            floats(tensor).map(|values| values[direction * size..][..size].to_vec())
        };
        let direction = |at: usize| {
            let bias = match &bias {
                Some(bias) => part(bias, at)?,
                None => vec![0.0; 2 * rows],
            };
            Some(self.direction(at, Sizes { rows, input, hidden }, &part(&w, at)?, &part(&r, at)?, &bias))
        };
        Ok((0..count).map(direction).collect())
    }

    /// - `w` (rows, input), `r` (rows, hidden), `bias` (2 rows): Wb, then Rb.
    fn direction(&self, at: usize, sizes: Sizes, w: &[f32], r: &[f32], bias: &[f32]) -> Direction {
        let Sizes { rows, input, hidden } = sizes;
        let transposed = |values, n, k| Weights::of(MatRef::new(values, n, k).transposed());
        let (of_w, of_r) = bias.split_at(rows);
        let mut added: Vec<f32> = of_w.iter().zip(of_r).map(|(w, r)| w + r).collect();
        let recurrence = match self.kind {
            Kind::Lstm => Recurrence::Lstm(transposed(r, rows, hidden)),
            Kind::GruResetFirst => {
                let (zr, n) = r.split_at(2 * hidden * hidden);
                let (zr, n) = (transposed(zr, 2 * hidden, hidden), transposed(n, hidden, hidden));
                Recurrence::GruResetFirst { zr, n }
            }
            Kind::Gru => {
                // What is added to R h of the candidate stands behind the reset gate.
                added[2 * hidden..].copy_from_slice(&of_w[2 * hidden..]);
                let bias = std::iter::repeat_n(0.0, 2 * hidden).chain(of_r[2 * hidden..].iter().copied());
                Recurrence::Gru { r: transposed(r, rows, hidden), bias: bias.collect() }
            }
        };
        Direction {
            is_reverse: self.is_reverse.unwrap_or(at == 1),
            keeps_zeros: added.iter().chain(of_r).all(|&x| x == 0.0),
            input: Input::Product { w: transposed(w, rows, input), bias: added },
            recurrence: recurrence.into(),
        }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    input: usize,
    hidden: usize,
}
