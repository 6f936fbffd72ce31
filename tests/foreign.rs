//! Bundles that were made elsewhere: graphs exported from PyTorch, a manifest written by hand
//! (examples/pytorch).

use std::path::{Path, PathBuf};

use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::translator::{Translator, TranslatorPool};
use serde_json::Value;

use crate::common::server::s2s;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pytorch")
}

/// What PyTorch's own greedy loop gave for each text.
fn expected() -> Vec<(String, String)> {
    let cases: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap();
    let text = |case: &Value, key: &str| case[key].as_str().unwrap().to_owned();
    cases.iter().map(|case| (text(case, "source"), text(case, "target"))).collect()
}

#[test]
fn the_runtime_gives_the_characters_of_pytorchs_own_loop_in_every_engine_batched_or_not() {
    let cases = expected();
    let different: std::collections::BTreeSet<&String> = cases.iter().map(|(_, target)| target).collect();
    assert!(different.len() > 20, "a model that says one thing proves nothing");
    let texts: Vec<&str> = cases.iter().map(|(source, _)| source.as_str()).collect();
    let mut engines = 0;
    for report in engine::available().into_iter().filter(|report| report.problem.is_none()) {
        engines += 1;
        let kind: EngineKind = report.name.parse().unwrap();
        for (rows, workers) in [(1, 1), (7, 1), (64, 2)] {
            let translator = Translator::open(folder().join("bundle"), kind).unwrap().with_max_batch(rows);
            let mut pool = TranslatorPool::new(translator, workers).unwrap();
            for (translation, (source, target)) in
                pool.translate_each(&texts, &DecodingOptions::default()).unwrap().into_iter().zip(&cases)
            {
                assert_eq!(
                    &translation.unwrap().text,
                    target,
                    "{source:?} in {} with {rows} rows",
                    report.name
                );
            }
        }
    }
    assert!(engines > 0 || cfg!(not(feature = "tract")));
}

#[test]
fn the_command_translates_and_verifies_such_a_bundle() {
    let cases = expected();
    let output = s2s()
        .arg("translate")
        .arg(folder().join("bundle"))
        .args(cases.iter().map(|(source, _)| source))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines, cases.iter().map(|(_, target)| target.clone()).collect::<Vec<_>>());

    let output = s2s()
        .arg("verify")
        .arg(folder().join("bundle"))
        .args(["--no-write", "--json", "--random", "20", "--beam", "3"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Without a training graph there is no network to hold it against, and the report says so.
    assert!(
        report["checks"].as_array().unwrap().iter().any(|check| check["outcome"] == "skipped"),
        "{report}"
    );
}
