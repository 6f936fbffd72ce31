#![allow(clippy::unwrap_used)]

use s2s_runtime::manifest::{Io, Role};

use prost::Message as _;

use super::*;
use crate::network::{Architecture, AttentionScore, Cell, InputForm, Network};
use crate::network::{Parameters, Seq2Seq};
use crate::onnx::messages::{
    AttributeProto, DataType, Dimension, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use crate::onnx::{GraphBuilder, ir_version};

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
    let raw_data = vec![0; if data_type == DataType::Int8 { 1 } else { 4 }].into();
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
/// `table`; gives `y` if a node does, and what the last node gives.
fn model(nodes: Vec<NodeProto>) -> ModelProto {
    let weights =
        [("W", DataType::Float), ("R", DataType::Float), ("q", DataType::Int8), ("table", DataType::Int32)];
    let graph = GraphProto {
        node: nodes,
        initializer: weights.map(|(name, data_type)| tensor(name, data_type)).to_vec(),
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

fn findings(model: &ModelProto, runtimes: &[Runtime]) -> Vec<Finding> {
    lint_bytes("test.onnx", &bytes(model), runtimes).unwrap().findings
}

fn rules(model: &ModelProto) -> Vec<&'static str> {
    findings(model, &[]).into_iter().map(|finding| finding.rule).collect()
}

/// A graph that each rule finds, and one near it that it lets pass.
fn cases() -> Vec<(&'static str, ModelProto, ModelProto)> {
    let plain = || lstm(|_| ());
    let before = |first: &str, inputs: &[&str]| {
        let mut cell = plain();
        cell.graph.as_mut().unwrap().node[0].input[0] = "joined".to_owned();
        with_graph(cell, |graph| graph.node.insert(0, node(first, inputs, &["joined"], vec![])))
    };
    let weights = |op: &str| {
        let mut cell = plain();
        cell.graph.as_mut().unwrap().node[0].input[1] = "wide".to_owned();
        with_graph(cell, |graph| graph.node.insert(0, node(op, &["q"], &["wide"], vec![])))
    };
    let product = |op: &str, from: &str| {
        model(vec![node(op, &[from], &["wide"], vec![]), node("MatMul", &["x", "wide"], &["y"], vec![])])
    };
    let body = |op: &str| AttributeProto {
        name: "body".into(),
        g: Some(GraphProto { node: vec![node(op, &["x"], &["z"], vec![])], ..GraphProto::default() }),
        ..AttributeProto::default()
    };
    vec![
        ("sequence-lens", lstm(|n| n.input[4] = "lengths".into()), plain()),
        (
            "sequence-lens-computed",
            lstm(|n| n.input[4] = "lengths".into()),
            lstm(|n| n.input[4] = "table".into()),
        ),
        (
            "initial-state",
            lstm(|n| n.input.truncate(6)),
            with_graph(lstm(|n| n.input.truncate(3)), |g| {
                g.input = vec![value("x", Dimension::Value(1))];
                g.node[0].input[1..].iter_mut().for_each(|name| "W".clone_into(name));
            }),
        ),
        (
            "layout",
            lstm(|n| n.attribute.push(int("layout", 1))),
            lstm(|n| n.attribute.push(int("layout", 0))),
        ),
        (
            "direction-reverse",
            lstm(|n| n.attribute.push(text("direction", "reverse"))),
            lstm(|n| n.attribute.push(text("direction", "forward"))),
        ),
        ("bidirectional", lstm(|n| n.attribute.push(text("direction", "bidirectional"))), plain()),
        ("gru", gru(|_| ()), plain()),
        ("gru-reset-before", gru(|n| n.attribute.clear()), gru(|_| ())),
        ("clip", lstm(|n| n.attribute.push(int("clip", 3))), plain()),
        (
            "activations",
            lstm(|n| n.attribute.push(texts("activations", &["HardSigmoid", "Tanh", "Tanh"]))),
            lstm(|n| {
                n.attribute
                    .push(texts("activations", &["Sigmoid", "Tanh", "tanh", "Sigmoid", "Tanh", "Tanh"]));
            }),
        ),
        (
            "input-forget",
            lstm(|n| n.attribute.push(int("input_forget", 1))),
            lstm(|n| n.attribute.push(int("input_forget", 0))),
        ),
        ("lstm-sequence-output", lstm(|n| n.output[0] = "y".into()), lstm(|n| n.output[0] = "unread".into())),
        ("weights-through-cast", weights("DequantizeLinear"), weights("Transpose")),
        ("concat-before-lstm", before("Concat", &["x", "x"]), before("Add", &["x", "x"])),
        ("topk", one("TopK", &["x", "table"], vec![]), one("ArgMax", &["x"], vec![])),
        ("log-softmax", one("LogSoftmax", &["x"], vec![]), one("Softmax", &["x"], vec![])),
        (
            "cross-entropy",
            one("SoftmaxCrossEntropyLoss", &["x", "lengths"], vec![]),
            one("GatherElements", &["x", "lengths"], vec![]),
        ),
        ("scan", one("Scan", &["x"], vec![body("Tanh")]), plain()),
        ("loop", one("Loop", &["x"], vec![body("Tanh")]), one("If", &["x"], vec![body("Tanh")])),
        ("gather-nd", one("GatherND", &["x", "lengths"], vec![]), one("Gather", &["x", "lengths"], vec![])),
        ("dequantize", product("DequantizeLinear", "q"), product("DequantizeLinear", "x")),
        ("dequantize-matmul", product("DequantizeLinear", "q"), product("DequantizeLinear", "table")),
        ("matmul-integer", one("MatMulInteger", &["x", "q"], vec![]), one("MatMul", &["x", "W"], vec![])),
        (
            "shape-without-value",
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
        (
            "typed-data",
            with_graph(plain(), |g| {
                (g.initializer[0].float_data, g.initializer[0].raw_data) = (vec![1.0], vec![].into());
            }),
            plain(),
        ),
        (
            "value-info",
            with_graph(plain(), |g| g.value_info.push(free("last_h"))),
            with_graph(plain(), |g| g.value_info.push(value("last_h", Dimension::Value(3)))),
        ),
        ("opset", ModelProto { ir_version: 10, ..plain() }, plain()),
    ]
}

#[test]
fn every_rule_finds_its_graph_and_lets_the_next_one_pass() {
    let cases = cases();
    assert!(
        RULES.iter().map(|rule| rule.id).eq(cases.iter().map(|(id, ..)| *id)),
        "one case a rule, in their order"
    );
    for (id, bad, good) in cases {
        assert!(rules(&bad).contains(&id), "{id} finds nothing");
        assert!(!rules(&good).contains(&id), "{id} finds what is right");
        let rule = RULES.iter().find(|rule| rule.id == id).unwrap();
        assert!(!rule.effects.is_empty() && !rule.fix.ends_with('.') && !rule.about.ends_with('.'), "{id}");
        for finding in findings(&bad, &[]).into_iter().filter(|finding| finding.rule == id) {
            assert!(!finding.place.is_empty(), "{id} says no place");
        }
    }
}

#[test]
fn a_plain_lstm_with_wired_states_is_right_everywhere() {
    assert_eq!(rules(&lstm(|_| ())), [""; 0]);
}

#[test]
fn a_finding_names_node_runtimes_and_fix() {
    let bad = lstm(|n| n.attribute.push(text("direction", "reverse")));
    let [finding] = &findings(&bad, &[])[..] else { panic!("one finding") };
    assert_eq!((finding.rule, finding.place.as_str()), ("direction-reverse", "cell"));
    assert!(
        finding.effects.contains(&(Runtime::Tract, Effect::Wrong))
            && finding.effects.contains(&(Runtime::Iree, Effect::Refuses))
    );
    let report = lint_bytes("f.onnx", &bad.encode_to_vec(), &[]).unwrap();
    let shown = report.to_string();
    for part in [
        "direction-reverse",
        "at cell",
        "wrong without an error: tract, mnn, opencv",
        "refused: iree, candle",
        "fix: use a second",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let json = report.to_json();
    assert_eq!(json["findings"][0]["runtimes"]["tract"], "wrong");
    let error = report.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bundle);
    assert!(error.to_string().contains("f.onnx") && error.message().contains("tract"), "{error}");
}

#[test]
fn only_the_asked_runtimes_are_spoken_of() {
    let bad = lstm(|n| n.attribute.push(text("direction", "reverse")));
    assert!(findings(&bad, &[Runtime::OnnxRuntime]).is_empty());
    let finding = findings(&bad, &[Runtime::Tract]).remove(0);
    assert_eq!(finding.effects, [(Runtime::Tract, Effect::Wrong)]);
    assert_eq!("mnn".parse::<Runtime>().unwrap(), Runtime::Mnn);
    assert_eq!("tracd".parse::<Runtime>().unwrap_err().help_text(), Some("did you mean `tract`?"));
}

#[test]
fn slowness_alone_is_no_fault() {
    let report = lint_bytes("f.onnx", &bytes(&one("TopK", &["x", "table"], vec![])), &[]).unwrap();
    assert_eq!(report.findings.len(), 1);
    assert!(report.check().is_ok());
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
    let computed: Vec<String> = findings(&nested, &[Runtime::Tract])
        .into_iter()
        .filter(|finding| finding.rule == "sequence-lens-computed")
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
fn operators_of_other_sets_are_not_taken_for_standard_ones() {
    let other = lstm(|n| {
        n.domain = "com.example".to_owned();
        n.attribute.push(int("layout", 1));
    });
    assert!(rules(&other).is_empty());
    let spelled = lstm(|n| {
        n.domain = "ai.onnx".to_owned();
        n.attribute.push(int("layout", 1));
    });
    assert_eq!(rules(&spelled), ["layout"]);
}

#[test]
fn the_first_runtime_that_reads_an_operator_set_is_named() {
    for (opset, ir, said) in
        [(18, 8, "1.14"), (19, 9, "1.15"), (20, 9, "1.17"), (21, 10, "1.18"), (24, 12, "after 1.19")]
    {
        let mut new = lstm(|_| ());
        (new.ir_version, new.opset_import[0].version) = (ir, opset);
        let finding = findings(&new, &[]).remove(0);
        assert!(finding.detail.contains(said), "opset {opset}: {}", finding.detail);
    }
}

#[test]
fn files_that_are_no_models_are_refused_and_damaged_ones_never_panic() {
    for damaged in [&b""[..], b"not a model", &[0xff; 64], &bytes(&lstm(|_| ()))[..7]] {
        assert_eq!(lint_bytes("f", damaged, &[]).unwrap_err().kind(), ErrorKind::Bundle, "{damaged:?}");
    }
    let whole = cases().into_iter().map(|(_, bad, _)| bytes(&bad)).max_by_key(Vec::len).unwrap();
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
    assert!(!rules(&model).contains(&"concat-before-lstm"));
    model.graph.as_mut().unwrap().node.remove(0);
    model.graph.as_mut().unwrap().input.extend(["last_h", "last_c"].map(free));
    assert!(rules(&model).contains(&"concat-before-lstm"));
}

fn exported(architecture: Architecture, role: Role, io: Io) -> Vec<u8> {
    let network = Seq2Seq::new(architecture).unwrap();
    let p: Parameters<f32> = network.initialise(1);
    let mut g = GraphBuilder::new(role.as_str());
    match role {
        Role::Encoder => network.emit_encoder(&p, &mut g, io),
        Role::Decoder => network.emit_decoder(&p, &mut g, io),
        Role::Training => network.emit_training(&p, &mut g, io),
        Role::Translate => network.emit_translate(&p, &mut g),
        Role::EncoderStep => network.emit_encoder_step(&p, &mut g, io),
    }
    g.finish(17, ir_version(17), &[]).encode_to_vec()
}

#[test]
fn every_graph_that_is_exported_here_is_right_in_every_runtime_that_has_its_operators() {
    let plain =
        Architecture { source_vocabulary: 9, target_vocabulary: 8, hidden: 6, ..Architecture::default() };
    let variants = [
        plain.clone(),
        Architecture {
            source_input: InputForm::Embedding(5),
            target_input: InputForm::Embedding(5),
            ..plain.clone()
        },
        Architecture { layers: 2, ..plain.clone() },
        Architecture { bidirectional: true, ..plain.clone() },
        Architecture { attention: AttentionScore::General, ..plain.clone() },
        Architecture { cell: Cell::Gru, ..plain.clone() },
        Architecture {
            cell: Cell::Gru,
            layers: 2,
            bidirectional: true,
            attention: AttentionScore::Dot,
            ..plain
        },
    ];
    for architecture in variants {
        for (role, io) in Role::ALL
            .into_iter()
            .flat_map(|role| [(role, Io::Ids), (role, Io::OneHot)])
            .chain([(Role::Translate, Io::Ids)])
            .chain((!architecture.bidirectional).then_some((Role::EncoderStep, Io::Ids)))
        {
            let bytes = exported(architecture.clone(), role, io);
            let mut found: Vec<&str> =
                lint_bytes("f", &bytes, &[]).unwrap().findings.iter().map(|finding| finding.rule).collect();
            found.dedup();
            if role == Role::Translate {
                assert!(found.contains(&"loop"), "{found:?} of {architecture:?}");
                continue;
            }
            // What a runtime lacks altogether: candle the outputs of all steps, candle and IREE the GRU.
            let reads_all = role == Role::Training
                || (role == Role::Encoder
                    && (architecture.layers > 1 || architecture.attention != AttentionScore::None));
            let expected: &[&str] = match (architecture.cell, role) {
                (Cell::Gru, Role::Encoder | Role::Training) => &["gru"],
                (Cell::Lstm, _) if reads_all => &["lstm-sequence-output"],
                _ => &[],
            };
            assert_eq!(found, expected, "{role} {io} of {architecture:?}");
        }
    }
}

#[test]
fn the_shipped_graphs_are_right_in_every_runtime() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("exported/dates");
    for (role, expected) in [(Role::Encoder, 0), (Role::Decoder, 0), (Role::Training, 2)] {
        let report = lint(&folder.join(role.file()), &[]).unwrap();
        assert!(
            report.findings.iter().all(|f| f.rule == "lstm-sequence-output")
                && report.findings.len() <= expected,
            "{report}"
        );
    }
}

/// The table of docs/lint.md.
fn table() -> String {
    let mut table = "| rule | what it finds | where | what to do |\n|---|---|---|---|\n".to_owned();
    for rule in RULES {
        let of = |effect| {
            let names: Vec<&str> = rule
                .effects
                .iter()
                .filter(|(_, e)| *e == effect)
                .map(|(runtime, _)| runtime.name())
                .collect();
            (!names.is_empty()).then(|| format!("{effect}: {}", names.join(", ")))
        };
        let effects: Vec<String> =
            [Effect::Wrong, Effect::Refuses, Effect::Slow].into_iter().filter_map(of).collect();
        table.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            rule.id,
            rule.about,
            effects.join("; "),
            rule.fix
        ));
    }
    let versions: Vec<String> =
        Runtime::ALL.into_iter().map(|runtime| format!("{runtime} {}", runtime.version())).collect();
    table.push_str(&format!("\nVersions: {}.\n", versions.join(", ")));
    table
}

#[test]
fn the_documentation_has_every_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lint.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- rules -->\n").unwrap();
    let (found, tail) = rest.split_once("<!-- /rules -->").unwrap();
    let expected = table();
    if std::env::var("S2S_RENEW").is_ok_and(|value| value == "1") {
        std::fs::write(&path, format!("{head}<!-- rules -->\n{expected}<!-- /rules -->{tail}")).unwrap();
    } else {
        assert_eq!(found, expected, "S2S_RENEW=1 writes the table anew");
    }
}
