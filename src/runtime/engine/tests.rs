//! Every case runs in every engine that is compiled in; ONNX Runtime's are passed over, with a printed
//! reason, where its library is absent, unless `S2S_REQUIRE_ORT=1` says that it must be there.
//!
//! The graphs and what they must give are made by `testdata/make_graphs.py`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kind::report;
use super::*;
use crate::bundle::{Bundle, sha256};
use crate::contract::{self, SPECIAL_SYMBOLS, START, file};
use crate::decoding::DecodingOptions;
use crate::engine::graph::{DataView, Tensor, TensorView};
use crate::error::ErrorKind;
use crate::manifest::{GraphFile, Io, Manifest, MemoryWire, OutputForm, Role, SpecialIds, StateWire, Wiring};
use crate::self_test::SelfTest;
use crate::vocabulary::{Unit, VocabularySpec};

/// float64 without padding against float32 with it.
const TOLERANCE: f32 = 2e-6;

#[derive(Deserialize)]
struct Golden {
    source: Vec<u32>,
    h: Vec<f32>,
    c: Vec<f32>,
    forced: Vec<u32>,
    logits: Vec<Vec<f32>>,
    attention: Vec<Vec<f32>>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_slice(&testdata("golden.json")).unwrap()
}

/// The engines to test.
pub(super) fn engines() -> Vec<EngineKind> {
    let required = std::env::var("S2S_REQUIRE_ORT").is_ok_and(|value| value == "1");
    let present = |kind: &EngineKind| {
        let report = report(*kind);
        if let Some(problem) = &report.problem {
            assert!(!required, "S2S_REQUIRE_ORT=1, but {problem}");
            eprintln!("not tested with {kind}: {problem}");
        }
        report.problem.is_none()
    };
    EngineKind::COMPILED.iter().copied().filter(present).collect()
}

/// An engine, and where it runs.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) kind: EngineKind,
    pub(super) device: Device,
}

impl Way {
    pub(super) fn open(self, bundle: &Bundle) -> crate::error::Result<Box<dyn Engine>> {
        open_on(bundle, self.kind, self.device)
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.kind, self.device)
    }
}

/// The engines to test on the processor, and those that run on devices on a simulated one.
pub(super) fn ways() -> Vec<Way> {
    let on = |device| move |kind| Way { kind, device };
    let on_devices = engines().into_iter().filter(|&kind| kind == EngineKind::Ort);
    engines().into_iter().map(on(Device::Cpu)).chain(on_devices.map(on(Device::Simulated))).collect()
}

fn symbols(count: usize) -> VocabularySpec {
    let letters = ('a'..).map(|c| c.to_string());
    let symbols =
        SPECIAL_SYMBOLS.iter().map(|&symbol| symbol.to_owned()).chain(letters).take(count).collect();
    VocabularySpec { unit: Unit::Character, symbols, ..VocabularySpec::default() }
}

fn wiring(form: &str) -> Wiring {
    let state = |name: &str| StateWire {
        encoder_output: name.to_owned(),
        decoder_input: name.to_owned(),
        decoder_output: contract::next(name),
        ..StateWire::default()
    };
    let ours = Wiring {
        encoder_input: contract::ENCODER_INPUT.to_owned(),
        decoder_input: contract::DECODER_INPUT.to_owned(),
        decoder_output: contract::DECODER_OUTPUT.to_owned(),
        output: OutputForm::Logits,
        states: vec![state("state_h_0"), state("state_c_0")],
        memory: vec![],
        attention: None,
        ..Wiring::default()
    };
    let memory =
        |from: &str, to: &str| MemoryWire { encoder_output: from.to_owned(), decoder_input: to.to_owned() };
    match form {
        "ids" => ours,
        "one_hot" => Wiring { output: OutputForm::Probabilities, ..ours },
        _ => Wiring {
            decoder_input: "token".to_owned(),
            decoder_output: "probabilities".to_owned(),
            output: OutputForm::Probabilities,
            states: vec![StateWire {
                encoder_output: "both".to_owned(),
                decoder_input: "past".to_owned(),
                decoder_output: "present".to_owned(),
                ..StateWire::default()
            }],
            memory: vec![memory("hidden_states", "memory"), memory("is_token", "memory_mask")],
            attention: Some("weights".to_owned()),
            ..ours
        },
    }
}

/// Read at run time, so that graphs can be renewed without a build.
fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
}

fn graphs(form: &str) -> [(Role, Vec<u8>); 2] {
    [Role::Encoder, Role::Decoder].map(|role| (role, testdata(&format!("{form}/{}", role.file()))))
}

fn manifest(form: &str) -> Manifest {
    let file = |(role, bytes): (Role, Vec<u8>)| {
        (role, GraphFile { file: role.file().to_owned(), sha256: sha256(&bytes) })
    };
    Manifest {
        format_version: contract::FORMAT_VERSION.to_owned(),
        name: form.to_owned(),
        producer: "make_graphs".to_owned(),
        languages: None,
        io: if form == "one_hot" { Io::OneHot } else { Io::Ids },
        graphs: graphs(form).into_iter().map(file).collect(),
        files: BTreeMap::new(),
        weights_sha256: None,
        wiring: wiring(form),
        special_ids: SpecialIds::default(),
        decoding: DecodingOptions::default(),
        architecture: None,
        provenance: None,
        examples: Vec::new(),
        source: symbols(12),
        target: symbols(9),
    }
}

pub(super) fn files(form: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> =
        graphs(form).into_iter().map(|(role, bytes)| (role.file().to_owned(), bytes)).collect();
    files.insert(file::MANIFEST.to_owned(), manifest(form).to_yaml().unwrap().into_bytes());
    files
}

pub(super) fn bundle(form: &str) -> Bundle {
    Bundle::from_files(form, files(form)).unwrap()
}

fn padded(sources: &[&[u32]]) -> IdMatrix {
    let columns = sources.iter().map(|ids| ids.len()).max().unwrap();
    let row =
        |ids: &&[u32]| [vec![0; columns - ids.len()], ids.iter().map(|&id| i64::from(id)).collect()].concat();
    IdMatrix { rows: sources.len(), columns, data: sources.iter().flat_map(row).collect() }
}

fn log_softmax(row: &[f32]) -> Vec<f32> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row.iter().map(|x| (x - highest).exp()).sum();
    row.iter().map(|x| x - highest - sum.ln()).collect()
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * (1.0 + b.abs()), "{what}[{i}]: {a}, expected {b}");
    }
}

/// Lets the rows of `source` run, and nothing else.
fn start(engine: &mut dyn Engine, source: &IdMatrix) {
    let encoded = engine.encode(source).unwrap();
    engine.clear();
    engine.join(&encoded, 0..encoded.rows).unwrap();
}

/// Runs the cases of one batch through every step and compares all that comes out.
fn check(engine: &mut dyn Engine, cases: &[&Golden], form: &str) {
    let name = format!("{form} in {}, batch of {}", engine.name(), cases.len());
    let source = padded(&cases.iter().map(|case| case.source.as_slice()).collect::<Vec<_>>());
    start(engine, &source);
    assert_eq!(engine.rows(), cases.len());
    let states = engine.states().unwrap();
    for (i, case) in cases.iter().enumerate() {
        let rows: Vec<f32> =
            states.iter().flat_map(|t| t.data[i * t.row_len()..(i + 1) * t.row_len()].to_vec()).collect();
        assert_near(
            &rows,
            &[case.h.clone(), case.c.clone()].concat(),
            &format!("{name}: states of case {i}"),
        );
    }
    let mut output = StepOutput::default();
    for step in 0..cases.iter().map(|case| case.logits.len()).max().unwrap() {
        let token = |case: &&Golden| if step == 0 { START } else { *case.forced.get(step - 1).unwrap_or(&4) };
        let tokens: Vec<i64> = cases.iter().map(token).map(i64::from).collect();
        engine.step(&tokens, &mut output).unwrap();
        for (i, (case, row)) in
            cases.iter().zip(output.logits.chunks_exact(engine.target_vocabulary())).enumerate()
        {
            let Some(expected) = case.logits.get(step) else { continue };
            assert_near(
                &log_softmax(row),
                &log_softmax(expected),
                &format!("{name}: scores of case {i}, step {step}"),
            );
            if form != "foreign" {
                assert!(output.attention.is_empty());
                continue;
            }
            let weights = &output.attention[i * source.columns..(i + 1) * source.columns];
            let padding = source.columns - case.source.len();
            assert_near(
                &weights[padding..],
                &case.attention[step],
                &format!("{name}: attention of case {i}, step {step}"),
            );
            assert!(weights[..padding].iter().all(|&weight| weight == 0.0), "{name}: attention to padding");
        }
    }
}

#[test]
fn every_form_gives_in_every_engine_what_the_reference_gives_alone_and_in_a_ragged_batch() {
    let golden = golden();
    for form in ["ids", "one_hot", "foreign"] {
        for way in ways() {
            let mut engine = way.open(&bundle(form)).unwrap();
            assert_eq!((engine.name(), engine.target_vocabulary()), (way.kind.as_str(), 9));
            check(engine.as_mut(), &golden.iter().collect::<Vec<_>>(), form);
            for case in &golden {
                check(engine.as_mut(), &[case], form);
            }
            let mut fork = engine.fork().unwrap();
            drop(engine);
            check(fork.as_mut(), &golden.iter().rev().collect::<Vec<_>>(), form);
        }
    }
}

#[test]
fn forks_run_side_by_side_in_threads() {
    let golden = golden();
    for way in ways() {
        let engine = way.open(&bundle("ids")).unwrap();
        let forks: Vec<Box<dyn Engine>> = (0..3).map(|_| engine.fork().unwrap()).collect();
        std::thread::scope(|scope| {
            for mut fork in forks {
                let golden = &golden;
                scope.spawn(move || {
                    for _ in 0..20 {
                        check(fork.as_mut(), &golden.iter().collect::<Vec<_>>(), "ids");
                    }
                });
            }
        });
    }
}

#[test]
fn dropped_and_repeated_rows_go_on_as_if_they_were_alone() {
    let golden = golden();
    let source = padded(&golden.iter().map(|case| case.source.as_slice()).collect::<Vec<_>>());
    for form in ["ids", "foreign"] {
        for way in ways() {
            let mut engine = way.open(&bundle(form)).unwrap();
            let (mut full, mut part) = (StepOutput::default(), StepOutput::default());
            start(&mut *engine, &source);
            engine.step(&[1; 4], &mut full).unwrap();
            engine.step(&[4, 5, 6, 7], &mut full).unwrap();
            start(&mut *engine, &source);
            engine.step(&[1; 4], &mut part).unwrap();
            engine.keep(&[3, 1, 1]);
            engine.step(&[7, 5, 5], &mut part).unwrap();
            let row = |row: usize| full.logits[row * 9..(row + 1) * 9].to_vec();
            assert_near(&part.logits, &[row(3), row(1), row(1)].concat(), form);
        }
    }
}

#[test]
fn ids_outside_the_vocabulary_and_empty_batches_are_errors_not_panics() {
    for form in ["ids", "one_hot", "foreign"] {
        for way in ways() {
            let mut engine = way.open(&bundle(form)).unwrap();
            let matrix = |rows, columns, data: &[i64]| IdMatrix { rows, columns, data: data.to_vec() };
            for bad in [
                matrix(1, 1, &[12]),
                matrix(1, 1, &[-1]),
                matrix(0, 0, &[]),
                matrix(1, 2, &[4]),
                matrix(1, 1, &[i64::MIN]),
            ] {
                assert_eq!(engine.encode(&bad).unwrap_err().kind(), ErrorKind::Input, "{bad:?}");
            }
            start(&mut *engine, &matrix(2, 1, &[4, 5]));
            let mut output = StepOutput::default();
            for bad in [&[1][..], &[1, 9], &[1, -1], &[1, 1, 1]] {
                let error = engine.step(bad, &mut output).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Input, "{bad:?}");
                assert!(error.to_string().starts_with("decoder.onnx: "), "{error}");
            }
            engine.step(&[1, 1], &mut output).unwrap();
            engine.clear();
            assert_eq!(engine.step(&[1, 1], &mut output).unwrap_err().kind(), ErrorKind::Input);
        }
    }
}

#[test]
fn graphs_check_types_shapes_and_names_before_the_engine_sees_them() {
    let [_, (_, model)] = graphs("ids");
    let model = model.as_slice();
    let (inputs, outputs) = (["decoder_input", "state_h_0", "state_c_0"], ["decoder_output"]);
    for kind in engines() {
        let mut graph = load_graph(kind, "d.onnx", model, &inputs, &outputs).unwrap();
        let states = [0.0; 24];
        let ids = [4_i64, 5, 6];
        let token = TensorView { shape: &[3, 1], data: DataView::I64(&ids) };
        let state = |shape, data| TensorView { shape, data: DataView::F32(data) };
        let good = state(&[3, 8], &states);
        let mut results = vec![];
        graph.run(&[token, good, good], &mut results).unwrap();
        assert_eq!((results.len(), results[0].shape.as_slice()), (1, &[3, 1, 9][..]));
        for bad in [
            vec![token, good],
            vec![good, good, good],
            vec![token, good, state(&[3, 4], &states[..12])],
            vec![token, good, state(&[2, 8], &states[..16])],
            vec![token, good, state(&[3, 8], &states[..8])],
            vec![token, good, state(&[24], &states)],
        ] {
            let error = graph.run(&bad, &mut results).unwrap_err();
            assert!(error.kind() == ErrorKind::Input && error.to_string().starts_with("d.onnx"), "{error}");
        }
        // What a panic of tract leaves behind must not spoil the next call.
        let outside = [4_i64, 5, 600];
        let failed = graph
            .run(&[TensorView { shape: &[3, 1], data: DataView::I64(&outside) }, good, good], &mut results);
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Engine);
        graph.run(&[token, good, good], &mut results).unwrap();

        let load = |inputs: &[&str], outputs: &[&str]| {
            load_graph(kind, "d.onnx", model, inputs, outputs).err().unwrap()
        };
        let error = load(&["decoder_input", "state_h_0", "state_c0"], &outputs);
        assert!(error.help_text().unwrap().contains("did you mean `state_c_0`"), "{error}");
        assert!(load(&inputs[..2], &outputs).to_string().contains("state_c_0: nothing feeds this input"));
        assert!(load(&inputs, &["loss"]).to_string().contains("no output `loss`"));
        for damaged in [&b"not a model"[..], &model[..model.len() / 2], &[]] {
            let error = load_graph(kind, "d.onnx", damaged, &inputs, &outputs).err().unwrap();
            assert!(matches!(error.kind(), ErrorKind::Bundle | ErrorKind::Engine), "{error}");
        }
    }
}

#[test]
fn a_backward_recurrence_runs_backwards_in_every_engine() {
    let (model, ids) = (testdata("reverse/encoder.onnx"), [0_i64, 4, 5, 6, 0, 0, 7, 5]);
    let mut expected: Option<Tensor> = None;
    for kind in engines() {
        let mut graph = load_graph(kind, "encoder.onnx", &model, &["encoder_input"], &["h"]).unwrap();
        let mut given = vec![];
        graph.run(&[TensorView { shape: &[2, 4], data: DataView::I64(&ids) }], &mut given).unwrap();
        let expected = expected.get_or_insert_with(|| given[0].clone());
        assert!(given[0].data.iter().zip(&expected.data).all(|(a, b)| (a - b).abs() < TOLERANCE), "{kind}");
    }
}

fn recorded(form: &str) -> SelfTest {
    let mut engine = open(&bundle(form), EngineKind::Auto).unwrap();
    let sources: Vec<Vec<u32>> = golden().into_iter().map(|case| case.source).collect();
    SelfTest::record(engine.as_mut(), &wiring(form), &sources, 12).unwrap()
}

fn with_self_test(form: &str, test: &SelfTest) -> Bundle {
    let mut files = files(form);
    files.insert(file::SELF_TEST.to_owned(), test.to_json().unwrap());
    Bundle::from_files(form, files).unwrap()
}

#[test]
fn a_self_test_that_one_engine_recorded_passes_in_all() {
    for form in ["ids", "one_hot", "foreign"] {
        let test = recorded(form);
        assert_eq!(SelfTest::from_json(&test.to_json().unwrap()).unwrap(), test);
        assert!(test.cases.iter().all(|case| !case.output_ids.is_empty()
            && !case.states.is_empty()
            && case.first_logits.len() == 9));
        for way in ways() {
            way.open(&with_self_test(form, &test)).unwrap();
        }
    }
}

#[test]
fn a_self_test_that_differs_in_any_part_keeps_the_bundle_closed() {
    let test = recorded("ids");
    let fails = |change: fn(&mut SelfTest), part: &str| {
        let mut wrong = test.clone();
        change(&mut wrong);
        for kind in engines() {
            let error = open(&with_self_test("ids", &wrong), kind).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Parity);
            assert!(error.to_string().contains("case 2") && error.to_string().contains(part), "{error}");
        }
    };
    fails(|test| test.cases[2].states.get_mut("state_c_0").unwrap()[3] += 1e-3, "state_c_0[3]");
    fails(|test| test.cases[2].states.get_mut("state_h_0").unwrap().truncate(7), "values");
    fails(|test| test.cases[2].first_logits[0].1 += 1e-3, "first score");
    fails(|test| test.cases[2].output_ids[0] = (test.cases[2].output_ids[0] + 1) % 9, "output 0");
    let mut outside = test;
    outside.cases[0].output_ids[0] = 99;
    assert_eq!(
        open(&with_self_test("ids", &outside), EngineKind::Auto).err().unwrap().kind(),
        ErrorKind::Bundle
    );
}

#[test]
fn the_engines_are_reported_with_what_was_found() {
    let reports = available();
    assert_eq!(reports.len(), EngineKind::COMPILED.len());
    for report in reports {
        assert_eq!(report.problem.is_some(), report.help.is_some());
        assert!(report.problem.is_some() || report.version.is_some(), "{report:?}");
        assert!(report.name == "tract" || report.path.is_some() || !report.searched.is_empty(), "{report:?}");
    }
}
