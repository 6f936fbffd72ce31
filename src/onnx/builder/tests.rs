use prost::Message;

use super::*;

/// `y = x W + b` over rows, with everything that can go wrong in naming.
fn affine() -> GraphBuilder {
    let mut g = GraphBuilder::new("affine");
    let x = g.input("x", DataType::Float, &[Axis::Symbol("batch"), Axis::Fixed(2)]);
    let w = g.initializer("dense.W", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b = g.initializer("dense.b", &[3], &[0.5, 0.0, -0.5]);
    g.scope("dense");
    let product = g.node("MatMul", &[&x, &w], &[]);
    let y = g.node("Add", &[&product, &b], &[]);
    g.output("y", &y, DataType::Float, &[Axis::Symbol("batch"), Axis::Fixed(3)]);
    g
}

fn graph(g: GraphBuilder, opset: i64) -> GraphProto {
    let bytes = g.finish(opset, crate::onnx::ir_version(opset), &[]).encode_to_vec();
    ModelProto::decode(bytes.as_slice()).ok().and_then(|model| model.graph).unwrap_or_default()
}

#[test]
fn what_was_built_decodes_with_the_same_names_types_and_bytes() {
    let metadata = [("role".to_owned(), "test".to_owned())];
    let model = affine().finish(17, 8, &metadata);
    let decoded = ModelProto::decode(model.encode_to_vec().as_slice()).expect("decodes");
    assert_eq!(decoded, model);
    assert_eq!((decoded.ir_version, decoded.opset_import[0].version), (8, 17));
    assert_eq!(decoded.metadata("role"), Some("test"));
    let graph = decoded.graph.expect("a graph");
    let names: Vec<_> = graph.node.iter().map(|n| (n.name.as_str(), n.output[0].as_str())).collect();
    assert_eq!(names, [("dense.MatMul", "dense.MatMul.out0"), ("dense.Add", "y")]);
    assert_eq!(graph.initializer[0].floats(), Some(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(graph.initializer[0].dims, [2, 3]);
    assert_eq!(graph.input[0].tensor_type().map(|t| t.0), Some(DataType::Float));
    assert!(graph.value_info.is_empty());
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let bytes = || affine().finish(17, 8, &[]).encode_to_vec();
    assert_eq!(bytes(), bytes());
}

#[test]
fn no_node_reads_an_output_of_the_graph() {
    let mut g = GraphBuilder::new("g");
    let x = g.input("x", DataType::Float, &[]);
    let y = g.node("Exp", &[&x], &[]);
    let z = g.node("Tanh", &[&y], &[]);
    g.node("Neg", &[&z], &[]);
    g.output("y", &y, DataType::Float, &[]);
    g.output("z", &z, DataType::Float, &[]);
    let graph = graph(g, 17);
    let read = |name: &str| graph.node.iter().any(|node| node.input.iter().any(|input| input == name));
    assert!(!read("y") && !read("z"));
    let operators: Vec<_> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(operators, ["Exp", "Tanh", "Neg", "Identity", "Tanh"], "what costs little is computed again");
}

#[test]
fn an_input_or_a_second_output_of_one_value_goes_through_identity() {
    let mut g = GraphBuilder::new("g");
    let x = g.input("x", DataType::Float, &[]);
    let y = g.node("Exp", &[&x], &[]);
    g.output("same", &x, DataType::Float, &[]);
    g.output("y", &y, DataType::Float, &[]);
    g.output("y_again", &y, DataType::Float, &[]);
    let graph = graph(g, 17);
    let nodes: Vec<_> =
        graph.node.iter().map(|n| (n.op_type.as_str(), n.input[0].as_str(), n.output[0].as_str())).collect();
    assert_eq!(nodes, [("Exp", "x", "y"), ("Identity", "x", "same"), ("Identity", "y", "y_again")]);
    assert_eq!(graph.output.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["same", "y", "y_again"]);
}

#[test]
fn equal_constants_and_initialisers_of_one_name_are_stored_once() {
    let mut g = GraphBuilder::new("g");
    assert_eq!(g.int64(&[1], &[0]), g.int64(&[1], &[0]));
    assert_ne!(g.int64(&[1], &[0]), g.int64(&[], &[0]));
    assert_ne!(g.int64(&[], &[0]), g.float(&[2], &[0.0, 0.0]));
    assert_eq!(g.initializer("w", &[1], &[1.0]), g.initializer("w", &[1], &[1.0]));
    assert_eq!(graph(g, 17).initializer.len(), 4);
}

#[test]
#[should_panic(expected = "initialiser w was added before")]
fn one_name_with_other_values_is_a_defect() {
    let mut g = GraphBuilder::new("g");
    g.initializer("w", &[1], &[1.0]);
    g.initializer("w", &[1], &[2.0]);
}

#[test]
fn nodes_of_one_operator_get_names_of_their_own() {
    let mut g = GraphBuilder::new("g");
    let x = g.input("Exp_1", DataType::Float, &[]);
    let values = [g.node("Exp", &[&x], &[]), g.node("Exp", &[&x], &[])];
    assert_ne!(values[0], values[1]);
    let graph = graph(g, 17);
    assert_eq!(graph.node[0].name, "Exp");
    assert_eq!(graph.node[1].name, "Exp_2");
}

#[test]
fn the_body_of_a_loop_reads_values_from_outside_and_keeps_its_constants_there() {
    let build = |opset| {
        let mut g = GraphBuilder::new("g");
        let (limit, x) =
            (g.input("limit", DataType::Int64, &[]), g.input("x", DataType::Float, &[Axis::Symbol("n")]));
        let (go, factor) = (g.boolean(true), g.float(&[], &[2.0]));
        let outside = g.node("Exp", &[&x], &[]);
        let body = g.body("body", |g| {
            g.input("number", DataType::Int64, &[]);
            let condition = g.input("condition", DataType::Bool, &[]);
            let carried = g.input("carried", DataType::Float, &[Axis::Symbol("n")]);
            let scaled = g.node("Mul", &[&carried, &factor], &[]);
            let sum = g.node("Add", &[&scaled, &outside], &[]);
            let most = g.node(
                "ReduceMax",
                &[&sum],
                &[("axes", Attribute::Ints(vec![0])), ("keepdims", Attribute::Int(1))],
            );
            g.output("go", &condition, DataType::Bool, &[]);
            g.output("next", &sum, DataType::Float, &[Axis::Symbol("n")]);
            g.output("most", &most, DataType::Float, &[Axis::Fixed(1)]);
        });
        let outputs = g.node_n("Loop", &[&limit, &go, &x], &[("body", body)], 2);
        g.output("y", &outputs[0], DataType::Float, &[Axis::Symbol("n")]);
        graph(g, opset)
    };
    let whole = build(17);
    let body = whole.node[1].attribute[0].g.as_ref().expect("a body");
    assert_eq!((whole.node.len(), body.node.len(), whole.all_nodes().len()), (2, 4, 6));
    assert_eq!(body.node[1].input[1], whole.node[0].output[0]);
    assert!(body.initializer.is_empty() && whole.initializer.len() == 2);
    // An input of the body goes out through a node, and its outputs are not those of the graph.
    let outputs: Vec<&str> = body.output.iter().map(|o| o.name.as_str()).collect();
    assert_eq!((outputs, whole.output.len(), whole.input.len()), (vec!["go", "next", "most"], 1, 2));
    assert!(
        body.node.iter().any(|n| n.op_type == "Identity" && n.input == ["condition"] && n.output == ["go"])
    );
    let newer = build(18);
    assert_eq!(
        (newer.initializer.len(), newer.node[1].attribute[0].g.as_ref().map(|b| b.node[2].input.len())),
        (3, Some(2))
    );
}

#[test]
fn a_left_out_input_is_an_empty_name() {
    let mut g = GraphBuilder::new("g");
    let x = g.input("x", DataType::Float, &[]);
    g.node_n("LSTM", &[&x, &Value::none(), &x], &[("hidden_size", Attribute::Int(4))], 3);
    let node = &graph(g, 17).node[0];
    assert_eq!(node.input, ["x", "", "x"]);
    assert_eq!(node.output.len(), 3);
    assert_eq!((node.attribute[0].i(), node.attribute[0].r#type), (4, AttributeType::Int as i32));
}

#[test]
fn an_attribute_of_zero_is_written_as_a_zero() {
    use prost::Message as _;
    let proto = Attribute::Int(0).to_proto("axis");
    // Field 3, wire type 0, the value 0: OpenCV and tinygrad refuse an attribute without it.
    assert!(proto.encode_to_vec().windows(2).any(|bytes| bytes == [3 << 3, 0]));
}

#[test]
fn axes_of_a_maximum_are_an_attribute_until_17_and_an_input_from_18() {
    let build = |opset| {
        let mut g = GraphBuilder::new("g");
        let x = g.input("x", DataType::Float, &[Axis::Symbol("n"), Axis::Fixed(3)]);
        let y = g.node(
            "ReduceMax",
            &[&x],
            &[("axes", Attribute::Ints(vec![-1])), ("keepdims", Attribute::Int(1))],
        );
        g.output("y", &y, DataType::Float, &[Axis::Symbol("n"), Axis::Fixed(1)]);
        graph(g, opset).node.swap_remove(0)
    };
    let attributes = |node: &NodeProto| node.attribute.iter().map(|a| a.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (build(17).input.len(), attributes(&build(17))),
        (1, vec!["axes".to_owned(), "keepdims".to_owned()])
    );
    assert_eq!((build(18).input.len(), attributes(&build(18))), (2, vec!["keepdims".to_owned()]));
}
