#![allow(clippy::unwrap_used)]

use super::*;
use crate::network::{InputForm, Network, Seq2Seq};

fn architecture(form: InputForm, source: usize, target: usize, hidden: usize) -> Architecture {
    let json = serde_json::json!({
        "source_vocabulary": source, "target_vocabulary": target, "source_input": form, "target_input": form,
        "cell": "lstm", "hidden": hidden, "layers": 1,
    });
    serde_json::from_value(json).unwrap()
}

fn subject(architecture: Architecture) -> Subject {
    let network = Seq2Seq::new(architecture.clone()).unwrap();
    let p = network.initialise(1);
    let graphs = [Role::Training, Role::Encoder, Role::Decoder, Role::Translate].map(|role| {
        let mut g = GraphBuilder::new(role.as_str());
        match role {
            Role::Encoder => network.emit_encoder(&p, &mut g, Io::Ids),
            Role::Decoder => network.emit_decoder(&p, &mut g, Io::Ids),
            Role::Training => network.emit_training(&p, &mut g, Io::Ids),
            Role::Translate => network.emit_translate(&p, &mut g),
            Role::EncoderStep => network.emit_encoder_step(&p, &mut g, Io::Ids),
        }
        graph(role, role.file(), g.finish(17, 8, &[]).encode_to_vec()).unwrap()
    });
    Subject {
        name: "test".into(),
        graphs: graphs.into(),
        architecture: Some(architecture),
        graph_padding: None,
        language: Language::English,
    }
}

#[test]
fn the_totals_of_the_tutorials_model_are_those_of_keras_but_for_the_special_symbols() {
    // 73 source and 2,165 target characters, START and END among the latter: 77 and 2,167 symbols here.
    let subject = subject(architecture(InputForm::OneHot, 77, 2167, 256));
    let special = subject.special().unwrap();
    let (total, bytes) = subject.main().model.totals();
    let keras = 4 * ((73 + 256) * 256 + 256) + 4 * ((2165 + 256) * 256 + 256) + 256 * 2165 + 2165;
    assert_eq!(total - special.source - special.target, keras);
    assert_eq!((keras, bytes), (3_374_453, 4 * total));
    assert_eq!((special.source_tokens, special.target_tokens), (73, 2165));
    let text = table::summary(&subject, false, None);
    assert!(text.contains("without them: 3,374,453"), "{text}");
}

#[test]
fn embeddings_count_as_layers_of_their_own() {
    let subject = subject(architecture(InputForm::Embedding(8), 20, 12, 16));
    let layers = &subject.main().model.layers;
    let of = |name: &str| layers.iter().find(|l| l.name == name).unwrap();
    let count = |name: &str| subject.main().model.parameters(of(name));
    assert_eq!(count("encoder.embedding"), 20 * 8);
    assert_eq!(count("encoder.lstm_0"), 4 * 16 * (8 + 16 + 1));
    assert_eq!(count("decoder.lstm_0"), 4 * 16 * (8 + 16 + 1));
    assert_eq!(count("decoder.dense"), 16 * 12 + 12);
    assert_eq!(subject.special().unwrap().source, 4 * 8);
    assert_eq!(subject.special().unwrap().target, 2 * (8 + 16 + 1));
    assert_eq!(shapes::display(&of("decoder.dense").output), "(batch, target_time, 12)");
    let states: Vec<_> =
        of("encoder.lstm_0").outputs.iter().map(|(l, s)| format!("{l} {}", shapes::display(s))).collect();
    assert_eq!(states, ["state_h (batch, 16)", "state_c (batch, 16)"]);
    let read: Vec<&str> = of("decoder.lstm_0").inputs.iter().map(|e| layers[e.from].name.as_str()).collect();
    assert!(read.contains(&"encoder.lstm_0") && read.contains(&"decoder.embedding"), "{read:?}");
}

/// One of each kind of network.
fn variants() -> Vec<Architecture> {
    let plain = [InputForm::OneHot, InputForm::Embedding(16)].map(|form| architecture(form, 20, 12, 16));
    let mut all = plain.to_vec();
    for a in plain {
        all.push(Architecture {
            layers: 2,
            bidirectional: true,
            attention: AttentionScore::General,
            ..a.clone()
        });
        all.push(Architecture { cell: Cell::Gru, layers: 2, bidirectional: true, ..a.clone() });
        all.push(Architecture { cell: Cell::Gru, attention: AttentionScore::Dot, ..a });
    }
    let tied = architecture(InputForm::Embedding(16), 20, 12, 16);
    all.push(Architecture { tied_embeddings: true, ..tied });
    all
}

#[test]
fn every_weight_belongs_to_one_layer_and_every_layer_has_its_kind() {
    for architecture in variants() {
        let subject = subject(architecture.clone());
        let model = &subject.main().model;
        let mut owned: Vec<usize> = model
            .layers
            .iter()
            .flat_map(|l| l.tensors.clone())
            .filter(|&t| model.tensors[t].is_weight())
            .collect();
        owned.sort_unstable();
        let all: Vec<usize> = (0..model.tensors.len()).filter(|&t| model.tensors[t].is_weight()).collect();
        // A tied embedding is used twice.
        owned.dedup();
        assert_eq!(owned, all, "{architecture:?}");
        for layer in model.layers.iter().filter(|l| l.name.contains("lstm_") || l.name.contains("gru_")) {
            let both = layer.name.starts_with("encoder") && architecture.bidirectional;
            let cell = if architecture.cell == Cell::Gru { "GRU" } else { "LSTM" };
            assert_eq!(
                layer.kind,
                if both { format!("Bidirectional {cell}") } else { cell.to_owned() },
                "{}",
                layer.name
            );
        }
        assert!(subject.svg(View::Overview).unwrap().contains("one network, three graphs"));
    }
}

#[test]
fn a_chinese_picture_has_no_english_words_but_names() {
    let words = |svg: &str| -> Vec<String> {
        let texts =
            svg.split("</text>").filter_map(|part| part.rsplit_once('>').map(|(_, text)| text.to_owned()));
        texts.filter(|text| !text.trim().is_empty()).collect()
    };
    let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    for architecture in variants() {
        let english = subject(architecture);
        let chinese = Subject { language: Language::Chinese, ..english.clone() };
        for view in [View::Overview, View::Network, View::Graph(Role::Encoder), View::Graph(Role::Translate)]
        {
            let (english, chinese) = (english.svg(view).unwrap(), chinese.svg(view).unwrap());
            assert!(
                chinese.contains("xml:lang=\"zh-Hans\"")
                    && !english.contains("xml:lang")
                    && !is_chinese(&english)
            );
            let (english, chinese) = (words(&english), words(&chinese));
            assert_eq!(english.len(), chinese.len());
            // What both have are names, shapes and types, none of which is a sentence.
            let sentences = [
                "whole",
                "once",
                "weights",
                "nodes",
                "parameters",
                "decoding:",
                "token",
                "states",
                "dashed",
                "graphs",
            ];
            for text in chinese.iter().filter(|text| english.contains(text)) {
                assert!(!text.split([' ', ',', ':']).any(|word| sentences.contains(&word)), "{text}");
            }
            assert!(chinese.iter().any(|text| is_chinese(text)) || matches!(view, View::Graph(_)));
        }
    }
}

#[test]
fn inferred_shapes_are_the_declared_ones() {
    for architecture in variants() {
        for graph in subject(architecture).graphs {
            let mut proto =
                crate::onnx::messages::ModelProto::decode(graph.bytes.as_slice()).unwrap().graph.unwrap();
            let declared: Vec<_> =
                proto.output.drain(..).map(|o| (o.name.clone(), shapes::declared(&o))).collect();
            let inferred = shapes::Shapes::of(&proto);
            for (name, shape) in declared {
                // How many tokens a Loop writes is known only when it has run.
                let mut found = inferred.get(&name);
                for (axis, declared) in found.iter_mut().flatten().zip(shape.iter().flatten()) {
                    if *axis == shapes::Axis::Unknown && graph.role == Some(Role::Translate) {
                        axis.clone_from(declared);
                    }
                }
                assert_eq!(found, shape, "{name} of {}", graph.file);
            }
            for node in &proto.node {
                for output in node.output.iter().filter(|_| graph.role != Some(Role::Translate)) {
                    let shape = inferred.get(output);
                    assert!(
                        shape.as_ref().is_some_and(|s| !s.contains(&shapes::Axis::Unknown)),
                        "{output} of {}: {shape:?}",
                        graph.file
                    );
                }
            }
        }
    }
}

#[test]
fn pictures_name_every_layer_and_shared_weights_have_one_colour() {
    let subject = subject(architecture(InputForm::Embedding(8), 20, 12, 16));
    let svg = subject.svg(View::Overview).unwrap();
    for text in [
        "training.onnx",
        "encoder.onnx",
        "decoder.onnx",
        "encoder.lstm_0",
        "decoder.dense",
        "state_h (batch, 16)",
        "loss",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let chip = |name: &str| {
        let text = format!(">{name} (");
        let at = svg.match_indices(&text).map(|(i, _)| svg[..i].rfind("<rect").map(|r| &svg[r..i]).unwrap());
        at.map(|rect| rect.split("fill=\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let colours = chip("decoder.lstm_0.R");
    assert!(colours.len() == 2 && colours[0] == colours[1], "{colours:?}");
    let fused = subject.svg(View::Graph(Role::Translate)).unwrap();
    for text in [
        "translate.Loop",
        "the body of translate.Loop",
        "step.token",
        "decoder.lstm_0.MatMul",
        "step.ArgMax",
        "generated_time",
    ] {
        assert!(fused.contains(text), "{text}");
    }
    for view in [
        View::Network,
        View::Graph(Role::Encoder),
        View::Graph(Role::Decoder),
        View::Graph(Role::Training),
        View::Graph(Role::Translate),
    ] {
        let (svg, dot, mermaid) =
            (subject.svg(view).unwrap(), subject.dot(view).unwrap(), subject.mermaid(view).unwrap());
        assert!(
            svg.contains("batch, 16)") && dot.starts_with("digraph") && mermaid.starts_with("flowchart"),
            "{view:?}"
        );
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}

/// A file of one input `x0`, with the nodes (name, inputs, output) of Adds, that gives `output`.
fn adds(nodes: &[(String, Vec<String>, String)], output: &str) -> Vec<u8> {
    use crate::onnx::messages::{DimensionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
    let value = |name: &str| {
        ValueInfoProto::tensor(name, crate::onnx::DataType::Float, vec![DimensionProto { value: None }])
    };
    let node = |(name, input, output): &(String, Vec<String>, String)| NodeProto {
        name: name.clone(),
        op_type: "Add".to_owned(),
        input: input.clone(),
        output: vec![output.clone()],
        ..NodeProto::default()
    };
    let node = nodes.iter().map(node).collect();
    let graph = GraphProto {
        name: "g".to_owned(),
        node,
        input: vec![value("x0")],
        output: vec![value(output)],
        ..GraphProto::default()
    };
    ModelProto { ir_version: 8, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

fn foreign(bytes: Vec<u8>) -> Subject {
    let model = Model::read("g.onnx", &bytes, Detail::Layers).unwrap();
    Subject {
        name: "g.onnx".into(),
        graphs: vec![Graph { role: None, file: "g.onnx".into(), bytes, model }],
        architecture: None,
        language: Language::English,
        graph_padding: None,
    }
}

/// `count` nodes: each reads the one before, the input, or three at random.
fn shaped(count: usize) -> [Vec<u8>; 3] {
    let mut random = s2s_kernels::random::Random::new(1, 0);
    let of = |mut inputs: Box<dyn FnMut(usize) -> Vec<String>>| {
        let nodes: Vec<_> = (1..=count).map(|i| (format!("Add_{i}"), inputs(i), format!("x{i}"))).collect();
        adds(&nodes, &format!("x{count}"))
    };
    [
        of(Box::new(|i| vec![format!("x{}", i - 1), format!("x{}", i - 1)])),
        of(Box::new(|i| vec![format!("x{}", i - 1), "x0".to_owned()])),
        of(Box::new(move |i| (0..3).map(|_| format!("x{}", random.below(i))).collect())),
    ]
}

#[test]
fn graphs_of_5000_nodes_are_laid_out_with_a_bounded_number_of_lanes_and_drawn_whole() {
    for bytes in shaped(5000) {
        let subject = foreign(bytes);
        let (nodes, arrows) = draw::picture(&subject.main().model, Language::English).unwrap();
        assert_eq!(nodes.len(), 5002);
        let edges: Vec<(usize, usize)> = arrows.iter().map(|arrow| (arrow.from, arrow.to)).collect();
        let sizes: Vec<_> = nodes.iter().map(svg::size).collect();
        let layout = layout::place(&sizes, &edges, 36.0);
        // An edge that passes n ranks had n lanes, and each sweep walked all of them: 12 million here.
        let points: usize = layout.paths.iter().map(Vec::len).sum();
        assert!(points <= 2 * edges.len() + layout::MOST_LANES, "{points}");
        let upwards =
            layout.paths.iter().filter(|path| path.windows(2).any(|pair| pair[0].1 >= pair[1].1)).count();
        assert_eq!(upwards, 0);
        let svg = subject.svg(View::Network).unwrap();
        assert_eq!(svg.matches("<rect").count() >= 5002, svg.contains("Add_5000"));
        assert!(subject.dot(View::Network).is_ok() && subject.mermaid(View::Network).is_ok());
        assert_eq!(table::summary(&subject, true, None).matches("(Add)").count(), 5000);
    }
}

#[test]
fn a_picture_of_more_boxes_than_anyone_can_read_is_refused_and_the_table_is_not() {
    let [chain, ..] = shaped(draw::MOST_BOXES);
    let subject = foreign(chain);
    for error in [
        subject.svg(View::Network).unwrap_err(),
        subject.dot(View::Network).unwrap_err(),
        subject.mermaid(View::Network).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(
            error.to_string().contains("20002 boxes") && error.help_text().unwrap().contains("table"),
            "{error}"
        );
    }
    assert!(table::summary(&subject, false, None).lines().count() > draw::MOST_BOXES);
}

#[test]
fn names_of_others_can_neither_steer_a_terminal_nor_leave_the_picture() {
    let name = "</text><script>alert(1)</script>&\"']]>\u{1b}[31m\u{202e}\n%%{init}%%`#\\";
    let subject =
        foreign(adds(&[(name.to_owned(), vec!["x0".to_owned(), "x0".to_owned()], name.to_owned())], name));
    let text = table::summary(&subject, true, None);
    assert!(!text.contains(|c: char| s2s_runtime::printable::is_unprintable(c) && c != '\n'), "{text:?}");
    assert_eq!(text.lines().filter(|line| line.contains("%%{init}%%")).count(), 1, "{text}");
    let svg = subject.svg(View::Network).unwrap();
    assert!(!svg.contains("<script") && !svg.contains(|c: char| c.is_control() && c != '\n'), "{svg}");
    #[cfg(feature = "png")]
    {
        let tree = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        assert!(tree.descendants().all(|node| !node.has_tag_name("script")));
        assert!(tree.descendants().any(|node| {
            node.text().is_some_and(|text| text.contains("</text><script>alert(1)</script>&\"']]>"))
        }));
    }
    let (dot, mermaid) = (subject.dot(View::Network).unwrap(), subject.mermaid(View::Network).unwrap());
    for text in [&dot, &mermaid] {
        assert!(!text.contains(|c: char| s2s_runtime::printable::is_unprintable(c) && c != '\n'), "{text:?}");
    }
    // A label ends where it should: quotes come in pairs on each line.
    assert!(
        dot.lines().all(|line| line
            .replace("\\\\", "")
            .replace("\\\"", "")
            .matches('"')
            .count()
            .is_multiple_of(2)),
        "{dot}"
    );
    assert!(
        mermaid.lines().all(|line| line.matches('"').count().is_multiple_of(2))
            && !mermaid.contains("<script"),
        "{mermaid}"
    );
}

#[test]
fn graphs_that_never_end_are_refused_before_they_are_walked() {
    let own =
        |op: &str, output: &str| (op.to_owned(), vec![output.to_owned(), "x0".to_owned()], output.to_owned());
    for nodes in [vec![own("Concat", "c")], vec![own("Transpose", "c")]] {
        let error = Model::read("g.onnx", &adds(&nodes, "c"), Detail::Layers).unwrap_err();
        assert!(error.to_string().contains("reads its own output `c`"), "{error}");
    }
}
