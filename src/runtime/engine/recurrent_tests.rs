//! LSTM and GRU in every form that graphs have them in, in every engine, against the definition in f64.

#![allow(clippy::unwrap_used)]

use super::graph::{DataView, Tensor, TensorView};
use super::kind::EngineKind;
use super::open::load_graph;
use super::tests::engines;
use super::toys::{Nodes, value};
use crate::error::ErrorKind;
use crate::onnx::{AttributeProto, AttributeType, DataType, TensorProto, ValueInfoProto};

/// Steps of up to 7, each adding roundings of f32 to states below 1.
const TOLERANCE: f64 = 3e-6;

const STEPS: usize = 7;
const ROWS: usize = 5;
const INPUT: usize = 6;
const SYMBOLS: usize = 9;

/// Numbers between -0.5 and 0.5 that look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number =
        |i: u32| (i.wrapping_add(seed * 7919).wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0;
    (0..count as u32).map(|i| number(i) - 0.5).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru,
    /// The reset gate stands before the product.
    GruResetFirst,
}

/// A node and what it is given.
#[derive(Clone, Copy, Debug)]
struct Case {
    cell: Cell,
    direction: &'static str,
    hidden: usize,
    has_bias: bool,
    has_states: bool,
    has_lengths: bool,
    /// X is rows of a table, and ids are fed.
    has_table: bool,
}

impl Case {
    fn gates(&self) -> usize {
        if self.cell == Cell::Lstm { 4 } else { 3 }
    }

    fn directions(&self) -> usize {
        if self.direction == "bidirectional" { 2 } else { 1 }
    }

    fn w(&self) -> Vec<f32> {
        numbers(self.directions() * self.gates() * self.hidden * INPUT, 1)
    }

    fn r(&self) -> Vec<f32> {
        numbers(self.directions() * self.gates() * self.hidden * self.hidden, 2)
    }

    fn bias(&self) -> Vec<f32> {
        if self.has_bias { numbers(self.directions() * 2 * self.gates() * self.hidden, 3) } else { vec![] }
    }

    /// h and c (directions, batch, hidden).
    fn states(&self) -> [Vec<f32>; 2] {
        let count = self.directions() * ROWS * self.hidden;
        [4, 5].map(|seed| if self.has_states { numbers(count, seed) } else { vec![0.0; count] })
    }

    fn lengths(&self) -> Vec<usize> {
        if self.has_lengths { vec![7, 3, 1, 5, 0] } else { vec![STEPS; ROWS] }
    }

    /// X (time, batch, input), and the ids that it is rows of a table of; the rows begin with as many zeros
    /// as their number, one with none but zeros.
    fn x() -> (Vec<f32>, Vec<i64>) {
        let table = Self::table();
        let id = |step: usize, row: usize| {
            if step < [0, 1, 2, 3, STEPS][row] { 0 } else { 1 + (step * 5 + row * 3) % (SYMBOLS - 1) }
        };
        let ids: Vec<usize> = (0..STEPS * ROWS).map(|at| id(at / ROWS, at % ROWS)).collect();
        let x = ids.iter().flat_map(|&id| table[id * INPUT..][..INPUT].iter().copied()).collect();
        (x, ids.into_iter().map(|id| id as i64).collect())
    }

    /// (symbols, input), its first row zeros.
    fn table() -> Vec<f32> {
        let mut table = numbers(SYMBOLS * INPUT, 6);
        table[..INPUT].fill(0.0);
        table
    }

    fn model(&self, attributes: Vec<AttributeProto>) -> Vec<u8> {
        let mut nodes = Nodes::default();
        let (d, rows) = (self.directions(), self.gates() * self.hidden);
        let text = |name: &str, text: &str| AttributeProto {
            name: name.to_owned(),
            s: text.as_bytes().to_vec(),
            r#type: AttributeType::String as i32,
            ..AttributeProto::default()
        };
        nodes.1.push(TensorProto::of_floats("W", &[d, rows, INPUT], &self.w()));
        nodes.1.push(TensorProto::of_floats("R", &[d, rows, self.hidden], &self.r()));
        let mut inputs = vec![if self.has_table {
            nodes.1.push(TensorProto::of_floats("table", &[SYMBOLS, INPUT], &Self::table()));
            nodes.add("Gather", &["table", "ids"], "x", vec![AttributeProto::of_integer("axis", 0)]);
            value("ids", DataType::Int64, &["time", "batch"])
        } else {
            value("x", DataType::Float, &["time", "batch", &INPUT.to_string()])
        }];
        let mut names = ["x", "W", "R", "", "", "", ""];
        if self.has_bias {
            nodes.1.push(TensorProto::of_floats("B", &[d, 2 * rows], &self.bias()));
            names[3] = "B";
        }
        if self.has_lengths {
            inputs.push(value("lengths", DataType::Int32, &["batch"]));
            names[4] = "lengths";
        }
        let (count, width) = (d.to_string(), self.hidden.to_string());
        let state = |name: &str| value(name, DataType::Float, &[&count, "batch", &width]);
        if self.has_states {
            inputs.push(state("h"));
            names[5] = "h";
        }
        if self.has_states && self.cell == Cell::Lstm {
            inputs.push(state("c"));
            names[6] = "c";
        }
        let op = if self.cell == Cell::Lstm { "LSTM" } else { "GRU" };
        let mut attribute = vec![
            AttributeProto::of_integer("hidden_size", self.hidden as i64),
            text("direction", self.direction),
        ];
        if self.cell == Cell::Gru {
            attribute.push(AttributeProto::of_integer("linear_before_reset", 1));
        }
        attribute.extend(attributes);
        nodes.add(op, &names[..if self.cell == Cell::Lstm { 7 } else { 6 }], "y", attribute);
        let node = nodes.0.last_mut().unwrap();
        node.output.extend(self.outputs()[1..].iter().map(|&name| name.to_owned()));
        let mut outputs: Vec<ValueInfoProto> =
            vec![value("y", DataType::Float, &["time", &count, "batch", &width])];
        outputs.extend(self.outputs()[1..].iter().map(|name| state(name)));
        nodes.model(inputs, outputs)
    }

    fn outputs(&self) -> &'static [&'static str] {
        if self.cell == Cell::Lstm { &["y", "y_h", "y_c"] } else { &["y", "y_h"] }
    }

    fn input_names(&self) -> Vec<&'static str> {
        let mut names = vec![if self.has_table { "ids" } else { "x" }];
        names.extend(self.has_lengths.then_some("lengths"));
        names.extend(self.has_states.then_some("h"));
        names.extend((self.has_states && self.cell == Cell::Lstm).then_some("c"));
        names
    }

    fn run(&self, kind: EngineKind) -> Vec<Tensor> {
        let model = self.model(vec![]);
        let mut graph = load_graph(kind, "r.onnx", &model, &self.input_names(), self.outputs()).unwrap();
        let ((x, ids), states) = (Self::x(), self.states());
        let lengths: Vec<i32> = self.lengths().iter().map(|&length| length as i32).collect();
        let state = [self.directions(), ROWS, self.hidden];
        let mut inputs = vec![if self.has_table {
            TensorView { shape: &[STEPS, ROWS], data: DataView::I64(&ids) }
        } else {
            TensorView { shape: &[STEPS, ROWS, INPUT], data: DataView::F32(&x) }
        }];
        if self.has_lengths {
            inputs.push(TensorView { shape: &[ROWS], data: DataView::I32(&lengths) });
        }
        if self.has_states {
            let count = if self.cell == Cell::Lstm { 2 } else { 1 };
            let views = states[..count].iter();
            inputs.extend(views.map(|data| TensorView { shape: &state, data: DataView::F32(data) }));
        }
        let mut outputs = vec![];
        graph.run(&inputs, &mut outputs).unwrap();
        outputs
    }

    /// Y, `Y_h` and `Y_c` by definition.
    fn defined(&self) -> [Vec<f64>; 3] {
        let (hidden, rows) = (self.hidden, self.gates() * self.hidden);
        let [mut h, mut c] = self.states().map(|state| state.into_iter().map(f64::from).collect::<Vec<_>>());
        let mut y = vec![0.0; STEPS * self.directions() * ROWS * hidden];
        let (x, (w, r)) = (Self::x().0, (self.w(), self.r()));
        let mut bias = self.bias();
        bias.resize(self.directions() * 2 * rows, 0.0);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (d, row) in (0..self.directions()).flat_map(|d| (0..ROWS).map(move |row| (d, row))) {
            let length = self.lengths()[row];
            let state = (d * ROWS + row) * hidden;
            // The standard leaves this open; it is what ONNX Runtime gives.
            if length == 0 {
                for states in [&mut h, &mut c] {
                    states[state..][..hidden].fill(0.0);
                }
            }
            for step in 0..length {
                let is_reverse = self.direction == "reverse" || d == 1;
                let time = if is_reverse { length - 1 - step } else { step };
                let of_x = |gate: usize| -> f64 {
                    let x = &x[(time * ROWS + row) * INPUT..][..INPUT];
                    let w = &w[(d * rows + gate) * INPUT..][..INPUT];
                    let sum: f64 = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                    sum + f64::from(bias[d * 2 * rows + gate])
                };
                let of_h = |gate: usize, h: &[f64]| -> f64 {
                    let r = &r[(d * rows + gate) * hidden..][..hidden];
                    let sum: f64 = h.iter().zip(r).map(|(&h, &r)| h * f64::from(r)).sum();
                    sum + f64::from(bias[(2 * d + 1) * rows + gate])
                };
                let before = h[state..][..hidden].to_vec();
                let gate = |gate: usize| of_x(gate) + of_h(gate, &before);
                let reset: Vec<f64> = (0..hidden).map(|j| sigmoid(gate(hidden + j)) * before[j]).collect();
                for j in 0..hidden {
                    if self.cell == Cell::Lstm {
                        let [i, o, f] = [0, 1, 2].map(|at| sigmoid(gate(at * hidden + j)));
                        c[state + j] = f * c[state + j] + i * gate(3 * hidden + j).tanh();
                        h[state + j] = o * c[state + j].tanh();
                        continue;
                    }
                    let (z, at) = (sigmoid(gate(j)), 2 * hidden + j);
                    let n = of_x(at)
                        + match self.cell {
                            Cell::GruResetFirst => of_h(at, &reset),
                            _ => sigmoid(gate(hidden + j)) * of_h(at, &before),
                        };
                    h[state + j] = (1.0 - z) * n.tanh() + z * before[j];
                }
                let to = ((time * self.directions() + d) * ROWS + row) * hidden;
                y[to..to + hidden].copy_from_slice(&h[state..][..hidden]);
            }
        }
        [y, h, c]
    }
}

#[test]
fn every_form_of_lstm_and_gru_is_the_definition_in_every_engine() {
    let cells = [Cell::Lstm, Cell::Gru, Cell::GruResetFirst];
    let bits = [false, true];
    for kind in engines() {
        for (cell, direction) in cells.into_iter().flat_map(|cell| {
            ["forward", "reverse", "bidirectional"].into_iter().map(move |direction| (cell, direction))
        }) {
            for number in 0..16 {
                let has = |bit: usize| bits[number >> bit & 1];
                let (has_bias, has_states, has_lengths, has_table) = (has(0), has(1), has(2), has(3));
                // Neither a whole number of vectors nor less than one.
                let hidden = if cell == Cell::Lstm { 19 } else { 70 };
                let case = Case { cell, direction, hidden, has_bias, has_states, has_lengths, has_table };
                let given = case.run(kind);
                for ((given, wanted), name) in given.iter().zip(case.defined()).zip(case.outputs()) {
                    assert_eq!(given.data.len(), wanted.len(), "{kind}: {name} of {case:?}");
                    for (at, (given, wanted)) in given.data.iter().zip(wanted).enumerate() {
                        let error = (f64::from(*given) - wanted).abs();
                        assert!(error < TOLERANCE, "{kind}: {name}[{at}] of {case:?} is off by {error:e}");
                    }
                }
            }
        }
    }
}

const PLAIN: Case = Case {
    cell: Cell::Lstm,
    direction: "forward",
    hidden: 5,
    has_bias: true,
    has_states: false,
    has_lengths: true,
    has_table: true,
};

#[cfg(feature = "tract")]
#[test]
fn ids_and_lengths_outside_are_refused_by_tract() {
    let model = PLAIN.model(vec![]);
    let mut graph =
        load_graph(EngineKind::Tract, "r.onnx", &model, &PLAIN.input_names(), PLAIN.outputs()).unwrap();
    let mut run = |id: i64, length: i32| {
        let (ids, lengths) = ([1, id, 2, 3], [2, length]);
        let ids = TensorView { shape: &[2, 2], data: DataView::I64(&ids) };
        graph.run(&[ids, TensorView { shape: &[2], data: DataView::I32(&lengths) }], &mut vec![])
    };
    for (id, length, part) in
        [(9, 2, "the id 9 is outside a table of 9 rows"), (-10, 2, "-10"), (1, 3, "3"), (1, -1, "-1")]
    {
        let error = run(id, length).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert!(error.to_string().contains(part), "{error}");
    }
    run(-9, 0).unwrap();
}

#[cfg(feature = "tract")]
#[test]
fn attributes_that_tract_would_ignore_are_refused() {
    let clip = AttributeProto {
        name: "clip".to_owned(),
        f: Some(1.0),
        r#type: AttributeType::Float as i32,
        ..AttributeProto::default()
    };
    let model = PLAIN.model(vec![clip]);
    let error =
        load_graph(EngineKind::Tract, "r.onnx", &model, &PLAIN.input_names(), PLAIN.outputs()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert!(error.to_string().starts_with("r.onnx:LSTM_y: tract ignores"), "{error}");
}

/// A step that is spelt out: how its gates are made and cut.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    /// As `s2s export` writes it: rows of a table and R h, cut twice.
    Table,
    /// As PyTorch has it: two products with biases, cut in four in the order i, f, g, o.
    TwoProducts,
    /// One product of x and h side by side, everything a sigmoid before it is cut but the candidate.
    OneProduct,
    /// A GRU as `s2s export` writes it.
    Gru,
}

impl Spelling {
    const HIDDEN: usize = 20;

    /// Where the gates i, o, f, c (or z, r, n) begin, in gates.
    fn order(self) -> &'static [usize] {
        match self {
            Self::TwoProducts => &[0, 3, 1, 2],
            Self::Table | Self::OneProduct => &[0, 1, 2, 3],
            Self::Gru => &[0, 1, 2],
        }
    }

    fn width(self) -> usize {
        self.order().len() * Self::HIDDEN
    }

    /// The input side's matrix (input, width), which is a table (symbols, width) for some; R (hidden, width).
    fn weights(self) -> [Vec<f32>; 2] {
        [numbers(SYMBOLS * self.width(), 1), numbers(Self::HIDDEN * self.width(), 2)]
    }

    fn has_table(self) -> bool {
        matches!(self, Self::Table | Self::Gru)
    }

    fn model(self) -> Vec<u8> {
        let (h, width) = (Self::HIDDEN, self.width());
        let mut nodes = Nodes::default();
        let [w, r] = self.weights();
        let along = || vec![AttributeProto::of_integer("axis", 1)];
        nodes.1.push(TensorProto::of_floats("W", &[SYMBOLS, width], &w));
        nodes.1.push(TensorProto::of_floats("R", &[h, width], &r));
        nodes.1.push(TensorProto::of_floats("b", &[width], &numbers(width, 3)));
        let cut = |nodes: &mut Nodes, from: &str, sizes: &[usize], to: &[&str]| {
            let sizes_name = format!("sizes_of_{from}");
            let sizes: Vec<i64> = sizes.iter().map(|&size| (size * h) as i64).collect();
            nodes.1.push(TensorProto::of_integers(&sizes_name, &[sizes.len()], &sizes));
            nodes.add("Split", &[from, &sizes_name], to[0], along());
            nodes.0.last_mut().unwrap().output = to.iter().map(|&name| name.to_owned()).collect();
        };
        if self.has_table() {
            nodes.add("Gather", &["W", "x"], "of_x", vec![AttributeProto::of_integer("axis", 0)]);
            nodes.add("MatMul", &["h", "R"], "of_h", vec![]);
        }
        match self {
            Self::Gru => {
                cut(&mut nodes, "of_x", &[2, 1], &["x_zr", "x_n"]);
                cut(&mut nodes, "of_h", &[2, 1], &["h_zr", "h_n"]);
                nodes.add("Add", &["x_zr", "h_zr"], "zr", vec![]);
                nodes.add("Sigmoid", &["zr"], "gates", vec![]);
                cut(&mut nodes, "gates", &[1, 1], &["z", "r"]);
                nodes.add("Mul", &["r", "h_n"], "reset", vec![]);
                nodes.add("Add", &["x_n", "reset"], "sum_n", vec![]);
                nodes.add("Tanh", &["sum_n"], "n", vec![]);
                nodes.add("Sub", &["h", "n"], "difference", vec![]);
                nodes.add("Mul", &["z", "difference"], "kept", vec![]);
                nodes.add("Add", &["n", "kept"], "next_h", vec![]);
            }
            Self::TwoProducts => {
                nodes.add("Gemm", &["x", "W", "b"], "of_x", vec![]);
                nodes.add("Gemm", &["h", "R", "b"], "of_h", vec![]);
                nodes.add("Add", &["of_x", "of_h"], "sum", vec![]);
                cut(&mut nodes, "sum", &[1, 1, 1, 1], &["a_i", "a_f", "a_g", "a_o"]);
                for gate in ["i", "f", "o"] {
                    nodes.add("Sigmoid", &[&format!("a_{gate}")], gate, vec![]);
                }
                nodes.add("Tanh", &["a_g"], "g", vec![]);
            }
            Self::Table | Self::OneProduct => {
                if self.has_table() {
                    nodes.add("Add", &["of_h", "of_x"], "sum", vec![]);
                } else {
                    let both = [w, r].concat();
                    nodes.1.push(TensorProto::of_floats("WR", &[SYMBOLS + h, width], &both));
                    nodes.add("Concat", &["x", "h"], "both", along());
                    nodes.add("MatMul", &["both", "WR"], "product", vec![]);
                    nodes.add("Add", &["product", "b"], "sum", vec![]);
                }
                cut(&mut nodes, "sum", &[3, 1], &["a_iof", "a_g"]);
                nodes.add("Sigmoid", &["a_iof"], "iof", vec![]);
                nodes.add("Tanh", &["a_g"], "g", vec![]);
                cut(&mut nodes, "iof", &[1, 1, 1], &["i", "o", "f"]);
            }
        }
        let width = h.to_string();
        let state = |name: &str| value(name, DataType::Float, &["batch", &width]);
        let x = if self.has_table() {
            value("x", DataType::Int64, &["batch"])
        } else {
            value("x", DataType::Float, &["batch", &SYMBOLS.to_string()])
        };
        let (mut inputs, mut outputs) = (vec![x, state("h")], vec![state("next_h")]);
        if !matches!(self, Self::Gru) {
            nodes.add("Mul", &["f", "c"], "kept", vec![]);
            nodes.add("Mul", &["i", "g"], "new", vec![]);
            nodes.add("Add", &["kept", "new"], "next_c", vec![]);
            nodes.add("Tanh", &["next_c"], "squashed", vec![]);
            nodes.add("Mul", &["o", "squashed"], "next_h", vec![]);
            inputs.push(state("c"));
            outputs.push(state("next_c"));
        }
        nodes.model(inputs, outputs)
    }

    fn names(self) -> [&'static [&'static str]; 2] {
        if matches!(self, Self::Gru) {
            [&["x", "h"], &["next_h"]]
        } else {
            [&["x", "h", "c"], &["next_h", "next_c"]]
        }
    }

    /// The next h and c by definition, of rows whose x are one-hot, or ids.
    fn defined(self, ids: &[i64], h: &[f32], c: &[f32]) -> [Vec<f64>; 2] {
        let (hidden, width, [w, r]) = (Self::HIDDEN, self.width(), self.weights());
        let biases = match self {
            Self::Table | Self::Gru => 0.0,
            Self::TwoProducts => 2.0,
            Self::OneProduct => 1.0,
        };
        let (b, sigmoid) = (numbers(width, 3), |x: f64| 1.0 / (1.0 + (-x).exp()));
        let mut next = [vec![], vec![]];
        for (row, &id) in ids.iter().enumerate() {
            for j in 0..hidden {
                let column = |gate: usize| self.order()[gate] * hidden + j;
                let of_x = |gate| f64::from(w[id as usize * width + column(gate)]);
                let of_h = |gate| -> f64 {
                    let h = h[row * hidden..][..hidden].iter().zip(r.chunks(width));
                    h.map(|(&h, r)| f64::from(h) * f64::from(r[column(gate)])).sum()
                };
                let gate = |gate| of_x(gate) + of_h(gate) + biases * f64::from(b[column(gate)]);
                let [h, c] = [h, c].map(|state| f64::from(state[row * hidden + j]));
                if matches!(self, Self::Gru) {
                    let n = (of_x(2) + sigmoid(gate(1)) * of_h(2)).tanh();
                    next[0].push(n + sigmoid(gate(0)) * (h - n));
                    continue;
                }
                let c = sigmoid(gate(2)) * c + sigmoid(gate(0)) * gate(3).tanh();
                next[0].push(sigmoid(gate(1)) * c.tanh());
                next[1].push(c);
            }
        }
        next
    }
}

#[test]
fn a_step_that_is_spelt_out_is_the_definition_in_every_engine_and_one_operator_in_tract() {
    for step in [Spelling::Table, Spelling::TwoProducts, Spelling::OneProduct, Spelling::Gru] {
        let (model, [inputs, outputs]) = (step.model(), step.names());
        let ids = [3_i64, 0, 8, 1, 7];
        let one_hot: Vec<f32> = ids
            .iter()
            .flat_map(|&id| (0..SYMBOLS as i64).map(move |at| f32::from(u8::from(at == id))))
            .collect();
        let [h, c] = [4, 5].map(|seed| numbers(ids.len() * Spelling::HIDDEN, seed));
        let shape = [ids.len(), Spelling::HIDDEN];
        let x = if step.has_table() {
            TensorView { shape: &[5], data: DataView::I64(&ids) }
        } else {
            TensorView { shape: &[5, SYMBOLS], data: DataView::F32(&one_hot) }
        };
        let state = |data| TensorView { shape: &shape, data: DataView::F32(data) };
        for kind in engines() {
            let mut graph = load_graph(kind, "step.onnx", &model, inputs, outputs).unwrap();
            let mut given = vec![];
            graph.run(&[x, state(&h), state(&c)][..inputs.len()], &mut given).unwrap();
            for (given, wanted) in given.iter().zip(step.defined(&ids, &h, &c)) {
                assert_eq!(given.data.len(), wanted.len());
                for (given, wanted) in given.data.iter().zip(wanted) {
                    assert!((f64::from(*given) - wanted).abs() < TOLERANCE, "{kind}, {step:?}");
                }
            }
        }
        #[cfg(feature = "tract")]
        {
            let operators = super::tract::operators(&model, inputs, outputs).unwrap();
            let is_left = |name: &str| operators.iter().any(|operator| operator.contains(name));
            assert!(is_left("RecurrentCell"), "{step:?}: {operators:?}");
            let not_wanted = ["Sigmoid", "Tanh", "Slice", "EinSum", "MatMul", "Gather", "Mul", "Add"];
            assert!(!not_wanted.into_iter().any(is_left), "{step:?}: {operators:?}");
        }
    }
}

#[cfg(feature = "tract")]
#[test]
fn an_operator_over_rows_of_a_table_is_all_that_tract_runs() {
    for has_table in [true, false] {
        let case = Case { has_table, has_lengths: false, ..PLAIN };
        let model = case.model(vec![]);
        let operators = super::tract::operators(&model, &case.input_names(), &["y_h"]).unwrap();
        let computes: Vec<_> =
            operators.iter().filter(|name| !["Source", "Const"].contains(&&***name)).collect();
        assert_eq!(computes, ["Recurrent"], "{operators:?}");
    }
}
