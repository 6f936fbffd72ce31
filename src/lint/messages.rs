//! What the rules read of an ONNX file, bodies of Loop, If and Scan included; other fields are passed over.
//!
//! Apart from [`crate::onnx::messages`], which holds what is written: foreign files keep numbers in fields that are never
//! written there, and all of their weights need not be read.

use prost::Message;

use crate::onnx::messages::{OperatorSetIdProto, ValueInfoProto};

/// An ONNX file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the messages.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The computation.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Operator sets.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Operators that are defined by others.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

/// A graph, or the body of a node.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Its nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constant tensors.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What it reads.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// What it gives.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of values in between.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
}

/// An operator that is defined by others.
#[derive(Clone, PartialEq, Message)]
pub struct Function {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its nodes.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<Node>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of the values read; empty where one is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values given.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its own name, often empty.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// Its operator set; empty or `ai.onnx` for the standard one.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named attribute.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A float.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// An integer.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// A text.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    /// A body.
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Bodies.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
}

/// A constant tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Axes.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// The element type.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Elements as floats.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements as small integers, or the bits of half-width floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements as integers.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Elements as doubles.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
}

impl Node {
    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    /// A text attribute; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        self.attribute(name).map_or_else(String::new, |attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// A list of texts; empty if there is none.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.attribute(name).map_or_else(Vec::new, |a| a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    /// An input's name; none where it is left out.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Whether it is the standard operator `op`.
    pub fn is(&self, op: &str) -> bool {
        self.op_type == op && matches!(self.domain.as_str(), "" | "ai.onnx")
    }

    /// Whether it is an LSTM, a GRU or an RNN.
    pub fn is_recurrent(&self) -> bool {
        ["LSTM", "GRU", "RNN"].iter().any(|op| self.is(op))
    }
}
