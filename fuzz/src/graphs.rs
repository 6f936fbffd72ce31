//! ONNX graphs, through everything that reads them without an engine.

use std::collections::HashSet;

use prost::Message as _;
use s2s::inspect::language::Language;
use s2s::inspect::model::{Detail, Model};
use s2s::inspect::{Graph, Subject, View, body, layout, table};
use s2s::lint;
use s2s::onnx::messages::{GraphProto, ModelProto};
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::engine::{folded_encoder, split_decoder};
use s2s_runtime::graph_info::GraphInfo;
use s2s_runtime::manifest::Role;
use s2s_runtime::printable;

use super::input::Input;
use super::mutate::{self, SYMBOLS};
use super::properties::{is_printable, is_xml, looked_at};

/// A file of any bytes.
pub(crate) fn graph(data: &[u8]) {
    read(data);
}

/// A file that is protobuf, and a strange graph.
pub(crate) fn graph_structure(data: &[u8]) {
    read(&mutate::model(&mut Input::new(data)).encode_to_vec());
}

/// Every reader; what one of them takes, the others do not fail on with anything but an error.
pub(crate) fn read(bytes: &[u8]) {
    let checked = looked_at(CheckedModel::read("fuzz.onnx", bytes));
    if let Some(checked) = &checked {
        is_in_order(checked.graph(), &HashSet::new());
        let written = checked.clone().into_model().encode_to_vec();
        assert!(
            looked_at(CheckedModel::read("fuzz.onnx", &written)).as_ref() == Some(checked),
            "what passed is not read again as the same"
        );
    }
    if let Some(info) = looked_at(GraphInfo::read("fuzz.onnx", bytes)) {
        for tensor in info.inputs.iter().chain(&info.outputs) {
            assert!(info.input(&tensor.name).is_some() || info.output(&tensor.name).is_some());
        }
    }
    if let Some(report) = looked_at(lint::lint_bytes("fuzz.onnx", bytes, &[])) {
        is_printable("a lint report", &printable::lines(&report.to_string()));
        looked_at(report.check());
        assert!(report.to_json().is_object());
    }
    let rewritten = checked.iter().flat_map(|model| [folded_encoder(model, SYMBOLS), split_decoder(model)]);
    for rewritten in rewritten.flatten() {
        // What the rewriters give is at least protobuf, and not larger by orders of magnitude.
        assert!(ModelProto::decode(rewritten.as_slice()).is_ok(), "a rewritten graph that cannot be read");
        assert!(
            rewritten.len() <= (32 << 20) + 8 * bytes.len(),
            "{} bytes became {}",
            bytes.len(),
            rewritten.len()
        );
    }
    let Some(model) = looked_at(Model::read("fuzz.onnx", bytes, Detail::Layers)) else { return };
    for layer in &model.layers {
        assert!(layer.inputs.iter().all(|edge| edge.from < model.layers.len()), "an edge from nowhere");
    }
    for (_, body) in checked.iter().flat_map(body::bodies).filter_map(looked_at) {
        Model::of(&body, Detail::Nodes);
    }
    let is_overview = bytes.len().is_multiple_of(5);
    let one = Graph { role: None, file: "fuzz.onnx".to_owned(), bytes: bytes.to_vec(), model };
    if !is_overview {
        return drawn(&Subject {
            name: "fuzz".to_owned(),
            graphs: vec![one],
            architecture: None,
            graph_padding: None,
            language: Language::English,
        });
    }
    let three =
        [Role::Training, Role::Encoder, Role::Decoder].map(|role| Graph { role: Some(role), ..one.clone() });
    let subject = Subject {
        name: "fuzz".to_owned(),
        graphs: three.into(),
        architecture: None,
        graph_padding: None,
        language: Language::English,
    };
    if let Some(svg) = looked_at(subject.svg(View::Overview)) {
        is_xml("the overview", &svg);
    }
}

/// What the check promises, found out in another way: what a node reads is there before it.
fn is_in_order(graph: &GraphProto, outer: &HashSet<&str>) {
    let mut known = outer.clone();
    known.extend(
        graph
            .input
            .iter()
            .map(|input| input.name.as_str())
            .chain(graph.initializer.iter().map(|tensor| tensor.name.as_str())),
    );
    known.extend(
        graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())),
    );
    for node in &graph.node {
        let unknown = node.input.iter().find(|input| !input.is_empty() && !known.contains(input.as_str()));
        assert_eq!(unknown, None, "a checked node reads what is not there yet: {}", node.name);
        for body in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            is_in_order(body, &known);
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            assert!(known.insert(output), "a checked value is written twice: {output}");
        }
    }
}

/// A table and one of the pictures of a subject; which one, the size of its first graph says, because all of
/// them are slow.
pub(crate) fn drawn(subject: &Subject) {
    let choice = subject.main().bytes.len();
    let view =
        [View::Overview, View::Network, View::Graph(Role::Training), View::Graph(Role::Encoder)][choice % 4];
    match choice % 3 {
        0 => _ = looked_at(subject.svg(view)).inspect(|svg| is_xml("a picture", svg)),
        1 => _ = looked_at(subject.dot(view)).inspect(|text| is_printable("a picture in DOT", text)),
        _ => _ = looked_at(subject.mermaid(view)).inspect(|text| is_printable("a picture in Mermaid", text)),
    }
    for width in [None, Some(80)] {
        is_printable("a table", &printable::lines(&table::summary(subject, true, width)));
    }
    assert!(table::to_json(subject, true).is_object());
    subject.special();
}

/// The layout of boxes alone: every centre and path finite and within the drawing.
pub(crate) fn layout(data: &[u8]) {
    let mut input = Input::new(data);
    let count = 1 + input.below(300);
    let boxes: Vec<(f64, f64)> =
        (0..count).map(|i| (10.0 + (i * 37 % 200) as f64, 10.0 + (i * 11 % 60) as f64)).collect();
    let mut edges = Vec::new();
    while !input.is_empty() && edges.len() < 2000 {
        let (a, b) = (input.below(count), input.below(count));
        if a != b {
            edges.push((a.min(b), a.max(b)));
        }
    }
    let placed = layout::place(&boxes, &edges, 30.0);
    assert_eq!((placed.centres.len(), placed.paths.len()), (boxes.len(), edges.len()));
    for (x, y) in placed.centres.iter().chain(placed.paths.iter().flatten()) {
        assert!(
            x.is_finite() && y.is_finite() && *y >= -1.0 && *y <= placed.height + 1.0,
            "({x}, {y}) of {placed:?}"
        );
    }
    for (i, ((x, y), (width, height))) in placed.centres.iter().zip(&boxes).enumerate() {
        let apart = |j: usize| {
            let ((ox, oy), (ow, oh)) = (placed.centres[j], boxes[j]);
            (x - ox).abs() * 2.0 >= width + ow - 0.01 || (y - oy).abs() * 2.0 >= height + oh - 0.01
        };
        assert!((0..i).all(apart), "box {i} covers another");
    }
}
