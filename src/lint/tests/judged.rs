//! What a report says of what was measured.

use super::*;

#[test]
fn a_finding_names_node_case_error_words_and_fix() {
    let bad = lstm(|n| n.attribute.push(text("direction", "reverse")));
    let report = lint_bytes("f.onnx", &bytes(&bad), &runtimes(&["mnn", "onnxruntime"])).unwrap();
    let of_rule = |rule: &str| report.findings.iter().find(|finding| finding.rule == rule);
    let finding = of_rule("direction-reverse").unwrap();
    assert_eq!((finding.case.as_str(), finding.place.as_str()), ("LSTM", "cell"));
    let [(mnn, wrong), (ort, right)] = &finding.outcomes[..] else { panic!("two runtimes were asked for") };
    assert_eq!((mnn.name(), ort.name()), ("mnn", "onnxruntime"));
    let Outcome::Wrong { error: Some(error), .. } = wrong else { panic!("{wrong:?}") };
    assert!(*error > 1e-3 && right.is_right());
    let shown = report.to_string();
    let measured = format!("wrong without an error: mnn (off by {error})");
    for part in
        ["direction-reverse", "at cell", &measured, "\n  wrong without an error: mnn", "fix: use a second"]
    {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let json = report.to_json();
    let found = json["findings"].as_array().unwrap();
    let found = found.iter().find(|finding| finding["rule"] == "direction-reverse").unwrap();
    assert_eq!((&found["runtimes"]["mnn"]["is"], &found["case"]), (&json!("wrong"), &json!("LSTM")));
    assert_eq!((&json["runtimes"]["mnn"], &json["form"]), (&json!("wrong"), &json!("symbolic")));
    let error = report.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bundle);
    assert!(error.to_string().contains("f.onnx") && error.message().contains("mnn"), "{error}");
}

#[test]
fn only_the_asked_runtimes_are_spoken_of_and_a_name_is_guessed() {
    let bad = lstm(|n| n.attribute.push(text("direction", "reverse")));
    for finding in findings(&bad, &runtimes(&["mnn"])) {
        assert!(finding.outcomes.iter().all(|(runtime, _)| runtime.name() == "mnn"));
    }
    assert_eq!("onnxruntim".parse::<Runtime>().unwrap_err().help_text(), Some("did you mean `onnxruntime`?"));
    assert!(Runtime::all().any(|runtime| runtime == Runtime::S2S));
}

#[test]
fn slowness_alone_is_no_fault() {
    let report =
        lint_bytes("f.onnx", &bytes(&one("TopK", &["x", "table"], vec![])), &[Runtime::S2S]).unwrap();
    assert_eq!(report.verdict(Runtime::S2S), Verdict::Slow, "{report}");
    report.check().unwrap();
}

#[test]
fn what_happens_only_when_something_is_fed_is_said_and_is_no_fault() {
    let fixed = with_graph(one("Relu", &["x"], vec![]), |graph| {
        graph.input = vec![value("x", Dimension::Value(3))];
    });
    let report = lint_bytes("f.onnx", &bytes(&fixed), &runtimes(&["onnxruntime"])).unwrap();
    let finding = report.findings.iter().find(|finding| finding.rule == "fixed-axes").unwrap();
    assert!(finding.outcomes[0].1.is_fault() && !finding.is_fault());
    assert!(report.to_string().contains("which matters when batches of another size are fed"), "{report}");
    assert_eq!(report.verdict(report.runtimes[0]), Verdict::Right, "{report}");
}

#[test]
fn what_nobody_tried_is_not_known_by_name_and_count_and_an_exit_code_of_its_own() {
    let nodes = ["a", "b"].map(|name| node("SomethingNew", &["x"], &[name], vec![]));
    let report = lint_bytes("f.onnx", &bytes(&model(nodes.to_vec())), &runtimes(&["onnxruntime"])).unwrap();
    assert!(report.to_string().contains("tried nowhere: SomethingNew (2)"), "{report}");
    assert_eq!(report.to_json()["not_known"], json!({ "SomethingNew": 2 }));
    let error = report.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert!(error.message().starts_with("not known") && error.message().ends_with("onnxruntime"), "{error}");
    // Known operators in a way that nobody tried.
    let sums = one("SoftmaxCrossEntropyLoss", &["x", "lengths"], vec![text("reduction", "sum")]);
    let report = lint_bytes("f.onnx", &bytes(&sums), &runtimes(&["onnxruntime"])).unwrap();
    assert_eq!(report.verdict(report.runtimes[0]), Verdict::NotKnown);
    assert!(report.to_string().contains("not tried: onnxruntime"), "{report}");
}

#[test]
fn another_build_of_a_runtime_does_as_the_first_where_nothing_else_was_measured() {
    let bad = lstm(|n| n.attribute.push(int("layout", 1)));
    let builds: Vec<Runtime> =
        Runtime::with_builds().filter(|runtime| runtime.name().starts_with("onnxruntime")).collect();
    assert!(builds.len() > 1);
    let report = lint_bytes("f.onnx", &bytes(&bad), &builds).unwrap();
    for &build in &builds {
        assert_eq!(report.verdict(build), Verdict::Refused, "{build}: {report}");
    }
}

#[test]
fn the_engine_is_asked_and_its_words_are_the_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.onnx");
    let bad = lstm(|n| n.attribute.push(int("clip", 3)));
    std::fs::write(&path, bytes(&bad)).unwrap();
    let report = lint(&path, &[Runtime::S2S]).unwrap();
    let [finding] = &report.findings.iter().filter(|f| f.is_fault()).collect::<Vec<_>>()[..] else {
        panic!("{report}")
    };
    assert_eq!((finding.rule, finding.place.as_str()), ("engine", "cell"));
    assert!(finding.outcomes[0].1.detail().starts_with("tract ignores clip of this LSTM"), "{report}");
    assert_eq!(report.verdict(Runtime::S2S), Verdict::Refused);
}

#[test]
fn weights_beside_a_graph_are_read_and_named_and_those_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let outside = |location: &str, offset: &str| {
        with_graph(one("Add", &["x", "W"], vec![]), |graph| {
            let tensor = &mut graph.initializer[0];
            (tensor.data_location, tensor.raw_data) = (1, vec![].into());
            for (key, value) in [("location", location), ("offset", offset)] {
                let (key, value) = (key.to_owned(), value.to_owned());
                tensor.external_data.push(StringStringEntryProto { key, value });
            }
        })
    };
    std::fs::write(folder.path().join("model.data"), [0; 8]).unwrap();
    std::fs::write(&path, bytes(&outside("model.data", "4"))).unwrap();
    let report = lint(&path, &runtimes(&["openvino", "s2s"])).unwrap();
    let view_of = |model: &ModelProto| {
        let names = ["model.data".to_owned()];
        let view = View::new(model, &names);
        let found = rules::all().filter(|rule| rule.id == "external-data");
        found
            .flat_map(|rule| match rule.check {
                Check::Model(check) => check(&view),
                Check::Node(_) => vec![],
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(view_of(&outside("model.data", "4"))[0].0, "model.data");
    assert_ne!(report.verdict(Runtime::S2S), Verdict::Refused, "{report}");
    for (location, offset, said) in [
        ("model.data", "5", "which has 8"),
        ("missing.data", "0", "missing.data"),
        ("../model.data", "0", "which is no file of the graph's folder"),
    ] {
        std::fs::write(&path, bytes(&outside(location, offset))).unwrap();
        let error = lint(&path, &[Runtime::S2S]).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
