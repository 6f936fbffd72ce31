#![allow(clippy::unwrap_used)]

use super::*;
use crate::onnx::{
    DataType, DimensionProto, OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto,
    TrainingInfoProto,
};

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        name: format!("{op}_0"),
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto::tensor(
        name,
        DataType::Float,
        vec![DimensionProto { value: Some(Dimension::Param("n".to_owned())) }],
    )
}

/// Reads `x`, gives `y`.
fn model(nodes: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn good() -> ModelProto {
    let mut model = model(vec![node("Add", &["x", "w"], &["sum"]), node("Tanh", &["sum"], &["y"])]);
    graph(&mut model).initializer = vec![TensorProto::of_floats("w", &[2], &[1.0, 2.0])];
    model
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn with_body(op: &str, body: GraphProto) -> NodeProto {
    let attribute = AttributeProto { name: "body".to_owned(), g: Some(body), ..AttributeProto::default() };
    NodeProto { attribute: vec![attribute], ..node(op, &["x"], &["y"]) }
}

#[track_caller]
fn refused(model: &ModelProto, parts: &[&str]) {
    let error = CheckedModel::read("g.onnx", &model.encode_to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
    for part in ["g.onnx"].iter().chain(parts) {
        assert!(error.to_string().contains(part), "{error} has no {part:?}");
    }
    // A model in memory passes the same check.
    assert_eq!(CheckedModel::new("g.onnx", model.clone()).is_err(), !parts.contains(&"more than"), "{error}");
}

#[test]
fn a_good_graph_passes_and_comes_out_unchanged() {
    let checked = CheckedModel::read("g.onnx", &good().encode_to_vec()).unwrap();
    assert_eq!((checked.graph().node.len(), &*checked), (2, &good()));
    // An initialiser may be an input's default, and a body reads what was written around it before.
    let mut model = good();
    graph(&mut model).input.push(value("w"));
    let body = GraphProto {
        node: vec![node("Mul", &["x", "w"], &["z"])],
        output: vec![value("z")],
        ..GraphProto::default()
    };
    graph(&mut model).node[1] = with_body("If", body);
    CheckedModel::new("g.onnx", model).unwrap();
}

#[test]
fn cycles_and_wrong_orders_are_refused_and_told_apart() {
    refused(&model(vec![node("Concat", &["y", "x"], &["y"])]), &["Concat_0", "reads its own output `y`"]);
    let circle =
        [node("Add", &["x", "b"], &["a"]), node("Tanh", &["a"], &["b"]), node("Neg", &["b"], &["y"])];
    refused(&model(circle.to_vec()), &["Add_0", "`b`", "a cycle"]);
    let unsorted = [node("Neg", &["a"], &["y"]), node("Tanh", &["x"], &["a"])];
    refused(&model(unsorted.to_vec()), &["Neg_0", "`a`", "Tanh_0 gives only behind it"]);
    refused(
        &model(vec![node("Neg", &["nowhere"], &["y"])]),
        &["Neg_0", "`nowhere`", "no input, initialiser or node gives"],
    );
    refused(&model(vec![node("Neg", &["x"], &["z"])]), &["g.onnx:y", "no node gives"]);
    // A chain as long as graphs may be ends without a stack.
    let mut chain: Vec<NodeProto> =
        (1..20_000).map(|i| node("Neg", &[&format!("v{}", i - 1)], &[&format!("v{i}")])).collect();
    chain.insert(0, node("Add", &["x", "v19999"], &["v0"]));
    refused(&model(chain), &["a cycle"]);
}

#[test]
fn names_that_are_written_twice_are_refused_in_bodies_too() {
    refused(&model(vec![node("Neg", &["x"], &["y"]), node("Abs", &["x"], &["y"])]), &["Abs_0", "`y`"]);
    refused(&model(vec![node("Neg", &["x"], &["x"]), node("Abs", &["x"], &["y"])]), &["Neg_0", "`x`"]);
    let mut twice = good();
    let again = graph(&mut twice).initializer[0].clone();
    graph(&mut twice).initializer.push(again);
    refused(&twice, &["`w`"]);
    for body in [
        GraphProto { node: vec![node("Neg", &["x"], &["x"])], ..GraphProto::default() },
        GraphProto { input: vec![value("x")], ..GraphProto::default() },
        GraphProto { initializer: vec![TensorProto::of_bool("x", true)], ..GraphProto::default() },
    ] {
        refused(&model(vec![with_body("Loop", body)]), &["Loop_0/", "`x`"]);
    }
    let unknown = GraphProto { node: vec![node("Neg", &["y"], &["z"])], ..GraphProto::default() };
    refused(&model(vec![with_body("Loop", unknown)]), &["Loop_0/Neg_0", "`y`"]);
}

/// `good()` with a change to its tensor, which is tried wherever a tensor can stand.
fn with_tensor(change: impl Fn(&mut TensorProto)) -> Vec<ModelProto> {
    let mut changed = TensorProto::of_floats("w", &[2], &[1.0, 2.0]);
    change(&mut changed);
    let mut initialiser = good();
    graph(&mut initialiser).initializer[0] = changed.clone();
    let sparse = SparseTensorProto {
        values: Some(changed.clone()),
        indices: Some(TensorProto::of_integers("", &[2], &[0, 1])),
        dims: vec![2],
    };
    let mut models = vec![initialiser];
    for attribute in [
        AttributeProto { t: Some(changed.clone()), ..AttributeProto::default() },
        AttributeProto { tensors: vec![changed.clone()], ..AttributeProto::default() },
        AttributeProto { sparse_tensor: Some(sparse.clone()), ..AttributeProto::default() },
        AttributeProto { sparse_tensors: vec![sparse.clone()], ..AttributeProto::default() },
        AttributeProto {
            g: Some(GraphProto {
                initializer: vec![TensorProto { name: "inner".to_owned(), ..changed.clone() }],
                ..GraphProto::default()
            }),
            ..AttributeProto::default()
        },
    ] {
        let mut model = good();
        graph(&mut model).node[1].attribute = vec![attribute.clone()];
        models.push(model);
        let mut model = good();
        let defaults = vec![attribute];
        model.functions = vec![FunctionProto {
            name: "f".to_owned(),
            attribute_proto: defaults,
            ..FunctionProto::default()
        }];
        models.push(model);
    }
    let mut model = good();
    graph(&mut model).sparse_initializer = vec![SparseTensorProto {
        values: Some(TensorProto { name: "sparse".to_owned(), ..changed }),
        indices: None,
        dims: vec![2],
    }];
    models.push(model);
    models
}

#[test]
fn external_data_is_refused_wherever_a_tensor_can_stand() {
    let location = |tensor: &mut TensorProto| {
        tensor.external_data = vec![StringStringEntryProto {
            key: "location".to_owned(),
            value: "../../../etc/passwd".to_owned(),
        }];
    };
    let models = with_tensor(|tensor| {
        (tensor.data_location, tensor.raw_data) = (1, vec![].into());
        location(tensor);
    });
    assert_eq!(models.len(), 12);
    models.iter().for_each(|model| refused(model, &["another file", "../../../etc/passwd"]));
    // Either field alone is enough for some reader.
    with_tensor(location).iter().for_each(|model| refused(model, &["another file"]));
    with_tensor(|tensor| tensor.data_location = 1).iter().for_each(|model| refused(model, &["another file"]));
    with_tensor(|_| ()).into_iter().for_each(|model| drop(CheckedModel::new("g.onnx", model).unwrap()));
}

#[test]
fn tensors_have_as_many_bytes_as_axes_and_type_say() {
    type Change = fn(&mut TensorProto);
    let changes: [(Change, &str); 9] = [
        (|t| t.dims = vec![3], "need 12"),
        (|t| t.dims = vec![-1], "no tensor can have"),
        (|t| t.dims = vec![1 << 40, 1 << 40], "no tensor can have"),
        (|t| t.dims = vec![1 << 40], "bytes"),
        (|t| t.dims = vec![1; 65], "65 axes"),
        (|t| t.data_type = 7, "need 16"),
        (|t| t.data_type = 0, "element type 0"),
        (|t| t.float_data = vec![1.0, 2.0], "several fields"),
        (|t| (t.raw_data, t.int64_data) = (vec![].into(), vec![1, 2]), "2 in float_data"),
    ];
    for (change, said) in changes {
        with_tensor(change).iter().for_each(|model| refused(model, &[said]));
    }
    // Typed fields, half a byte each, texts, nothing.
    for tensor in [
        TensorProto { dims: vec![2], data_type: 1, float_data: vec![1.0, 2.0], ..TensorProto::default() },
        TensorProto { dims: vec![3], data_type: 22, raw_data: vec![0; 2].into(), ..TensorProto::default() },
        TensorProto { dims: vec![3], data_type: 22, int32_data: vec![0; 2], ..TensorProto::default() },
        TensorProto {
            dims: vec![1],
            data_type: 8,
            string_data: vec![b"a".to_vec()],
            ..TensorProto::default()
        },
        TensorProto { dims: vec![0, 1 << 60, 1 << 60], data_type: 1, ..TensorProto::default() },
        TensorProto { dims: vec![2], data_type: 16, int32_data: vec![0; 2], ..TensorProto::default() },
    ] {
        let mut model = good();
        graph(&mut model).initializer.push(TensorProto { name: "other".to_owned(), ..tensor });
        CheckedModel::new("g.onnx", model).unwrap();
    }
    let mut model = good();
    let values = TensorProto { name: "s".to_owned(), dims: vec![0], data_type: 1, ..TensorProto::default() };
    graph(&mut model).sparse_initializer =
        vec![SparseTensorProto { values: Some(values), indices: None, dims: vec![1 << 40] }];
    refused(&model, &["g.onnx:s", "when filled up"]);
}

#[test]
fn two_bytes_that_stand_for_a_node_are_counted_before_they_are_decoded() {
    for (field, count, what) in
        [(1u8, MOST_NODES, "nodes"), (5, MOST_TENSORS, "tensors"), (11, MOST_PARTS, "attributes")]
    {
        // Empty messages: a tag and a length of zero each.
        let graph: Vec<u8> = (0..=count).flat_map(|_| [field << 3 | 2, 0]).collect();
        let mut bytes = vec![7 << 3 | 2];
        prost::encoding::encode_varint(graph.len() as u64, &mut bytes);
        bytes.extend(graph);
        let error = CheckedModel::read("g.onnx", &bytes).unwrap_err();
        assert!(error.to_string().contains(&format!("more than {count} {what}")), "{error}");
    }
}

#[test]
fn nesting_names_and_declared_shapes_are_bounded() {
    let mut deep = GraphProto::default();
    for _ in 0..60 {
        deep = GraphProto {
            node: vec![NodeProto { output: vec![], input: vec![], ..with_body("If", deep) }],
            ..GraphProto::default()
        };
    }
    let bytes = ModelProto { graph: Some(deep), ..ModelProto::default() }.encode_to_vec();
    assert!(CheckedModel::read("g.onnx", &bytes).unwrap_err().to_string().contains("not an ONNX model"));
    let mut long = good();
    graph(&mut long).node[0].name = "n".repeat(LONGEST_NAME + 1);
    refused(&long, &["a name of 4097 bytes"]);
    let mut wide = good();
    let axis = |length: i64| DimensionProto { value: Some(Dimension::Value(length)) };
    graph(&mut wide).input[0] =
        ValueInfoProto::tensor("x", DataType::Float, vec![axis(1 << 40), axis(1 << 40)]);
    refused(&wide, &["g.onnx:x", "fixed axes"]);
    graph(&mut wide).input[0] = ValueInfoProto::tensor("x", DataType::Float, vec![axis(1); 65]);
    refused(&wide, &["g.onnx:x", "65 axes"]);
}

#[test]
fn functions_that_grow_without_end_and_training_graphs_are_refused() {
    let call = |function: &str, input: &str, output: &str| NodeProto {
        domain: "d".to_owned(),
        ..node(function, &[input], &[output])
    };
    let function = |name: &str, nodes: Vec<NodeProto>| FunctionProto {
        name: name.to_owned(),
        domain: "d".to_owned(),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: nodes,
        ..FunctionProto::default()
    };
    let mut model = model(vec![call("f0", "x", "y")]);
    model.functions = vec![function("f0", vec![call("f0", "a", "b")])];
    refused(&model, &["f0", "circle"]);
    // Each calls the next twice: 2^30 nodes out of 60.
    let twice =
        |i: usize| vec![call(&format!("f{}", i + 1), "a", "m"), call(&format!("f{}", i + 1), "m", "b")];
    model.functions = (0..30).map(|i| function(&format!("f{i}"), twice(i))).collect();
    refused(&model, &["functions expanded"]);
    model.functions = vec![function("f0", vec![node("Neg", &["a"], &["b"])])];
    CheckedModel::new("g.onnx", model.clone()).unwrap();
    model.functions[0].node[0].input[0] = "elsewhere".to_owned();
    refused(&model, &["f0/Neg_0", "`elsewhere`"]);
    let mut model = good();
    model.training_info = vec![TrainingInfoProto {}];
    refused(&model, &["training_info"]);
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = good().encode_to_vec();
    for at in 0..whole.len() {
        drop(CheckedModel::read("g", &whole[..at]));
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            drop(CheckedModel::read("g", &changed));
        }
    }
}

#[test]
fn the_weights_of_a_shared_model_lie_in_its_file_and_one_made_in_memory_is_written_when_asked() {
    let file = Bytes::from(good().encode_to_vec());
    let shared = SharedModel::read("g.onnx", file.clone()).unwrap();
    let weight = shared.graph().initializer[0].raw_data.as_ptr();
    assert!(file.as_ptr_range().contains(&weight), "the weights were copied");
    assert_eq!(shared.bytes().as_ptr(), file.as_ptr());

    let made = SharedModel::from(CheckedModel::new("g.onnx", good()).unwrap());
    assert_eq!((made.len(), made.with_bytes(<[u8]>::to_vec)), (file.len(), file.to_vec()));
    assert_eq!(made.bytes(), &file);

    // Weights that lie elsewhere are within the bytes.
    let mut outside = good();
    let tensor = &mut graph(&mut outside).initializer[0];
    let values = std::mem::take(&mut tensor.raw_data);
    let entry = StringStringEntryProto { key: "location".to_owned(), value: "w.data".to_owned() };
    (tensor.data_location, tensor.external_data) = (1, vec![entry]);
    let bytes = Bytes::from(outside.encode_to_vec());
    let shared = SharedModel::read_with("g.onnx", bytes, &mut |_| Ok(values.clone())).unwrap();
    assert_eq!(shared.bytes(), &file);
}
