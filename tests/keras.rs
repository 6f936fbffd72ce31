//! Models that real Keras trained and saved (tests/keras/make.py), imported, exported and decoded: the same
//! characters as Keras's own `decode_sequence`, the same probabilities.

#[path = "keras/kinds.rs"]
mod kinds_of_models;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::common::server::{Running, s2s};
use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{END, PAD, START};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, Engine, EngineKind, IdMatrix, StepOutput};
use s2s_runtime::translator::{Translator, TranslatorPool};
use s2s_runtime::vocabulary::Vocabulary;
use serde_json::Value;

/// Saved model, what Keras gave for it, further arguments of the import.
const MODELS: &[(&str, &str, &[&str])] = &[
    ("one_hot.h5", "one_hot", &["--pairs", "pairs.tsv"]),
    ("one_hot.keras", "one_hot", &["--vocabulary", "one_hot_vocabulary.json"]),
    ("keras2.h5", "keras2", &["--pairs", "pairs.tsv", "--num-samples", "100000"]),
    ("spaces.keras", "spaces", &["--pairs", "pairs.tsv", "--padding-symbol", " "]),
    ("embedding.h5", "embedding", &["--pairs", "pairs.tsv"]),
    ("masked.keras", "masked", &["--pairs", "pairs.tsv"]),
    ("masked.h5", "masked", &["--vocabulary", "masked_vocabulary.json"]),
];

/// The project's own limit for probabilities against Keras.
const TOLERANCE: f64 = 1e-5;

struct Case {
    source: String,
    /// With the newline that ends it, if it came to one.
    target: String,
    /// Of the character that was chosen, each step.
    probabilities: Vec<f64>,
    /// Of all rows, for some of the cases.
    softmax: Vec<Vec<f64>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras")
}

fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(fixtures().join(format!("{name}.json"))).unwrap();
    cases_in(&text)
}

fn cases_in(text: &str) -> Vec<Case> {
    let golden: Value = serde_json::from_str(text).unwrap();
    let numbers =
        |value: &Value| value.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect::<Vec<_>>();
    let case = |case: &Value| Case {
        source: case["source"].as_str().unwrap().to_owned(),
        target: case["target"].as_str().unwrap().to_owned(),
        probabilities: numbers(&case["probabilities"]),
        softmax: case["softmax"].as_array().into_iter().flatten().map(numbers).collect(),
    };
    golden["cases"].as_array().unwrap().iter().map(case).collect()
}

/// Runs the two commands; the second proves the graphs in every engine before it writes them.
fn import_and_export(folder: &Path, model: &str, arguments: &[&str]) -> PathBuf {
    let run = folder.join(format!("{model}.run"));
    let arguments: Vec<String> = [&[model], arguments].concat().into_iter().map(str::to_owned).collect();
    import(&fixtures(), &arguments, &run).unwrap_or_else(|said| panic!("{arguments:?}: {said}"));
    export(&run, &folder.join(model))
}

/// Imports a model, or gives what the command says instead.
fn import(folder: &Path, arguments: &[String], run: &Path) -> Result<(), String> {
    let command = &mut s2s();
    let output =
        command.current_dir(folder).args(["import", "keras"]).args(arguments).arg("--output").arg(run);
    let output = output.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn export(run: &Path, bundle: &Path) -> PathBuf {
    let output = s2s()
        .arg("export")
        .arg(run)
        .arg("--output")
        .arg(bundle)
        .args(["--random", "8", "--quiet"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", run.display(), String::from_utf8_lossy(&output.stderr));
    bundle.to_owned()
}

fn kinds() -> Vec<EngineKind> {
    let ready = engine::available().into_iter().filter(|report| report.problem.is_none());
    let kinds: Vec<EngineKind> = ready.map(|report| report.name.parse().unwrap()).collect();
    assert!(!kinds.is_empty() || cfg!(not(feature = "tract")));
    kinds
}

#[test]
fn every_model_says_what_keras_says_in_every_engine_batched_or_not() {
    let folder = tempfile::tempdir().unwrap();
    for &(model, golden, arguments) in MODELS {
        let cases = cases(golden);
        let different: BTreeSet<&str> = cases.iter().map(|case| case.target.as_str()).collect();
        assert!(
            cases.len() == 100 && different.len() > 20,
            "{model}: {} different outputs prove little",
            different.len()
        );
        let bundle = import_and_export(folder.path(), model, arguments);
        let texts: Vec<&str> = cases.iter().map(|case| case.source.as_str()).collect();
        let opened = Bundle::open(&bundle).unwrap();
        let mut ties = BTreeSet::new();
        for kind in kinds() {
            for rows in [1, 7, 64] {
                let translator = Translator::open(&bundle, kind).unwrap().with_max_batch(rows);
                let mut pool = TranslatorPool::new(translator, 1).unwrap();
                let translations = pool.translate_each(&texts, &DecodingOptions::default()).unwrap();
                for (translation, case) in translations.into_iter().zip(&cases) {
                    let translation = translation.unwrap();
                    let expected = case.target.trim_end_matches('\n');
                    if translation.text != expected && is_tie(&opened, kind, case, &translation.text) {
                        ties.insert(case.source.as_str());
                        continue;
                    }
                    assert_eq!(
                        translation.text, expected,
                        "{:?} of {model} in {kind:?} with {rows} rows",
                        case.source
                    );
                    assert_eq!(translation.generated_tokens, case.probabilities.len(), "{model}");
                    assert_eq!(
                        translation.source_tokens,
                        case.source.chars().count(),
                        "padding is no part of a text"
                    );
                }
            }
            let error = probability_error(&opened, kind, &cases);
            assert!(error < TOLERANCE, "{model} in {kind:?}: a probability is {error:e} off");
            println!("{model} in {kind:?}: largest error of a probability {error:.1e}");
        }
        assert!(ties.len() <= 1, "{model}: {ties:?} cannot all be ties");
    }
}

/// Lets one text be the only one that is running.
fn start(engine: &mut dyn Engine, source: &Vocabulary, text: &str) {
    let ids: Vec<i64> = source.encode(text).into_iter().map(i64::from).collect();
    let encoded = engine.encode(&IdMatrix { rows: 1, columns: ids.len(), data: ids }).unwrap();
    engine.clear();
    engine.join(&encoded, 0..1).unwrap();
}

/// The largest error of a probability over all steps of all cases, with Keras's own characters fed back.
fn probability_error(bundle: &Bundle, kind: EngineKind, cases: &[Case]) -> f64 {
    let mut engine = engine::open(bundle, kind).unwrap();
    let [source, target] = bundle.vocabularies().map(Option::unwrap);
    let rows: Vec<u32> = target_rows(bundle);
    let mut largest = 0.0f64;
    for case in cases {
        start(&mut *engine, source, &case.source);
        let (mut token, mut output) = (START, StepOutput::default());
        let characters =
            case.target.chars().map(|c| if c == '\n' { END } else { target.id(&c.to_string()).unwrap() });
        for ((step, next), probability) in characters.enumerate().zip(&case.probabilities) {
            engine.step(&[i64::from(token)], &mut output).unwrap();
            let softmax = softmax(&output.logits);
            largest = largest.max((softmax[next as usize] - probability).abs());
            if let Some(expected) = case.softmax.get(step) {
                assert_eq!(expected.len(), rows.len());
                let errors = rows.iter().zip(expected).map(|(&id, p)| (softmax[id as usize] - p).abs());
                largest = errors.fold(largest, f64::max);
            }
            token = next;
        }
    }
    largest
}

/// Two logits nearer than this are a tie, which rounding decides, Keras's own as well as ours.
const TIE: f32 = 1e-5;

/// Whether `text` leaves Keras's own where two characters are as likely as each other.
fn is_tie(bundle: &Bundle, kind: EngineKind, case: &Case, text: &str) -> bool {
    let mut engine = engine::open(bundle, kind).unwrap();
    let [source, target] = bundle.vocabularies().map(Option::unwrap);
    let ids = |text: &str| -> Vec<u32> {
        text.chars().map(|c| target.id(&c.to_string()).unwrap()).chain([END]).collect()
    };
    let (ours, expected) = (ids(text), ids(case.target.trim_end_matches('\n')));
    start(&mut *engine, source, &case.source);
    let (mut token, mut output) = (START, StepOutput::default());
    for (&own, &next) in ours.iter().zip(&expected) {
        engine.step(&[i64::from(token)], &mut output).unwrap();
        if own != next {
            return (output.logits[own as usize] - output.logits[next as usize]).abs() <= TIE;
        }
        token = next;
    }
    false
}

/// Our id of each of Keras's rows: characters sorted by code point, a row of padding before them where the
/// model has one.
fn target_rows(bundle: &Bundle) -> Vec<u32> {
    let target = bundle.vocabularies()[1].unwrap();
    let symbols = (3..).map_while(|id| Some((target.symbol(id)?, id))).skip(1);
    let mut sorted: BTreeMap<&str, u32> = symbols.collect();
    sorted.extend([("\t", START), ("\n", END)]);
    // A fourth special symbol stands for a row of the model only in the masked one.
    let padding = bundle.path().to_string_lossy().contains("masked").then_some(PAD);
    padding.into_iter().chain(sorted.into_values()).collect()
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

#[test]
fn an_imported_model_is_verified_translated_served_and_exported_with_one_hot_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let (model, golden, arguments) = MODELS[0];
    let cases = cases(golden);
    let bundle = import_and_export(folder.path(), model, arguments);
    let expected: Vec<String> =
        cases.iter().map(|case| case.target.trim_end_matches('\n').to_owned()).collect();

    let output =
        s2s().arg("verify").arg(&bundle).args(["--random", "20", "--beam", "3", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let output =
        s2s().arg("translate").arg(&bundle).args(cases.iter().map(|case| &case.source)).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);

    let server = Running::start(&bundle, |_| ());
    for (case, expected) in cases.iter().zip(&expected).take(10) {
        let (status, answer) = server.translate(&Value::from(case.source.as_str()));
        assert_eq!(
            (status, &answer["translatedText"]),
            (200, &Value::from(expected.as_str())),
            "{:?}",
            case.source
        );
    }

    let one_hot = folder.path().join("one_hot_tensors");
    let run = folder.path().join(format!("{model}.run"));
    let output = s2s()
        .arg("export")
        .arg(run)
        .args(["--io", "one-hot", "--quiet", "--random", "8", "-o"])
        .arg(&one_hot)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output =
        s2s().arg("translate").arg(&one_hot).args(cases.iter().map(|case| &case.source)).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn unknown_characters_are_read_as_rows_of_zeros_and_can_be_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = import_and_export(folder.path(), "one_hot.h5", &["--pairs", "pairs.tsv"]);
    let output = s2s().arg("translate").arg(&bundle).args(["three\u{4e2d}", "--json"]).output().unwrap();
    assert!(output.status.success());
    let output =
        s2s().arg("translate").arg(&bundle).args(["three\u{4e2d}", "--unknown", "error"]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn the_command_says_what_is_wrong_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let refused = |arguments: &[&str]| {
        let output = s2s()
            .current_dir(fixtures())
            .args(["import", "keras"])
            .args(arguments)
            .arg("-o")
            .arg(&run)
            .output()
            .unwrap();
        assert!(!run.exists(), "{arguments:?} left a run behind");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = refused(&["one_hot.h5"]);
    assert!(code == 2 && said.contains("--pairs") && said.contains("--vocabulary"), "{said}");
    let (code, said) = refused(&["pairs.tsv", "--pairs", "pairs.tsv"]);
    assert!(code == 4 && said.contains("neither a .h5 nor a .keras file"), "{said}");
    let (code, said) = refused(&["one_hot.h5", "--pairs", "pairs.tsv", "--num-samples", "3"]);
    assert!(
        code == 4 && said.contains("--num-samples") && said.contains("the model has 19 source rows"),
        "{said}"
    );
    let (code, said) = refused(&["one_hot.h5", "--pairs", "pairs.tsv", "--padding-symbol", "Q"]);
    assert!(code == 2 && said.contains("no symbol of the source vocabulary"), "{said}");
}
