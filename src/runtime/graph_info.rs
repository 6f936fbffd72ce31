//! What an ONNX file says about itself: inputs, outputs and `metadata_props`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::checked::CheckedModel;
use crate::error::Result;
use crate::onnx::{self, DimensionProto, GraphProto, ValueInfoProto, all_nodes};

/// The outside of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphInfo {
    /// Inputs in order.
    pub inputs: Vec<TensorInfo>,
    /// Outputs in order.
    pub outputs: Vec<TensorInfo>,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Inputs that no node reads and no output gives: whatever they are fed changes nothing.
    pub unread: Vec<String>,
    /// Every operator of the graph and of the graphs in it, once; those outside the standard set with their
    /// domain: `com.microsoft.Attention`.
    pub operators: BTreeSet<String>,
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
/// ONNX element type int32.
pub const INT32: i32 = 6;
/// ONNX element type int64.
pub const INT64: i32 = 7;
/// ONNX element type bool.
pub const BOOL: i32 = 9;

impl GraphInfo {
    /// Reads and checks a model, and keeps its outside.
    ///
    /// - `name`: what the graph is called in errors.
    ///
    /// # Errors
    /// As [`CheckedModel::read`].
    pub fn read(name: &str, model: &[u8]) -> Result<Self> {
        CheckedModel::read(name, model).map(|model| Self::of(&model))
    }

    /// The outside of a model.
    pub fn of(model: &CheckedModel) -> Self {
        let graph = model.graph();
        let standard = model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
        let read: HashSet<&str> = all_nodes(&graph.node)
            .into_iter()
            .flat_map(|node| node.input.iter().chain(node.bodies().flat_map(given_names)))
            .chain(given_names(graph))
            .map(String::as_str)
            .collect();
        let names = graph.input.iter().map(|input| &input.name);
        Self {
            unread: names.filter(|name| !read.contains(name.as_str())).cloned().collect(),
            operators: all_nodes(&graph.node)
                .into_iter()
                .map(|node| match node.domain.as_str() {
                    "" | "ai.onnx" => node.op_type.clone(),
                    domain => format!("{domain}.{}", node.op_type),
                })
                .collect(),
            inputs: graph.input.iter().map(TensorInfo::of).collect(),
            outputs: graph.output.iter().map(TensorInfo::of).collect(),
            metadata: model
                .metadata_props
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.clone()))
                .collect(),
            ir_version: model.ir_version,
            opset: standard.map_or(0, |set| set.version),
        }
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

/// Names of a graph's outputs.
fn given_names(graph: &GraphProto) -> impl Iterator<Item = &String> {
    graph.output.iter().map(|output| &output.name)
}

impl TensorInfo {
    /// Reads one input or output of a graph.
    pub fn of(value: &ValueInfoProto) -> Self {
        let axis = |dim: &DimensionProto| match &dim.value {
            Some(onnx::Dimension::Value(size)) => {
                usize::try_from(*size).map_or(Dimension::Unknown, Dimension::Fixed)
            }
            Some(onnx::Dimension::Param(symbol)) if !symbol.is_empty() => Dimension::Symbol(symbol.clone()),
            _ => Dimension::Unknown,
        };
        let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let shape =
            tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.iter().map(axis).collect());
        Self { name: value.name.clone(), element_type: tensor.map_or(0, |tensor| tensor.elem_type), shape }
    }
}
