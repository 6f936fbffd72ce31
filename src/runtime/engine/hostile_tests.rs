//! Graphs that ask for more memory or time than there is.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use prost::Message as _;

use super::deadline::Deadline;
use super::open::open_with;
use super::*;
use crate::bundle::Bundle;
use crate::checked::CheckedModel;
use crate::contract::file;
use crate::error::ErrorKind;
use crate::manifest::{Manifest, Role};
use crate::onnx::{
    AttributeProto, DataType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, ValueInfoProto,
};
use crate::self_test::{Case, SelfTest};

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let input = inputs.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        input,
        output: vec![output.to_owned()],
        name: format!("{op}_0"),
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

fn open_axis(name: &str, kind: DataType) -> ValueInfoProto {
    ValueInfoProto::tensor(
        name,
        kind,
        vec![DimensionProto { value: Some(crate::onnx::Dimension::Param("n".to_owned())) }],
    )
}

/// Reads the floats `x` of one axis, gives `y`.
fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let output = vec![ValueInfoProto { name: "y".to_owned(), ..open_axis("y", DataType::Float) }];
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![open_axis("x", DataType::Float)],
        output,
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto::of_integers(name, &[values.len()], values)
}

#[test]
fn a_slice_to_the_end_of_an_open_axis_is_not_as_long_as_the_number_that_stands_for_it() {
    for end in [i64::from(i32::MAX), i64::MAX] {
        let nodes = vec![node("Slice", &["x", "a", "b"], "y")];
        let bytes = model(nodes, vec![integers("a", &[0]), integers("b", &[end])]).encode_to_vec();
        let checked = CheckedModel::read("g.onnx", &bytes).unwrap();
        budget::check("g.onnx", &checked, bytes.len()).unwrap();
    }
}

#[test]
fn values_larger_than_memory_are_refused_before_an_engine_sees_them() {
    let huge = 1i64 << 45;
    let scalar = |name: &str, value: i64| TensorProto::of_integers(name, &[], &[value]);
    let doubling = |from: &str| -> Vec<NodeProto> {
        let name = |i: usize| if i == 0 { from.to_owned() } else { format!("d{i}") };
        let mut nodes: Vec<NodeProto> =
            (0..40).map(|i| node("Concat", &[&name(i), &name(i)], &name(i + 1))).collect();
        nodes.iter_mut().for_each(|node| {
            node.attribute.push(AttributeProto {
                name: "axis".to_owned(),
                i: Some(0),
                ..AttributeProto::default()
            });
        });
        nodes.push(node("Identity", &["d40"], "y"));
        nodes
    };
    let floats = |name: &str| TensorProto::of_floats(name, &[1, 2], &[0.0, 1.0]);
    let wide = |name: &str, shape: [usize; 2]| TensorProto::of_floats(name, &shape, &vec![0.0; 1 << 15]);
    let cases = [
        (vec![node("ConstantOfShape", &["s"], "y")], vec![integers("s", &[huge])]),
        (vec![node("Expand", &["x", "s"], "y")], vec![integers("s", &[huge, 1])]),
        (vec![node("Expand", &["x", "s"], "y")], vec![integers("s", &[huge])]),
        (vec![node("Tile", &["x", "s"], "y")], vec![integers("s", &[huge])]),
        (vec![node("Tile", &["c", "s"], "y")], vec![floats("c"), integers("s", &[1, huge])]),
        (vec![node("Pad", &["x", "s"], "y")], vec![integers("s", &[0, huge])]),
        (
            vec![node("OneHot", &["i", "s", "v"], "y")],
            vec![integers("i", &[0]), scalar("s", huge), integers("v", &[0, 1])],
        ),
        (vec![node("Range", &["a", "b", "c"], "y")], vec![scalar("a", 0), scalar("b", huge), scalar("c", 1)]),
        // The size is itself computed.
        (
            vec![node("Mul", &["s", "s"], "p"), node("ConstantOfShape", &["p"], "y")],
            vec![integers("s", &[1 << 22])],
        ),
        (vec![node("MatMul", &["a", "b"], "y")], vec![wide("a", [1 << 15, 1]), wide("b", [1, 1 << 15])]),
        // Constants of some hundred megabytes each, out of a file of some hundred bytes.
        (vec![node("ConstantOfShape", &["s"], "y")], vec![integers("s", &[1 << 27])]),
        (doubling("c"), vec![floats("c")]),
        (doubling("x"), vec![]),
    ];
    for (nodes, initializers) in cases {
        let (name, bytes) = (nodes[0].name.clone(), model(nodes, initializers).encode_to_vec());
        for &kind in EngineKind::COMPILED {
            let error = load_graph(kind, "g.onnx", &bytes, &["x"], &["y"]).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Bundle, "{name}: {error}");
            assert!(
                error.to_string().starts_with("g.onnx:") && error.help_text().is_some(),
                "{name}: {error}"
            );
        }
    }
    // In a body too.
    let body = GraphProto {
        node: vec![node("ConstantOfShape", &["s"], "z")],
        output: vec![open_axis("z", DataType::Float)],
        ..GraphProto::default()
    };
    let branch =
        AttributeProto { name: "then_branch".to_owned(), g: Some(body), ..AttributeProto::default() };
    let outer = NodeProto { attribute: vec![branch], ..node("If", &["x"], "y") };
    let error = load_graph(
        EngineKind::Auto,
        "g.onnx",
        &model(vec![outer], vec![integers("s", &[huge])]).encode_to_vec(),
        &["x"],
        &["y"],
    );
    assert!(error.err().unwrap().to_string().contains("ConstantOfShape_0"));
}

#[test]
fn a_graph_that_reads_its_own_output_reaches_no_engine() {
    let bytes = model(vec![node("Transpose", &["y"], "y")], vec![]).encode_to_vec();
    for &kind in EngineKind::COMPILED {
        let error = load_graph(kind, "g.onnx", &bytes, &["x"], &["y"]).err().unwrap();
        assert!(error.to_string().contains("reads its own output"), "{error}");
    }
}

#[cfg(feature = "ort")]
#[test]
fn a_loop_of_two_to_the_63_ends_when_the_time_for_opening_is_over() {
    if tests::engines().iter().all(|&kind| kind != EngineKind::Ort) {
        return;
    }
    let mut files = tests::files("ids");
    let mut encoder = ModelProto::decode(files[file::ENCODER].as_slice()).unwrap();
    let graph = encoder.graph.as_mut().unwrap();
    // The state goes round and round before it comes out.
    let writer =
        graph.node.iter_mut().find(|node| node.output.iter().any(|output| output == "state_h_0")).unwrap();
    writer
        .output
        .iter_mut()
        .filter(|output| *output == "state_h_0")
        .for_each(|output| "before".clone_into(output));
    let state = graph.output.iter().find(|output| output.name == "state_h_0").unwrap().clone();
    let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..state.clone() };
    let single = |name: &str, kind: DataType| ValueInfoProto::tensor(name, kind, vec![]);
    let body = GraphProto {
        name: "body".to_owned(),
        node: vec![node("Identity", &["go"], "go_on"), node("Neg", &["round"], "rounded")],
        input: vec![single("turn", DataType::Int64), single("go", DataType::Bool), value("round")],
        output: vec![single("go_on", DataType::Bool), value("rounded")],
        ..GraphProto::default()
    };
    let r#type = crate::onnx::AttributeType::Graph as i32;
    let attribute =
        vec![AttributeProto { name: "body".to_owned(), g: Some(body), r#type, ..AttributeProto::default() }];
    graph.node.push(NodeProto { attribute, ..node("Loop", &["turns", "yes", "before"], "state_h_0") });
    graph
        .initializer
        .extend([TensorProto::of_integers("turns", &[], &[i64::MAX]), TensorProto::of_bool("yes", true)]);
    let bytes = encoder.encode_to_vec();
    let mut manifest =
        Manifest::from_yaml(std::str::from_utf8(&files[file::MANIFEST]).unwrap(), "s2s.yaml").unwrap();
    manifest.graphs.get_mut(&Role::Encoder).unwrap().sha256 = crate::bundle::sha256(&bytes);
    let case = Case { source_ids: vec![4, 5], output_ids: vec![2], ..Case::default() };
    let test = SelfTest { tolerance: SelfTest::TOLERANCE, cases: vec![case] };
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml().unwrap().into_bytes());
    files.insert(file::ENCODER.to_owned(), bytes);
    files.insert(file::SELF_TEST.to_owned(), test.to_json().unwrap());
    let bundle = Bundle::from_files("loop", files).unwrap();
    let started = Instant::now();
    let error = open_with(&bundle, EngineKind::Ort, Device::Cpu, Deadline::after(Duration::from_secs(3)))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
