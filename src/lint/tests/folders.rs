//! Whole folders, and one judgement: lint says refused exactly where the engine refuses.

use std::path::PathBuf;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::engine::{EngineKind, load_graph, open_silently};
use s2s_runtime::graph_info::GraphInfo;

use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What lies in a folder of the project.
fn entries(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn lint_says_refused_exactly_where_opening_a_bundle_is_refused_and_in_its_words() {
    let mut folders = vec![root().join("exported/dates"), root().join("examples/pytorch/bundle")];
    folders.extend(entries("tests/foreign").into_iter().filter(|path| path.is_dir()));
    folders.extend(
        entries("tests/optimum").into_iter().filter(|path| path.extension().is_some_and(|e| e == "zip")),
    );
    let mut opened = 0;
    for folder in folders {
        let reports = lint_folder(&folder, &[Runtime::S2S]).unwrap();
        let used =
            reports.iter().filter(|report| [Role::Encoder, Role::Decoder].map(Some).contains(&report.role));
        let refused: Vec<&Report> =
            used.filter(|report| report.verdict(Runtime::S2S) == Verdict::Refused).collect();
        match open_silently(&Bundle::open(&folder).unwrap(), EngineKind::Tract) {
            Ok(_) => {
                opened += 1;
                assert!(refused.is_empty(), "it is opened: {}", refused[0]);
            }
            Err(error) => {
                let says = |report: &Report| {
                    report
                        .findings
                        .iter()
                        .any(|f| f.outcomes.iter().any(|(_, o)| o.detail() == error.message()))
                };
                assert!(refused.iter().any(|report| says(report)), "{}: {error}", folder.display());
            }
        }
    }
    assert!(opened >= 10, "{opened} are opened");
}

#[test]
fn lint_says_refused_exactly_where_loading_a_graph_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut verdicts = Vec::new();
    for (at, (rule, case, bad, good)) in cases().into_iter().enumerate() {
        for (which, model) in [("bad", bad), ("good", good)] {
            let (bytes, path) = (bytes(&model), folder.path().join(format!("{at}-{which}.onnx")));
            std::fs::write(&path, &bytes).unwrap();
            let report = lint(&path, &[Runtime::S2S]).unwrap();
            let info = GraphInfo::read("f", &bytes).unwrap();
            let [inputs, outputs] = [&info.inputs, &info.outputs]
                .map(|tensors| tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>());
            let loaded = load_graph(EngineKind::Tract, "f", &bytes, &inputs, &outputs);
            let is_refused = report.verdict(Runtime::S2S) == Verdict::Refused;
            assert_eq!(is_refused, loaded.is_err(), "{rule} ({case}), {which}: {report} {:?}", loaded.err());
            verdicts.push(is_refused);
        }
    }
    assert!(verdicts.contains(&true) && verdicts.contains(&false));
}

#[test]
fn a_bundle_is_looked_at_graph_by_graph_and_a_damaged_one_is_refused() {
    let dates = root().join("exported/dates");
    let reports = lint_folder(&dates, &[Runtime::S2S]).unwrap();
    let roles: Vec<Option<Role>> = reports.iter().map(|report| report.role).collect();
    assert!([Role::Encoder, Role::Decoder, Role::Training].iter().all(|role| roles.contains(&Some(*role))));
    assert!(reports.iter().all(|report| report.check().is_ok() && report.file.ends_with(".onnx")));
    let folder = tempfile::tempdir().unwrap();
    for entry in entries("exported/dates") {
        std::fs::copy(&entry, folder.path().join(entry.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.path().join("encoder.onnx"), bytes(&lstm(|_| ()))).unwrap();
    let error = lint_folder(folder.path(), &[Runtime::S2S]).unwrap_err();
    assert!(error.message().starts_with("damaged"), "{error}");
    // Without its manifest it is a folder of graphs.
    std::fs::remove_file(folder.path().join("s2s.yaml")).unwrap();
    assert_eq!(lint_folder(folder.path(), &[Runtime::S2S]).unwrap().len(), reports.len());
    let empty = tempfile::tempdir().unwrap();
    assert!(lint_folder(empty.path(), &[]).unwrap_err().message().contains("no graph in it"));
}

#[test]
fn a_folder_of_optimum_is_looked_at_as_other_runtimes_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::open(root().join("tests/optimum/t5.zip")).unwrap();
    zip::ZipArchive::new(file).unwrap().extract(folder.path()).unwrap();
    let reports = lint_folder(folder.path(), &runtimes(&["onnxruntime", "s2s"])).unwrap();
    let names: Vec<&str> = reports.iter().map(|r| r.file.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["decoder_model_merged.onnx", "encoder_model.onnx"]);
    assert_eq!(
        reports.iter().map(|r| r.role).collect::<Vec<_>>(),
        [Some(Role::Decoder), Some(Role::Encoder)]
    );
    // The engine opens the pair, whose branches it is never given.
    assert!(reports.iter().all(|report| report.verdict(Runtime::S2S) != Verdict::Refused));
    assert!(
        applied(&CheckedModel::read("f", &std::fs::read(folder.path().join(names[0])).unwrap()).unwrap())
            .iter()
            .any(|(rule, _)| *rule == "if")
    );
}
