//! Small graphs, made in memory, for what happens on a device between two steps: rows that join, leave and
//! change places, and the best few scores. All bundles and workers of the program share them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use prost::Message as _;

use super::bound::Bound;
use crate::engine::device::Device;
use crate::error::Result;
use crate::graph_info::INT64;
use crate::onnx::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// What a small graph does. Element types are ONNX's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Helper {
    /// Gives `x` as it is, wherever it shall lie.
    Copy(i32),
    /// Gives `a` and behind it `b`, both as tables of blocks: `a`, `b`, `table` (int64: -1, width).
    Concat(i32),
    /// Gives blocks of several tensors, each of an element type: for each `x`, `table` (int64: -1, width),
    /// `index` (int64, blocks), `shape` (int64, axes of the result).
    Pick(Vec<i32>),
    /// Gives the highest scores of each row, where they stand, and log-sum-exp: `scores`, `table` (int64: -1,
    /// symbols), `k` (int64, 1), `banned` and `left_out` (bool, 1 and symbols: what is not among the best, and
    /// what is not in the sum), and `index` (int64, rows) if only some rows are meant.
    Best {
        /// Whether only some rows are meant.
        some: bool,
        /// Whether scores are probabilities, whose logarithms are meant: the bits of the least.
        least_probability: Option<u32>,
    },
}

type Opened = HashMap<(Device, Helper), Arc<Bound>>;

static OPENED: LazyLock<Mutex<Opened>> = LazyLock::new(Mutex::default);

impl Helper {
    /// The graph in a session, opened when it is first needed.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`](crate::ErrorKind::Engine) if it cannot be opened.
    pub(super) fn on(&self, device: Device) -> Result<Arc<Bound>> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = opened.get(&(device, self.clone())) {
            return Ok(Arc::clone(bound));
        }
        let bound = Arc::new(Bound::open(device, self.name(), &self.model().encode_to_vec())?);
        opened.insert((device, self.clone()), Arc::clone(&bound));
        Ok(bound)
    }

    /// For errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Copy(_) => "a graph that copies",
            Self::Concat(_) => "a graph that lets rows join",
            Self::Pick(_) => "a graph that moves rows",
            Self::Best { .. } => "a graph that finds the best scores",
        }
    }

    fn model(&self) -> ModelProto {
        let mut graph = Nodes::default();
        match self {
            &Self::Copy(kind) => {
                graph.input("x", kind);
                graph.add("Identity", &["x"], "y");
                graph.output("y", kind);
            }
            &Self::Concat(kind) => {
                graph.input("a", kind);
                graph.input("b", kind);
                graph.input("table", INT64);
                graph.add("Reshape", &["a", "table"], "first");
                graph.add("Reshape", &["b", "table"], "second");
                graph.add("Concat", &["first", "second"], "y").push(AttributeProto::of_integer("axis", 0));
                graph.output("y", kind);
            }
            Self::Pick(kinds) => {
                for (at, &kind) in kinds.iter().enumerate() {
                    let name = |what: &str| format!("{what}_{at}");
                    let [x, table, index, shape, blocks, picked, y] =
                        ["x", "table", "index", "shape", "blocks", "picked", "y"].map(name);
                    graph.input(&x, kind);
                    [&table, &index, &shape].into_iter().for_each(|name| graph.input(name, INT64));
                    graph.add("Reshape", &[&x, &table], &blocks);
                    graph
                        .add("Gather", &[&blocks, &index], &picked)
                        .push(AttributeProto::of_integer("axis", 0));
                    graph.add("Reshape", &[&picked, &shape], &y);
                    graph.output(&y, kind);
                }
            }
            &Self::Best { some, least_probability } => graph.best(some, least_probability),
        }
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
        let graph = Some(GraphProto { name: self.name().to_owned(), ..graph.0 });
        ModelProto { ir_version: 7, graph, opset_import, ..ModelProto::default() }
    }
}

/// A graph that grows node by node.
#[derive(Default)]
struct Nodes(GraphProto);

impl Nodes {
    fn input(&mut self, name: &str, kind: i32) {
        self.0.input.push(tensor(name, kind));
    }

    fn output(&mut self, name: &str, kind: i32) {
        self.0.output.push(tensor(name, kind));
    }

    /// Adds a node with one output; gives its attributes.
    fn add(&mut self, op: &str, inputs: &[&str], output: &str) -> &mut Vec<AttributeProto> {
        self.nodes(op, inputs, &[output])
    }

    fn nodes(&mut self, op: &str, inputs: &[&str], outputs: &[&str]) -> &mut Vec<AttributeProto> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let output: Vec<String> = names(outputs);
        let (name, op_type) = (output[0].clone(), op.to_owned());
        self.0.node.push(NodeProto { input: names(inputs), output, name, op_type, ..NodeProto::default() });
        let last = self.0.node.len() - 1;
        &mut self.0.node[last].attribute
    }

    fn best(&mut self, some: bool, least_probability: Option<u32>) {
        const FLOAT: i32 = DataType::Float as i32;
        self.input("scores", FLOAT);
        ["table", "k"].into_iter().for_each(|name| self.input(name, INT64));
        ["banned", "left_out"].into_iter().for_each(|name| self.input(name, DataType::Bool as i32));
        self.add("Reshape", &["scores", "table"], "all");
        let mut rows = "all";
        if some {
            self.input("index", INT64);
            self.add("Gather", &[rows, "index"], "some").push(AttributeProto::of_integer("axis", 0));
            rows = "some";
        }
        if let Some(bits) = least_probability {
            self.0.initializer.push(TensorProto::of_floats("least", &[], &[f32::from_bits(bits)]));
            self.add("Max", &[rows, "least"], "probabilities");
            self.add("Log", &["probabilities"], "logarithms");
            rows = "logarithms";
        }
        let constants = [TensorProto::of_floats("never", &[], &[f32::NEG_INFINITY])];
        self.0.initializer.extend(constants);
        self.0.initializer.push(TensorProto::of_integers("axis", &[1], &[1]));
        self.add("Where", &["banned", "never", rows], "open");
        self.nodes("TopK", &["open", "k"], &["values", "ids"]).push(AttributeProto::of_integer("axis", 1));
        self.add("Where", &["left_out", "never", rows], "counted");
        self.add("ReduceMax", &["counted"], "highest").push(AttributeProto {
            name: "axes".to_owned(),
            ints: vec![1],
            r#type: AttributeType::Ints as i32,
            ..AttributeProto::default()
        });
        self.add("Sub", &["counted", "highest"], "below");
        self.add("Exp", &["below"], "powers");
        self.add("ReduceSum", &["powers", "axis"], "sum");
        self.add("Log", &["sum"], "log_sum");
        self.add("Add", &["log_sum", "highest"], "log_sum_exp");
        self.output("values", FLOAT);
        self.output("ids", INT64);
        self.output("log_sum_exp", FLOAT);
    }
}

/// A tensor of any axes.
fn tensor(name: &str, elem_type: i32) -> ValueInfoProto {
    let shape: Option<TensorShapeProto> = None;
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    let r#type = Some(TypeProto { tensor_type });
    ValueInfoProto { name: name.to_owned(), r#type, doc_string: String::new() }
}
