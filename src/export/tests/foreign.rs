//! Models of others: folders that Optimum wrote.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::*;
use crate::export::verify::{Report, verify};

/// The tests' folder of a model, as a zip.
fn packed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/optimum/{name}.zip"))
}

fn options() -> VerifyOptions {
    VerifyOptions { random: 14, beams: Some(3), ..VerifyOptions::default() }
}

fn failed(report: &Report) -> Vec<&Check> {
    report.checks.iter().filter(|check| check.outcome == Outcome::Failed).collect()
}

#[test]
fn a_folder_is_held_against_itself_its_graph_without_a_state_and_what_transformers_generates() {
    for name in ["marian", "m2m100"] {
        let report = verify(&Bundle::open(packed(name)).unwrap(), &options()).unwrap();
        assert!(failed(&report).is_empty(), "{name}:\n{}", report.table());
        for what in [
            "every input that is fed is read",
            "source ids",
            "greedy tokens, batch 64 against batch 1",
            "greedy tokens against a search with one beam",
            "3 beams, batch 64 against batch 1",
            "logits of a step against all tokens at once",
            "greedy, ids",
            "beam4_lp0.6_early, text",
            "beam4_no_repeat_2_min_8, ids",
        ] {
            let passed =
                report.checks.iter().any(|check| check.what == what && check.outcome == Outcome::Passed);
            assert!(passed, "{name}: {what}:\n{}", report.table());
        }
    }
}

#[test]
fn an_output_that_is_not_the_expected_one_is_found_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = zip::ZipArchive::new(std::fs::File::open(packed("marian")).unwrap()).unwrap();
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name == "expected.json" {
            let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            json["generated"]["greedy"][3]["ids"][1] = 5.into();
            json["generated"]["beam4"][2]["text"] = "another".into();
            bytes = json.to_string().into_bytes();
        }
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let report = verify(&Bundle::open(folder.path()).unwrap(), &options()).unwrap();
    assert!(!report.passed);
    let found: Vec<&str> = failed(&report).iter().map(|check| check.what.as_str()).collect();
    assert!(found.iter().all(|what| ["greedy, ids", "beam4, text"].contains(what)), "{found:?}");
    let text = failed(&report).into_iter().find(|check| check.what == "beam4, text").unwrap();
    assert_eq!(text.measured, Some(1.0));
    assert!(text.detail.contains("instead of \"another\""), "{}", text.detail);
    assert!(found.contains(&"greedy, ids"));
    // What is no bundle of ours is not written into.
    let path = crate::export::verify::verify_path(folder.path(), &options(), true).unwrap();
    assert!(!path.passed && !folder.path().join(file::CONFORMANCE).exists());
}
