//! LSTM and GRU over all time steps as one operator of tract's plan.
//!
//! The weights are packed once. The input side W x of many steps is one product, or a row of a table where
//! the inputs are rows of tables themselves ([`super::recurrent_table`]). Each step is then a product of the
//! states of all rows and one pass of the cell.
//!
//! A row takes part from its first step that changes its state until its last: at padding in front of a
//! text, whose input is all zeros where nothing else is added, a state of zeros stays exactly that.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use s2s_kernels::{
    MatMut, MatRef, Scratch, Store, Weights, gru_cell, gru_reset, gru_update, lstm_cell, matmul_weights,
};
use tract_onnx::prelude::{DatumType, IntoTValue, TValue, TVec, Tensor, TractError, TractResult, TypedFact};
use tract_onnx::tract_core::internal::{
    EvalContext, EvalOp, Op, StaticName, ToDim as _, TypedOp, as_op, bail, ensure, op_as_typed_op,
    op_out_of_plan,
};

/// Values of the input side that are computed at once (256 KiB): as many steps of few rows as that, so that W
/// is read once for all of them.
const AHEAD: usize = 64 << 10;

/// An LSTM or GRU node of ONNX, over (time, batch).
///
/// Inputs: X (time, batch, input) in f32, or ids (time, batch) where it has a table; then, where it has them,
/// lengths (batch), and initial states h and c, each (directions, batch, hidden). Outputs: those it is asked
/// for of Y (time, directions, batch, hidden), `Y_h` and `Y_c` (directions, batch, hidden).
#[derive(Clone)]
pub(super) struct Recurrent {
    pub(super) hidden: usize,
    pub(super) directions: Arc<[Direction]>,
    /// Whether it is given lengths, h and c.
    pub(super) given: [bool; 3],
    /// Whether Y, `Y_h` and `Y_c` are wanted.
    pub(super) wanted: [bool; 3],
}

/// One direction of it.
pub(super) struct Direction {
    pub(super) is_reverse: bool,
    pub(super) input: Input,
    pub(super) recurrence: Arc<Recurrence>,
    /// Whether an input of zeros leaves a state of zeros as it is.
    pub(super) keeps_zeros: bool,
}

/// Where the input side of the gates comes from.
pub(super) enum Input {
    /// X (.., input) times W (input, gates * hidden), and a bias (gates * hidden).
    Product { w: Weights, bias: Vec<f32> },
    /// Rows of a table (symbols, gates * hidden).
    Table { rows: Vec<f32>, is_silent: Vec<bool> },
}

/// What a step does with the state.
pub(super) enum Recurrence {
    /// Gates i, o, f, c; R (hidden, 4 hidden).
    Lstm(Weights),
    /// Gates z, r, n; R (hidden, 3 hidden) with its bias. The reset gate stands behind the product.
    Gru { r: Weights, bias: Vec<f32> },
    /// The reset gate stands before the product, so that R is in two: (hidden, 2 hidden) and (hidden, hidden).
    GruResetFirst { zr: Weights, n: Weights },
}

impl Recurrence {
    pub(super) fn gates(&self) -> usize {
        match self {
            Self::Lstm(_) => 4,
            Self::Gru { .. } | Self::GruResetFirst { .. } => 3,
        }
    }

    pub(super) fn hidden(&self) -> usize {
        match self {
            Self::Lstm(r) | Self::Gru { r, .. } | Self::GruResetFirst { n: r, .. } => r.shape().0,
        }
    }
}

impl Direction {
    /// The same with a table in place of a product.
    pub(super) fn with_table(&self, rows: Vec<f32>, width: usize) -> Self {
        let is_silent = rows.chunks_exact(width).map(is_zero).collect();
        let keeps_zeros = match &*self.recurrence {
            Recurrence::Gru { bias, .. } => is_zero(bias),
            Recurrence::Lstm(_) | Recurrence::GruResetFirst { .. } => true,
        };
        let recurrence = Arc::clone(&self.recurrence);
        Self { input: Input::Table { rows, is_silent }, recurrence, keeps_zeros, ..*self }
    }
}

/// Memory of a thread for the steps, kept from call to call.
#[derive(Default)]
struct Buffers {
    /// Input sides computed ahead, of `rows` rows.
    ahead: Vec<f32>,
    /// What they are computed of.
    x: Vec<f32>,
    gates: Vec<f32>,
    recurrent: Vec<f32>,
    h: Vec<f32>,
    c: Vec<f32>,
    scratch: Scratch<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// The first `len` values of a buffer that grows where it must.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// The states of the active rows before and after a step.
struct Step<'a> {
    rows: usize,
    hidden: usize,
    /// (rows, gates * hidden): the input side; overwritten.
    gates: &'a mut [f32],
    /// Room for (rows, 3 hidden), or (rows, hidden) where the reset gate comes first; empty for an LSTM.
    recurrent: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
    /// Whether all states are zeros.
    is_idle: bool,
}

impl Recurrence {
    fn step(&self, step: Step<'_>, scratch: &mut Scratch<f32>) {
        let Step { rows, hidden, gates, recurrent, h, c, is_idle } = step;
        let state = |h| MatRef::new(h, rows, hidden);
        match self {
            Self::Lstm(r) => {
                if !is_idle {
                    let gates = MatMut::new(gates, rows, 4 * hidden, 4 * hidden);
                    matmul_weights(gates, Store::Add, state(h), r, scratch);
                }
                lstm_cell(hidden, gates, c, h);
            }
            Self::Gru { r, bias } => {
                let to = MatMut::new(recurrent, rows, 3 * hidden, 3 * hidden);
                matmul_weights(to, Store::Bias(bias), state(h), r, scratch);
                gru_cell(hidden, gates, recurrent, h);
            }
            Self::GruResetFirst { zr, n } => {
                if !is_idle {
                    let to = MatMut::new(gates, rows, 2 * hidden, 3 * hidden);
                    matmul_weights(to, Store::Add, state(h), zr, scratch);
                    gru_reset(hidden, gates, h, recurrent);
                    let mut gates = MatMut::new(gates, rows, 3 * hidden, 3 * hidden);
                    let to = gates.block(0..rows, 2 * hidden..3 * hidden);
                    matmul_weights(to, Store::Add, MatRef::new(recurrent, rows, hidden), n, scratch);
                }
                gru_update(hidden, gates, h);
            }
        }
    }
}

/// What the operator is given, as slices.
struct Given<'a> {
    steps: usize,
    rows: usize,
    x: Values<'a>,
    lengths: Option<Vec<usize>>,
    h: Option<&'a [f32]>,
    c: Option<&'a [f32]>,
}

enum Values<'a> {
    /// (time, batch, width).
    Floats(&'a [f32], usize),
    /// Rows of the table, (time, batch).
    Ids(Vec<usize>),
}

impl Values<'_> {
    /// Whether the input side of the step at `at` (time * batch) is all zeros.
    fn is_silent(&self, input: &Input, at: usize) -> bool {
        match (self, input) {
            (Self::Floats(x, width), _) => x[at * width..][..*width].iter().all(|&x| x == 0.0),
            (Self::Ids(ids), Input::Table { is_silent, .. }) => is_silent[ids[at]],
            (Self::Ids(_), Input::Product { .. }) => false,
        }
    }
}

/// What one direction gives.
struct Outputs<'a> {
    /// (time, directions, batch, hidden), and which direction this is of how many.
    y: Option<(&'a mut [f32], usize, usize)>,
    /// (batch, hidden).
    h: &'a mut [f32],
    c: &'a mut [f32],
}

impl Direction {
    fn run(
        &self,
        hidden: usize,
        given: &Given<'_>,
        initial: [Option<&[f32]>; 2],
        mut out: Outputs<'_>,
        buffers: &mut Buffers,
    ) -> TractResult<()> {
        let Given { steps, rows, .. } = *given;
        let width = self.recurrence.gates() * hidden;
        let length = |row: usize| given.lengths.as_ref().map_or(steps, |lengths| lengths[row]);
        // Where row's input of its step lies, in time * batch.
        let place = |row: usize, step: usize| {
            let time = if self.is_reverse { length(row) - 1 - step } else { step };
            time * rows + row
        };
        for (initial, to) in initial.into_iter().zip([&mut *out.h, &mut *out.c]) {
            match initial {
                Some(state) => to.copy_from_slice(state),
                None => to.fill(0.0),
            }
        }
        // The standard leaves open what a row without a step gives; ONNX Runtime gives zeros.
        for row in (0..rows).filter(|&row| length(row) == 0) {
            for state in [&mut *out.h, &mut *out.c] {
                state[row * hidden..][..hidden].fill(0.0);
            }
        }
        let starts_at_zero: Vec<bool> = (0..rows)
            .map(|row| [&*out.h, &*out.c].iter().all(|state| is_zero(&state[row * hidden..][..hidden])))
            .collect();
        let begin: Vec<usize> = (0..rows)
            .map(|row| {
                let may_wait = self.keeps_zeros && starts_at_zero[row];
                let is_silent = |&step: &usize| given.x.is_silent(&self.input, place(row, step));
                if may_wait { (0..length(row)).take_while(is_silent).count() } else { 0 }
            })
            .collect();
        let mut coming: Vec<usize> = (0..rows).filter(|&row| begin[row] < length(row)).collect();
        coming.sort_by_key(|&row| begin[row]);
        let mut coming = coming.into_iter().peekable();

        let is_lstm = matches!(*self.recurrence, Recurrence::Lstm(_));
        let recurrent_width = match *self.recurrence {
            Recurrence::Lstm(_) => 0,
            Recurrence::Gru { .. } => width,
            Recurrence::GruResetFirst { .. } => hidden,
        };
        let Buffers { ahead, x, gates, recurrent, h, c, scratch } = buffers;
        let gates = room(gates, rows * width);
        let recurrent = room(recurrent, rows * recurrent_width);
        let h = room(h, rows * hidden);
        let c = room(c, if is_lstm { rows * hidden } else { 0 });
        let state = |row: usize| row * hidden..(row + 1) * hidden;
        // The rows whose states lie in h and c, in that order.
        let mut active: Vec<usize> = Vec::with_capacity(rows);
        // Where `ahead` has the input side of a row's step; the steps that it has.
        let (mut index, mut computed): (Vec<usize>, Range<usize>) = (Vec::new(), 0..0);
        for step in 0..steps {
            let mut at = 0;
            while at < active.len() {
                let row = active[at];
                if length(row) > step {
                    at += 1;
                    continue;
                }
                let last = active.len() - 1;
                out.h[state(row)].copy_from_slice(&h[state(at)]);
                h.copy_within(state(last), at * hidden);
                if is_lstm {
                    out.c[state(row)].copy_from_slice(&c[state(at)]);
                    c.copy_within(state(last), at * hidden);
                }
                active.swap_remove(at);
            }
            let mut is_idle = active.is_empty();
            while let Some(row) = coming.next_if(|&row| begin[row] <= step) {
                h[state(active.len())].copy_from_slice(&out.h[state(row)]);
                if is_lstm {
                    c[state(active.len())].copy_from_slice(&out.c[state(row)]);
                }
                is_idle &= starts_at_zero[row];
                active.push(row);
            }
            if active.is_empty() {
                if coming.peek().is_none() {
                    break;
                }
                continue;
            }
            match (&self.input, &given.x) {
                (Input::Table { rows: table, .. }, Values::Ids(ids)) => {
                    for (&row, gates) in active.iter().zip(gates.chunks_exact_mut(width)) {
                        gates.copy_from_slice(&table[ids[place(row, step)] * width..][..width]);
                    }
                }
                (Input::Product { w, bias }, &Values::Floats(values, inputs)) => {
                    if !computed.contains(&step) {
                        let takes_part = |row: usize, step: usize| begin[row] <= step && step < length(row);
                        index.clear();
                        x.clear();
                        computed.start = step;
                        let mut count = 0;
                        for later in step..steps {
                            let these = (0..rows).filter(|&row| takes_part(row, later)).count();
                            if later > step && (count + these) * width > AHEAD {
                                break;
                            }
                            for row in 0..rows {
                                index.push(count);
                                if takes_part(row, later) {
                                    x.extend_from_slice(&values[place(row, later) * inputs..][..inputs]);
                                    count += 1;
                                }
                            }
                            computed.end = later + 1;
                        }
                        let to = MatMut::new(room(ahead, count * width), count, width, width);
                        matmul_weights(to, Store::Bias(bias), MatRef::new(x, count, inputs), w, scratch);
                    }
                    let index = &index[(step - computed.start) * rows..];
                    for (&row, gates) in active.iter().zip(gates.chunks_exact_mut(width)) {
                        gates.copy_from_slice(&ahead[index[row] * width..][..width]);
                    }
                }
                _ => bail!("X does not fit all directions"),
            }
            let rows_now = active.len();
            let now = Step {
                rows: rows_now,
                hidden,
                gates: &mut gates[..rows_now * width],
                recurrent: &mut recurrent[..rows_now * recurrent_width],
                h: &mut h[..rows_now * hidden],
                c: &mut c[..if is_lstm { rows_now * hidden } else { 0 }],
                is_idle,
            };
            self.recurrence.step(now, scratch);
            if let Some((y, direction, directions)) = &mut out.y {
                for (&row, h) in active.iter().zip(h.chunks_exact(hidden)) {
                    let time = place(row, step) / rows;
                    y[((time * *directions + *direction) * rows + row) * hidden..][..hidden]
                        .copy_from_slice(h);
                }
            }
        }
        for (at, &row) in active.iter().enumerate() {
            out.h[state(row)].copy_from_slice(&h[state(at)]);
            if is_lstm {
                out.c[state(row)].copy_from_slice(&c[state(at)]);
            }
        }
        Ok(())
    }
}

fn is_zero(values: &[f32]) -> bool {
    values.iter().all(|&x| x == 0.0)
}

impl Recurrent {
    /// Reads what it is given, and checks that it fits.
    fn given<'a>(&self, inputs: &'a [TValue]) -> TractResult<Given<'a>> {
        let mut inputs = inputs.iter();
        let mut next = || inputs.next().ok_or_else(|| TractError::msg("an input is missing"));
        let x = next()?;
        let Some((&[steps, rows], inner)) = x.shape().split_first_chunk::<2>() else {
            bail!("X has the shape {:?}, not (time, batch, ...)", x.shape());
        };
        let x = match &self.directions[0].input {
            Input::Product { w, .. } => {
                ensure!(*inner == [w.shape().0], "X has the shape {:?}, but W {:?}", x.shape(), w.shape());
                Values::Floats(x.try_as_plain_ram()?.as_slice()?, inner[0])
            }
            Input::Table { is_silent, .. } => {
                ensure!(inner.is_empty(), "ids have the shape {:?}, not (time, batch)", x.shape());
                let ids = x.cast_to::<i64>()?;
                let ids = ids.try_as_plain_ram()?.as_slice::<i64>()?.iter();
                let ids = ids.map(|&id| table_row(id, is_silent.len()));
                Values::Ids(ids.collect::<TractResult<_>>()?)
            }
        };
        let mut lengths = None;
        if self.given[0] {
            let given = next()?.cast_to::<i64>()?;
            let given = given.try_as_plain_ram()?.as_slice::<i64>()?;
            ensure!(given.len() == rows, "{} lengths for {rows} rows", given.len());
            let length = |&length: &i64| match usize::try_from(length) {
                Ok(length) if length <= steps => Ok(length),
                _ => bail!("a row's length is {length}, but X has {steps} steps"),
            };
            lengths = Some(given.iter().map(length).collect::<TractResult<_>>()?);
        }
        let [mut h, mut c] = [None, None];
        for (given, to) in self.given[1..].iter().zip([&mut h, &mut c]) {
            if *given {
                let state = next()?;
                let shape = [self.directions.len(), rows, self.hidden];
                ensure!(state.shape() == shape, "an initial state is {:?}, not {shape:?}", state.shape());
                *to = Some(state.try_as_plain_ram()?.as_slice::<f32>()?);
            }
        }
        Ok(Given { steps, rows, x, lengths, h, c })
    }
}

/// The row of a table of so many that an id, counted from the end if negative, takes.
pub(super) fn table_row(id: i64, rows: usize) -> TractResult<usize> {
    let counted = if id < 0 { id + rows as i64 } else { id };
    match usize::try_from(counted) {
        Ok(row) if row < rows => Ok(row),
        _ => bail!("the id {id} is outside a table of {rows} rows"),
    }
}

impl fmt::Debug for Recurrent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recurrent").field("hidden", &self.hidden).finish_non_exhaustive()
    }
}

impl PartialEq for Recurrent {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.directions, &other.directions)
            && (self.given, self.wanted) == (other.given, other.wanted)
    }
}

impl Eq for Recurrent {}

impl Op for Recurrent {
    fn name(&self) -> StaticName {
        "Recurrent".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Recurrent {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let given = self.given(&inputs)?;
        let (Given { steps, rows, .. }, hidden, directions) = (&given, self.hidden, self.directions.len());
        let zeros = |shape: &[usize]| Tensor::zero_dt(DatumType::F32, shape);
        let mut y = zeros(&[if self.wanted[0] { *steps } else { 0 }, directions, *rows, hidden])?;
        let (mut h, mut c) = (zeros(&[directions, *rows, hidden])?, zeros(&[directions, *rows, hidden])?);
        BUFFERS.with_borrow_mut(|buffers| {
            let size = rows * hidden;
            let [y, h, c] = [&mut y, &mut h, &mut c].map(Tensor::try_as_plain_ram_mut);
            let (mut y, mut h, mut c) = (y?, h?, c?);
            let (y, h, c) = (y.as_slice_mut::<f32>()?, h.as_slice_mut::<f32>()?, c.as_slice_mut::<f32>()?);
            for (at, direction) in self.directions.iter().enumerate() {
                let part = at * size..(at + 1) * size;
                let initial = [given.h, given.c].map(|state| state.map(|state| &state[part.clone()]));
                let out = Outputs {
                    y: self.wanted[0].then_some((&mut *y, at, directions)),
                    h: &mut h[part.clone()],
                    c: &mut c[part],
                };
                direction.run(hidden, &given, initial, out, buffers)?;
            }
            Ok::<_, TractError>(())
        })?;
        let all = [y, h, c].into_iter().zip(self.wanted);
        Ok(all.filter_map(|(tensor, is_wanted)| is_wanted.then(|| tensor.into_tvalue())).collect())
    }
}

impl TypedOp for Recurrent {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (steps, rows) = match &*inputs[0].shape {
            [steps, rows, ..] => (steps.clone(), rows.clone()),
            _ => bail!("X has a rank below 2"),
        };
        let (directions, hidden) = (self.directions.len().to_dim(), self.hidden.to_dim());
        let state = TypedFact::dt_shape(DatumType::F32, [directions.clone(), rows.clone(), hidden.clone()]);
        let y = TypedFact::dt_shape(DatumType::F32, [steps, directions, rows, hidden]);
        let all = [y, state.clone(), state].into_iter().zip(self.wanted);
        Ok(all.filter_map(|(fact, is_wanted)| is_wanted.then_some(fact)).collect())
    }
}
