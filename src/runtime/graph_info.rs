//! What an ONNX file says about itself: inputs, outputs and `metadata_props`, read without its weights.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::error::{Error, ErrorKind, Result};

/// The outside of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphInfo {
    /// Inputs in order.
    pub inputs: Vec<TensorInfo>,
    /// Outputs in order.
    pub outputs: Vec<TensorInfo>,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// LSTM, GRU and RNN nodes: engines differ in what they compute of them.
    pub recurrent: Vec<RecurrentNode>,
    /// Version of the file format.
    pub ir_version: i64,
    /// Version of the default operator set; 0 if none is named.
    pub opset: i64,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// ONNX element type: 1 is f32, 7 is int64, 0 is not said.
    pub element_type: i32,
    /// Axes; `None` if the rank is not said.
    pub shape: Option<Vec<Dimension>>,
}

/// A recurrent node, with its attributes other than sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurrentNode {
    /// Its name, or that of its first output.
    pub name: String,
    /// `LSTM`, `GRU` or `RNN`.
    pub operator: String,
    /// Attributes that are not at their default: name, and the value where it is a string.
    pub attributes: Vec<(String, String)>,
}

/// One axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// A fixed size.
    Fixed(usize),
    /// A named, free size.
    Symbol(String),
    /// Free and unnamed.
    Unknown,
}

/// ONNX element type f32.
pub const FLOAT: i32 = 1;
/// ONNX element type int64.
pub const INT64: i32 = 7;

impl GraphInfo {
    /// Reads the outside of an ONNX model; weights are passed over, not copied.
    ///
    /// - `name`: what the graph is called in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if the bytes are no ONNX model.
    pub fn read(name: &str, model: &[u8]) -> Result<Self> {
        let wrong = |message: &str| Error::new(ErrorKind::Bundle, message).in_graph(name, None).help("export the bundle again");
        let model = proto::Model::decode(model).map_err(|e| wrong("not an ONNX model, or a truncated one").caused_by(e))?;
        let graph = model.graph.ok_or_else(|| wrong("the ONNX model has no graph"))?;
        let recurrent = graph.node.into_iter().filter(|node| ["LSTM", "GRU", "RNN"].contains(&node.op_type.as_str()));
        Ok(Self {
            recurrent: recurrent.map(RecurrentNode::from).collect(),
            inputs: graph.input.into_iter().map(TensorInfo::from).collect(),
            outputs: graph.output.into_iter().map(TensorInfo::from).collect(),
            metadata: model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
            ir_version: model.ir_version,
            opset: model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx").map_or(0, |set| set.version),
        })
    }

    /// The input called `name`.
    pub fn input(&self, name: &str) -> Option<&TensorInfo> {
        self.inputs.iter().find(|tensor| tensor.name == name)
    }

    /// The output called `name`.
    pub fn output(&self, name: &str) -> Option<&TensorInfo> {
        self.outputs.iter().find(|tensor| tensor.name == name)
    }
}

impl From<proto::Node> for RecurrentNode {
    fn from(node: proto::Node) -> Self {
        let attributes = node.attribute.into_iter().map(|attribute| {
            let at_default = match attribute.name.as_str() {
                "direction" => attribute.string == b"forward",
                "layout" | "input_forget" => attribute.int == 0,
                _ => false,
            };
            (at_default, attribute.name, String::from_utf8_lossy(&attribute.string).into_owned())
        });
        let attributes = attributes.filter(|(at_default, ..)| !at_default).map(|(_, name, value)| (name, value)).collect();
        let name =
            if node.name.is_empty() { node.output.into_iter().find(|output| !output.is_empty()).unwrap_or_default() } else { node.name };
        Self { name, operator: node.op_type, attributes }
    }
}

impl From<proto::ValueInfo> for TensorInfo {
    fn from(value: proto::ValueInfo) -> Self {
        let tensor = value.r#type.and_then(|t| t.tensor_type).unwrap_or_default();
        let shape = tensor.shape.map(|shape| {
            let axis = |dim: proto::Dim| match (dim.value, dim.param) {
                (Some(size), _) => usize::try_from(size).map_or(Dimension::Unknown, Dimension::Fixed),
                (None, Some(symbol)) if !symbol.is_empty() => Dimension::Symbol(symbol),
                _ => Dimension::Unknown,
            };
            shape.dim.into_iter().map(axis).collect()
        });
        Self { name: value.name, element_type: tensor.elem_type, shape }
    }
}

/// The few messages of onnx.proto that are read here; field numbers are those of the ONNX specification.
mod proto {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Model {
        #[prost(int64, tag = "1")]
        pub(super) ir_version: i64,
        #[prost(message, optional, tag = "7")]
        pub(super) graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub(super) opset_import: Vec<OperatorSet>,
        #[prost(message, repeated, tag = "14")]
        pub(super) metadata_props: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct OperatorSet {
        #[prost(string, tag = "1")]
        pub(super) domain: String,
        #[prost(int64, tag = "2")]
        pub(super) version: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Entry {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub(super) node: Vec<Node>,
        #[prost(message, repeated, tag = "11")]
        pub(super) input: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub(super) output: Vec<ValueInfo>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Node {
        #[prost(string, repeated, tag = "2")]
        pub(super) output: Vec<String>,
        #[prost(string, tag = "3")]
        pub(super) name: String,
        #[prost(string, tag = "4")]
        pub(super) op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub(super) attribute: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Attribute {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int64, tag = "3")]
        pub(super) int: i64,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) string: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ValueInfo {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, optional, tag = "2")]
        pub(super) r#type: Option<Type>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Type {
        #[prost(message, optional, tag = "1")]
        pub(super) tensor_type: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct TensorType {
        #[prost(int32, tag = "1")]
        pub(super) elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub(super) shape: Option<Shape>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub(super) dim: Vec<Dim>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Dim {
        #[prost(int64, optional, tag = "1")]
        pub(super) value: Option<i64>,
        #[prost(string, optional, tag = "2")]
        pub(super) param: Option<String>,
    }
}
