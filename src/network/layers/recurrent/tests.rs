//! A cell that no config knows, in one file, run by the layer as it is; and the gradients of every cell.

#![allow(clippy::unwrap_used)]

use s2s_runtime::contract::state_h;

use super::*;
use crate::network::Gradients;
use crate::network::ground::graph::{GraphSide, Io};
use crate::network::layers::cell::{SequenceWeights, StateName};
use crate::network::layers::kinds::{Cell, GateActivation};
use crate::onnx::builder::{Attribute, Axis, GraphBuilder, Value};
use crate::onnx::messages::{DataType, ModelProto};
use s2s_kernels::{Scratch, tanh_each};

/// The plain recurrent network of Elman (1990): `h' = tanh(W x + b + R h)`.
#[derive(Clone, Copy, Debug)]
struct Elman;

impl RecurrentCell for Elman {
    fn name(&self) -> &'static str {
        "rnn"
    }

    fn gates(&self) -> usize {
        1
    }

    fn states(&self) -> &'static [StateName] {
        &[state_h]
    }

    fn takes_sum(&self) -> bool {
        true
    }

    fn forward<R: Real>(&self, step: Step<'_, R>, r: RecurrentWeights<'_, R>) {
        r.add(step.before.h, step.gates);
        tanh_each(step.gates);
        step.after.h.copy_from_slice(step.gates);
    }

    fn backward<R: Real>(&self, step: BackwardStep<'_, R>, r: RecurrentWeights<'_, R>) {
        let d_h = step.d_states.h;
        step.gates.iter_mut().zip(&*d_h).for_each(|(y, &d)| *y = d * (R::ONE - *y * *y));
        r.write(step.gates, d_h);
    }

    fn emit_sequence(
        &self,
        g: &mut GraphBuilder,
        hidden: usize,
        x: &Value,
        weights: SequenceWeights<'_>,
        states: &[Value],
    ) -> Vec<Value> {
        let none = Value::none();
        let attributes = [("hidden_size", Attribute::Int(hidden as i64))];
        g.node_n("RNN", &[x, weights.w, weights.r, &none, &none, &states[0]], &attributes, 2)
    }

    fn emit_step(&self, g: &mut GraphBuilder, _: usize, products: &[Value], _: &[Value]) -> Vec<Value> {
        vec![g.node("Tanh", &[&products[0]], &[])]
    }
}

const WIDTH: usize = 3;
const HIDDEN: usize = 4;

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed, 0);
    (0..n).map(|_| random.normal()).collect()
}

fn layer<C: RecurrentCell>(cell: C) -> (Recurrent<C>, Parameters<f32>) {
    let mut layout = Layout::default();
    let name = format!("encoder.{}_0", cell.name());
    let layer = Recurrent::new(&mut layout, "encoder", name, cell, HIDDEN, Source::Rows(WIDTH));
    let mut p = Parameters::zeros(&layout);
    layer.initialise(&mut p, &mut Random::new(7, 0));
    (layer, p)
}

/// What a loss depends on: all parameters end to end, the input rows, the initial states end to end.
#[derive(Clone)]
struct Point([Vec<f64>; 3]);

/// Holds every gradient of a layer over ragged texts against central differences: those of the parameters, of
/// the rows that it reads and of the states that it begins with.
fn check_gradients<C: RecurrentCell>(cell: C) {
    let (layer, p) = layer(cell);
    let p = p.map(f64::from);
    let packing = Packing::new(&[3, 1, 4, 2]);
    let (states, state) = (layer.states(), packing.batch() * HIDDEN);
    let start = Point([p.data().to_vec(), numbers(packing.rows * WIDTH, 1), numbers(states * state, 2)]);
    // The loss is linear in the outputs and in the final states.
    let (of_rows, of_states) = (numbers(packing.rows * HIDDEN, 3), numbers(states * state, 4));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let run = |Point([values, rows, initial]): &Point| {
        let p = p.with_data(values.clone()).unwrap();
        let prepared = layer.prepare(&p, 0, false, PreparedRecurrent::default());
        let mut scratch = Scratch::default();
        let mut pass = Pass { parameters: &p, dropout: None, scratch: &mut scratch };
        let initial = initial.chunks(state).map(<[f64]>::to_vec).collect();
        let (mut tape, input) = (Tape { initial, ..Tape::default() }, Input::Rows(rows));
        layer.forward(&mut pass, &prepared, &packing, input, &mut tape);
        let loss = dot(&tape.h, &of_rows) + dot(&layer.final_states(&packing, &tape).concat(), &of_states);

        let mut d_states: Vec<Vec<f64>> = of_states.chunks(state).map(<[f64]>::to_vec).collect();
        let mut d_input = Vec::new();
        let gradients =
            RecurrentBackward { d_rows: Some(&of_rows), d_states: &mut d_states, d_input: &mut d_input };
        layer.backward(&mut pass, &prepared, &packing, input, &mut tape, gradients);
        let mut summands = Summands::new();
        layer.summands(&p, &packing, input, &tape, &mut summands);
        let of_parameters = Gradients::of(&p, &[summands]).data().to_vec();
        (loss, Point([of_parameters, d_input, d_states.concat()]))
    };
    let (_, Point(gradients)) = run(&start);
    for (part, gradients) in gradients.iter().enumerate() {
        assert_eq!(gradients.len(), start.0[part].len());
        for (i, got) in gradients.iter().enumerate() {
            let step = 1e-5;
            let at = |delta: f64| {
                let mut point = start.clone();
                point.0[part][i] += delta;
                run(&point).0
            };
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            let name = cell.name();
            assert!((numeric - got).abs() < 1e-8, "{name}, part {part}, value {i}: {got} for {numeric}");
        }
    }
}

#[test]
fn gradients_of_every_cell_agree_with_finite_differences() {
    use GateActivation::{HardSigmoidFifth, HardSigmoidSixth, Sigmoid};
    for gates in [Sigmoid, HardSigmoidFifth, HardSigmoidSixth] {
        for cell in [Cell::Lstm, Cell::Gru, Cell::GruResetBias, Cell::GruResetBefore] {
            check_gradients(GatedCell { cell, gates });
        }
    }
    check_gradients(Elman);
}

#[test]
fn a_cell_of_one_file_is_written_as_an_operator_and_as_a_step() {
    let (layer, p) = layer(Elman);
    let operators = |model: ModelProto| -> Vec<String> {
        model.graph.unwrap().node.into_iter().map(|node| node.op_type).collect()
    };
    let input = |g: &mut GraphBuilder, name: &str, axes: &[usize]| {
        let axes: Vec<Axis> = axes.iter().map(|&length| Axis::Fixed(length)).collect();
        g.input(name, DataType::Float, &axes)
    };

    let mut g = GraphBuilder::new("step");
    let (x, h) = (input(&mut g, "x", &[1, WIDTH]), input(&mut g, "h", &[1, HIDDEN]));
    let next = layer.emit_step(&p, &mut g, Io::Ids, &x, None, &[h]);
    g.output("next", &next[0], DataType::Float, &[Axis::Fixed(1), Axis::Fixed(HIDDEN)]);
    assert_eq!(operators(g.finish(17, 8, &[])), ["Concat", "MatMul", "Add", "Tanh"]);

    let mut g = GraphBuilder::new("text");
    let (x, h) = (input(&mut g, "x", &[5, 1, WIDTH]), input(&mut g, "h", &[1, 1, HIDDEN]));
    let mask = input(&mut g, "mask", &[5, 1, 1]);
    let side = GraphSide { io: Io::Ids, input: x.clone(), mask };
    let outputs = layer.emit_sequence(&p, &mut g, &side, Some(&x), &[h]);
    let axes = [5, 1, 1, HIDDEN].map(Axis::Fixed);
    g.output("rows", &outputs[0], DataType::Float, &axes);
    assert_eq!(operators(g.finish(17, 8, &[])), ["Concat", "RNN"]);
}
