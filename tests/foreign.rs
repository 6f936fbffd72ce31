//! Bundles that were made elsewhere: graphs exported from PyTorch, a manifest written by hand
//! (examples/pytorch); and pairs as people export them (tests/foreign, made by its make.py).

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::Bundle;
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

/// The pairs of tests/foreign, and what each says to each text alone, by its own network.
fn pairs() -> Vec<(PathBuf, Vec<(String, String)>)> {
    let names = ["leaking", "external", "torchtext", "prefix", "own_time", "lengths"];
    let read = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name);
        let json = std::fs::read_to_string(folder.join("said.json")).unwrap();
        let said: std::collections::BTreeMap<String, String> = serde_json::from_str(&json).unwrap();
        (folder, said.into_iter().collect())
    };
    names.map(read).into()
}

#[test]
fn pairs_exported_by_hand_say_what_their_own_networks_say_alone_and_side_by_side_in_every_engine() {
    for (folder, cases) in pairs() {
        let different: std::collections::BTreeSet<&String> = cases.iter().map(|(_, target)| target).collect();
        assert!(different.len() > 2, "{} proves little", folder.display());
        let texts: Vec<&str> = cases.iter().map(|(source, _)| source.as_str()).collect();
        for report in engine::available().into_iter().filter(|report| report.problem.is_none()) {
            let kind: EngineKind = report.name.parse().unwrap();
            for rows in [1, 3, 64] {
                let translator = Translator::open(&folder, kind).unwrap().with_max_batch(rows);
                let mut pool = TranslatorPool::new(translator, 1).unwrap();
                let said = pool.translate_each(&texts, &DecodingOptions::default()).unwrap();
                for (translation, (source, target)) in said.into_iter().zip(&cases) {
                    let place = format!("{source:?} of {} in {kind} with {rows} rows", folder.display());
                    assert_eq!(&translation.unwrap().text, target, "{place}");
                }
            }
        }
    }
}

#[test]
fn what_padding_does_is_found_when_a_pair_is_opened() {
    use s2s_runtime::engine::{Joins, Lengths};
    for (folder, _) in pairs() {
        let bundle = Bundle::open(&folder).unwrap();
        for report in engine::available().into_iter().filter(|report| report.problem.is_none()) {
            let engine = engine::open(&bundle, report.name.parse().unwrap()).unwrap();
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            let lengths = match name.as_str() {
                "leaking" | "external" | "torchtext" => Lengths::OneToEncode,
                "own_time" => Lengths::One,
                _ => Lengths::Any,
            };
            assert_eq!(
                (engine.lengths(), engine.joins()),
                (lengths, Joins::AnyAge),
                "{name} in {}",
                report.name
            );
            assert_eq!(engine.remark().is_some(), lengths != Lengths::Any, "{name}: {:?}", engine.remark());
        }
    }
}

/// A copy of a pair, with its manifest changed.
fn changed(folder: &Path, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let path = copy.path().join("s2s.yaml");
    let mut manifest = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(&path, manifest.to_string()).unwrap();
    copy
}

#[test]
fn weights_beside_a_graph_are_those_that_the_manifest_lists_or_the_bundle_is_refused() {
    let (folder, _) = pairs().swap_remove(1);
    let refused = |folder: &Path| {
        let error = Bundle::open(folder).unwrap_err();
        format!("{error} {}", error.help_text().unwrap_or_default())
    };
    let copy = changed(&folder, |_| ());
    let data = copy.path().join("decoder.onnx.data");
    let mut bytes = std::fs::read(&data).unwrap();
    Bundle::open(copy.path()).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&data, &bytes).unwrap();
    assert!(
        refused(copy.path()).contains("decoder.onnx.data, which has changed"),
        "{}",
        refused(copy.path())
    );
    std::fs::remove_file(&data).unwrap();
    assert!(refused(copy.path()).contains("decoder.onnx.data, which is missing"), "{}", refused(copy.path()));
    let copy = changed(&folder, |manifest| manifest["files"] = serde_json::json!({}));
    let said = refused(copy.path());
    assert!(
        said.contains("which the manifest does not list") && said.contains("files: {\"decoder.onnx.data\":"),
        "{said}"
    );
    // What the help says is what is missing.
    let hash = said.split("\"decoder.onnx.data\": ").nth(1).unwrap()[..64].to_owned();
    let copy =
        changed(&folder, |manifest| manifest["files"] = serde_json::json!({"decoder.onnx.data": hash}));
    Bundle::open(copy.path()).unwrap();
    let copy = changed(&folder, |manifest| {
        manifest["files"]["other.data"] = manifest["files"]["decoder.onnx.data"].clone();
    });
    assert!(refused(copy.path()).contains("no graph has weights in this file"), "{}", refused(copy.path()));
    // A file that is too short has the right hash.
    bytes[40] ^= 1;
    bytes.truncate(100);
    let hash = s2s_runtime::bundle::sha256(&bytes);
    let copy = changed(&folder, |manifest| manifest["files"]["decoder.onnx.data"] = hash.clone().into());
    std::fs::write(copy.path().join("decoder.onnx.data"), &bytes).unwrap();
    assert!(refused(copy.path()).contains("which has 100"), "{}", refused(copy.path()));
}

#[test]
fn a_drafted_manifest_means_what_one_that_was_written_by_hand_means_and_its_bundle_says_the_same() {
    for (folder, cases) in pairs() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join(&name);
        let mut command = s2s();
        command.args(["import", "onnx"]).arg(folder.join("encoder.onnx")).arg(folder.join("decoder.onnx"));
        command.arg("--source-vocabulary").arg(folder.join("source.txt"));
        command.arg("--target-vocabulary").arg(folder.join("target.json"));
        command.arg("-o").arg(&output).args(["--max-new-tokens", "8", "--json"]);
        if name == "torchtext" {
            command.args(["--source-start", "<2fr>", "--source-end", "<eos>"]);
        }
        let imported = command.output().unwrap();
        assert!(imported.status.success(), "{name}: {}", String::from_utf8_lossy(&imported.stderr));
        let [drafted, by_hand] = [&output, &folder].map(|folder| Bundle::open(folder).unwrap());
        let (drafted, by_hand) = (drafted.manifest(), by_hand.manifest());
        assert_eq!(drafted.wiring, by_hand.wiring, "{name}");
        assert_eq!((drafted.special_ids, drafted.io), (by_hand.special_ids, by_hand.io), "{name}");
        let symbols = |manifest: &s2s_runtime::manifest::Manifest| {
            [&manifest.source, &manifest.target].map(|spec| (spec.unit, spec.symbols.clone()))
        };
        assert_eq!(symbols(drafted), symbols(by_hand), "{name}");
        let said = s2s()
            .arg("translate")
            .arg(&output)
            .args(cases.iter().map(|(source, _)| source))
            .output()
            .unwrap();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
        let lines: Vec<String> = String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines, cases.iter().map(|(_, target)| target.clone()).collect::<Vec<_>>(), "{name}");
        let again = command.output().unwrap();
        assert!(
            again.status.success(),
            "a draft replaces its own: {}",
            String::from_utf8_lossy(&again.stderr)
        );
    }
}

#[test]
fn a_draft_says_what_it_could_not_know() {
    let (folder, _) = pairs().swap_remove(0);
    let parent = tempfile::tempdir().unwrap();
    let import = |target: &Path, more: &[&str]| {
        let mut command = s2s();
        command.args(["import", "onnx"]).arg(folder.join("encoder.onnx")).arg(folder.join("decoder.onnx"));
        command
            .arg("--source-vocabulary")
            .arg(folder.join("source.txt"))
            .arg("--target-vocabulary")
            .arg(target);
        let output = command.arg("-o").arg(parent.path().join("out")).args(more).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let short = parent.path().join("short.txt");
    std::fs::write(&short, "<pad>\n<start>\n<end>\n<unk>\nA\n").unwrap();
    let (_, said) = import(&short, &[]);
    assert!(said.contains("no output has scores of 5 symbols"), "{said}");
    let nameless = parent.path().join("nameless.json");
    std::fs::write(
        &nameless,
        serde_json::json!(["0", "1", "2", "3", "A", "B", "C", "D", "E", "F", "G", "H"]).to_string(),
    )
    .unwrap();
    let (right, said) = import(&nameless, &["--pad", "0"]);
    // The source's names are taken for both.
    assert!(right, "{said}");
    assert!(said.contains("is written <start>, as all bundles do"), "{said}");
    let (right, said) = import(&folder.join("target.json"), &["--end", "<eos>", "--force"]);
    assert!(!right && said.contains("--end \"<eos>\" is no symbol"), "{said}");
}
