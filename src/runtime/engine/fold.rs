//! Rewrites our graphs into forms that are faster for many rows in ONNX Runtime; in tract operators of our own
//! do the same for any graph.
//!
//! **Encoder.** An LSTM operator multiplies the input of every token by W. Where tokens are ids, there are
//! only as many such products as symbols: a table of them (symbols, 4 hidden), made once when the graph is
//! loaded, leaves a lookup and the product with R for each token, as in the decoder's step. `Scan` runs that
//! cell over time.
//!
//! **Gates.** One product for all four gates has to be cut into them by copying. Four products with a quarter
//! of the weights each, cut once when the graph is loaded, need no copies.
//!
//! The files stay as they are, because fewer runtimes have Scan, and because a single row is faster without
//! either.

use prost::Message as _;

use crate::checked::CheckedModel;
use crate::contract::{PAD, metadata};
use crate::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionProto, GraphProto, NodeProto, TensorProto,
    ValueInfoProto,
};

/// Values of a table that is not worth its memory (16 MiB).
const LARGEST_TABLE: usize = 4 << 20;

/// The gates in ONNX's order, and what is applied to each.
const GATES: [(&str, &str); 4] = [("i", "Sigmoid"), ("o", "Sigmoid"), ("f", "Sigmoid"), ("g", "Tanh")];

/// The same encoder with its LSTM operators as a table and a Scan each; `None` unless it has one layer of
/// them (in one or two directions) over ids, in the form that `s2s export` writes.
///
/// - `symbols`: size of the source vocabulary.
pub fn folded_encoder(model: &CheckedModel, symbols: usize) -> Option<Vec<u8>> {
    rewritten(model, |graph| {
        let mut any = false;
        for at in (0..graph.node.len()).rev() {
            if let Some((nodes, constants)) =
                Layer::find(graph, &graph.node[at], symbols).map(|layer| layer.as_scan(at))
            {
                graph.node.splice(at..=at, nodes);
                graph.initializer.extend(constants);
                any = true;
            }
        }
        // What the first of several layers would save is little.
        any && !graph.node.iter().any(NodeProto::is_recurrent)
    })
}

/// The same decoder step with a product for each gate of its first LSTM layer; `None` unless it has the form
/// that `s2s export` writes for f32 and f16 weights.
pub fn split_decoder(model: &CheckedModel) -> Option<Vec<u8>> {
    rewritten(model, |graph| {
        let Some(Cell { at, nodes, gates, replaced }) =
            (0..graph.node.len()).find_map(|at| Cell::find(graph, at))
        else {
            return false;
        };
        graph.node.retain(|node| !node.output.iter().any(|output| replaced.contains(output)));
        graph.node.splice(at..at, nodes);
        graph.initializer.push(gates);
        true
    })
}

/// A model of ours after `rewrite`, which says whether it found what it wanted.
fn rewritten(model: &CheckedModel, rewrite: impl FnOnce(&mut GraphProto) -> bool) -> Option<Vec<u8>> {
    // That the last channel is 1 at tokens and 0 at PAD is our own rule.
    model.metadata(metadata::FORMAT_VERSION)?;
    let mut model = model.clone().into_model();
    let graph = model.graph.as_mut()?;
    if !rewrite(graph) {
        return None;
    }
    drop_unused(graph);
    Some(model.encode_to_vec())
}

fn made_by<'a>(graph: &'a GraphProto, name: &str, op: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|node| node.is(op) && node.output.iter().any(|output| output == name))
}

fn constant<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a TensorProto> {
    graph.initializer.iter().find(|tensor| tensor.name == name)
}

/// Makes nodes and constants; a name that begins with a dot is the rewriter's own, the others are the
/// graph's.
struct Names(String);

impl Names {
    fn of(&self, name: &str) -> String {
        name.strip_prefix('.').map_or_else(|| name.to_owned(), |own| format!("{}.{own}", self.0))
    }

    fn node(&self, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let names = |names: &[&str]| names.iter().map(|name| self.of(name)).collect();
        let output: Vec<String> = names(outputs);
        NodeProto {
            op_type: op.to_owned(),
            input: names(inputs),
            name: output[0].clone(),
            output,
            ..NodeProto::default()
        }
    }

    fn with(&self, attribute: AttributeProto, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto { attribute: vec![attribute], ..self.node(op, inputs, outputs) }
    }

    fn transposed(&self, input: &str, output: &str) -> NodeProto {
        let perm = AttributeProto {
            name: "perm".to_owned(),
            ints: vec![1, 0],
            r#type: AttributeType::Ints as i32,
            ..Default::default()
        };
        self.with(perm, "Transpose", &[input], &[output])
    }

    /// Cuts the columns of `input` into those of each gate, `{output}_i` and so on; `.gates` has their
    /// widths.
    fn cut(&self, input: &str, output: &str) -> NodeProto {
        let outputs = GATES.map(|(gate, _)| format!("{output}_{gate}"));
        self.with(
            AttributeProto::of_integer("axis", 1),
            "Split",
            &[input, ".gates"],
            &outputs.each_ref().map(String::as_str),
        )
    }

    /// `.gates`.
    fn widths(&self, hidden: usize) -> TensorProto {
        TensorProto::of_integers(&self.of(".gates"), &[4], &[hidden as i64; 4])
    }

    /// Activated gates, named `outputs`, from `h`, the cut weights `.r_i`... and the cut input sides
    /// `{inputs}_i`...
    fn gates(&self, h: &str, inputs: &str, outputs: [&str; 4]) -> impl Iterator<Item = NodeProto> {
        GATES.into_iter().zip(outputs).flat_map(move |((gate, activation), output)| {
            let own = |name: &str| format!("{name}_{gate}");
            [
                self.node("MatMul", &[h, &own(".r")], &[&own(".product")]),
                self.node("Add", &[&own(".product"), &own(inputs)], &[&own(".raw")]),
                self.node(activation, &[&own(".raw")], &[output]),
            ]
        })
    }
}

/// An LSTM over ids: `Add(Pad(Gather or OneHot), Mul(mask, unit))` in front of the operator.
struct Layer<'a> {
    lstm: &'a NodeProto,
    add: &'a NodeProto,
    pad: &'a NodeProto,
    mask: &'a NodeProto,
    lookup: &'a NodeProto,
    /// Which input of `lookup` the ids are.
    ids: usize,
    hidden: usize,
    symbols: usize,
    /// The operator's outputs that somebody reads.
    read: Vec<&'a str>,
}

impl<'a> Layer<'a> {
    fn find(graph: &'a GraphProto, lstm: &'a NodeProto, symbols: usize) -> Option<Self> {
        let (made_by, constant) =
            (|name: &str, op: &str| made_by(graph, name, op), |name: &str| constant(graph, name));
        let plain = lstm
            .attribute
            .iter()
            .all(|a| a.name == "hidden_size" || (a.name == "direction" && a.s == b"forward"));
        if !lstm.is("LSTM") || !plain || lstm.input.len() > 7 || lstm.input(4).is_some() {
            return None;
        }
        let no_bias = lstm.input(3).is_none_or(|b| {
            constant(b).and_then(TensorProto::floats).is_some_and(|b| b.iter().all(|&x| x == 0.0))
        });
        let hidden = usize::try_from(*constant(lstm.input(2)?)?.dims.get(2)?).ok()?;
        let _initial = (lstm.input(5)?, lstm.input(6)?);
        let add = made_by(lstm.input(0)?, "Add")?;
        let (pad, mask) = (made_by(add.input(0)?, "Pad")?, made_by(add.input(1)?, "Mul")?);
        let lookup = made_by(pad.input(0)?, "Gather").or_else(|| made_by(pad.input(0)?, "OneHot"))?;
        let ids = usize::from(lookup.is("Gather"));
        let fits = lookup.int("axis", if ids == 1 { 0 } else { -1 }) == if ids == 1 { 0 } else { -1 }
            && symbols.saturating_mul(4).saturating_mul(hidden) <= LARGEST_TABLE;
        let is_read = |name: &&str| {
            graph.node.iter().any(|node| node.input.iter().any(|input| input == name))
                || graph.output.iter().any(|o| o.name == *name)
        };
        let read =
            lstm.output.iter().map(String::as_str).filter(|name| !name.is_empty()).filter(is_read).collect();
        (no_bias && fits).then_some(Self { lstm, add, pad, mask, lookup, ids, hidden, symbols, read })
    }

    /// The nodes that take the operator's place, and their constants; `number` tells several layers apart.
    fn as_scan(&self, number: usize) -> (Vec<NodeProto>, Vec<TensorProto>) {
        let names = Names(format!("s2s.folded_{number}"));
        let ids: Vec<i64> = (0..self.symbols as i64).collect();
        let is_token: Vec<f32> = ids.iter().map(|&id| if id == i64::from(PAD) { 0.0 } else { 1.0 }).collect();
        let constants = vec![
            TensorProto::of_integers(&names.of(".all_ids"), &[self.symbols, 1], &ids),
            TensorProto::of_floats(&names.of(".is_token"), &[self.symbols, 1, 1], &is_token),
            TensorProto::of_integers(&names.of(".axis_0"), &[1], &[0]),
            TensorProto::of_integers(&names.of(".axis_1"), &[1], &[1]),
            names.widths(self.hidden),
        ];
        // The layer's own nodes over all symbols as a batch of one column, so that the table is what they
        // compute.
        let again = |node: &NodeProto, changes: &[(usize, &str)], output: &str| {
            let mut node =
                NodeProto { name: names.of(output), output: vec![names.of(output)], ..node.clone() };
            changes.iter().for_each(|&(at, name)| node.input[at] = names.of(name));
            node
        };
        let input = |at: usize| self.lstm.input[at].as_str();
        let output =
            |at: usize| self.lstm.output.get(at).map(String::as_str).filter(|name| self.read.contains(name));
        let mut nodes = vec![
            again(self.lookup, &[(self.ids, ".all_ids")], ".rows"),
            again(self.pad, &[(0, ".rows")], ".padded"),
            again(self.mask, &[(0, ".is_token")], ".mask"),
            again(self.add, &[(0, ".padded"), (1, ".mask")], ".channels"),
            names.node("Squeeze", &[".channels", ".axis_1"], &[".x"]),
            names.node("Squeeze", &[input(1), ".axis_0"], &[".w"]),
            names.transposed(".w", ".w_t"),
            names.node("MatMul", &[".x", ".w_t"], &[".table"]),
            names.cut(".table", ".table"),
            names.node("Squeeze", &[input(2), ".axis_0"], &[".r"]),
            names.transposed(".r", ".r_t"),
            names.cut(".r_t", ".r"),
            names.node("Squeeze", &[input(5), ".axis_0"], &[".h_0"]),
            names.node("Squeeze", &[input(6), ".axis_0"], &[".c_0"]),
        ];
        let ids = self.lookup.input[self.ids].as_str();
        nodes.extend(GATES.map(|(gate, _)| {
            names.node("Gather", &[&format!(".table_{gate}"), ids], &[&format!(".inputs_{gate}")])
        }));
        // Y (time, 1, batch, hidden) is made only for who reads it; Y_h and Y_c (1, batch, hidden).
        let mut outputs = vec![".h_n", ".c_n"];
        outputs.extend(output(0).map(|_| ".all_h"));
        let mut scan = names.node(
            "Scan",
            &[".h_0", ".c_0", ".inputs_i", ".inputs_o", ".inputs_f", ".inputs_g"],
            &outputs,
        );
        let (g, r#type) = (Some(self.body(output(0).is_some(), &names)), AttributeType::Graph as i32);
        let body = AttributeProto { name: "body".to_owned(), g, r#type, ..AttributeProto::default() };
        scan.attribute = vec![body, AttributeProto::of_integer("num_scan_inputs", GATES.len() as i64)];
        nodes.push(scan);
        for (at, (from, axis)) in
            [(".all_h", ".axis_1"), (".h_n", ".axis_0"), (".c_n", ".axis_0")].into_iter().enumerate()
        {
            nodes.extend(output(at).map(|to| names.node("Unsqueeze", &[from, axis], &[to])));
        }
        (nodes, constants)
    }

    /// One step of the cell.
    fn body(&self, gives_all: bool, names: &Names) -> GraphProto {
        let rows = |name: &str| {
            let axes =
                [None, Some(Dimension::Value(self.hidden as i64))].map(|value| DimensionProto { value });
            ValueInfoProto::tensor(&names.of(name), DataType::Float, axes.to_vec())
        };
        let mut graph = GraphProto {
            name: names.of(".step"),
            input: [".h", ".c", ".step_i", ".step_o", ".step_f", ".step_g"].map(rows).to_vec(),
            output: [".next_h", ".next_c"].map(rows).to_vec(),
            node: names.gates(".h", ".step", [".i", ".o", ".f", ".g"]).collect(),
            ..GraphProto::default()
        };
        graph.node.extend([
            names.node("Mul", &[".f", ".c"], &[".kept"]),
            names.node("Mul", &[".i", ".g"], &[".new"]),
            names.node("Add", &[".kept", ".new"], &[".next_c"]),
            names.node("Tanh", &[".next_c"], &[".tanh_c"]),
            names.node("Mul", &[".o", ".tanh_c"], &[".next_h"]),
        ]);
        if gives_all {
            graph.output.push(rows(".output"));
            graph.node.push(names.node("Identity", &[".next_h"], &[".output"]));
        }
        graph
    }
}

/// The gates of a decoder's first layer: `Split(Add(MatMul(h, R), Gather(table, token)))`, activated and cut
/// again.
struct Cell {
    /// Where the new nodes go.
    at: usize,
    nodes: Vec<NodeProto>,
    gates: TensorProto,
    /// Values that the new nodes give instead.
    replaced: Vec<String>,
}

impl Cell {
    /// The cell whose `Add` is node `at`.
    fn find(graph: &GraphProto, at: usize) -> Option<Self> {
        let reader =
            |name: &str, op: &str| graph.node.iter().find(|node| node.is(op) && node.input(0) == Some(name));
        let add = graph.node.get(at).filter(|node| node.is("Add"))?;
        let (product, lookup) =
            (made_by(graph, add.input(0)?, "MatMul")?, made_by(graph, add.input(1)?, "Gather")?);
        let width = usize::try_from(*constant(graph, lookup.input(0)?)?.dims.get(1)?).ok()?;
        let halves = reader(add.output.first()?, "Split")?;
        let [sigmoid, tanh] = halves.output.as_slice() else { return None };
        let (sigmoid, tanh) = (reader(sigmoid, "Sigmoid")?, reader(tanh, "Tanh")?);
        let gates = reader(sigmoid.output.first()?, "Split")?;
        let ([i, o, f], [g]) = (gates.output.as_slice(), tanh.output.as_slice()) else { return None };
        if lookup.int("axis", 0) != 0
            || halves.int("axis", 0) != 1
            || gates.int("axis", 0) != 1
            || !width.is_multiple_of(4)
        {
            return None;
        }
        let names = Names("s2s.split".to_owned());
        let mut nodes = vec![names.cut(lookup.input(0)?, ".table"), names.cut(product.input(1)?, ".r")];
        let token = lookup.input(1)?;
        nodes.extend(GATES.map(|(gate, _)| {
            names.node("Gather", &[&format!(".table_{gate}"), token], &[&format!(".inputs_{gate}")])
        }));
        nodes.extend(names.gates(product.input(0)?, ".inputs", [i, o, f, g]));
        let replaced = [i, o, f, g].map(String::clone).to_vec();
        // Nothing that comes before the product can be among them, so that its place stays.
        Some(Self { at, nodes, gates: names.widths(width / 4), replaced })
    }
}

/// Removes nodes and constants that no output needs; engines warn about them.
fn drop_unused(graph: &mut GraphProto) {
    let mut needed: std::collections::HashSet<String> =
        graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
            needed
                .extend(bodies.flat_map(GraphProto::all_nodes).flat_map(|inner| inner.input.iter().cloned()));
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
}
