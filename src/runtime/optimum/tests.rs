//! Folders as Optimum writes them: what transformers decodes comes out, in every engine, alone and in a
//! batch.

#![allow(clippy::unwrap_used)]

mod hostile;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::bundle::Bundle;
use crate::decoding::{DecodingOptions, Settings, decode_each};
use crate::engine::{self, EngineKind};

/// One small model of each family.
const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/optimum");
/// Rows that are decoded together, beams counted.
const ROWS: usize = 128;

/// The bytes of a file of a folder or zip.
pub(super) fn file(path: &Path, name: &str) -> Vec<u8> {
    if path.is_dir() {
        return std::fs::read(path.join(name)).unwrap();
    }
    let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The model of a family.
pub(super) fn model(family: &str) -> PathBuf {
    Path::new(MODELS).join(format!("{family}.zip"))
}

/// Models, each with what transformers makes of some texts: those of this project, those of `S2S_DATA` and,
/// for wider runs, those of the folder that `S2S_OPTIMUM` names.
fn models() -> Vec<PathBuf> {
    let beside = || Path::new(MODELS).join("../../../shared/data");
    let data = std::env::var_os("S2S_DATA").map_or_else(beside, PathBuf::from).join("optimum-tiny");
    let others = std::env::var_os("S2S_OPTIMUM").map(PathBuf::from);
    let folders = [Some(PathBuf::from(MODELS)), Some(data), others];
    let entries =
        folders.into_iter().flatten().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    let is_model = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "zip") || path.join("expected.json").is_file()
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_model).collect();
    found.sort();
    assert!(found.len() >= 9, "{found:?}");
    found
}

pub(super) fn engines() -> Vec<EngineKind> {
    let kinds = [EngineKind::Tract, EngineKind::Ort];
    kinds.into_iter().filter(|kind| kind.resolve().is_ok()).collect()
}

/// A way of decoding: options over those of the model, and what comes out without START and END.
struct Way {
    name: String,
    options: DecodingOptions,
    outputs: Vec<Vec<u32>>,
}

/// What transformers makes of some sources.
fn expected(path: &Path, end: u32) -> (Vec<Vec<u32>>, Vec<Way>) {
    let json: Value = serde_json::from_slice(&file(path, "expected.json")).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    };
    let known = json!({
        "greedy": {"num_beams": 1},
        "beam4": {"num_beams": 4},
        "beam4_lp0.6_early": {"num_beams": 4, "length_penalty": 0.6, "early_stopping": true},
    });
    let ways = json["generated"].as_object().unwrap().iter().map(|(name, outputs)| {
        let settings = json.get("settings").unwrap_or(&known);
        let mut options: Map<String, Value> = settings[name].as_object().unwrap().clone();
        let longest = json.get("max_new_tokens").cloned().unwrap_or(24.into());
        options.insert("max_new_tokens".to_owned(), longest);
        let outputs = outputs.as_array().unwrap().iter().map(|row| {
            ids(&row["ids"])[1..].iter().copied().take_while(|&id| id != end).collect::<Vec<u32>>()
        });
        Way {
            name: name.clone(),
            options: serde_json::from_value(Value::Object(options)).unwrap(),
            outputs: outputs.collect(),
        }
    });
    (json["source_ids"].as_array().unwrap().iter().map(ids).collect(), ways.collect())
}

/// Whether the graphs round otherwise than the model whose outputs are expected.
fn is_approximate(path: &Path) -> bool {
    let json: Value = serde_json::from_slice(&file(path, "expected.json")).unwrap();
    json.get("approximate").is_some()
}

fn decoded(bundle: &Bundle, kind: EngineKind, way: &Way, sources: &[Vec<u32>], rows: usize) -> Vec<Vec<u32>> {
    let mut options = bundle.manifest().decoding.clone();
    options.merge(&way.options);
    let settings = Arc::new(Settings::with_symbols(&options, bundle.target()).unwrap());
    let mut engine = engine::open(bundle, kind).unwrap();
    let results = decode_each(&mut *engine, sources.to_vec(), &settings, rows);
    results.into_iter().map(|result| result.unwrap()[0].ids.clone()).collect()
}

#[test]
fn ids_are_those_of_transformers_in_every_engine_alone_and_in_a_batch() {
    let mut wrong = Vec::new();
    for path in models() {
        let bundle = match Bundle::open(&path) {
            Ok(bundle) => bundle,
            Err(error) => {
                wrong.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        let (sources, ways) = expected(&path, bundle.manifest().special_ids.end);
        let approximate = is_approximate(&path);
        let many: Vec<Vec<u32>> = sources.iter().cycle().take(32).cloned().collect();
        for kind in engines() {
            if let Err(error) = engine::open(&bundle, kind) {
                wrong.push(format!("{} in {kind}: {error}", path.display()));
                continue;
            }
            for way in &ways {
                let all: Vec<Vec<u32>> = way.outputs.iter().cycle().take(32).cloned().collect();
                for (what, sources, outputs, rows) in
                    [("alone", &sources, &way.outputs, 1), ("in a batch of 32", &many, &all, ROWS)]
                {
                    let found = decoded(&bundle, kind, way, sources, rows);
                    let same = found.iter().zip(outputs).filter(|(found, output)| found == output).count();
                    if approximate && way.name == "greedy" && 2 * same < found.len() {
                        wrong.push(format!("{} in {kind}, greedy: {same} alike", path.display()));
                    }
                    let other = (0..found.len()).find(|&at| found[at] != outputs[at]);
                    if let Some(at) = other.filter(|_| !approximate) {
                        wrong.push(format!(
                            "{} in {kind}, {}, {what}: text {at} gives {:?}, not {:?}",
                            path.display(),
                            way.name,
                            found[at],
                            outputs[at]
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
