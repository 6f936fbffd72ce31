//! Graphs out of choices: a small network of our own, then changes that keep it readable as protobuf and
//! break everything else.
//!
//! Raw bytes hardly ever rewire a graph: names are strings that must be met twice. Here the choices are about
//! nodes, names and sizes, so that cycles, doubled names, bodies within bodies and absurd shapes come at
//! once.

use std::collections::HashSet;
use std::sync::OnceLock;

use prost::Message as _;
use s2s::network::{Architecture, AttentionScore, Cell, InputForm, Network, Seq2Seq};
use s2s::onnx::messages::{
    AttributeProto, AttributeType, Dimension, DimensionProto, FunctionProto, GraphProto, ModelProto,
    NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use s2s::onnx::{DEFAULT_OPSET, DataType, GraphBuilder, ir_version};
use s2s_runtime::contract::metadata;
use s2s_runtime::manifest::{Io, Role};

use super::input::{INTEGERS, Input, NAMES};

/// Operators that some code here knows, and one that none does.
const OPERATORS: [&str; 40] = [
    "Add",
    "Mul",
    "MatMul",
    "Gemm",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "LSTM",
    "GRU",
    "RNN",
    "Loop",
    "Scan",
    "If",
    "Softmax",
    "LogSoftmax",
    "ReduceMax",
    "ReduceSum",
    "Identity",
    "Constant",
    "ConstantOfShape",
    "Shape",
    "Expand",
    "Tile",
    "Pad",
    "Cast",
    "Where",
    "Equal",
    "Not",
    "ArgMax",
    "OneHot",
    "DequantizeLinear",
    "QuantizeLinear",
    "Range",
    "CumSum",
    "Nonsense",
];

const ATTRIBUTES: [&str; 16] = [
    "axis",
    "axes",
    "perm",
    "hidden_size",
    "direction",
    "activations",
    "clip",
    "layout",
    "linear_before_reset",
    "input_forget",
    "to",
    "keepdims",
    "value",
    "body",
    "num_scan_inputs",
    "activation_alpha",
];

/// Bodies within bodies; protobuf readers stop at 100 messages, which are about 30 of these.
const DEEPEST: usize = 40;
/// Nodes that one change adds at most.
const MOST_ADDED: usize = 200;
/// Bytes of a graph after which it no longer grows.
const LARGEST: usize = 1 << 20;

/// Symbols of both vocabularies of the bases.
pub(crate) const SYMBOLS: usize = 6;

fn base(
    cell: Cell,
    attention: AttentionScore,
    layers: usize,
    embedding: Option<usize>,
    role: Role,
) -> ModelProto {
    let form = embedding.map_or(InputForm::OneHot, InputForm::Embedding);
    let architecture = Architecture {
        source_vocabulary: SYMBOLS,
        target_vocabulary: SYMBOLS,
        source_input: form,
        target_input: form,
        cell,
        hidden: 2,
        layers,
        attention,
        ..Architecture::default()
    };
    let network = Seq2Seq::new(architecture).expect("the architecture is a right one");
    let (parameters, mut builder) = (network.initialise(1), GraphBuilder::new(role.as_str()));
    match role {
        Role::Encoder => network.emit_encoder(&parameters, &mut builder, Io::Ids),
        Role::Decoder => network.emit_decoder(&parameters, &mut builder, Io::Ids),
        Role::Training => network.emit_training(&parameters, &mut builder, Io::Ids),
        Role::Translate => network.emit_translate(&parameters, &mut builder),
        Role::EncoderStep => network.emit_encoder_step(&parameters, &mut builder, Io::Ids),
    }
    let entries = [
        (metadata::FORMAT_VERSION.to_owned(), "1.0".to_owned()),
        (metadata::ROLE.to_owned(), role.as_str().to_owned()),
    ];
    builder.finish(DEFAULT_OPSET, ir_version(DEFAULT_OPSET), &entries)
}

/// Graphs to start from.
pub(crate) fn bases() -> &'static [ModelProto] {
    static BASES: OnceLock<Vec<ModelProto>> = OnceLock::new();
    BASES.get_or_init(|| {
        let empty = ModelProto {
            graph: Some(GraphProto::default()),
            ..base(Cell::Lstm, AttentionScore::None, 1, None, Role::Encoder)
        };
        let mut bases = vec![empty];
        for (cell, attention, layers, embedding) in [
            (Cell::Lstm, AttentionScore::None, 1, None),
            (Cell::Lstm, AttentionScore::Dot, 2, Some(3)),
            (Cell::Gru, AttentionScore::General, 1, Some(2)),
        ] {
            bases.extend(Role::WITH_OPTIONAL.map(|role| base(cell, attention, layers, embedding, role)));
        }
        bases
    })
}

/// A model out of the choices in `input`.
pub(crate) fn model(input: &mut Input<'_>) -> ModelProto {
    let mut model = input.pick(bases()).clone();
    // Every second graph is put in order again, so that what lies behind the check is met too.
    let repaired = input.flag();
    while !input.is_empty() && model.encoded_len() < LARGEST {
        change(&mut model, input);
    }
    if repaired {
        model.functions.clear();
        if let Some(graph) = &mut model.graph {
            repair(graph, &HashSet::new(), &mut 0);
        }
    }
    model
}

/// Makes a graph one that passes the check, and leaves what else is strange in it.
fn repair(graph: &mut GraphProto, outer: &HashSet<String>, count: &mut usize) {
    let mut known = outer.clone();
    let mut fresh = |name: &mut String, known: &mut HashSet<String>| {
        if name.len() > 1000 || known.contains(name) {
            *count += 1;
            *name = format!("value_{count}");
        }
        known.insert(name.clone());
    };
    graph.input.iter_mut().for_each(|input| fresh(&mut input.name, &mut known));
    for tensor in &mut graph.initializer {
        fresh(&mut tensor.name, &mut known);
        fit(tensor);
    }
    for declared in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        let shape = declared
            .r#type
            .as_mut()
            .and_then(|kind| kind.tensor_type.as_mut())
            .and_then(|tensor| tensor.shape.as_mut());
        for dim in shape.into_iter().flat_map(|shape| &mut shape.dim) {
            dim.value = dim.value.take().filter(|value| !matches!(value, Dimension::Value(8..)));
        }
    }
    for node in &mut graph.node {
        if node.name.len() > 1000 {
            node.name.clear();
        }
        node.input.iter_mut().filter(|input| !known.contains(*input)).for_each(String::clear);
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().for_each(fit);
        }
        for output in node.output.iter_mut().filter(|output| !output.is_empty()) {
            fresh(output, &mut known);
        }
    }
    // Bodies read what is there before their node; the outer inputs and tensors always are.
    let before: HashSet<String> =
        graph.input.iter().map(|input| input.name.clone()).chain(outer.iter().cloned()).collect();
    let taken = known.clone();
    for body in graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.attribute)
        .flat_map(|a| a.g.iter_mut().chain(&mut a.graphs))
    {
        apart(body, &taken, count);
        repair(body, &before, count);
    }
    graph.output.retain(|output| known.contains(&output.name));
}

/// Names that a body must not give again become its own.
fn apart(body: &mut GraphProto, taken: &HashSet<String>, count: &mut usize) {
    let outputs = body.node.iter_mut().flat_map(|node| &mut node.output);
    let names = body
        .input
        .iter_mut()
        .map(|input| &mut input.name)
        .chain(body.initializer.iter_mut().map(|tensor| &mut tensor.name));
    for name in names.chain(outputs).filter(|name| taken.contains(*name)) {
        *count += 1;
        *name = format!("inner_{count}");
    }
}

/// Makes a tensor's bytes as many as it says, if that is few; else it becomes a scalar.
fn fit(tensor: &mut TensorProto) {
    let size = tensor
        .dims
        .iter()
        .try_fold(1usize, |size, &dim| size.checked_mul(usize::try_from(dim).ok()?))
        .filter(|&size| size <= 4096);
    let (size, width) = match (size, tensor.data_type) {
        (Some(size), 1 | 6) => (size, 4),
        (Some(size), 7 | 11) => (size, 8),
        (Some(size), 2 | 3 | 9) => (size, 1),
        (Some(size), 10 | 16) => (size, 2),
        _ => {
            tensor.data_type = DataType::Float as i32;
            tensor.dims.clear();
            (1, 4)
        }
    };
    let mut raw = tensor.raw_data.to_vec();
    raw.resize(size * width, 0);
    *tensor = TensorProto {
        dims: std::mem::take(&mut tensor.dims),
        data_type: tensor.data_type,
        name: std::mem::take(&mut tensor.name),
        raw_data: raw.into(),
        ..TensorProto::default()
    };
}

/// Every name in a graph, empty ones too.
fn names(graph: &GraphProto) -> Vec<String> {
    let of_nodes = graph.node.iter().flat_map(|node| node.output.iter().chain(&node.input));
    let outside = graph.input.iter().chain(&graph.output).map(|info| &info.name);
    of_nodes.chain(outside).chain(graph.initializer.iter().map(|tensor| &tensor.name)).cloned().collect()
}

/// A name of the graph, or a strange one.
fn name(graph: &GraphProto, input: &mut Input<'_>) -> String {
    let known = names(graph);
    match input.byte() {
        choice if choice < 200 && !known.is_empty() => known[input.below(known.len())].clone(),
        choice if choice < 240 => (*input.pick(&NAMES)).to_owned(),
        choice => "n".repeat(usize::from(choice) * 16),
    }
}

/// The graph, or a body within it.
fn graph<'m>(mut graph: &'m mut GraphProto, input: &mut Input<'_>) -> &'m mut GraphProto {
    while input.byte() % 8 == 7 {
        let bodies = |node: &NodeProto| node.attribute.iter().any(|attribute| attribute.g.is_some());
        let Some(at) = graph.node.iter().position(bodies) else { return graph };
        graph = graph.node[at]
            .attribute
            .iter_mut()
            .find_map(|attribute| attribute.g.as_mut())
            .expect("it was found");
    }
    graph
}

fn integer(input: &mut Input<'_>) -> i64 {
    *input.pick(&INTEGERS)
}

fn integers(input: &mut Input<'_>) -> Vec<i64> {
    (0..input.below(6)).map(|_| integer(input)).collect()
}

fn dimension(input: &mut Input<'_>) -> DimensionProto {
    let value = match input.byte() % 4 {
        0 => None,
        1 => Some(Dimension::Param((*input.pick(&NAMES)).to_owned())),
        _ => Some(Dimension::Value(integer(input))),
    };
    DimensionProto { value }
}

fn node(graph: &GraphProto, input: &mut Input<'_>) -> NodeProto {
    NodeProto {
        input: (0..input.below(5)).map(|_| name(graph, input)).collect(),
        output: (0..1 + input.below(3)).map(|_| name(graph, input)).collect(),
        name: name(graph, input),
        op_type: (*input.pick(&OPERATORS)).to_owned(),
        ..NodeProto::default()
    }
}

fn tensor(graph: &GraphProto, input: &mut Input<'_>) -> TensorProto {
    TensorProto {
        dims: integers(input),
        data_type: i32::from(input.byte() % 24),
        name: name(graph, input),
        raw_data: vec![input.byte(); input.below(64)].into(),
        float_data: vec![f32::from_bits(u32::from(input.u16()) << 16); input.below(8)],
        int64_data: integers(input),
        ..TensorProto::default()
    }
}

fn attribute(graph: &GraphProto, input: &mut Input<'_>) -> AttributeProto {
    let mut made =
        AttributeProto { name: (*input.pick(&ATTRIBUTES)).to_owned(), ..AttributeProto::default() };
    let kind = match input.byte() % 6 {
        0 => {
            made.i = Some(integer(input));
            AttributeType::Int
        }
        1 => {
            made.ints = integers(input);
            AttributeType::Ints
        }
        2 => {
            made.f = Some(f32::from_bits(u32::from(input.u16()) << 16));
            AttributeType::Float
        }
        3 => {
            made.s = input
                .pick(&["forward", "reverse", "bidirectional", "Sigmoid", "", "\u{1b}"])
                .as_bytes()
                .to_vec();
            AttributeType::String
        }
        4 => {
            made.strings = (0..input.below(5))
                .map(|_| input.pick(&["Sigmoid", "Tanh", "Relu", "\u{0}"]).as_bytes().to_vec())
                .collect();
            AttributeType::Strings
        }
        _ => {
            made.t = Some(tensor(graph, input));
            AttributeType::Tensor
        }
    };
    // Now and then the type does not fit.
    made.r#type = if input.byte() < 16 { i32::from(input.byte() % 12) } else { kind as i32 };
    made
}

/// One change of one place.
fn change(model: &mut ModelProto, input: &mut Input<'_>) {
    let kind = input.byte();
    match kind % 32 {
        0 => model.graph = input.flag().then(GraphProto::default),
        1 => model.opset_import.iter_mut().for_each(|set| set.version = integer(input)),
        2 => model.ir_version = integer(input),
        3 => {
            let key = *input.pick(&[
                metadata::FORMAT_VERSION,
                metadata::ROLE,
                metadata::SPECIAL_IDS,
                metadata::SOURCE_VOCABULARY,
                "",
            ]);
            let value = input.text(b'\n');
            model.metadata_props.push(StringStringEntryProto { key: key.to_owned(), value });
        }
        4 => model.producer_name = (*input.pick(&NAMES)).to_owned(),
        5 => {
            let node = model
                .graph
                .iter()
                .flat_map(|graph| graph.node.iter().cloned())
                .take(input.below(20))
                .collect();
            model.functions.push(FunctionProto {
                name: (*input.pick(&OPERATORS)).to_owned(),
                node,
                ..Default::default()
            });
        }
        _ => {
            if let Some(top) = &mut model.graph {
                change_graph(graph(top, input), kind, input);
            }
        }
    }
}

fn change_graph(graph: &mut GraphProto, kind: u8, input: &mut Input<'_>) {
    let any = name(graph, input);
    if kind % 32 >= 24 || graph.node.is_empty() {
        return add(graph, kind, any, input);
    }
    let (at, nodes) = (input.below(graph.node.len()), graph.node.len());
    match kind % 32 {
        6 | 7 => {
            // Rewired: often a cycle.
            let place = input.below(8);
            let inputs = &mut graph.node[at].input;
            match inputs.get_mut(place) {
                Some(input) => *input = any,
                None => inputs.push(any),
            }
        }
        8 => {
            let place = input.below(4);
            match graph.node[at].output.get_mut(place) {
                Some(output) => *output = any,
                None => graph.node[at].output.push(any),
            }
        }
        9 => graph.node.swap(at, input.below(nodes)),
        10 => drop(graph.node.remove(at)),
        11 => graph.node.insert(at, graph.node[at].clone()),
        12 => {
            let own = graph.node[at].output.first().cloned().unwrap_or_default();
            graph.node[at].input = vec![own; 1 + input.below(3)];
        }
        13 => graph.node[at].op_type = (*input.pick(&OPERATORS)).to_owned(),
        14 => graph.node[at].name = any,
        15 => {
            let made = attribute(graph, input);
            let attributes = &mut graph.node[at].attribute;
            match attributes.iter_mut().find(|old| old.name == made.name) {
                Some(old) if input.byte() < 200 => *old = made,
                _ => attributes.push(made),
            }
        }
        16 => drop(graph.node[at].attribute.pop()),
        17 => nest(graph, at, input),
        18 => graph.node[at].domain = (*input.pick(&["", "ai.onnx", "com.microsoft", "\u{1b}"])).to_owned(),
        19 if !graph.initializer.is_empty() => {
            let tensors = graph.initializer.len();
            let tensor = &mut graph.initializer[input.below(tensors)];
            match input.byte() % 6 {
                0 => tensor.dims = integers(input),
                1 => tensor.data_type = i32::from(input.byte() % 24),
                2 => tensor.raw_data.truncate(input.below(64)),
                3 if input.flag() => tensor.raw_data = vec![input.byte(); tensor.raw_data.len()].into(),
                3 => {
                    let (key, value) = ("location".to_owned(), (*input.pick(&NAMES)).to_owned());
                    tensor.external_data.push(StringStringEntryProto { key, value });
                    tensor.data_location = i32::from(input.byte() % 3);
                }
                4 => tensor.dims.push(integer(input)),
                _ => tensor.name = any,
            }
        }
        20 if !graph.input.is_empty() => graph.input[0].name = any,
        21 if !graph.output.is_empty() => graph.output[0].name = any,
        22 => drop(graph.initializer.pop()),
        _ => graph.node.truncate(at),
    }
}

/// Wraps nodes into the body of another, several times.
fn nest(graph: &mut GraphProto, at: usize, input: &mut Input<'_>) {
    let mut inner = graph.clone();
    inner.node.truncate(1 + input.below(3));
    inner.initializer.clear();
    for _ in 0..=input.below(DEEPEST) {
        let body = AttributeProto {
            name: "body".to_owned(),
            g: Some(inner),
            r#type: AttributeType::Graph as i32,
            ..Default::default()
        };
        let outer = NodeProto {
            op_type: (*input.pick(&["Loop", "If", "Scan", "Add"])).to_owned(),
            input: vec![name(graph, input)],
            output: vec![name(graph, input)],
            attribute: vec![body],
            ..NodeProto::default()
        };
        inner = GraphProto { node: vec![outer], ..GraphProto::default() };
    }
    if input.flag() {
        let body = AttributeProto { name: "branches".to_owned(), graphs: vec![inner], ..Default::default() };
        graph.node[at].attribute.push(body);
    } else {
        graph.node[at] = inner.node.remove(0);
    }
}

fn add(graph: &mut GraphProto, kind: u8, any: String, input: &mut Input<'_>) {
    match kind % 8 {
        0 => graph.input.push(ValueInfoProto::tensor(
            &any,
            DataType::Float,
            (0..input.below(5)).map(|_| dimension(input)).collect(),
        )),
        1 => graph.output.push(ValueInfoProto::tensor(
            &any,
            DataType::Int64,
            (0..input.below(5)).map(|_| dimension(input)).collect(),
        )),
        2 => graph.value_info.push(ValueInfoProto::tensor(
            &any,
            DataType::Float,
            (0..input.below(9)).map(|_| dimension(input)).collect(),
        )),
        3 => {
            let made = tensor(graph, input);
            graph.initializer.push(made);
        }
        4 | 5 => {
            let made = node(graph, input);
            let at = input.below(graph.node.len() + 1);
            graph.node.insert(at, made);
        }
        6 => {
            // A long chain, or many readers of one value.
            let (fan, operator) = (input.flag(), *input.pick(&OPERATORS));
            let count = input.below(MOST_ADDED);
            let mut last = any.clone();
            for number in 0..count {
                let output = format!("{any}.{number}");
                let read = if fan { any.clone() } else { last };
                last = output.clone();
                let made = NodeProto {
                    input: vec![read],
                    output: vec![output],
                    op_type: operator.to_owned(),
                    ..NodeProto::default()
                };
                graph.node.push(made);
            }
        }
        _ => {
            // One node that reads everything, and everything's shape doubled.
            let (operator, inputs) =
                (*input.pick(&["Concat", "Add", "Reshape", "Expand", "Tile"]), names(graph));
            graph.node.push(NodeProto {
                input: inputs,
                output: vec![any],
                op_type: operator.to_owned(),
                ..NodeProto::default()
            });
        }
    }
}
