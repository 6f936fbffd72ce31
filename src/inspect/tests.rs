#![allow(clippy::unwrap_used)]

use super::*;
use crate::network::{InputForm, Seq2Seq};

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
    let graphs = [Role::Training, Role::Encoder, Role::Decoder].map(|role| {
        let mut g = GraphBuilder::new(role.as_str());
        match role {
            Role::Encoder => network.emit_encoder(&p, &mut g, Io::Ids),
            Role::Decoder => network.emit_decoder(&p, &mut g, Io::Ids),
            Role::Training => network.emit_training(&p, &mut g, Io::Ids),
        }
        graph(role, role.file(), g.finish(17, 8, &[]).encode_to_vec()).unwrap()
    });
    Subject { name: "test".into(), graphs: graphs.into(), architecture: Some(architecture) }
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
    let text = table::summary(&subject, false);
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
    let states: Vec<_> = of("encoder.lstm_0").outputs.iter().map(|(l, s)| format!("{l} {}", shapes::display(s))).collect();
    assert_eq!(states, ["state_h (batch, 16)", "state_c (batch, 16)"]);
    let read: Vec<&str> = of("decoder.lstm_0").inputs.iter().map(|e| layers[e.from].name.as_str()).collect();
    assert!(read.contains(&"encoder.lstm_0") && read.contains(&"decoder.embedding"), "{read:?}");
}

#[test]
fn inferred_shapes_are_the_declared_ones() {
    for form in [InputForm::OneHot, InputForm::Embedding(8)] {
        for graph in subject(architecture(form, 20, 12, 16)).graphs {
            let mut proto = crate::onnx::messages::ModelProto::decode(graph.bytes.as_slice()).unwrap().graph.unwrap();
            let declared: Vec<_> = proto.output.drain(..).map(|o| (o.name.clone(), shapes::declared(&o))).collect();
            let inferred = shapes::Shapes::of(&proto);
            for (name, shape) in declared {
                assert_eq!(inferred.get(&name), shape, "{name} of {}", graph.file);
            }
            for node in &proto.node {
                for output in &node.output {
                    let shape = inferred.get(output);
                    assert!(shape.as_ref().is_some_and(|s| !s.contains(&shapes::Axis::Unknown)), "{output} of {}: {shape:?}", graph.file);
                }
            }
        }
    }
}

#[test]
fn pictures_name_every_layer_and_shared_weights_have_one_colour() {
    let subject = subject(architecture(InputForm::Embedding(8), 20, 12, 16));
    let svg = subject.svg(View::Overview).unwrap();
    for text in ["training.onnx", "encoder.onnx", "decoder.onnx", "encoder.lstm_0", "decoder.dense", "state_h (batch, 16)", "loss"] {
        assert!(svg.contains(text), "{text}");
    }
    let chip = |name: &str| {
        let text = format!(">{name} (");
        let at = svg.match_indices(&text).map(|(i, _)| svg[..i].rfind("<rect").map(|r| &svg[r..i]).unwrap());
        at.map(|rect| rect.split("fill=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let colours = chip("decoder.lstm_0.R");
    assert!(colours.len() == 2 && colours[0] == colours[1], "{colours:?}");
    for view in [View::Network, View::Graph(Role::Encoder), View::Graph(Role::Decoder), View::Graph(Role::Training)] {
        let (svg, dot, mermaid) = (subject.svg(view).unwrap(), subject.dot(view).unwrap(), subject.mermaid(view).unwrap());
        assert!(svg.contains("batch, 16)") && dot.starts_with("digraph") && mermaid.starts_with("flowchart"), "{view:?}");
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
