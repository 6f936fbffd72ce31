//! The ONNX protobuf messages that the exporter writes and engines, verifier, inspection and linter read, as
//! `prost` structs.
//!
//! Names, field numbers and enum values are those of `onnx.proto` (onnx/onnx, IR version 8). Fields that
//! nothing here writes or reads are left out: decoding skips them. Some are only read, in the files of
//! others.

use prost::Message;
use prost::bytes::Bytes;

/// An ONNX file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of these messages, 8 by default.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// `s2s`.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Version of the producer.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Free text for people.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The computation.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets that the nodes come from.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Named texts; the keys are those of [`contract::metadata`](crate::contract::metadata).
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// How a model is trained further; never written here, and refused by
    /// [`CheckedModel`](crate::checked::CheckedModel): its graphs would pass by all who walk the model.
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    /// Operators that are defined by others; never written here.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// How a model is trained further; only its presence is read.
#[derive(Clone, PartialEq, Message)]
pub struct TrainingInfoProto {}

/// An operator that is defined by others.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Names of the values that it reads.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of the values that it gives.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Its nodes.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// The operator set that it belongs to.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
}

/// A key with a text.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An operator set and its version.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Empty for the standard operators.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in an order in which they can run, with the tensors that they share.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// Nodes, each after those whose outputs it reads.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// The graph's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constant tensors, weights among them.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Free text for people.
    #[prost(string, tag = "10")]
    pub doc_string: String,
    /// What the graph reads.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// What the graph gives.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of values in between; never written here, because stale ones break engines when shapes are
    /// pinned.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Constant tensors of which only the values that are not zero are kept; never written here.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the values read; empty for an omitted optional input.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values given.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The node's own name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Operator set; empty for the standard operators.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named attribute; `r#type` says which field holds it.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// The attribute's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A float. Optional, so that a zero is written too: some readers take an attribute without its field for
    /// damaged.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// An integer; optional for the same reason.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// A text, UTF-8.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// A graph: the body of a Loop.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// Floats.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Tensors; never written here.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// Graphs; never written here.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// Which field holds the value.
    #[prost(enumeration = "AttributeType", tag = "20")]
    pub r#type: i32,
    /// A sparse tensor; never written here.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    /// Sparse tensors; never written here.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
}

/// Kinds of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    /// Not said.
    Undefined = 0,
    /// `f`.
    Float = 1,
    /// `i`.
    Int = 2,
    /// `s`.
    String = 3,
    /// `t`.
    Tensor = 4,
    /// `g`.
    Graph = 5,
    /// `floats`.
    Floats = 6,
    /// `ints`.
    Ints = 7,
    /// `strings`.
    Strings = 8,
}

/// A constant tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Axes, row-major.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The element type.
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// Elements as floats; this and the other typed fields are never written here.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements as small integers, or the bits of half-width floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements as texts.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    /// Elements as integers.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The name of the value.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Elements, little endian; the only form written here, because some engines read no other.
    ///
    /// Shared with the file that they were read from where that was decoded from [`Bytes`], so that weights
    /// are not copied.
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    /// Elements as doubles.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements as unsigned integers.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Where the elements lie if not in here: `location`, `offset`, `length`; never written here, and refused
    /// by [`CheckedModel`](crate::checked::CheckedModel).
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1 if the elements lie in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A tensor of which only some values are kept; all others are zero.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The values that are kept, and the tensor's name.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where they stand.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// Axes of the whole tensor.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// Not said.
    Undefined = 0,
    /// 32-bit float.
    Float = 1,
    /// 8-bit unsigned integer.
    Uint8 = 2,
    /// 8-bit integer.
    Int8 = 3,
    /// 32-bit integer.
    Int32 = 6,
    /// 64-bit integer.
    Int64 = 7,
    /// Truth value, one byte.
    Bool = 9,
    /// 16-bit float.
    Float16 = 10,
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Free text for people.
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

/// The type of a value; only tensors here.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// A tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// The element type.
    #[prost(enumeration = "DataType", tag = "1")]
    pub elem_type: i32,
    /// The shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape; a scalar has no axes.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// Axes.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One axis.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// A number or a symbol; nothing where it is unknown.
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub value: Option<Dimension>,
}

/// The length of an axis.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Dimension {
    /// Fixed.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// Symbolic: the same name, the same length.
    #[prost(string, tag = "2")]
    Param(String),
}

impl TensorProto {
    /// An f32 tensor, row-major.
    ///
    /// # Panics
    /// If `shape` does not fit the number of values.
    pub fn of_floats(name: &str, shape: &[usize], data: &[f32]) -> Self {
        Self::of_bytes(
            name,
            DataType::Float,
            shape,
            data.len(),
            data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        )
    }

    /// An int64 tensor, row-major.
    ///
    /// # Panics
    /// If `shape` does not fit the number of values.
    pub fn of_integers(name: &str, shape: &[usize], data: &[i64]) -> Self {
        Self::of_bytes(
            name,
            DataType::Int64,
            shape,
            data.len(),
            data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        )
    }

    /// A truth value, a scalar.
    pub fn of_bool(name: &str, value: bool) -> Self {
        Self::of_bytes(name, DataType::Bool, &[], 1, vec![u8::from(value)])
    }

    fn of_bytes(name: &str, data_type: DataType, shape: &[usize], len: usize, raw_data: Vec<u8>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            len,
            "shape {shape:?} of {name} does not fit {len} values"
        );
        let dims = shape.iter().map(|&d| d as i64).collect();
        Self {
            dims,
            data_type: data_type as i32,
            name: name.to_owned(),
            raw_data: raw_data.into(),
            ..Self::default()
        }
    }

    /// The shape as lengths; `None` where an axis is negative.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(|&d| usize::try_from(d).ok()).collect()
    }

    /// The elements of a [`DataType::Float`] tensor that is stored as `raw_data` of the right length.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let bytes = self.shape()?.iter().try_fold(4usize, |n, &d| n.checked_mul(d))?;
        (self.data_type == DataType::Float as i32 && self.raw_data.len() == bytes).then(|| {
            self.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        })
    }
}

impl ValueInfoProto {
    /// A tensor's name, element type and axes.
    pub fn tensor(name: &str, elem_type: DataType, dim: Vec<DimensionProto>) -> Self {
        let tensor = TensorTypeProto { elem_type: elem_type as i32, shape: Some(TensorShapeProto { dim }) };
        Self {
            name: name.to_owned(),
            r#type: Some(TypeProto { tensor_type: Some(tensor) }),
            doc_string: String::new(),
        }
    }

    /// Element type and axes, if it is a tensor with a known shape.
    pub fn tensor_type(&self) -> Option<(DataType, &[DimensionProto])> {
        let tensor = self.r#type.as_ref()?.tensor_type.as_ref()?;
        Some((DataType::try_from(tensor.elem_type).ok()?, &tensor.shape.as_ref()?.dim))
    }
}

impl GraphProto {
    /// All nodes, those of bodies after the node that has them.
    pub fn all_nodes(&self) -> Vec<&NodeProto> {
        all_nodes(&self.node)
    }
}

/// `nodes`, and those of their bodies.
pub(crate) fn all_nodes(nodes: &[NodeProto]) -> Vec<&NodeProto> {
    fn collect<'a>(nodes: &'a [NodeProto], found: &mut Vec<&'a NodeProto>) {
        for node in nodes {
            found.push(node);
            node.bodies().for_each(|body| collect(&body.node, found));
        }
    }
    let mut found = Vec::new();
    collect(nodes, &mut found);
    found
}

impl AttributeProto {
    /// An attribute with an integer.
    pub fn of_integer(name: &str, value: i64) -> Self {
        Self { name: name.to_owned(), i: Some(value), r#type: AttributeType::Int as i32, ..Self::default() }
    }
}

impl NodeProto {
    /// The graphs in its attributes: bodies of Loop and Scan, branches of If.
    pub fn bodies(&self) -> impl Iterator<Item = &GraphProto> {
        self.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
    }

    /// What it is called: its name, else its first output, else its operator.
    pub fn label(&self) -> &str {
        let first = self.output.iter().map(String::as_str).find(|name| !name.is_empty());
        if self.name.is_empty() { first.unwrap_or(&self.op_type) } else { &self.name }
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, AttributeProto::i)
    }

    /// A text attribute; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        self.attribute(name)
            .map_or_else(String::new, |attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// A list of texts; empty if there is none.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.attribute(name).map_or_else(Vec::new, |a| {
            a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
        })
    }

    /// An input's name; none where it is left out.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Whether it is the standard operator `op`.
    pub fn is(&self, op: &str) -> bool {
        self.op_type == op && matches!(self.domain.as_str(), "" | "ai.onnx")
    }

    /// Whether it is a recurrent operator with other activations than its own, which are spelled out often.
    pub fn has_other_activations(&self) -> bool {
        let own: &[&str] = match self.op_type.as_str() {
            "LSTM" => &["sigmoid", "tanh", "tanh"],
            "GRU" => &["sigmoid", "tanh"],
            _ => &["tanh"],
        };
        let differs = |(at, name): (usize, String)| !name.eq_ignore_ascii_case(own[at % own.len()]);
        self.is_recurrent() && self.texts("activations").into_iter().enumerate().any(differs)
    }

    /// Whether it is an LSTM, a GRU or an RNN.
    pub fn is_recurrent(&self) -> bool {
        ["LSTM", "GRU", "RNN"].iter().any(|op| self.is(op))
    }
}

impl ModelProto {
    /// The text under `key` of `metadata_props`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }
}
