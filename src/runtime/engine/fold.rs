//! Rewrites our encoders into a form that is faster for many rows.
//!
//! An LSTM operator multiplies the input of every token by W. Where tokens are ids, there are only as many such products as
//! symbols: a table of them (symbols, 4 hidden), made once when the graph is loaded, leaves a lookup and the product with
//! R for each token, as in the decoder's step. `Scan` runs that cell over time. The file stays as it is, because fewer
//! runtimes have Scan, and because a single row is faster through the operator.

use prost::Message as _;

use crate::contract::{PAD, metadata};
use crate::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

/// Values of a table that is not worth its memory (16 MiB).
const LARGEST_TABLE: usize = 4 << 20;

/// The same encoder with its LSTM operators as a table and a Scan each; `None` unless it has one layer of them (in one or
/// two directions) over ids, in the form that `s2s export` writes.
///
/// - `symbols`: size of the source vocabulary.
pub fn folded_encoder(model: &[u8], symbols: usize) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(model).ok()?;
    // That the last channel is 1 at tokens and 0 at PAD is our own rule.
    model.metadata(metadata::FORMAT_VERSION)?;
    let graph = model.graph.as_mut()?;
    let mut any = false;
    for at in (0..graph.node.len()).rev() {
        if let Some((nodes, constants)) = Layer::find(graph, &graph.node[at], symbols).map(|layer| layer.as_scan(at)) {
            graph.node.splice(at..=at, nodes);
            graph.initializer.extend(constants);
            any = true;
        }
    }
    // An LSTM operator behind a Scan fails in tract, and what the first of several layers would save is little.
    if !any || graph.node.iter().any(NodeProto::is_recurrent) {
        return None;
    }
    drop_unused(graph);
    Some(model.encode_to_vec())
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
        let made_by = |name: &str, op: &str| graph.node.iter().find(|node| node.is(op) && node.output.iter().any(|output| output == name));
        let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
        let plain = lstm.attribute.iter().all(|a| a.name == "hidden_size" || (a.name == "direction" && a.s == b"forward"));
        if !lstm.is("LSTM") || !plain || lstm.input.len() > 7 || lstm.input(4).is_some() {
            return None;
        }
        let no_bias = lstm.input(3).is_none_or(|b| constant(b).and_then(TensorProto::floats).is_some_and(|b| b.iter().all(|&x| x == 0.0)));
        let hidden = usize::try_from(*constant(lstm.input(2)?)?.dims.get(2)?).ok()?;
        let _initial = (lstm.input(5)?, lstm.input(6)?);
        let add = made_by(lstm.input(0)?, "Add")?;
        let (pad, mask) = (made_by(add.input(0)?, "Pad")?, made_by(add.input(1)?, "Mul")?);
        let lookup = made_by(pad.input(0)?, "Gather").or_else(|| made_by(pad.input(0)?, "OneHot"))?;
        let ids = usize::from(lookup.is("Gather"));
        let fits =
            lookup.int("axis", if ids == 1 { 0 } else { -1 }) == if ids == 1 { 0 } else { -1 } && symbols * 4 * hidden <= LARGEST_TABLE;
        let is_read = |name: &&str| {
            graph.node.iter().any(|node| node.input.iter().any(|input| input == name)) || graph.output.iter().any(|o| o.name == *name)
        };
        let read = lstm.output.iter().map(String::as_str).filter(|name| !name.is_empty()).filter(is_read).collect();
        (no_bias && fits).then_some(Self { lstm, add, pad, mask, lookup, ids, hidden, symbols, read })
    }

    /// The nodes that take the operator's place, and their constants; `number` tells several layers apart.
    fn as_scan(&self, number: usize) -> (Vec<NodeProto>, Vec<TensorProto>) {
        let own = |name: &str| format!("s2s.folded_{number}.{name}");
        let (hidden, symbols) = (self.hidden as i64, self.symbols);
        let ids: Vec<i64> = (0..symbols as i64).collect();
        let is_token: Vec<f32> = ids.iter().map(|&id| if id == i64::from(PAD) { 0.0 } else { 1.0 }).collect();
        let constants = vec![
            TensorProto::of_integers(&own("all_ids"), &[symbols, 1], &ids),
            TensorProto::of_floats(&own("is_token"), &[symbols, 1, 1], &is_token),
            TensorProto::of_integers(&own("axis_0"), &[1], &[0]),
            TensorProto::of_integers(&own("axis_1"), &[1], &[1]),
            TensorProto::of_integers(&own("sigmoid_tanh"), &[2], &[3 * hidden, hidden]),
            TensorProto::of_integers(&own("three_gates"), &[3], &[hidden; 3]),
        ];
        // The layer's own nodes over all symbols as a batch of one column, so that the table is what they compute.
        let again = |node: &NodeProto, changes: &[(usize, String)], output: &str| {
            let mut node = NodeProto { name: own(output), output: vec![own(output)], ..node.clone() };
            changes.iter().for_each(|(at, name)| node.input[*at].clone_from(name));
            node
        };
        let node = |op: &str, inputs: &[&str], outputs: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            NodeProto {
                op_type: op.to_owned(),
                input: names(inputs),
                output: names(outputs),
                name: outputs[0].to_owned(),
                ..NodeProto::default()
            }
        };
        let swap =
            [AttributeProto { name: "perm".to_owned(), ints: vec![1, 0], r#type: AttributeType::Ints as i32, ..AttributeProto::default() }];
        let transposed = |input: &str, output: &str| NodeProto { attribute: swap.to_vec(), ..node("Transpose", &[input], &[output]) };
        let input = |at: usize| self.lstm.input[at].as_str();
        let output = |at: usize| self.lstm.output.get(at).filter(|name| self.read.contains(&name.as_str()));
        let axis_0 = own("axis_0");

        let mut nodes = vec![
            again(self.lookup, &[(self.ids, own("all_ids"))], "rows"),
            again(self.pad, &[(0, own("rows"))], "padded"),
            again(self.mask, &[(0, own("is_token"))], "mask"),
            again(self.add, &[(0, own("padded")), (1, own("mask"))], "channels"),
            node("Squeeze", &[&own("channels"), &own("axis_1")], &[&own("x")]),
            node("Squeeze", &[input(1), &axis_0], &[&own("w")]),
            transposed(&own("w"), &own("w_t")),
            node("MatMul", &[&own("x"), &own("w_t")], &[&own("table")]),
            node("Gather", &[&own("table"), self.lookup.input[self.ids].as_str()], &[&own("inputs")]),
            node("Squeeze", &[input(2), &axis_0], &[&own("r")]),
            transposed(&own("r"), &own("r_t")),
            node("Squeeze", &[input(5), &axis_0], &[&own("h_0")]),
            node("Squeeze", &[input(6), &axis_0], &[&own("c_0")]),
        ];
        // Y (time, 1, batch, hidden) is made only for who reads it; Y_h and Y_c (1, batch, hidden).
        let (h_n, c_n, all_h) = (own("h_n"), own("c_n"), own("all_h"));
        let mut outputs = vec![h_n.as_str(), c_n.as_str()];
        outputs.extend(output(0).map(|_| all_h.as_str()));
        let mut scan = node("Scan", &[&own("h_0"), &own("c_0"), &own("inputs")], &outputs);
        let body = self.body(output(0).is_some(), own, &node);
        scan.attribute = vec![
            AttributeProto { name: "body".to_owned(), g: Some(body), r#type: AttributeType::Graph as i32, ..AttributeProto::default() },
            AttributeProto {
                name: "num_scan_inputs".to_owned(),
                i: Some(1),
                r#type: AttributeType::Int as i32,
                ..AttributeProto::default()
            },
        ];
        nodes.push(scan);
        let unsqueezed = [(all_h.as_str(), own("axis_1")), (h_n.as_str(), axis_0.clone()), (c_n.as_str(), axis_0)];
        for (at, (from, axis)) in unsqueezed.iter().enumerate() {
            nodes.extend(output(at).map(|to| node("Unsqueeze", &[from, axis], &[to])));
        }
        (nodes, constants)
    }

    /// One step of the cell; the gates lie as ONNX has them, i o f c.
    fn body(&self, gives_all: bool, own: impl Fn(&str) -> String, node: &impl Fn(&str, &[&str], &[&str]) -> NodeProto) -> GraphProto {
        let hidden = self.hidden as i64;
        let rows = |name: &str, width: i64| {
            let axes = vec![DimensionProto { value: None }, DimensionProto { value: Some(Dimension::Value(width)) }];
            ValueInfoProto::tensor(&own(name), DataType::Float, axes)
        };
        let step = |op: &str, inputs: &[&str], outputs: &[&str]| {
            let (inputs, outputs): (Vec<String>, Vec<String>) =
                (inputs.iter().map(|x| own(x)).collect(), outputs.iter().map(|x| own(x)).collect());
            let (inputs, outputs): (Vec<&str>, Vec<&str>) =
                (inputs.iter().map(String::as_str).collect(), outputs.iter().map(String::as_str).collect());
            node(op, &inputs, &outputs)
        };
        let axis = AttributeProto { name: "axis".to_owned(), i: Some(1), r#type: AttributeType::Int as i32, ..AttributeProto::default() };
        let split = |inputs: &[&str], outputs: &[&str]| NodeProto { attribute: vec![axis.clone()], ..step("Split", inputs, outputs) };
        let mut graph = GraphProto {
            name: own("step"),
            input: vec![rows("h", hidden), rows("c", hidden), rows("step_inputs", 4 * hidden)],
            output: vec![rows("next_h", hidden), rows("next_c", hidden)],
            node: vec![
                step("MatMul", &["h", "r_t"], &["recurrent"]),
                step("Add", &["recurrent", "step_inputs"], &["gates"]),
                split(&["gates", "sigmoid_tanh"], &["raw_iof", "raw_g"]),
                step("Sigmoid", &["raw_iof"], &["iof"]),
                step("Tanh", &["raw_g"], &["g"]),
                split(&["iof", "three_gates"], &["i", "o", "f"]),
                step("Mul", &["f", "c"], &["kept"]),
                step("Mul", &["i", "g"], &["new"]),
                step("Add", &["kept", "new"], &["next_c"]),
                step("Tanh", &["next_c"], &["tanh_c"]),
                step("Mul", &["o", "tanh_c"], &["next_h"]),
            ],
            ..GraphProto::default()
        };
        if gives_all {
            graph.output.push(rows("output", hidden));
            graph.node.push(step("Identity", &["next_h"], &["output"]));
        }
        graph
    }
}

/// Removes nodes and constants that no output needs; engines warn about them.
fn drop_unused(graph: &mut GraphProto) {
    let mut needed: std::collections::HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
            needed.extend(bodies.flat_map(GraphProto::all_nodes).flat_map(|inner| inner.input.iter().cloned()));
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
}
