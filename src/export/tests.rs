//! Small random networks, exported and verified; damaged bundles.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use prost::Message;
use s2s_runtime::bundle::{Bundle, sha256};
use s2s_runtime::contract::{START, UNK, file, metadata};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::manifest::{Io, Manifest, Provenance, Role};
use s2s_runtime::vocabulary::{Unit, Vocabulary, VocabularySpec};

use super::verify::{Check, Outcome};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::network::{
    Architecture, AttentionOutput, AttentionScore, Bridge, BridgeSource, Cell, Feeding, GateActivation,
    InputForm, Network, Parameters, Seq2Seq, SequenceNetwork,
};
use crate::onnx::messages::ModelProto;

pub(crate) mod bag;
mod batches;
mod damaged;
mod features;
mod filled;
mod folded;
mod foreign;
mod forms;
mod rounding;
mod shipped;

type Files = BTreeMap<String, Vec<u8>>;

/// A network with random weights and the vocabularies that fit it.
struct Toy {
    network: Seq2Seq,
    parameters: Parameters<f32>,
    source: Vocabulary,
    target: Vocabulary,
}

impl Toy {
    fn new(
        source_input: InputForm,
        target_input: InputForm,
        hidden: usize,
        layers: usize,
        seed: u64,
    ) -> Self {
        Self::of(Architecture { source_input, target_input, hidden, layers, ..Architecture::default() }, seed)
    }

    fn of(architecture: Architecture, seed: u64) -> Self {
        let source = Vocabulary::build(Unit::Character, [], ["abcdefgh"]);
        let target = Vocabulary::build(Unit::Character, [], ["uvwxyz123"]);
        let architecture =
            Architecture { source_vocabulary: source.len(), target_vocabulary: target.len(), ..architecture };
        let network = Seq2Seq::new(architecture).unwrap();
        // Larger than a trainer would begin with, so that texts, and not only biases, decide the outputs.
        let parameters = network.initialise(seed).map(|x| 2.0 * x);
        Self { network, parameters, source, target }
    }

    fn embedded() -> Self {
        Self::new(InputForm::Embedding(5), InputForm::Embedding(6), 12, 1, 7)
    }

    fn input(&self) -> ExportInput<'_> {
        ExportInput {
            network: &self.network,
            parameters: &self.parameters,
            source: &self.source,
            target: &self.target,
            name: "toy",
            decoding: DecodingOptions::default(),
            provenance: Some(Provenance {
                licence: Some("CC0".to_owned()),
                attribution: Some("nobody".to_owned()),
                ..Provenance::default()
            }),
        }
    }

    fn files(&self, options: &ExportOptions) -> Files {
        bundle_files(&self.input(), options).unwrap()
    }

    fn bundle(&self) -> Bundle {
        Bundle::from_files("toy", self.files(&ExportOptions::default())).unwrap()
    }
}

fn model(files: &Files, role: Role) -> ModelProto {
    ModelProto::decode(files[role.file()].as_slice()).unwrap()
}

/// Puts a changed graph in, and its hash into the manifest.
/// Takes the self test out, of the manifest's list too.
fn drop_self_test(files: &mut Files) {
    files.remove(file::SELF_TEST);
    let mut manifest =
        Manifest::from_yaml(std::str::from_utf8(&files[file::MANIFEST]).unwrap(), "s2s.yaml").unwrap();
    manifest.files.remove(file::SELF_TEST);
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml().unwrap().into_bytes());
}

fn replace(files: &mut Files, role: Role, model: &ModelProto) {
    let mut manifest =
        Manifest::from_yaml(std::str::from_utf8(&files[file::MANIFEST]).unwrap(), "s2s.yaml").unwrap();
    let bytes = model.encode_to_vec();
    manifest.graphs.get_mut(&role).unwrap().sha256 = sha256(&bytes);
    files.insert(role.file().to_owned(), bytes);
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml().unwrap().into_bytes());
}

fn passes(toy: &Toy, options: &VerifyOptions) {
    let has_step = SequenceNetwork::encoder_step(&toy.network).is_ok();
    assert_eq!(has_step, !toy.network.architecture().bidirectional, "all that reads forward has a step");
    let encoder_form = if has_step { EncoderForm::Step } else { EncoderForm::Whole };
    for io in [Io::Ids, Io::OneHot] {
        let files = toy.files(&ExportOptions { io, encoder_form, fused: true, ..ExportOptions::default() });
        let report = verify(&Bundle::from_files("toy", files).unwrap(), options).unwrap();
        assert!(report.passed, "{:?} {io}\n{}", toy.network.architecture(), report.table());
        // Greedy decoding within a graph: token for token what the loop gives, one by one and in ragged
        // batches.
        let fused: Vec<&Check> = report
            .checks
            .iter()
            .filter(|c| c.subject == file::TRANSLATE && c.what.starts_with("greedy"))
            .collect();
        for engine in report.engines.iter().filter(|e| e.available) {
            let of_step = |c: &&Check| {
                c.subject == file::ENCODER_STEP
                    && c.what.starts_with("tokens folded")
                    && c.engine.as_ref() == Some(&engine.name)
            };
            assert_eq!(report.checks.iter().any(|c| of_step(&c)), has_step, "{}", report.table());
            let passed = fused
                .iter()
                .filter(|c| c.engine.as_ref() == Some(&engine.name) && c.outcome == Outcome::Passed)
                .count();
            assert_eq!(
                passed,
                if engine.name == EngineKind::Tract.as_str() { 0 } else { 2 },
                "{}",
                report.table()
            );
        }
        assert!(
            report.checks.iter().filter(|c| c.outcome == Outcome::Passed).count() > 10,
            "{}",
            report.table()
        );
    }
}

fn failed(report: &Report) -> Vec<&Check> {
    report.checks.iter().filter(|check| check.outcome == Outcome::Failed).collect()
}

fn refused(files: Files) -> Error {
    Bundle::from_files("toy", files).expect_err("a damaged bundle is refused")
}

#[test]
fn every_operator_set_gives_graphs_that_pass() {
    let toy = Toy::embedded();
    for opset in crate::onnx::OPSETS {
        let files = toy.files(&ExportOptions { opset, fused: true, ..ExportOptions::default() });
        assert_eq!(model(&files, Role::Training).opset_import[0].version, opset);
        let report = verify(
            &Bundle::from_files("toy", files).unwrap(),
            &VerifyOptions { random: 5, ..VerifyOptions::default() },
        )
        .unwrap();
        assert!(report.passed, "opset {opset}\n{}", report.table());
    }
    let error =
        bundle_files(&toy.input(), &ExportOptions { opset: 22, ..ExportOptions::default() }).unwrap_err();
    assert_eq!((error.kind(), error.help_text()), (ErrorKind::Usage, Some("choose one from 13 to 21")));
}

#[test]
fn smaller_weights_pass_every_check_take_less_space_and_leave_recurrent_nodes_in_f32() {
    for (dtype, layers) in [(Dtype::F16, 1), (Dtype::F16, 2), (Dtype::Int8, 1), (Dtype::Int8, 2)] {
        let toy = Toy::new(InputForm::Embedding(16), InputForm::Embedding(16), 32, layers, 7);
        let files = toy.files(&ExportOptions { dtype, fused: true, ..ExportOptions::default() });
        let plain = toy.files(&ExportOptions::default());
        assert!(files.contains_key(file::SELF_TEST));
        let bundle = Bundle::from_files("toy", files.clone()).unwrap();
        let report =
            verify(&bundle, &VerifyOptions { random: 40, beams: Some(3), ..VerifyOptions::default() })
                .unwrap();
        assert!(report.passed, "{dtype} {layers}\n{}", report.table());
        assert_eq!(report.dtype, dtype);
        assert!(report.tolerances.logits > Tolerances::default().logits, "the record says what was allowed");

        let share = files[file::DECODER].len() as f64 / plain[file::DECODER].len() as f64;
        assert!(share < if dtype == Dtype::F16 { 0.75 } else { 0.6 }, "{dtype}: {share}");
        for role in [Role::Encoder, Role::Decoder, Role::Translate] {
            let graph = model(&files, role).graph.unwrap();
            let restored: Vec<&String> = graph
                .node
                .iter()
                .filter(|n| ["Cast", "DequantizeLinear"].contains(&n.op_type.as_str()))
                .flat_map(|n| &n.output)
                .collect();
            // All weights of a small encoder belong to its nodes.
            assert!(role == Role::Encoder || !restored.is_empty());
            for node in graph.node.iter().filter(|node| node.op_type == "LSTM") {
                assert!(
                    node.input.iter().all(|input| !restored.contains(&input)),
                    "a runtime that misreads this exists"
                );
            }
        }
        // The weights are the rounded ones, so the hash is another.
        assert_ne!(
            Bundle::from_files("toy", plain).unwrap().manifest().weights_sha256,
            bundle.manifest().weights_sha256
        );
    }
}

#[test]
fn a_smaller_weight_that_was_tampered_with_is_found() {
    let toy = Toy::new(InputForm::Embedding(16), InputForm::Embedding(16), 32, 1, 7);
    let mut files = toy.files(&ExportOptions { dtype: Dtype::F16, ..ExportOptions::default() });
    drop_self_test(&mut files);
    let mut decoder = model(&files, Role::Decoder);
    let weight = decoder
        .graph
        .as_mut()
        .unwrap()
        .initializer
        .iter_mut()
        .find(|tensor| tensor.name == "decoder.dense.weight.f16")
        .unwrap();
    let mut raw = weight.raw_data.to_vec();
    raw[1] ^= 0x40;
    weight.raw_data = raw.into();
    replace(&mut files, Role::Decoder, &decoder);
    let report = verify(
        &Bundle::from_files("toy", files).unwrap(),
        &VerifyOptions { random: 5, ..VerifyOptions::default() },
    )
    .unwrap();
    assert!(
        failed(&report).iter().any(|check| check.detail.contains("decoder.dense.weight")),
        "{}",
        report.table()
    );
}

#[test]
fn a_weight_has_the_same_bytes_under_the_same_name_in_every_graph_that_uses_it() {
    for toy in [Toy::embedded(), Toy::new(InputForm::OneHot, InputForm::OneHot, 8, 2, 1)] {
        let files = toy.files(&ExportOptions::default());
        let weights = toy.network.exported(&toy.parameters);
        let mut uses = BTreeMap::<&str, usize>::new();
        for role in Role::ALL {
            let graph = model(&files, role).graph.unwrap();
            for (name, shape, values) in &weights {
                let Some(tensor) = graph.initializer.iter().find(|t| t.name == *name) else { continue };
                assert_eq!(tensor.shape().as_ref(), Some(shape), "{role} {name}");
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                assert_eq!(tensor.raw_data, bytes[..], "{role} {name}");
                *uses.entry(name).or_default() += 1;
            }
        }
        assert_eq!(uses.len(), weights.len(), "the training graph has all");
        assert!(uses.iter().all(|(name, &uses)| uses == 2 || name.starts_with("decoder")), "{uses:?}");
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    assert_eq!(
        Toy::embedded().files(&ExportOptions::default()),
        Toy::embedded().files(&ExportOptions::default())
    );
}

#[test]
fn a_readme_begins_with_front_matter_and_odd_texts_add_no_lines_and_no_commands_to_it() {
    let toy = Toy::embedded();
    let odd = "a: [b\n```sh\nexit 1\n```\n---\n# c";
    let provenance = Provenance {
        licence: Some(odd.to_owned()),
        attribution: Some(odd.to_owned()),
        ..toy.input().provenance.unwrap_or_default()
    };
    let input = ExportInput { name: odd, provenance: Some(provenance), ..toy.input() };
    let readme =
        String::from_utf8(bundle_files(&input, &ExportOptions::default()).unwrap()[file::README].clone())
            .unwrap();
    let (head, body) = readme.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let head: serde_json::Value = serde_yaml::from_str(head).unwrap();
    assert_eq!((head["model_name"].as_str(), head["license"].as_str()), (Some(odd), Some("other")));
    assert_eq!(head["license_name"], "a-b-sh-exit-1-c");
    assert_eq!(head["tags"], serde_json::json!(["onnx", "seq2seq", "lstm"]));
    let fences: Vec<&str> = body.lines().filter(|line| line.starts_with("```")).collect();
    assert_eq!(fences, ["```sh", "```", "```python", "```"]);
    assert!(!body.lines().any(|line| line == "exit 1" || line == "---"), "{body}");
}

#[test]
fn every_graph_alone_says_what_it_is() {
    let toy = Toy::embedded();
    let files = toy.files(&ExportOptions::default());
    for role in Role::ALL {
        let model = model(&files, role);
        assert_eq!(model.metadata(metadata::ROLE), Some(role.as_str()));
        assert_eq!(model.metadata(metadata::WEIGHTS_SHA256), Some(weights_sha256(&toy.parameters).as_str()));
        assert_eq!(model.metadata(metadata::SOURCE_VOCABULARY), Some(toy.source.metadata_json().as_str()));
        assert_eq!(model.metadata(metadata::SPECIAL_IDS), Some(r#"{"pad":0,"start":1,"end":2,"unk":3}"#));
        assert_eq!(model.metadata(metadata::DATA_LICENCE), Some("CC0"));
        assert_eq!(model.metadata(metadata::DATA_ATTRIBUTION), Some("nobody"));
    }
}

#[test]
fn the_hash_of_the_weights_depends_on_names_shapes_and_every_value() {
    let hash = |name: &str, shape: &[usize], last: f32| {
        let mut p = Parameters::<f32>::default();
        let id = p.add(name, shape);
        p.get_mut(id)[5] = last;
        weights_sha256(&p)
    };
    let all = [
        hash("a", &[2, 3], 1.0),
        hash("b", &[2, 3], 1.0),
        hash("a", &[3, 2], 1.0),
        hash("a", &[2, 3], 1.0 + f32::EPSILON),
    ];
    assert!((1..4).all(|i| all[..i].iter().all(|hash| *hash != all[i])), "{all:?}");
}

#[test]
fn weights_that_are_not_finite_are_not_exported() {
    let mut toy = Toy::embedded();
    toy.parameters.data_mut()[3] = f32::NAN;
    let error = bundle_files(&toy.input(), &ExportOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("NaN"), "{error}");
}

#[test]
fn the_report_is_json_and_a_table_without_machine_paths() {
    let report =
        verify(&Toy::embedded().bundle(), &VerifyOptions { random: 5, ..VerifyOptions::default() }).unwrap();
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["passed"], true);
    assert_eq!(json["tolerances"]["states"].as_f64().map(|x| x as f32), Some(1e-5));
    assert!(report.table().contains("states against the trainer"));
    assert!(report.table().lines().all(|line| !line.ends_with(' ')));
    assert!(!report.to_json().unwrap().contains(".so"), "no path of a library");
}

#[test]
fn an_export_that_fails_its_verification_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("toy");
    let toy = Toy::embedded();
    let replace = Replace::OlderOf("toy".to_owned());
    // A tolerance that rounding cannot meet.
    let strict = VerifyOptions { atol: Some(1e-12), random: 5, ..VerifyOptions::default() };
    let error = export(&toy.input(), &ExportOptions::default(), &strict, &target, &replace).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parity, "{error}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);

    let usual = VerifyOptions { random: 5, ..VerifyOptions::default() };
    export(&toy.input(), &ExportOptions::default(), &usual, &target, &replace).unwrap();
    let before = std::fs::read(target.join(file::CONFORMANCE)).unwrap();
    export(&toy.input(), &ExportOptions::default(), &strict, &target, &replace).unwrap_err();
    assert_eq!(
        std::fs::read(target.join(file::CONFORMANCE)).unwrap(),
        before,
        "the older bundle is untouched"
    );
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    let opened = Bundle::open(&target).unwrap();
    assert!(
        std::str::from_utf8(opened.file(file::README).unwrap()).unwrap().contains("Licence of the data: CC0")
    );
    verify_path(&target, &usual, true).unwrap().check().unwrap();
    // Side files are listed with their hashes, and verifying again lists the new record.
    for _ in 0..2 {
        let bundle = Bundle::open(&target).unwrap();
        assert!(
            bundle.manifest().files.keys().eq([file::README, file::CONFORMANCE, file::SELF_TEST]),
            "{:?}",
            bundle.manifest().files
        );
        verify_path(&target, &usual, true).unwrap();
    }
    for name in [file::README, file::CONFORMANCE, file::SELF_TEST] {
        let bytes = std::fs::read(target.join(name)).unwrap();
        std::fs::remove_file(target.join(name)).unwrap();
        assert!(
            Bundle::open(&target).unwrap_err().to_string().contains("missing, and the manifest lists it"),
            "{name}"
        );
        std::fs::write(target.join(name), bytes).unwrap();
    }
}
