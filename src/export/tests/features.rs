//! Bundles of networks from features to scores: damaged ones, and graphs that compute something else.

use std::path::Path;

use super::super::feature_bundle::FeatureBundle;
use super::*;
use crate::network::perceptron::{Mlp, MlpArchitecture};

fn write(folder: &Path, change: impl FnOnce(&mut ModelProto)) {
    let architecture = MlpArchitecture { inputs: 5, hidden: vec![7], classes: 3, scale: 0.3 };
    let network = Mlp::new(architecture).unwrap();
    let parameters = network.initialise(1);
    let input = FeatureInput { network: &network, parameters: &parameters, name: "toy", provenance: None };
    let mut files = feature_files(&input, 17).unwrap();
    let mut model = ModelProto::decode(files[file::MODEL].as_slice()).unwrap();
    change(&mut model);
    let (old, new) = (sha256(&files[file::MODEL]), model.encode_to_vec());
    let manifest = String::from_utf8(files[file::MANIFEST].clone()).unwrap().replace(&old, &sha256(&new));
    files.insert(file::MODEL.to_owned(), new);
    files.insert(file::MANIFEST.to_owned(), manifest.into_bytes());
    write_bundle(folder, &files, &Replace::AnyBundle).unwrap();
}

#[test]
fn a_graph_that_computes_something_else_or_no_numbers_fails_and_the_record_says_so() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("toy");
    let verified = || verify_features::<Mlp>(&folder, &VerifyOptions::default(), true).unwrap();
    write(&folder, |_| ());
    let report = verified();
    assert!(report.passed && report.checks.len() > 4, "{}", report.table());
    assert_eq!(std::fs::read_to_string(folder.join(file::CONFORMANCE)).unwrap(), report.to_json().unwrap());
    for (from, to, what) in [
        ("Relu", "Tanh", "logits against the trainer"),
        // The square root of negative numbers.
        ("Relu", "Sqrt", "logits against the trainer"),
        ("Softmax", "LogSoftmax", "probabilities against the trainer"),
    ] {
        write(&folder, |model| {
            let nodes = &mut model.graph.as_mut().unwrap().node;
            nodes.iter_mut().find(|n| n.op_type == from).unwrap().op_type = to.to_owned();
        });
        let report = verified();
        assert!(failed(&report).iter().any(|check| check.what == what), "{to}\n{}", report.table());
        assert!(report.check().is_err());
    }
}

#[test]
fn a_bundle_of_features_that_was_damaged_or_is_of_another_family_is_refused_with_its_place() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("toy");
    let opened = || FeatureBundle::<Mlp>::open(&folder).and_then(|bundle| bundle.parameters().map(drop));
    let changed = |from: &str, to: &str| {
        write(&folder, |_| ());
        let path = folder.join(file::MANIFEST);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        opened().unwrap_err()
    };
    assert!(feature_kind(&folder).is_none());
    write(&folder, |_| ());
    opened().unwrap();
    assert_eq!(feature_kind(&folder).as_deref(), Some("mlp"));
    for (from, to, said) in [
        ("kind: mlp", "kind: linear", "`kind` is `linear` and not `mlp`"),
        ("file: model.onnx", "file: ../model.onnx", "the graph is not in the folder"),
        ("classes: 3", "classes: 1", "`classes` is 1"),
        ("inputs: 5", "inputs: 5000000", "the architecture asks for 35000031 parameters"),
        ("inputs: 5", "inputs: 6", "has shape"),
        ("weights_sha256: ", "weights_sha256: 0", "the weights are not those"),
        ("name: toy", "nome: toy", "not a manifest"),
    ] {
        let error = changed(from, to);
        assert!(error.kind() == ErrorKind::Bundle && error.message().contains(said), "{to}: {error}");
    }
    write(&folder, |_| ());
    std::fs::write(folder.join(file::MODEL), "x").unwrap();
    assert!(opened().unwrap_err().message().contains("its sha256 differs"));
}
