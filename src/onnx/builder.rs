//! Builds one ONNX graph: inputs, initialisers, nodes, outputs.
//!
//! The same calls give the same bytes. Values in between get no type annotation (`value_info`), because
//! engines infer them and stale symbols break some when shapes are pinned.

use std::collections::HashMap;

use crate::onnx::messages::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};

/// A value of the graph under construction: an input, an initialiser or what a node gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value(Option<usize>);

impl Value {
    /// An optional input that is left out, as in `node("LSTM", &[&x, &w, &r, &Value::none(), ...], ...)`.
    pub fn none() -> Self {
        Self(None)
    }
}

/// The length of an axis of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Known when the graph runs; equal wherever the symbol is equal.
    Symbol(&'static str),
    /// Known now.
    Fixed(usize),
}

/// The value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// A float.
    Float(f32),
    /// Floats.
    Floats(Vec<f32>),
    /// A text.
    String(String),
    /// Texts.
    Strings(Vec<String>),
    /// A tensor.
    Tensor(TensorProto),
    /// The body of a Loop, made with [`GraphBuilder::body`].
    Graph(Body),
}

/// A graph inside a graph. Its nodes may read values of the graph around it; constants and weights are all
/// out there.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    name: String,
    nodes: Vec<Node>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
}

/// Where a value comes from: only what a node gives can take the name of an output, and only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Input,
    Initializer(usize),
    Node,
    Output,
}

#[derive(Debug)]
struct ValueEntry {
    name: String,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    op: String,
    name: String,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    attributes: Vec<(String, Attribute)>,
}

/// A graph under construction.
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    scope: String,
    values: Vec<ValueEntry>,
    /// Names of values and nodes that are taken, with how often each was asked for.
    taken: HashMap<String, usize>,
    initializers: Vec<TensorProto>,
    constants: HashMap<(DataType, Vec<i64>, Vec<u8>), Value>,
    by_name: HashMap<String, Value>,
    nodes: Vec<Node>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    /// Whether the nodes are those of a body.
    in_body: bool,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scope: String::new(),
            values: Vec::new(),
            taken: HashMap::new(),
            initializers: Vec::new(),
            constants: HashMap::new(),
            by_name: HashMap::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            in_body: false,
        }
    }

    /// Names the nodes that follow `scope.operator`, for example `encoder.lstm_0.MatMul`; an empty scope ends
    /// it.
    pub fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Declares an input of the graph.
    ///
    /// # Panics
    /// If the name is taken: two inputs of one name are a defect of the caller.
    pub fn input(&mut self, name: &str, data_type: DataType, axes: &[Axis]) -> Value {
        self.reserve(name);
        self.inputs.push(ValueInfoProto::tensor(name, data_type, dimensions(axes)));
        self.add(name.to_owned(), Origin::Input)
    }

    /// Makes `value` an output of the graph. It takes this name.
    ///
    /// No node reads an output: converters put a Cast in front of outputs and rename them there, and inner
    /// nodes would lose what they read. What is read is therefore computed a second time for the output where
    /// that costs next to nothing, and goes through an `Identity` node else, as do an input, an initialiser
    /// and a value that is an output already. (Engines merge equal nodes; the version converter knows no way
    /// back for Identity.) In the body of a Loop, where each round would pay for it, outputs are read.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn output(&mut self, name: &str, value: &Value, data_type: DataType, axes: &[Axis]) {
        let value = if self.origin(value) != Some(Origin::Node) {
            self.node("Identity", &[value], &[])
        } else if !self.in_body && self.nodes.iter().any(|node| node.inputs.contains(value)) {
            self.again(value)
        } else {
            value.clone()
        };
        self.reserve(name);
        if let Some(id) = value.0 {
            self.values[id] = ValueEntry { name: name.to_owned(), origin: Origin::Output };
        }
        self.outputs.push(ValueInfoProto::tensor(name, data_type, dimensions(axes)));
    }

    /// The same value, from a node that nothing reads yet.
    fn again(&mut self, value: &Value) -> Value {
        const CHEAP: [&str; 7] = ["Add", "Mul", "Sub", "Tanh", "Relu", "Squeeze", "Unsqueeze"];
        let gives = |node: &&Node| node.outputs == [value.clone()] && CHEAP.contains(&node.op.as_str());
        let Some(node) = self.nodes.iter().find(gives).cloned() else {
            return self.node("Identity", &[value], &[]);
        };
        let (inputs, attributes) = (node.inputs.iter().collect::<Vec<_>>(), &node.attributes);
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        self.node(&node.op, &inputs, &attributes)
    }

    /// A named f32 tensor, row-major; the same name again gives the same value.
    ///
    /// # Panics
    /// If the name is taken by something else or by other bytes, or if `shape` does not fit the number of
    /// values.
    pub fn initializer(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Value {
        let tensor = TensorProto::of_floats(name, shape, data);
        if let Some(value) = self.by_name.get(name) {
            let Some(Origin::Initializer(position)) = self.origin(value) else {
                unreachable!("only initialisers are found by name")
            };
            assert!(
                self.initializers[position] == tensor,
                "initialiser {name} was added before with another shape or other values"
            );
            return value.clone();
        }
        self.reserve(name);
        self.add_initializer(tensor)
    }

    /// A constant int64 tensor, row-major; equal constants are one value.
    pub fn int64(&mut self, shape: &[usize], data: &[i64]) -> Value {
        self.constant(TensorProto::of_integers("", shape, data))
    }

    /// A constant f32 tensor without a name of its own, row-major; equal constants are one value.
    pub fn float(&mut self, shape: &[usize], data: &[f32]) -> Value {
        self.constant(TensorProto::of_floats("", shape, data))
    }

    /// A node with one output.
    ///
    /// `axes` of ReduceMax and its kin is always given as an attribute: [`finish`](Self::finish) turns it
    /// into an input for the operator sets that want it so. (ReduceSum, Squeeze and Unsqueeze take it as an
    /// input since 13.)
    pub fn node(&mut self, op: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> Value {
        let mut outputs = self.node_n(op, inputs, attributes, 1);
        outputs.swap_remove(0)
    }

    /// A node with several outputs; those that nothing reads are written all the same.
    pub fn node_n(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Vec<Value> {
        let name =
            self.unique(&if self.scope.is_empty() { op.to_owned() } else { format!("{}.{op}", self.scope) });
        let outputs: Vec<Value> = (0..outputs)
            .map(|i| {
                let output = self.unique(&format!("{name}.out{i}"));
                self.add(output, Origin::Node)
            })
            .collect();
        self.nodes.push(Node {
            op: op.to_owned(),
            name,
            inputs: inputs.iter().map(|&v| v.clone()).collect(),
            outputs: outputs.clone(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        });
        outputs
    }

    /// A constant truth value.
    pub fn boolean(&mut self, value: bool) -> Value {
        self.constant(TensorProto::of_bool("", value))
    }

    /// The body of a Loop: `build` declares its inputs and outputs and adds its nodes. Values from outside
    /// can be read, but only go out again through a node of the body.
    pub fn body(&mut self, name: &str, build: impl FnOnce(&mut Self)) -> Attribute {
        let (nodes, inputs, outputs) = (
            std::mem::take(&mut self.nodes),
            std::mem::take(&mut self.inputs),
            std::mem::take(&mut self.outputs),
        );
        let around = std::mem::replace(&mut self.in_body, true);
        build(self);
        self.in_body = around;
        let body = Body {
            name: name.to_owned(),
            nodes: std::mem::replace(&mut self.nodes, nodes),
            inputs: std::mem::replace(&mut self.inputs, inputs),
            outputs: std::mem::replace(&mut self.outputs, outputs),
        };
        Attribute::Graph(body)
    }

    /// The finished model.
    ///
    /// - `opset`: version of the standard operators; `ir`: see [`ir_version`](crate::onnx::ir_version).
    /// - `metadata`: `metadata_props`, in this order.
    pub fn finish(mut self, opset: i64, ir: i64, metadata: &[(String, String)]) -> ModelProto {
        if opset >= 18 {
            let mut nodes = std::mem::take(&mut self.nodes);
            self.axes_as_input(&mut nodes);
            self.nodes = nodes;
        }
        let node = self.protos(&self.nodes);
        let graph = GraphProto {
            node,
            name: self.name,
            initializer: self.initializers,
            doc_string: String::new(),
            input: self.inputs,
            output: self.outputs,
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: ir,
            producer_name: "s2s".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            doc_string: String::new(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
            metadata_props: metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
                .collect(),
            ..ModelProto::default()
        }
    }

    fn protos(&self, nodes: &[Node]) -> Vec<NodeProto> {
        let name = |value: &Value| value.0.map_or_else(String::new, |id| self.values[id].name.clone());
        let proto = |node: &Node| NodeProto {
            input: node.inputs.iter().map(name).collect(),
            output: node.outputs.iter().map(name).collect(),
            name: node.name.clone(),
            op_type: node.op.clone(),
            attribute: node.attributes.iter().map(|(name, value)| self.attribute(name, value)).collect(),
            domain: String::new(),
        };
        nodes.iter().map(proto).collect()
    }

    /// Values of a body are named by this graph, so that it writes them.
    fn attribute(&self, name: &str, value: &Attribute) -> AttributeProto {
        let mut proto = value.to_proto(name);
        if let Attribute::Graph(body) = value {
            proto.g = Some(GraphProto {
                node: self.protos(&body.nodes),
                name: body.name.clone(),
                input: body.inputs.clone(),
                output: body.outputs.clone(),
                ..GraphProto::default()
            });
        }
        proto
    }

    /// From operator set 18 on, these take `axes` as an input.
    fn axes_as_input(&mut self, nodes: &mut [Node]) {
        const REDUCTIONS: [&str; 9] = [
            "ReduceMax",
            "ReduceMin",
            "ReduceMean",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceSumSquare",
        ];
        for node in nodes {
            for (_, attribute) in &mut node.attributes {
                if let Attribute::Graph(body) = attribute {
                    self.axes_as_input(&mut body.nodes);
                }
            }
            if !REDUCTIONS.contains(&node.op.as_str()) {
                continue;
            }
            let Some(at) = node.attributes.iter().position(|(name, _)| name == "axes") else { continue };
            if let (_, Attribute::Ints(axes)) = node.attributes.remove(at) {
                node.inputs.push(self.int64(&[axes.len()], &axes));
            }
        }
    }

    fn constant(&mut self, mut tensor: TensorProto) -> Value {
        let data_type = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        let key = (data_type, tensor.dims.clone(), tensor.raw_data.to_vec());
        if let Some(value) = self.constants.get(&key) {
            return value.clone();
        }
        tensor.name = self.unique("constant");
        let value = self.add_initializer(tensor);
        self.constants.insert(key, value.clone());
        value
    }

    fn add_initializer(&mut self, tensor: TensorProto) -> Value {
        let name = tensor.name.clone();
        self.initializers.push(tensor);
        let value = self.add(name.clone(), Origin::Initializer(self.initializers.len() - 1));
        self.by_name.insert(name, value.clone());
        value
    }

    fn add(&mut self, name: String, origin: Origin) -> Value {
        self.values.push(ValueEntry { name, origin });
        Value(Some(self.values.len() - 1))
    }

    fn origin(&self, value: &Value) -> Option<Origin> {
        value.0.map(|id| self.values[id].origin)
    }

    fn reserve(&mut self, name: &str) {
        let uses = self.taken.entry(name.to_owned()).or_insert(0);
        assert!(*uses == 0, "the name {name} is taken in graph {}", self.name);
        *uses = 1;
    }

    /// `stem`, or `stem_1`, `stem_2`, ... where it is taken.
    fn unique(&mut self, stem: &str) -> String {
        let mut n = self.taken.get(stem).copied().unwrap_or(0);
        loop {
            let name = if n == 0 { stem.to_owned() } else { format!("{stem}_{n}") };
            n += 1;
            if !self.taken.contains_key(&name) {
                self.taken.insert(name.clone(), 1);
                self.taken.insert(stem.to_owned(), n);
                return name;
            }
        }
    }
}

impl Attribute {
    fn to_proto(&self, name: &str) -> AttributeProto {
        let mut proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        let kind = match self {
            Self::Int(i) => {
                proto.i = Some(*i);
                AttributeType::Int
            }
            Self::Ints(ints) => {
                proto.ints.clone_from(ints);
                AttributeType::Ints
            }
            Self::Float(f) => {
                proto.f = Some(*f);
                AttributeType::Float
            }
            Self::Floats(floats) => {
                proto.floats.clone_from(floats);
                AttributeType::Floats
            }
            Self::String(s) => {
                proto.s = s.clone().into_bytes();
                AttributeType::String
            }
            Self::Strings(strings) => {
                proto.strings = strings.iter().map(|s| s.clone().into_bytes()).collect();
                AttributeType::Strings
            }
            Self::Tensor(tensor) => {
                proto.t = Some(tensor.clone());
                AttributeType::Tensor
            }
            Self::Graph(_) => AttributeType::Graph,
        };
        proto.r#type = kind as i32;
        proto
    }
}

fn dimensions(axes: &[Axis]) -> Vec<DimensionProto> {
    axes.iter()
        .map(|axis| DimensionProto {
            value: Some(match *axis {
                Axis::Symbol(name) => Dimension::Param(name.to_owned()),
                Axis::Fixed(length) => Dimension::Value(length as i64),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests;
