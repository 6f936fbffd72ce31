//! What Python says: the goldens, the graphs of the shipped bundle, and decoding without any code of this
//! project.
//!
//! Needs the packages of `tests/python/requirements.txt`, which `scripts/test` installs into `.venv`. Without
//! them these tests print why and check nothing, unless `S2S_REQUIRE_ORT` is set (as `scripts/test` does):
//! then they fail.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::server::s2s;
use s2s::export::{ExportInput, ExportOptions, Replace, bundle_files, write_bundle};
use s2s::network::{Network, Seq2Seq};
use s2s_runtime::contract::{FORMAT_VERSION, SPECIAL_SYMBOLS};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::manifest::{GraphFile, Io, Manifest, OutputForm, Role, SpecialIds, StateWire, Wiring};
use s2s_runtime::vocabulary::{Padding, PaddingSide, Unit, Vocabulary, VocabularySpec};
use serde_json::json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A Python with the packages, or `None` after printing why the test is skipped.
fn python() -> Option<PathBuf> {
    let candidates =
        [std::env::var_os("S2S_PYTHON").map(PathBuf::from), Some(Path::new(ROOT).join(".venv/bin/python"))];
    let found = candidates.into_iter().flatten().find(|python| {
        let probe = Command::new(python).args(["-c", "import numpy, onnx, onnxruntime, yaml"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    let required = std::env::var_os("S2S_REQUIRE_ORT").is_some_and(|value| !value.is_empty());
    assert!(
        found.is_some() || !required,
        "no Python with the packages of tests/python/requirements.txt; run scripts/test"
    );
    if found.is_none() {
        crate::common::skipped(
            "no Python with the packages of tests/python/requirements.txt; scripts/test makes one in .venv",
        );
    }
    found
}

/// Runs a program with `input` on stdin.
fn pipe(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // From another thread, lest both sides wait on a full pipe.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    })
}

fn assert_success(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
}

/// The bundle that the project ships.
const SHIPPED: &str = "exported/dates";

/// Dates as people write them, and lines that no vocabulary foresaw.
fn texts() -> String {
    let mut texts = String::new();
    let months = ["January", "May", "September", "December"];
    for (index, month) in months.iter().enumerate() {
        for day in [1, 7, 19, 28] {
            let year = 1950 + 23 * index + day;
            let number = [1, 5, 9, 12][index];
            let short = &month[..3];
            for text in [
                format!("{day} {month} {year}"),
                format!("{month} {day}, {year}"),
                format!("{short} {day} {year}"),
                format!("{day}.{number}.{year}"),
                format!("{year}-{number:02}-{day:02}"),
                format!("{}", day * number),
            ] {
                writeln!(texts, "{text}").unwrap();
            }
        }
    }
    texts.push_str("tomorrow\n春の日\n5 m\u{e4}rz 2020\n5 ma\u{308}rz 2020\n  3   april   1999  \n?\n");
    texts.push_str(&"1 January 2000 ".repeat(4));
    texts.push('\n');
    texts
}

#[test]
fn onnxruntime_computes_the_goldens_of_pytorch() {
    let Some(python) = python() else { return };
    assert_success(
        &Command::new(python).current_dir(ROOT).arg("tests/python/check_goldens.py").output().unwrap(),
    );
}

#[test]
fn onnx_accepts_the_three_graphs_of_the_shipped_bundle() {
    let Some(python) = python() else { return };
    assert_success(
        &Command::new(python)
            .current_dir(ROOT)
            .arg("tests/python/check_graphs.py")
            .arg(SHIPPED)
            .output()
            .unwrap(),
    );
}

/// A small network of every kind, untrained, in the operator set; with padding that it reads those that can
/// have it.
fn bundles(folder: &Path, reads: Option<PaddingSide>) -> Vec<PathBuf> {
    let kinds = [
        (13, json!({"cell": "lstm", "source_input": {"embedding": 4}, "target_input": {"embedding": 5}})),
        (14, json!({"cell": "gru", "layers": 2, "source_input": "one_hot", "target_input": "one_hot"})),
        (
            15,
            json!({"cell": "lstm", "bidirectional": true, "source_input": {"embedding": 4}, "target_input": "one_hot"}),
        ),
        (
            16,
            json!({"cell": "gru", "attention": "dot", "source_input": {"embedding": 4}, "target_input": {"embedding": 5}}),
        ),
        (
            17,
            json!({"cell": "lstm", "layers": 2, "bidirectional": true, "attention": "general", "source_input": "one_hot", "target_input": "one_hot"}),
        ),
        (
            18,
            json!({"cell": "gru", "bidirectional": true, "attention": "general", "source_input": "one_hot", "target_input": "one_hot"}),
        ),
        (
            19,
            json!({"cell": "lstm", "layers": 2, "source_input": {"embedding": 4}, "target_input": {"embedding": 5}}),
        ),
        (
            20,
            json!({"cell": "lstm", "attention": "dot", "source_input": "one_hot", "target_input": {"embedding": 5}}),
        ),
        (
            21,
            json!({"cell": "gru", "layers": 2, "bidirectional": true, "source_input": {"embedding": 4}, "target_input": {"embedding": 5}}),
        ),
    ];
    let [source, target] =
        ["abcdefgh", "uvwxyz123"].map(|text| Vocabulary::build(Unit::Character, Vec::new(), [text]));
    let padding = reads.map(|side| Padding { symbol: "a".to_owned(), length: 9, least: 0, side });
    let source = Vocabulary::from_spec(&VocabularySpec { padding, ..source.spec().clone() }).unwrap();
    let write = |(opset, mut kind): (i64, serde_json::Value)| {
        for (key, value) in
            [("source_vocabulary", source.len()), ("target_vocabulary", target.len()), ("hidden", 12)]
        {
            kind[key] = value.into();
        }
        kind.as_object_mut().unwrap().entry("layers").or_insert(1.into());
        let network = Seq2Seq::new(serde_json::from_value(kind).unwrap()).unwrap();
        // Larger than a trainer would begin with, so that texts, and not only biases, decide the outputs.
        let parameters = network.initialise(5).map(|x| 2.0 * x);
        let decoding = DecodingOptions::default();
        let input = ExportInput {
            network: &network,
            parameters: &parameters,
            source: &source,
            target: &target,
            name: "small",
            decoding,
            provenance: None,
        };
        let files =
            bundle_files(&input, &ExportOptions { opset, fused: true, ..ExportOptions::default() }).unwrap();
        let path = folder.join(opset.to_string());
        write_bundle(&path, &files, &Replace::AnyBundle).unwrap();
        path
    };
    kinds.into_iter().filter(|(_, kind)| reads.is_none() || kind["attention"].is_null()).map(write).collect()
}

#[test]
fn onnx_accepts_every_kind_of_network_in_every_operator_set_and_its_fused_graph_decodes_as_the_loop() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for bundle in bundles(folder.path(), None) {
        assert_success(
            &Command::new(&python)
                .current_dir(ROOT)
                .arg("tests/python/check_graphs.py")
                .arg(bundle)
                .output()
                .unwrap(),
        );
    }
}

#[test]
fn onnx_accepts_graphs_that_make_padding_which_the_model_reads() {
    let Some(python) = python() else { return };
    for side in [PaddingSide::Left, PaddingSide::Right] {
        let folder = tempfile::tempdir().unwrap();
        let bundles = bundles(folder.path(), Some(side));
        assert_eq!(bundles.len(), 5);
        for bundle in bundles {
            assert_success(
                &Command::new(&python)
                    .current_dir(ROOT)
                    .arg("tests/python/check_graphs.py")
                    .arg(bundle)
                    .output()
                    .unwrap(),
            );
        }
    }
}

#[test]
fn a_loop_in_python_gives_the_same_characters_as_s2s_translate() {
    let Some(python) = python() else { return };
    let texts = texts();
    let theirs = pipe(Command::new(python).args(["tests/python/fold.py", SHIPPED]), &texts);
    assert_success(&theirs);
    let ours = pipe(s2s().args(["translate", SHIPPED]), &texts);
    assert_success(&ours);
    let (theirs, ours) = (String::from_utf8(theirs.stdout).unwrap(), String::from_utf8(ours.stdout).unwrap());
    assert_eq!(theirs.lines().count(), texts.lines().count(), "{theirs}");
    assert!(theirs.contains("1951-01-01"), "a date that the model must know is not there: {theirs}");
    for ((text, theirs), ours) in texts.lines().zip(theirs.lines()).zip(ours.lines()) {
        assert_eq!(theirs, ours, "{text:?}");
    }
    assert_eq!(theirs, ours);
}

#[test]
fn python_reads_every_symbol_of_a_manifest_as_the_text_that_it_is() {
    let Some(python) = python() else { return };
    // What a YAML 1.1 reader takes for a boolean, a number, a date, a merge key, a comment or a line break if
    // it is bare.
    let words = "y n Y N yes no on off true null ~ = << - ? : , [ ] { } # & * ! | > ' \" % @ ` \\ 1 0x1 1e3 1_000 1:30 2024-01-01 .inf";
    let characters =
        "yn~=-?:,[]{}#&*!|>'\"%@`\\1 \t\n\r\u{85}\u{a0}\u{2028}\u{feff}\u{301}\u{200d}春\u{1f600}";
    let specials = || SPECIAL_SYMBOLS.into_iter().map(str::to_owned);
    let words: Vec<String> = specials().chain(words.split(' ').map(str::to_owned)).collect();
    let characters: Vec<String> = specials().chain(characters.chars().map(String::from)).collect();
    let graph = |role: Role| (role, GraphFile { file: role.file().to_owned(), sha256: "0".repeat(64) });
    let manifest = Manifest {
        format_version: FORMAT_VERSION.to_owned(),
        name: "awkward".to_owned(),
        producer: "a test".to_owned(),
        languages: None,
        io: Io::Ids,
        graphs: [graph(Role::Encoder), graph(Role::Decoder)].into(),
        files: std::collections::BTreeMap::new(),
        weights_sha256: None,
        wiring: Wiring {
            encoder_input: "encoder_input".to_owned(),
            decoder_input: "decoder_input".to_owned(),
            decoder_output: "decoder_output".to_owned(),
            output: OutputForm::Logits,
            states: vec![StateWire {
                encoder_output: "state_h_0".to_owned(),
                decoder_input: "state_h_0".to_owned(),
                decoder_output: "next_state_h_0".to_owned(),
                ..StateWire::default()
            }],
            memory: vec![],
            attention: None,
            ..Wiring::default()
        },
        special_ids: SpecialIds::default(),
        decoding: DecodingOptions::default(),
        architecture: None,
        provenance: None,
        examples: Vec::new(),
        source: VocabularySpec {
            unit: Unit::Token,
            normalisation: vec![],
            longest: 1,
            symbols: words.clone(),
            ..VocabularySpec::default()
        },
        target: VocabularySpec {
            unit: Unit::Character,
            normalisation: vec![],
            longest: 1,
            symbols: characters.clone(),
            ..VocabularySpec::default()
        },
    };
    let read = "import json, sys, yaml; m = yaml.safe_load(sys.stdin.buffer.read()); \
                print(json.dumps([m[side]['symbols'] for side in ('source', 'target')]))";
    let output = pipe(Command::new(python).args(["-c", read]), &manifest.to_yaml().unwrap());
    assert_success(&output);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found, serde_json::json!([words, characters]));
}

#[test]
fn the_loop_in_the_readme_runs() {
    let Some(python) = python() else { return };
    let output = Command::new(python).current_dir(ROOT).arg("tests/python/readme.py").output().unwrap();
    assert_success(&output);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.lines().any(|line| line == "1999-04-03"), "{printed}");
}

/// `s2s verify` on the shipped bundle, in the runtimes that `list` names.
fn verify_in(python: &Path, list: &str) -> Output {
    let mut command = s2s();
    command
        .args(["verify", SHIPPED, "--no-write", "--random", "8", "--runtimes", list])
        .env("S2S_PYTHON", python);
    command.current_dir(ROOT).output().unwrap()
}

#[test]
fn verify_runs_the_runtimes_that_are_asked_for() {
    let Some(python) = python() else { return };
    let output = verify_in(&python, "onnxruntime,reference");
    assert_success(&output);
    let table = String::from_utf8(output.stdout).unwrap();
    for runtime in ["onnxruntime", "reference"] {
        let checks = table
            .lines()
            .filter(|line| {
                line.trim_start().starts_with("ok ") && line.split("  ").any(|cell| cell.trim() == runtime)
            })
            .count();
        assert!(checks > 8, "{runtime}: {checks} checks\n{table}");
    }
    assert!(table.contains("greedy tokens, reference against tract"), "{table}");
}

#[test]
fn verify_says_how_to_install_a_runtime_that_is_not_there() {
    let Some(python) = python() else { return };
    let output = verify_in(&python, "mnn");
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(5), "{table}");
    assert!(table.contains("pip install MNN"), "{table}");
    let output = verify_in(&python, "onnxruntim");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("did you mean `onnxruntime`?"), "{message}");
}
