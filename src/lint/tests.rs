#![allow(clippy::unwrap_used)]

mod folders;
mod judged;
mod page;

use prost::Message as _;
use serde_json::json;

use super::*;
use crate::onnx::messages::{
    AttributeProto, DataType, Dimension, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};

fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        op_type: op.to_owned(),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(i), ..AttributeProto::default() }
}

fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { name: name.to_owned(), s: s.into(), ..AttributeProto::default() }
}

fn texts(name: &str, s: &[&str]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        strings: s.iter().map(|s| s.as_bytes().to_vec()).collect(),
        ..AttributeProto::default()
    }
}

fn tensor(name: &str, data_type: DataType) -> TensorProto {
    let raw_data = vec![
        0;
        match data_type {
            DataType::Int8 | DataType::Uint8 => 1,
            DataType::Float16 => 2,
            _ => 4,
        }
    ]
    .into();
    TensorProto {
        name: name.to_owned(),
        dims: vec![1],
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    }
}

fn value(name: &str, axis: Dimension) -> ValueInfoProto {
    ValueInfoProto::tensor(name, DataType::Float, vec![DimensionProto { value: Some(axis) }])
}

fn free(name: &str) -> ValueInfoProto {
    value(name, Dimension::Param("batch".to_owned()))
}

/// A model of these nodes: reads `x`, `lengths` and the states `h` and `c`, has the weights `W`, `R`, `q`,
/// `u`, `table` and the state `start`; gives `y` if a node does, and what the last node gives.
fn model(nodes: Vec<NodeProto>) -> ModelProto {
    let weights = [
        ("W", DataType::Float),
        ("R", DataType::Float),
        ("q", DataType::Int8),
        ("u", DataType::Uint8),
        ("table", DataType::Int32),
    ];
    let mut initializer = weights.map(|(name, data_type)| tensor(name, data_type)).to_vec();
    initializer.push(TensorProto::of_floats("start", &[1, 1, 1], &[0.5]));
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: ["x", "lengths", "h", "c"].map(free).to_vec(),
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

/// An LSTM with both states; `change` makes it another.
fn lstm(change: impl FnOnce(&mut NodeProto)) -> ModelProto {
    recurrent("LSTM", change)
}

fn gru(change: impl FnOnce(&mut NodeProto)) -> ModelProto {
    recurrent("GRU", |gru| {
        gru.input.truncate(6);
        gru.attribute = vec![int("linear_before_reset", 1)];
        change(gru);
    })
}

fn recurrent(op: &str, change: impl FnOnce(&mut NodeProto)) -> ModelProto {
    let mut node = node(op, &["x", "W", "R", "", "", "h", "c"], &["", "last_h", "last_c"], vec![]);
    node.name = "cell".to_owned();
    change(&mut node);
    model(vec![node])
}

fn one(op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> ModelProto {
    model(vec![node(op, inputs, &["y"], attributes)])
}

fn with_graph(mut model: ModelProto, change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    change(model.graph.as_mut().unwrap());
    model
}

/// The model's bytes, with what its last node gives for its outputs.
fn bytes(model: &ModelProto) -> Vec<u8> {
    let mut model = model.clone();
    let graph = model.graph.as_mut().unwrap();
    if graph.output.is_empty() {
        graph.output = graph
            .node
            .last()
            .unwrap()
            .output
            .iter()
            .filter(|name| !name.is_empty() && *name != "unread")
            .map(|name| free(name))
            .collect();
    }
    model.encode_to_vec()
}

fn runtimes(names: &[&str]) -> Vec<Runtime> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn findings(model: &ModelProto, runtimes: &[Runtime]) -> Vec<Finding> {
    lint_bytes("test.onnx", &bytes(model), runtimes).unwrap().findings
}

/// The rules that apply, and their cases, whatever runtimes do.
fn applied(model: &CheckedModel) -> Vec<(&'static str, String)> {
    let view = View::new(model, &[]);
    let found = rules::all().flat_map(|rule| {
        let found: Vec<Found> = match rule.check {
            Check::Node(check) => view.sites().flat_map(|site| check(&site)).collect(),
            Check::Model(check) => check(&view).into_iter().map(|(_, found)| found).collect(),
        };
        found.into_iter().map(|found| (rule.id, found.case))
    });
    found.collect()
}

fn found(model: &ModelProto) -> Vec<(&'static str, String)> {
    applied(&CheckedModel::read("test.onnx", &bytes(model)).unwrap())
}

fn has(model: &ModelProto, rule: &str, case: &str) -> bool {
    found(model).iter().any(|found| *found == (rule, case.to_owned()))
}

/// A rule and a case, a graph that has it, and one near it that has not.
fn cases() -> Vec<(&'static str, &'static str, ModelProto, ModelProto)> {
    let plain = || lstm(|_| ());
    let add = |attribute: AttributeProto| lstm(|n| n.attribute.push(attribute));
    let before = |first: &str, inputs: &[&str]| {
        with_graph(lstm(|n| n.input[0] = "joined".to_owned()), |graph| {
            graph.node.insert(0, node(first, inputs, &["joined"], vec![]));
        })
    };
    let weights = |op: &str| {
        with_graph(lstm(|n| n.input[1] = "wide".to_owned()), |graph| {
            graph.node.insert(0, node(op, &["q"], &["wide"], vec![]));
        })
    };
    let computed = |op: &str| {
        with_graph(lstm(|n| n.input[4] = "lens".to_owned()), |graph| {
            graph.node.insert(0, node(op, &["lengths"], &["lens"], vec![]));
        })
    };
    let product = |op: &str, weights: &str| {
        model(vec![
            node("DequantizeLinear", &[weights], &["wide"], vec![]),
            node(op, &["x", "wide"], &["y"], vec![]),
        ])
    };
    let quantised = |first: &str| {
        model(vec![
            node(first, &["x"], &["bytes"], vec![]),
            node("DequantizeLinear", &["bytes"], &["back"], vec![]),
            node("MatMul", &["back", "W"], &["y"], vec![]),
        ])
    };
    let half = |reader: &str| {
        with_graph(one(reader, &["x", "f"], vec![]), |g| g.initializer.push(tensor("f", DataType::Float16)))
    };
    let body = |op: &str| AttributeProto {
        name: "body".into(),
        g: Some(GraphProto { node: vec![node(op, &["x"], &["z"], vec![])], ..GraphProto::default() }),
        ..AttributeProto::default()
    };
    let steps = |at: fn(usize) -> String| {
        let step = |t: usize| {
            let (h, sum, next) =
                (if t == 0 { "x".to_owned() } else { at(t) }, format!("sum{t}"), format!("h{}", t + 1));
            [node("MatMul", &[&h, "cell"], &[&sum], vec![]), node("Sigmoid", &[&sum], &[&next], vec![])]
        };
        let cell = TensorProto::of_floats("cell", &[1, 4], &[0.0; 4]);
        with_graph(model((0..4).flat_map(step).collect()), |g| g.initializer.push(cell))
    };
    let states = |n: &mut NodeProto| n.input[5..].iter_mut().for_each(|name| "start".clone_into(name));
    vec![
        ("lstm", "LSTM", with_graph(lstm(states), |g| g.node[0].input[5..].fill("W".into())), gru(|_| ())),
        ("lstm", "LSTM, states fed", plain(), lstm(states)),
        ("gru", "GRU, states fed", gru(|_| ()), plain()),
        ("rnn", "RNN", recurrent("RNN", |n| n.input.truncate(6)), plain()),
        ("sequence-lens", "LSTM, input", lstm(|n| n.input[4] = "lengths".into()), plain()),
        ("sequence-lens", "LSTM, input", computed("Cast"), computed("ReduceSum")),
        (
            "sequence-lens",
            "LSTM, constant, all equal",
            lstm(|n| n.input[4] = "table".into()),
            computed("Cast"),
        ),
        ("sequence-lens-computed", "LSTM, computed", computed("ReduceSum"), computed("Cast")),
        (
            "unmasked-padding",
            "LSTM",
            lstm(|n| n.input[3] = "start".into()),
            lstm(|n| n.input[3] = "W".into()),
        ),
        ("initial-state", "LSTM, h alone", lstm(|n| n.input.truncate(6)), plain()),
        ("initial-state", "GRU", gru(|n| n.input.truncate(3)), gru(|_| ())),
        ("state-of-batch-1", "LSTM", lstm(states), plain()),
        ("layout", "LSTM", add(int("layout", 1)), add(int("layout", 0))),
        ("direction-reverse", "LSTM", add(text("direction", "reverse")), add(text("direction", "forward"))),
        ("bidirectional", "LSTM", add(text("direction", "bidirectional")), plain()),
        ("gru-reset-before", "GRU", gru(|n| n.attribute.clear()), gru(|_| ())),
        ("gru-sequence-output", "GRU", gru(|n| n.output[0] = "y".into()), gru(|_| ())),
        ("clip", "LSTM", add(int("clip", 3)), plain()),
        (
            "activations",
            "LSTM, HardSigmoid",
            add(texts("activations", &["HardSigmoid", "Tanh", "Tanh"])),
            add(texts("activations", &["Sigmoid", "Tanh", "tanh"])),
        ),
        (
            "activations",
            "LSTM, spelled-out defaults",
            add(texts("activations", &["Sigmoid", "Tanh", "tanh", "Sigmoid", "Tanh", "Tanh"])),
            add(texts("activations", &["Sigmoid", "Tanh", "Relu"])),
        ),
        ("input-forget", "LSTM", add(int("input_forget", 1)), add(int("input_forget", 0))),
        ("peephole", "LSTM", lstm(|n| n.input.push("W".into())), plain()),
        ("no-bias", "LSTM", plain(), lstm(|n| n.input[3] = "W".into())),
        (
            "lstm-sequence-output",
            "LSTM",
            lstm(|n| n.output[0] = "y".into()),
            lstm(|n| n.output[0] = "unread".into()),
        ),
        ("weights-through-cast", "LSTM, DequantizeLinear", weights("DequantizeLinear"), weights("Transpose")),
        ("concat-before-lstm", "LSTM", before("Concat", &["x", "x"]), before("Add", &["x", "x"])),
        ("unrolled", "LSTM, another length", steps(|t| format!("h{t}")), steps(|_| "x".to_owned())),
        ("topk", "TopK", one("TopK", &["x", "table"], vec![]), one("ArgMax", &["x"], vec![])),
        ("log-softmax", "far logits", one("LogSoftmax", &["x"], vec![]), one("Softmax", &["x"], vec![])),
        (
            "cross-entropy",
            "mean",
            one("SoftmaxCrossEntropyLoss", &["x", "lengths"], vec![]),
            one("SoftmaxCrossEntropyLoss", &["x", "lengths"], vec![text("reduction", "none")]),
        ),
        ("scan", "last state", one("Scan", &["h", "x"], vec![body("Tanh")]), plain()),
        (
            "loop",
            "trips constant",
            one("Loop", &["table", "", "x"], vec![body("Tanh")]),
            one("Loop", &["lengths", "", "x"], vec![body("Tanh")]),
        ),
        (
            "if",
            "computed condition",
            one("If", &["x"], vec![body("Tanh")]),
            one("If", &["table"], vec![body("Tanh")]),
        ),
        ("gather-nd", "last step", one("GatherND", &["x", "lengths"], vec![]), plain()),
        (
            "dequantize",
            "Gather, int8",
            model(vec![
                node("DequantizeLinear", &["q"], &["wide"], vec![]),
                node("Gather", &["wide", "lengths"], &["y"], vec![]),
            ]),
            product("MatMul", "q"),
        ),
        ("dequantize-matmul", "MatMul, uint8", product("MatMul", "u"), product("MatMul", "q")),
        ("dequantize-matmul", "int8", product("MatMul", "q"), product("MatMul", "u")),
        ("qdq", "MatMul", quantised("QuantizeLinear"), quantised("Identity")),
        (
            "matmul-integer",
            "7 bits",
            one("MatMulInteger", &["x", "q"], vec![]),
            one("MatMulInteger", &["x", "lengths"], vec![]),
        ),
        (
            "shape-without-value",
            "LSTM",
            one("ConstantOfShape", &["x"], vec![]),
            one(
                "ConstantOfShape",
                &["x"],
                vec![AttributeProto {
                    name: "value".into(),
                    t: Some(tensor("", DataType::Float)),
                    ..AttributeProto::default()
                }],
            ),
        ),
        ("f16", "arithmetic", half("MatMul"), half("Cast")),
        (
            "fixed-axes",
            "batch",
            with_graph(plain(), |g| g.input[0] = value("x", Dimension::Value(3))),
            plain(),
        ),
        ("dead-input", "int64", plain(), lstm(|n| n.input[4] = "lengths".into())),
        (
            "typed-data",
            "LSTM",
            with_graph(plain(), |g| {
                (g.initializer[0].float_data, g.initializer[0].raw_data) = (vec![1.0], vec![].into());
            }),
            plain(),
        ),
        (
            "value-info",
            "LSTM",
            with_graph(plain(), |g| g.value_info.push(free("last_h"))),
            with_graph(plain(), |g| g.value_info.push(value("last_h", Dimension::Value(3)))),
        ),
        ("opset", "LSTM, opset 17, IR 10", ModelProto { ir_version: 10, ..plain() }, plain()),
    ]
}

#[test]
fn every_rule_finds_its_graph_and_lets_the_next_one_pass() {
    for (rule, case, bad, good) in cases() {
        assert!(has(&bad, rule, case), "{rule} ({case}) is not among {:?}", found(&bad));
        assert!(!has(&good, rule, case), "{rule} ({case}) finds what is none");
    }
    for rule in rules::all() {
        let has_case = cases().iter().any(|(of, ..)| *of == rule.id);
        // Weights beside a graph are files.
        assert!(has_case || rule.id == "external-data", "{} has no case", rule.id);
        assert!(!rule.fix.ends_with('.') && !rule.about.ends_with('.'), "{}", rule.id);
    }
}

#[test]
fn every_rule_was_measured_and_every_measurement_is_of_a_rule() {
    let known: Vec<&str> = rules::all().map(|rule| rule.id).collect();
    let mut measured = measured::rules();
    assert!(known.iter().all(|id| measured.contains(id)), "{known:?} and {measured:?}");
    measured.retain(|id| !known.contains(id));
    assert_eq!(measured, [""; 0], "measured, and looked for by no rule");
}

#[test]
fn bodies_and_functions_are_walked_and_see_the_values_around_them() {
    let mut inner = node("LSTM", &["x", "W", "R", "", "lengths", "h", "c"], &["", "a", "b"], vec![]);
    inner.name = "inner".to_owned();
    let constant = NodeProto {
        input: ["x", "W", "R", "", "table", "h", "c"].map(str::to_owned).to_vec(),
        output: vec!["".into(), "d".into(), "e".into()],
        ..inner.clone()
    };
    let body = GraphProto { node: vec![inner.clone(), constant], ..GraphProto::default() };
    let attribute = |name: &str, body: GraphProto| AttributeProto {
        name: name.to_owned(),
        g: Some(body),
        ..AttributeProto::default()
    };
    let middle = NodeProto {
        name: "if_1".to_owned(),
        ..node("If", &["x"], &["z"], vec![attribute("then_branch", body)])
    };
    let outer = NodeProto {
        name: "loop_1".to_owned(),
        ..node(
            "Loop",
            &["x"],
            &["y"],
            vec![attribute("body", GraphProto { node: vec![middle], ..GraphProto::default() })],
        )
    };
    let mut nested = model(vec![outer]);
    let computed: Vec<String> = findings(&nested, &runtimes(&["reference"]))
        .into_iter()
        .filter(|finding| finding.case == "LSTM, input")
        .map(|finding| finding.place)
        .collect();
    // `table` is an initialiser two graphs further out.
    assert_eq!(computed, ["loop_1.body/if_1.then_branch/inner"]);
    let input = ["x", "W", "R", "lengths", "h", "c"].map(str::to_owned).to_vec();
    nested.functions =
        vec![FunctionProto { name: "Cell".to_owned(), input, node: vec![inner], ..FunctionProto::default() }];
    assert!(findings(&nested, &[]).iter().any(|finding| finding.place == "function Cell/inner"));
}

#[test]
fn operators_of_other_sets_are_not_taken_for_standard_ones_and_are_not_known() {
    let other = lstm(|n| {
        n.domain = "com.example".to_owned();
        n.attribute.push(int("layout", 1));
    });
    assert!(!found(&other).iter().any(|(rule, _)| ["layout", "lstm"].contains(rule)));
    let report = lint_bytes("f", &bytes(&other), &runtimes(&["onnxruntime"])).unwrap();
    assert_eq!(report.not_known.into_iter().collect::<Vec<_>>(), [("com.example.LSTM".to_owned(), 1)]);
    let spelled = lstm(|n| {
        n.domain = "ai.onnx".to_owned();
        n.attribute.push(int("layout", 1));
    });
    assert!(has(&spelled, "layout", "LSTM"));
}

#[test]
fn files_that_are_no_models_are_refused_and_damaged_ones_never_panic() {
    for damaged in [&b""[..], b"not a model", &[0xff; 64], &bytes(&lstm(|_| ()))[..7]] {
        assert_eq!(lint_bytes("f", damaged, &[]).unwrap_err().kind(), ErrorKind::Bundle, "{damaged:?}");
    }
    let whole = cases().into_iter().map(|(_, _, bad, _)| bytes(&bad)).max_by_key(Vec::len).unwrap();
    for at in 0..whole.len() {
        drop(lint_bytes("f", &whole[..at], &[]));
        for bit in [1, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            drop(lint_bytes("f", &changed, &[]));
        }
    }
}

#[test]
fn graphs_that_no_runtime_should_be_given_are_refused() {
    let mut circle = lstm(|n| n.input[0] = "a".to_owned());
    let nodes = &mut circle.graph.as_mut().unwrap().node;
    nodes.insert(0, node("Concat", &["b"], &["a"], vec![]));
    nodes.insert(1, node("Identity", &["a"], &["b"], vec![]));
    let outside = with_graph(lstm(|_| ()), |graph| {
        let tensor = &mut graph.initializer[0];
        (tensor.data_location, tensor.raw_data) = (1, vec![].into());
        let location =
            StringStringEntryProto { key: "location".to_owned(), value: "../../../etc/passwd".to_owned() };
        tensor.external_data.push(location);
    });
    for (model, said) in [(circle, "a cycle"), (outside, "\"../../../etc/passwd\"")] {
        let error = lint_bytes("f.onnx", &bytes(&model), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle);
        assert!(error.to_string().starts_with("f.onnx:") && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn what_follows_a_recurrent_operator_is_found_through_bodies_too() {
    // The second cell's Concat reads the first cell's output, from within the body of an If.
    let mut inner = node("LSTM", &["joined", "W", "R", "", "", "h", "c"], &["", "i", "j"], vec![]);
    inner.name = "second".to_owned();
    let body = GraphProto {
        node: vec![node("Concat", &["last_h", "last_c"], &["joined"], vec![]), inner],
        ..GraphProto::default()
    };
    let branch =
        AttributeProto { name: "then_branch".to_owned(), g: Some(body), ..AttributeProto::default() };
    let mut model = lstm(|_| ());
    model.graph.as_mut().unwrap().node.push(node("If", &["x"], &["y"], vec![branch]));
    assert!(!has(&model, "concat-before-lstm", "LSTM"));
    model.graph.as_mut().unwrap().node.remove(0);
    model.graph.as_mut().unwrap().input.extend(["last_h", "last_c"].map(free));
    assert!(has(&model, "concat-before-lstm", "LSTM"));
}
