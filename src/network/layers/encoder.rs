//! A layer of the encoder: one direction, or two of half the width whose outputs lie side by side.

use super::kinds::GatedCell;
use super::projection::Input;
use super::recurrent::{PreparedRecurrent, Recurrent, RecurrentBackward, Source, Tape};
use crate::network::ground::gradients::Summands;
use crate::network::ground::graph::{GraphSide, Io};
use crate::network::ground::packing::Packing;
use crate::network::ground::parameters::{Layout, Parameters};
use crate::network::ground::pass::Pass;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::Real;
use s2s_kernels::random::Random;

/// One layer of the encoder; `hidden` is the width of its outputs and states, of both directions together.
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    forward: Recurrent,
    /// Reads each text from its last token to its first.
    reverse: Option<Recurrent>,
}

/// The layer laid out for the products of one optimiser step.
#[derive(Clone, Debug, Default)]
pub struct PreparedEncoderLayer<R> {
    forward: PreparedRecurrent<R>,
    reverse: Option<PreparedRecurrent<R>>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct EncoderTape<R> {
    forward: Tape<R>,
    reverse: Tape<R>,
    /// Outputs of both directions side by side (tokens, hidden).
    joined: Vec<R>,
    /// The input rows read backwards.
    reversed_rows: Vec<R>,
    reversed_ids: Vec<u32>,
    halves: [Vec<R>; 2],
    d_reversed: Vec<R>,
}

impl<R> EncoderTape<R> {
    /// The layer's output (tokens, hidden).
    pub fn output(&self) -> &[R] {
        if self.joined.is_empty() { &self.forward.h } else { &self.joined }
    }
}

impl EncoderLayer {
    /// Registers the parameters of `name` and, with two directions, `{name}.reverse`.
    pub fn new(
        p: &mut Layout,
        name: &str,
        cell: GatedCell,
        hidden: usize,
        bidirectional: bool,
        source: Source,
    ) -> Self {
        let width = if bidirectional { hidden / 2 } else { hidden };
        let forward = Recurrent::new(p, "encoder", name.to_owned(), cell, width, source);
        let reverse = bidirectional
            .then(|| Recurrent::new(p, "encoder", format!("{name}.reverse"), cell, width, source));
        Self { forward, reverse }
    }

    /// Draws the initial values of both directions.
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        self.directions().for_each(|d| d.initialise(p, random));
    }

    fn directions(&self) -> impl Iterator<Item = &Recurrent> {
        [&self.forward].into_iter().chain(&self.reverse)
    }

    /// Packs the weights into the memory of `old`.
    pub fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        tokens: usize,
        dropout: bool,
        old: PreparedEncoderLayer<R>,
    ) -> PreparedEncoderLayer<R> {
        PreparedEncoderLayer {
            forward: self.forward.prepare(p, tokens, dropout, old.forward),
            reverse: self
                .reverse
                .as_ref()
                .map(|r| r.prepare(p, tokens, dropout, old.reverse.unwrap_or_default())),
        }
    }

    /// Runs over all steps from zero states.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedEncoderLayer<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut EncoderTape<R>,
    ) {
        let width = self.forward.hidden();
        let zeros = vec![vec![R::ZERO; packing.batch() * width]; 2];
        tape.forward.initial.clone_from(&zeros);
        (tape.forward.from_zero, tape.reverse.from_zero) = (true, true);
        self.forward.forward(&mut pass.of_layer(0), &prepared.forward, packing, input, &mut tape.forward);
        let (Some(reverse), Some(prepared)) = (&self.reverse, &prepared.reverse) else { return };
        let order = packing.reversed_rows();
        let input = reversed(input, &order, &mut tape.reversed_ids, &mut tape.reversed_rows);
        tape.reverse.initial = zeros;
        reverse.forward(&mut pass.of_layer(1), prepared, packing, input, &mut tape.reverse);
        tape.joined.resize(packing.rows * 2 * width, R::ZERO);
        for ((row, joined), &opposite) in tape.joined.chunks_exact_mut(2 * width).enumerate().zip(&order) {
            joined[..width].copy_from_slice(&tape.forward.h[row * width..][..width]);
            joined[width..].copy_from_slice(&tape.reverse.h[opposite * width..][..width]);
        }
    }

    /// Gives the final states, h and (LSTM) c, (batch, hidden) in the packing's order; both directions side
    /// by side.
    pub fn final_states<R: Real>(&self, packing: &Packing, tape: &EncoderTape<R>) -> Vec<Vec<R>> {
        let states = self.forward.final_states(packing, &tape.forward);
        let Some(reverse) = &self.reverse else { return states };
        let width = reverse.hidden();
        states
            .iter()
            .zip(reverse.final_states(packing, &tape.reverse))
            .map(|(a, b)| join(a, &b, width))
            .collect()
    }

    /// Goes back as [`Recurrent::backward`] does, but leaves the states' gradients anyhow: they come from
    /// zero states.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedEncoderLayer<R>,
        packing: &Packing,
        input: Input<'_, R>,
        tape: &mut EncoderTape<R>,
        gradients: RecurrentBackward<'_, R>,
    ) {
        let (Some(reverse), Some(prepared_reverse)) = (&self.reverse, &prepared.reverse) else {
            return self.forward.backward(
                pass,
                &prepared.forward,
                packing,
                input,
                &mut tape.forward,
                gradients,
            );
        };
        let RecurrentBackward { d_rows, d_states, d_input } = gradients;
        let width = self.forward.hidden();
        let order = packing.reversed_rows();
        let (mut d_forward, mut d_reverse): (Vec<_>, Vec<_>) =
            d_states.iter().map(|s| halve(s, width)).unzip();
        let halves = d_rows.map(|d| {
            for half in &mut tape.halves {
                half.resize(packing.rows * width, R::ZERO);
            }
            for ((row, d), &opposite) in d.chunks_exact(2 * width).enumerate().zip(&order) {
                tape.halves[0][row * width..][..width].copy_from_slice(&d[..width]);
                tape.halves[1][opposite * width..][..width].copy_from_slice(&d[width..]);
            }
            &tape.halves
        });
        let d_rows = |half: usize| halves.map(|halves| halves[half].as_slice());
        let gradients = RecurrentBackward { d_rows: d_rows(0), d_states: &mut d_forward, d_input };
        self.forward.backward(pass, &prepared.forward, packing, input, &mut tape.forward, gradients);
        let input = already_reversed(input, &tape.reversed_ids, &tape.reversed_rows);
        let d_reversed = &mut tape.d_reversed;
        let gradients =
            RecurrentBackward { d_rows: d_rows(1), d_states: &mut d_reverse, d_input: d_reversed };
        reverse.backward(pass, prepared_reverse, packing, input, &mut tape.reverse, gradients);
        if let Input::Rows(rows) = input {
            let width = rows.len() / packing.rows.max(1);
            for (d, &opposite) in tape.d_reversed.chunks_exact(width.max(1)).zip(&order) {
                d_input[opposite * width..][..width].iter_mut().zip(d).for_each(|(x, &d)| *x += d);
            }
        }
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters; `input` is what the
    /// layer read.
    pub fn summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        packing: &Packing,
        input: Input<'a, R>,
        tape: &'a EncoderTape<R>,
        out: &mut Summands<'a, R>,
    ) {
        self.forward.summands(p, packing, input, &tape.forward, out);
        if let Some(reverse) = &self.reverse {
            let input = already_reversed(input, &tape.reversed_ids, &tape.reversed_rows);
            reverse.summands(p, packing, input, &tape.reverse, out);
        }
    }

    /// Writes one step of the direction that reads forward; see [`Recurrent::emit_step`].
    pub fn emit_step(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        io: Io,
        input: &Value,
        states: &[Value],
    ) -> Vec<Value> {
        self.forward.emit_step(p, g, io, input, None, states)
    }

    /// Writes the layer over whole texts: the outputs (time, batch, hidden) if `outputs`, and the final
    /// states (1, batch, hidden).
    ///
    /// `zero` (1, batch, width) is the state before the first step. The reverse direction is a second forward
    /// operator over the texts read backwards and left-padded again: engines refuse or ignore `direction =
    /// reverse`.
    pub fn emit_sequence(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        sides: &EncoderSides,
        below: Option<&Value>,
        zero: &Value,
        outputs: bool,
    ) -> (Option<Value>, Vec<Value>) {
        let initial = [zero.clone(), zero.clone()];
        let run = |direction: &Recurrent, side: &GraphSide, below: Option<&Value>, g: &mut GraphBuilder| {
            let mut values = direction.emit_sequence(p, g, side, below, &initial).into_iter();
            let rows = values.next().filter(|_| outputs).map(|y| {
                let axis = g.int64(&[1], &[1]);
                g.node("Squeeze", &[&y, &axis], &[])
            });
            (rows, values.collect::<Vec<_>>())
        };
        let (rows, states) = run(&self.forward, &sides.forward, below, g);
        let (Some(reverse), Some(backwards)) = (&self.reverse, &sides.reverse) else { return (rows, states) };
        let below = below.map(|below| backwards.flip(g, below));
        let (reversed_rows, reversed_states) = run(reverse, &backwards.side, below.as_ref(), g);
        let axis = [("axis", Attribute::Int(2))];
        let states =
            states.iter().zip(&reversed_states).map(|(a, b)| g.node("Concat", &[a, b], &axis)).collect();
        let rows = rows.zip(reversed_rows).map(|(rows, reversed)| {
            let reversed = backwards.flip(g, &reversed);
            g.node("Concat", &[&rows, &reversed], &axis)
        });
        (rows, states)
    }
}

/// The source in reading order and, for two directions, backwards.
#[derive(Clone, Debug)]
pub struct EncoderSides {
    /// The texts in reading order.
    pub forward: GraphSide,
    /// The texts backwards, where a layer reads both ways.
    pub reverse: Option<Backwards>,
}

/// The source read backwards: each text reversed and left-padded again.
#[derive(Clone, Debug)]
pub struct Backwards {
    /// The reversed input; its mask is that of the reading order, because both are left-padded.
    pub side: GraphSide,
    /// For each position the opposite one, int64 (time, batch, 1); padding stays where it is.
    pub opposite: Value,
}

impl Backwards {
    /// Reverses each text of rows (time, batch, width).
    fn flip(&self, g: &mut GraphBuilder, rows: &Value) -> Value {
        let shape = g.node("Shape", &[rows], &[]);
        let index = g.node("Expand", &[&self.opposite, &shape], &[]);
        g.node("GatherElements", &[rows, &index], &[("axis", Attribute::Int(0))])
    }
}

/// Gives the input with each text reversed, in the given memory.
fn reversed<'a, R: Real>(
    input: Input<'_, R>,
    order: &[usize],
    ids: &'a mut Vec<u32>,
    rows: &'a mut Vec<R>,
) -> Input<'a, R> {
    match input {
        Input::Ids(all) => {
            ids.clear();
            ids.extend(order.iter().map(|&row| all[row]));
            Input::Ids(ids)
        }
        Input::Rows(all) => {
            let width = all.len() / order.len().max(1);
            rows.clear();
            order.iter().for_each(|&row| rows.extend_from_slice(&all[row * width..][..width]));
            Input::Rows(rows)
        }
    }
}

/// Gives what [`reversed`] left of this input.
fn already_reversed<'a, R>(input: Input<'_, R>, ids: &'a [u32], rows: &'a [R]) -> Input<'a, R> {
    match input {
        Input::Ids(_) => Input::Ids(ids),
        Input::Rows(_) => Input::Rows(rows),
    }
}

/// Puts (rows, width) and (rows, width) side by side.
fn join<R: Real>(a: &[R], b: &[R], width: usize) -> Vec<R> {
    a.chunks_exact(width).zip(b.chunks_exact(width)).flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
}

/// Takes apart what [`join`] puts side by side.
fn halve<R: Real>(both: &[R], width: usize) -> (Vec<R>, Vec<R>) {
    let rows = || both.chunks_exact(2 * width);
    (
        rows().flat_map(|row| &row[..width]).copied().collect(),
        rows().flat_map(|row| &row[width..]).copied().collect(),
    )
}
