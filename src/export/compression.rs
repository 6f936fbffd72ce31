//! Smaller weights: f16 or 8-bit initialisers in front of the f32 computation.
//!
//! Each matrix that a MatMul or a Gather reads becomes `NAME.f16` and a Cast, or `NAME.int8` and a
//! DequantizeLinear, whose output has the old name; engines fold both when they load, so that the speed is
//! that of f32, or multiply the 8 bits as they are. Weights of LSTM and GRU nodes stay f32, because some
//! runtimes compute something else when a Cast or DequantizeLinear feeds such a node; but int8 rounds their
//! values as it rounds others, so that an engine which multiplies 8 bits finds the grid again. Vectors and
//! small matrices stay as they are. 8-bit weights are
//! unsigned with zero point 128 and a scale for each output, and have an axis of 1 in front that is squeezed
//! away behind the DequantizeLinear: a signed one, or one that feeds a MatMul directly, is fused into an
//! approximate product by ONNX Runtime and OpenVINO.
//!
//! The network's weights are rounded first and everything is cut from the rounded network, the training graph
//! included: its f32 weights are exactly what the other graphs restore. Only tables that are computed from
//! weights (an embedding folded into a layer) are rounded once more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;

use prost::Message;
use s2s_kernels::{float_from_half, half_from_float};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::messages::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

/// Says how weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Each weight is a 32-bit float, as training has it.
    #[default]
    F32,
    /// Each weight is a 16-bit float (IEEE 754 binary16).
    F16,
    /// Each weight is an 8-bit integer, with a scale for each output.
    Int8,
}

/// Smaller tensors stay as they are.
const LEAST_ELEMENTS: usize = 256;
/// The zero point of 8-bit weights.
const ZERO_POINT: u8 = 128;

impl Dtype {
    /// Lists every type, the plainest first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];

    /// As flags and reports have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// What the graphs of a bundle store, by the largest step away from f32.
    pub(super) fn of<'a>(models: impl IntoIterator<Item = &'a ModelProto>) -> Self {
        let tensors =
            models.into_iter().flat_map(|model| model.graph.iter().flat_map(|graph| &graph.initializer));
        let kinds: HashSet<i32> = tensors.map(|tensor| tensor.data_type).collect();
        // Ours are unsigned; others have signed ones too.
        if [DataType::Uint8, DataType::Int8].iter().any(|kind| kinds.contains(&(*kind as i32))) {
            Self::Int8
        } else if kinds.contains(&(DataType::Float16 as i32)) {
            Self::F16
        } else {
            Self::F32
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.as_str() == text);
        found.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is not a type of weights"))
                .help("choose f32, f16 or int8")
        })
    }
}

/// A tensor as it is stored: the initialisers, and the nodes that restore it.
#[derive(Clone, Debug)]
struct Stored {
    initializers: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
    /// What the nodes give.
    restored: Vec<f32>,
}

/// Weights that are stored smaller, by their names; the same ones for all graphs of an export.
#[derive(Clone, Debug)]
pub(super) struct Compressor {
    dtype: Dtype,
    stored: BTreeMap<String, Stored>,
}

impl Compressor {
    pub(super) fn new(dtype: Dtype) -> Self {
        Self { dtype, stored: BTreeMap::new() }
    }

    /// The values that the graphs will compute with, of a tensor compressed before.
    pub(super) fn restored(&self, name: &str) -> Option<&[f32]> {
        self.stored.get(name).map(|stored| stored.restored.as_slice())
    }

    /// Forgets what is not among `names`.
    pub(super) fn keep(&mut self, names: &HashSet<String>) {
        self.stored.retain(|name, _| names.contains(name));
    }

    /// Stores the weights of a graph smaller.
    pub(super) fn compress(&mut self, graph: &mut GraphProto) {
        if self.dtype == Dtype::F32 {
            return;
        }
        let worth = compressible(graph);
        let recurrent = if self.dtype == Dtype::Int8 { recurrent(graph) } else { HashMap::new() };
        let mut nodes = Vec::new();
        let mut initializers = Vec::new();
        for tensor in std::mem::take(&mut graph.initializer) {
            let stored = match (worth.get(&tensor.name), recurrent.get(&tensor.name)) {
                (Some(&axis), _) => self.store(&tensor, axis),
                (None, Some(&beside)) => self.store_rounded(&tensor, beside),
                (None, None) => None,
            };
            match stored {
                Some(stored) => {
                    initializers.extend(stored.initializers.iter().cloned());
                    nodes.extend(stored.nodes.iter().cloned());
                }
                None => initializers.push(tensor),
            }
        }
        graph.initializer = initializers;
        nodes.append(&mut graph.node);
        graph.node = nodes;
    }

    fn store(&mut self, tensor: &TensorProto, axis: usize) -> Option<&Stored> {
        if !self.stored.contains_key(&tensor.name) {
            let stored = match self.dtype {
                Dtype::F32 => return None,
                Dtype::F16 => half(tensor)?,
                Dtype::Int8 => quantised(tensor, axis)?,
            };
            self.stored.insert(tensor.name.clone(), stored);
        }
        self.stored.get(&tensor.name)
    }

    /// The weights (directions, gates, inputs) of a recurrent node, rounded, in f32; the last `beside` inputs
    /// stay as they are.
    fn store_rounded(&mut self, tensor: &TensorProto, beside: usize) -> Option<&Stored> {
        if !self.stored.contains_key(&tensor.name) {
            let (mut values, shape) = (tensor.floats()?, tensor.shape()?);
            let inputs = *shape.last()?;
            for row in values.chunks_exact_mut(inputs.max(1)) {
                let weights = &mut row[..inputs.saturating_sub(beside)];
                let scale = scale_of(weights.iter().fold(0.0, |largest, x| largest.max(x.abs())));
                weights.iter_mut().for_each(|x| *x = integer_of(*x, scale) * scale);
            }
            let rounded = TensorProto::of_floats(&tensor.name, &shape, &values);
            let stored = Stored { initializers: vec![rounded], nodes: Vec::new(), restored: values };
            self.stored.insert(tensor.name.clone(), stored);
        }
        self.stored.get(&tensor.name)
    }
}

/// An ONNX model of another program with its weights stored smaller, as those of an export are.
///
/// # Errors
/// [`ErrorKind::Bundle`] for what is no ONNX model; [`ErrorKind::Usage`] if its operators are older than
/// those that restore the weights.
pub fn with_smaller_weights(name: &str, model: &[u8], dtype: Dtype) -> Result<Vec<u8>> {
    /// The first operator set whose DequantizeLinear has a scale for each output.
    const LEAST_OPSET: i64 = 13;
    let mut model = ModelProto::decode(model)
        .map_err(|e| Error::new(ErrorKind::Bundle, format!("{name} is no ONNX model")).caused_by(e))?;
    let opset = model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(1, |set| set.version);
    if dtype != Dtype::F32 && opset < LEAST_OPSET {
        let message = format!(
            "{name} has the operators of version {opset}; {dtype} weights want version {LEAST_OPSET}"
        );
        return Err(Error::new(ErrorKind::Usage, message)
            .help(format!("export the model again with --opset {LEAST_OPSET} or later")));
    }
    if let Some(graph) = &mut model.graph {
        Compressor::new(dtype).compress(graph);
    }
    Ok(model.encode_to_vec())
}

/// Weights of LSTM and GRU nodes that nothing else reads, and how many of their last inputs are none: the
/// last channel of W's input is the mask, whose weights are the bias; that of a GRU with a bias of R is the
/// mask's opposite, behind it.
fn recurrent(graph: &GraphProto) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    let mut others = HashSet::new();
    for node in graph.all_nodes() {
        let is_recurrent = ["LSTM", "GRU"].contains(&node.op_type.as_str());
        for (at, input) in node.input.iter().enumerate() {
            match (is_recurrent, at) {
                (true, 1) => {
                    let is_held = node.op_type == "GRU" && node.input.get(3).is_some_and(|b| !b.is_empty());
                    found.insert(input.clone(), if is_held { 2 } else { 1 }).is_none()
                }
                (true, 2) => found.insert(input.clone(), 0).is_none(),
                _ => others.insert(input.clone()),
            };
        }
    }
    found.retain(|name, _| !others.contains(name));
    found
}

/// The value of one unit of an output whose largest weight is this one; where all are zero, any will do.
fn scale_of(largest: f32) -> f32 {
    if largest > 0.0 { largest / 127.0 } else { 1.0 }
}

/// The integer that a weight is stored as.
fn integer_of(x: f32, scale: f32) -> f32 {
    (x / scale).round().clamp(-127.0, 127.0)
}

/// Initialisers worth storing smaller, with the axis of their outputs: matrices that a MatMul or Gather
/// reads, perhaps after a change of form, and nothing else does.
fn compressible(graph: &GraphProto) -> HashMap<String, usize> {
    // What a value is a reshaped form of.
    let mut origin: HashMap<&str, &str> = HashMap::new();
    let mut found: HashMap<String, usize> = HashMap::new();
    let mut others: HashSet<String> = HashSet::new();
    let nodes = graph.all_nodes();
    let transposed: HashSet<&str> = nodes
        .iter()
        .filter(|node| node.op_type == "Transpose")
        .filter_map(|node| Some(node.output.first()?.as_str()))
        .collect();
    for node in nodes {
        for (at, input) in node.input.iter().enumerate() {
            let name = *origin.get(input.as_str()).unwrap_or(&input.as_str());
            match (node.op_type.as_str(), at) {
                ("Squeeze" | "Transpose", 0) => {
                    if let Some(output) = node.output.first() {
                        origin.insert(output, name);
                    }
                }
                // W stands right of a MatMul: its outputs are the last axis, or of R (1, gates, hidden),
                // transposed, the second.
                ("MatMul", 1) => {
                    let rank = graph
                        .initializer
                        .iter()
                        .find(|tensor| tensor.name == name)
                        .map_or(0, |tensor| tensor.dims.len());
                    let axis = if transposed.contains(input.as_str()) {
                        rank.saturating_sub(2)
                    } else {
                        rank.saturating_sub(1)
                    };
                    found.insert(name.to_owned(), axis);
                }
                ("Gemm", 1) => {
                    found.insert(name.to_owned(), usize::from(node.int("transB", 0) == 0));
                }
                // Rows of a table have outputs of their own.
                ("Gather", 0) => {
                    found.insert(name.to_owned(), 0);
                }
                _ => {
                    others.insert(name.to_owned());
                }
            }
        }
    }
    // Old graphs list initialisers as inputs, which a caller may replace.
    others.extend(graph.input.iter().map(|input| input.name.clone()));
    found.retain(|name, _| {
        let worth = |tensor: &TensorProto| {
            let elements: i64 = tensor.dims.iter().product();
            tensor.data_type == DataType::Float as i32
                && tensor.dims.len() >= 2
                && elements >= LEAST_ELEMENTS as i64
        };
        !others.contains(name) && graph.initializer.iter().any(|tensor| tensor.name == *name && worth(tensor))
    });
    found
}

fn half(tensor: &TensorProto) -> Option<Stored> {
    let bits: Vec<u16> = tensor.floats()?.into_iter().map(half_from_float).collect();
    let initializer = TensorProto {
        dims: tensor.dims.clone(),
        data_type: DataType::Float16 as i32,
        name: format!("{}.f16", tensor.name),
        raw_data: bits.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>().into(),
        ..TensorProto::default()
    };
    let to = AttributeProto::of_integer("to", DataType::Float as i64);
    Some(Stored {
        nodes: vec![restoring("Cast", tensor, vec![initializer.name.clone()], tensor.name.clone(), vec![to])],
        initializers: vec![initializer],
        restored: bits.into_iter().map(float_from_half).collect(),
    })
}

fn quantised(tensor: &TensorProto, axis: usize) -> Option<Stored> {
    let (values, shape) = (tensor.floats()?, tensor.shape()?);
    let outputs = *shape.get(axis)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let output = |at: usize| at / inner.max(1) % outputs.max(1);
    let mut largest = vec![0.0f32; outputs];
    values.iter().enumerate().for_each(|(at, x)| largest[output(at)] = largest[output(at)].max(x.abs()));
    let scales: Vec<f32> = largest.iter().map(|&x| scale_of(x)).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 to 255")]
    let quantise =
        |(at, &x): (usize, &f32)| (integer_of(x, scales[output(at)]) + f32::from(ZERO_POINT)) as u8;
    let bytes: Vec<u8> = values.iter().enumerate().map(quantise).collect();
    let restored = bytes
        .iter()
        .enumerate()
        .map(|(at, &q)| (f32::from(q) - f32::from(ZERO_POINT)) * scales[output(at)])
        .collect();
    let named = |suffix: &str, data_type: DataType, dims: Vec<i64>, raw_data: Vec<u8>| TensorProto {
        dims,
        data_type: data_type as i32,
        name: format!("{}.{suffix}", tensor.name),
        raw_data: raw_data.into(),
        ..TensorProto::default()
    };
    // A matrix gets an axis in front, see above; a higher tensor is squeezed by the graph itself.
    let lifted = shape.len() == 2;
    let lift = usize::from(lifted);
    let mut initializers = vec![
        named("int8", DataType::Uint8, [&[1][..lift], &tensor.dims].concat(), bytes),
        named(
            "scale",
            DataType::Float,
            vec![outputs as i64],
            scales.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        named("zero_point", DataType::Uint8, vec![outputs as i64], vec![ZERO_POINT; outputs]),
    ];
    let axis = AttributeProto::of_integer("axis", (axis + lift) as i64);
    let inputs = initializers.iter().map(|tensor| tensor.name.clone()).collect();
    let output = if lifted { format!("{}.restored", tensor.name) } else { tensor.name.clone() };
    let mut nodes = vec![restoring("DequantizeLinear", tensor, inputs, output.clone(), vec![axis])];
    if lifted {
        let first = named("axis", DataType::Int64, vec![1], 0i64.to_le_bytes().to_vec());
        nodes.push(restoring(
            "Squeeze",
            tensor,
            vec![output, first.name.clone()],
            tensor.name.clone(),
            vec![],
        ));
        initializers.push(first);
    }
    Some(Stored { nodes, initializers, restored })
}

/// A node on the way to `tensor` under its old name.
fn restoring(
    op: &str,
    tensor: &TensorProto,
    input: Vec<String>,
    output: String,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        input,
        output: vec![output],
        name: format!("{}.{op}", tensor.name),
        op_type: op.to_owned(),
        attribute,
        domain: String::new(),
    }
}

/// The tensors that a graph computes with: its initialisers, those stored smaller restored under their old
/// names.
pub(super) fn restored_tensors(graph: &GraphProto) -> Vec<TensorProto> {
    let find = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
    let mut used: HashSet<&str> = HashSet::new();
    let mut tensors = Vec::new();
    for node in &graph.node {
        let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { continue };
        let restored = match node.op_type.as_str() {
            "Cast" => find(input).and_then(halves),
            "DequantizeLinear" => find(input).and_then(|tensor| {
                let (scale, zero) = (find(node.input.get(1)?)?, find(node.input.get(2)?)?);
                let axis = node.int("axis", 1);
                dequantised(tensor, &scale.floats()?, &zero.raw_data, usize::try_from(axis).ok()?)
            }),
            _ => None,
        };
        if let (Some(values), Some(shape)) = (restored, find(input).and_then(TensorProto::shape)) {
            used.extend(node.input.iter().map(String::as_str));
            let squeeze = graph
                .node
                .iter()
                .find(|n| n.op_type == "Squeeze" && n.input.first() == Some(output) && shape.len() == 3);
            let lifted =
                squeeze.filter(|n| n.name.strip_suffix(".Squeeze") == n.output.first().map(String::as_str));
            let (name, shape) =
                lifted.and_then(|n| Some((n.output.first()?, &shape[1..]))).unwrap_or((output, &shape));
            used.extend(lifted.and_then(|n| n.input.get(1)).map(String::as_str));
            tensors.push(TensorProto::of_floats(name, shape, &values));
        }
    }
    tensors.extend(graph.initializer.iter().filter(|tensor| !used.contains(tensor.name.as_str())).cloned());
    tensors
}

fn halves(tensor: &TensorProto) -> Option<Vec<f32>> {
    let elements: usize = tensor.shape()?.iter().product();
    (tensor.data_type == DataType::Float16 as i32 && tensor.raw_data.len() == 2 * elements).then(|| {
        tensor.raw_data.chunks_exact(2).map(|b| float_from_half(u16::from_le_bytes([b[0], b[1]]))).collect()
    })
}

fn dequantised(tensor: &TensorProto, scales: &[f32], zeros: &[u8], axis: usize) -> Option<Vec<f32>> {
    let shape = tensor.shape()?;
    let outputs = *shape.get(axis)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let fits = tensor.data_type == DataType::Uint8 as i32
        && tensor.raw_data.len() == shape.iter().product::<usize>()
        && [scales.len(), zeros.len()] == [outputs; 2];
    let output = |at: usize| at / inner.max(1) % outputs.max(1);
    fits.then(|| {
        let value =
            |(at, &q): (usize, &u8)| (f32::from(q) - f32::from(zeros[output(at)])) * scales[output(at)];
        tensor.raw_data.iter().enumerate().map(value).collect()
    })
}

#[cfg(test)]
mod tests;
