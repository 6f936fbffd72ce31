//! An ONNX file as layers: nodes grouped by the layer that they compute, weights by the layer that owns them.
//!
//! The exporter names nodes `layer.Operator` and weights `layer.weight`, so a graph tells its layers by
//! itself, and what is shown is what runs. In a file from elsewhere each node is a layer of its own.

use std::collections::{BTreeSet, HashMap, HashSet};

use s2s_runtime::checked::CheckedModel;
use s2s_runtime::contract::{ENCODER_INPUT, axis::BATCH};

use super::shapes::{Axis, Shape, Shapes, declared};
use crate::error::Result;
use crate::onnx::messages::{DataType, GraphProto, NodeProto};

/// A weight or constant tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The initialiser's name.
    pub name: String,
    /// Element type, as ONNX spells it.
    pub data_type: String,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Bytes of its values.
    pub bytes: usize,
    /// Least, largest, mean, standard deviation; of f32 tensors.
    pub range: Option<[f64; 4]>,
}

/// One layer, one input, or the end of one output.
#[derive(Clone, Debug)]
pub struct Layer {
    /// For example `encoder.lstm_0`.
    pub name: String,
    /// For example `LSTM`.
    pub kind: String,
    /// Shape of what it gives, batch first.
    pub output: Shape,
    /// Where it gives several things: what each is, and its shape.
    pub outputs: Vec<(String, Shape)>,
    /// Weights that it owns or, in a graph that folds them, uses.
    pub tensors: Vec<usize>,
    /// Nodes that compute it.
    pub nodes: usize,
    /// What it reads.
    pub inputs: Vec<Edge>,
}

/// A value on its way from a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Position of the layer that gives it.
    pub from: usize,
    /// What it is: the name of an output of the graph, `sequence`, `state_h`, `state_c` or `mask`; else
    /// empty.
    pub label: String,
    /// Length or name of each axis.
    pub shape: Shape,
}

/// Layers and tensors of one graph.
#[derive(Clone, Debug)]
pub struct Model {
    /// The graph's name.
    pub name: String,
    /// Layers, each after those that it reads; inputs first.
    pub layers: Vec<Layer>,
    /// Tensors in the order of the file.
    pub tensors: Vec<Tensor>,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Name, element type and shape of each input.
    pub inputs: Vec<(String, String, Shape)>,
    /// Name, element type and shape of each output.
    pub outputs: Vec<(String, String, Shape)>,
    /// Producer, opset, IR version.
    pub about: String,
}

/// How finely a graph is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// One box a layer, where the node names tell layers.
    Layers,
    /// One box a node.
    Nodes,
}

impl Model {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// As [`CheckedModel::read`].
    pub fn read(name: &str, bytes: &[u8], detail: Detail) -> Result<Self> {
        CheckedModel::read(name, bytes).map(|model| Self::of(&model, detail))
    }

    /// The layers of a model.
    pub fn of(model: &CheckedModel, detail: Detail) -> Self {
        let graph = model.graph();
        let opset = model
            .opset_import
            .iter()
            .find(|set| set.domain.is_empty() || set.domain == "ai.onnx")
            .map_or(0, |set| set.version);
        let typed = |info: &crate::onnx::messages::ValueInfoProto| {
            let kind = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).map_or(0, |t| t.elem_type);
            (info.name.clone(), type_name(kind), declared(info))
        };
        let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let named =
            detail == Detail::Layers && model.producer_name == "s2s" && graph.node.len() <= MOST_NAMED;
        Self {
            name: graph.name.clone(),
            layers: Grouping::new(graph, named).layers(),
            tensors: graph.initializer.iter().map(tensor).collect(),
            nodes: graph.node.len(),
            inputs: graph.input.iter().filter(|i| !weights.contains(i.name.as_str())).map(typed).collect(),
            outputs: graph.output.iter().map(typed).collect(),
            about: format!(
                "{} {}, opset {opset}, IR {}",
                model.producer_name, model.producer_version, model.ir_version
            ),
        }
    }

    /// Numbers in the tensors of a layer; weights only.
    pub fn parameters(&self, layer: &Layer) -> usize {
        layer.tensors.iter().map(|&t| &self.tensors[t]).filter(|t| t.is_weight()).map(Tensor::len).sum()
    }

    /// Weights, each counted once: number and bytes.
    pub fn totals(&self) -> (usize, usize) {
        self.tensors.iter().filter(|t| t.is_weight()).fold((0, 0), |(n, b), t| (n + t.len(), b + t.bytes))
    }
}

impl Tensor {
    /// Number of its values: the product of its axes.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it was learnt, as far as name and type tell: axes and other constants are not.
    pub fn is_weight(&self) -> bool {
        self.data_type.starts_with("float") && !self.name.starts_with("constant") && !self.shape.is_empty()
    }
}

fn type_name(kind: i32) -> String {
    match kind {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        6 => "int32",
        7 => "int64",
        8 => "string",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        _ => "?",
    }
    .to_owned()
}

fn tensor(proto: &crate::onnx::messages::TensorProto) -> Tensor {
    let shape = proto.shape().unwrap_or_default();
    let count: usize = shape.iter().product();
    let width = match proto.data_type {
        2 | 3 | 9 => 1,
        10 => 2,
        7 | 11 => 8,
        _ => 4,
    };
    let range = (proto.data_type == DataType::Float as i32 && count > 1)
        .then(|| proto.floats())
        .flatten()
        .map(|values| {
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            let ends =
                values.iter().fold((f64::MAX, f64::MIN), |(lo, hi), &v| (lo.min(v.into()), hi.max(v.into())));
            [ends.0, ends.1, mean, variance.sqrt()]
        });
    Tensor {
        name: proto.name.clone(),
        data_type: type_name(proto.data_type),
        shape,
        bytes: count * width,
        range,
    }
}

/// The grouping of nodes into layers.
struct Grouping<'a> {
    graph: &'a GraphProto,
    shapes: Shapes,
    named: bool,
    tensors: HashMap<&'a str, usize>,
    /// Values that depend on weights and shapes alone, with the weights; they are no flow of data.
    constant: HashMap<&'a str, BTreeSet<usize>>,
    /// Which output of the graph a value is, or leads to through operators that only rearrange.
    output_names: HashMap<&'a str, &'a str>,
    /// The value that each is with its axes moved, for values that operators made which only rearrange.
    origins: HashMap<&'a str, &'a str>,
    /// Which output of a recurrent layer a value is; of both directions where they were joined.
    parts: HashMap<&'a str, &'static str>,
}

/// Nodes of a graph whose names are taken for layers, a few times as many as our own have: each constant is
/// followed to the weights that it comes from.
const MOST_NAMED: usize = 2_000;

const REARRANGING: [&str; 7] =
    ["Squeeze", "Unsqueeze", "Transpose", "Identity", "Reshape", "Cast", "Flatten"];

impl<'a> Grouping<'a> {
    fn new(graph: &'a GraphProto, named: bool) -> Self {
        let tensors: HashMap<&str, usize> =
            graph.initializer.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let mut constant: HashMap<&str, BTreeSet<usize>> =
            tensors.iter().map(|(&name, &i)| (name, BTreeSet::from([i]))).collect();
        if named {
            for node in &graph.node {
                let inputs = node.input.iter().filter(|name| !name.is_empty());
                if node.op_type == "Shape" || inputs.clone().all(|name| constant.contains_key(name.as_str()))
                {
                    let from = inputs
                        .filter_map(|name| constant.get(name.as_str()))
                        .flatten()
                        .copied()
                        .collect::<BTreeSet<_>>();
                    node.output.iter().for_each(|name| drop(constant.insert(name, from.clone())));
                }
            }
        }
        let mut output_names: HashMap<&str, &str> =
            graph.output.iter().map(|o| (o.name.as_str(), o.name.as_str())).collect();
        for node in graph.node.iter().rev().filter(|n| REARRANGING.contains(&n.op_type.as_str())) {
            if let (Some(&name), Some(input)) =
                (node.output.first().and_then(|o| output_names.get(o.as_str())), node.input.first())
            {
                output_names.entry(input).or_insert(name);
            }
        }
        let (origins, parts) = (origins(graph), parts(graph));
        Self { graph, shapes: Shapes::of(graph), named, tensors, constant, output_names, origins, parts }
    }

    fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        // Where a value comes from.
        let mut giver: HashMap<&str, usize> = HashMap::new();
        let weights: HashSet<&str> = self.tensors.keys().copied().collect();
        for input in self.graph.input.iter().filter(|i| !weights.contains(i.name.as_str())) {
            by_name.insert(input.name.clone(), layers.len());
            giver.insert(&input.name, layers.len());
            let output = declared(input);
            layers.push(Layer {
                name: input.name.clone(),
                kind: "Input".into(),
                output,
                outputs: vec![],
                tensors: vec![],
                nodes: 0,
                inputs: vec![],
            });
        }
        let owners: HashSet<&str> = self.graph.initializer.iter().filter_map(|t| owner(&t.name)).collect();
        let mut known: HashSet<(usize, Edge)> = HashSet::new();
        for (number, node) in self.graph.node.iter().enumerate() {
            if node.output.iter().all(|name| self.constant.contains_key(name.as_str())) {
                continue;
            }
            let name = self.layer_name(node, number, &owners, &giver, &layers);
            let position = *by_name.entry(name.clone()).or_insert_with(|| {
                layers.push(Layer {
                    kind: kind(&name, &node.op_type, self.named),
                    name,
                    output: None,
                    outputs: vec![],
                    tensors: vec![],
                    nodes: 0,
                    inputs: vec![],
                });
                layers.len() - 1
            });
            // The body of a Loop reads values from outside too.
            let captured = node.bodies().flat_map(GraphProto::all_nodes).flat_map(|inner| &inner.input);
            for input in node.input.iter().chain(captured).filter(|name| !name.is_empty()) {
                if let Some(from) = self.constant.get(input.as_str()) {
                    for &tensor in from {
                        if !layers[position].tensors.contains(&tensor) {
                            layers[position].tensors.push(tensor);
                        }
                    }
                } else if let Some(&from) = giver.get(input.as_str())
                    && from != position
                {
                    let label = self.label(input, &layers[from]);
                    let moved = self.named && layers[from].kind == "Input" && label.is_empty();
                    let shape = if moved { layers[from].output.clone() } else { self.shape(input) };
                    let edge = Edge { from, label, shape };
                    if known.insert((position, edge.clone())) {
                        layers[position].inputs.push(edge);
                    }
                }
            }
            giver.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), position)));
            layers[position].nodes += 1;
            if layers[position].kind != "Input"
                && let Some(output) = node.output.first()
            {
                layers[position].output = self.shape(output);
            }
        }
        for layer in layers.iter_mut().filter(|_| self.named) {
            if layer.tensors.iter().any(|&t| self.graph.initializer[t].name.contains(".reverse.")) {
                layer.kind = format!("Bidirectional {}", layer.kind);
            }
        }
        let edges: Vec<Edge> = layers.iter().flat_map(|layer| layer.inputs.clone()).collect();
        let ends = self.graph.output.iter().filter_map(|o| {
            Some(Edge {
                from: *giver.get(o.name.as_str())?,
                label: o.name.clone(),
                shape: self.shape(&o.name),
            })
        });
        let mut known: HashSet<Edge> = HashSet::new();
        for edge in edges.into_iter().chain(ends.collect::<Vec<_>>()) {
            let layer = &mut layers[edge.from];
            if layer.kind != "Input" && !edge.label.is_empty() && known.insert(edge.clone()) {
                layer.outputs.push((edge.label, edge.shape));
            }
        }
        layers
    }

    /// The shape of a value; in graphs whose axes have names the batch comes first and a lone direction is
    /// left out, as networks are written, whatever order the graph computes in.
    fn shape(&self, value: &str) -> Shape {
        let shape = self.shapes.get(value)?;
        let batch = Axis::Symbol(BATCH.into());
        if !self.named || shape.first() == Some(&batch) || !shape.contains(&batch) {
            return Some(shape);
        }
        let others = shape.into_iter().filter(|axis| *axis != batch && *axis != Axis::Fixed(1));
        Some(std::iter::once(batch.clone()).chain(others).collect())
    }

    fn layer_name(
        &self,
        node: &NodeProto,
        number: usize,
        owners: &HashSet<&str>,
        giver: &HashMap<&str, usize>,
        layers: &[Layer],
    ) -> String {
        if !self.named {
            let first = node.output.first().map_or("", String::as_str);
            let name = if node.name.is_empty() { first } else { &node.name };
            return if name.is_empty() { format!("{}_{number}", node.op_type) } else { name.to_owned() };
        }
        // An embedding is a layer of its own, though it is looked up inside another's scope.
        if matches!(node.op_type.as_str(), "Gather" | "MatMul")
            && let Some(embedding) = node
                .input
                .first()
                .into_iter()
                .chain(node.input.get(1))
                .find(|name| name.ends_with(".embedding"))
        {
            return embedding.clone();
        }
        // The backward direction belongs to its layer, the order of the reversed ids to the input.
        let scope =
            match one_direction(node.name.rsplit_once('.').map_or(node.name.as_str(), |(scope, _)| scope)) {
                "encoder" if node.name.starts_with("encoder.reverse.") => ENCODER_INPUT,
                scope => scope,
            };
        if REARRANGING.contains(&node.op_type.as_str())
            && !owners.contains(scope)
            && let Some(&from) = node.input.first().and_then(|name| giver.get(name.as_str()))
        {
            return layers[from].name.clone();
        }
        scope.to_owned()
    }

    fn label(&self, value: &str, from: &Layer) -> String {
        if from.kind == "Input" {
            let is_itself =
                value == from.name || self.origins.get(value).is_some_and(|origin| *origin == from.name);
            return if is_itself { String::new() } else { "mask".to_owned() };
        }
        if let Some(name) = self.output_names.get(value) {
            return (*name).to_owned();
        }
        self.parts.get(value).copied().unwrap_or_default().to_owned()
    }
}

/// One walk over the nodes, each of which stands behind those that it reads.
fn origins(graph: &GraphProto) -> HashMap<&str, &str> {
    let mut origins: HashMap<&str, &str> = HashMap::new();
    for node in graph
        .node
        .iter()
        .filter(|node| REARRANGING.contains(&node.op_type.as_str()) && node.op_type != "Cast")
    {
        if let Some(input) = node.input.first() {
            let origin = origins.get(input.as_str()).copied().unwrap_or(input);
            origins.extend(node.output.iter().map(|output| (output.as_str(), origin)));
        }
    }
    origins
}

fn parts(graph: &GraphProto) -> HashMap<&str, &'static str> {
    let mut parts: HashMap<&str, &'static str> = HashMap::new();
    let mut squeezed: HashMap<&str, &str> = HashMap::new();
    for node in &graph.node {
        match node.op_type.as_str() {
            "LSTM" | "GRU" | "RNN" => {
                parts.extend(node.output.iter().map(String::as_str).zip(["sequence", "state_h", "state_c"]));
            }
            "Squeeze" => {
                if let (Some(input), Some(output)) = (node.input.first(), node.output.first()) {
                    squeezed.insert(output, input);
                }
            }
            "Concat" => {
                let first = node.input.first().map_or("", String::as_str);
                let part = parts.get(first).or_else(|| parts.get(squeezed.get(first)?));
                if let (Some(&part), Some(output)) = (part, node.output.first()) {
                    parts.insert(output, part);
                }
            }
            _ => {}
        }
    }
    parts
}

/// `encoder.lstm_0` of `encoder.lstm_0.W`.
fn owner(tensor: &str) -> Option<&str> {
    tensor.rsplit_once('.').filter(|(_, last)| *last != "embedding").map(|(owner, _)| one_direction(owner))
}

/// `encoder.lstm_0` of `encoder.lstm_0.reverse`.
pub(super) fn one_direction(layer: &str) -> &str {
    layer.strip_suffix(".reverse").unwrap_or(layer)
}

fn kind(layer: &str, op: &str, named: bool) -> String {
    if !named {
        return op.to_owned();
    }
    let last = layer.rsplit('.').next().unwrap_or(layer);
    let word = last.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    let word =
        ["_forward", "_backward", "_reverse"].iter().fold(word, |w, end| w.strip_suffix(end).unwrap_or(w));
    match word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_') {
        "lstm" => "LSTM".to_owned(),
        "gru" => "GRU".to_owned(),
        "dense" => "Dense".to_owned(),
        "embedding" => "Embedding".to_owned(),
        "attention" => "Attention".to_owned(),
        "loss" => "Cross-entropy".to_owned(),
        "softmax" => "Softmax".to_owned(),
        "relu" => "ReLU".to_owned(),
        _ => op.to_owned(),
    }
}
