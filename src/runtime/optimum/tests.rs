//! Folders as Optimum writes them: what transformers decodes comes out, in every engine, alone and in batches.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::bundle::Bundle;
use crate::decoding::{DecodingOptions, EarlyStopping, Settings, decode_each};
use crate::engine::{self, EngineKind};

/// Ways of decoding that the folders have outputs for.
const LABELS: [&str; 3] = ["greedy", "beam4", "beam4_lp0.6_early"];

/// Folders with models and what transformers makes of them: those of `S2S_DATA`, and of `S2S_OPTIMUM`.
fn folders() -> Vec<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("S2S_DATA").map_or_else(beside, PathBuf::from).join("optimum-tiny");
    let others = std::env::var_os("S2S_OPTIMUM").map(PathBuf::from);
    let mut found: Vec<PathBuf> = [Some(data), others]
        .into_iter()
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.join("expected.json").is_file() && path.join("config.json").is_file())
        .collect();
    found.sort();
    if found.is_empty() {
        println!("\nskipped: optimum: no folder with expected.json in S2S_DATA/optimum-tiny\n");
    }
    found
}

fn engines() -> Vec<EngineKind> {
    let kinds = [EngineKind::Tract, EngineKind::Ort];
    kinds.into_iter().filter(|kind| kind.resolve().is_ok()).collect()
}

/// What transformers gives, start and padding left out.
fn expected(folder: &Path, label: &str, end: u32) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    };
    let sources = json["source_ids"].as_array().unwrap().iter().map(ids).collect();
    let outputs =
        json["generated"][label].as_array().unwrap().iter().map(|row| {
            ids(&row["ids"])[1..].iter().copied().take_while(|&id| id != end).collect::<Vec<u32>>()
        });
    (sources, outputs.collect())
}

fn decoded(
    bundle: &Bundle,
    kind: EngineKind,
    label: &str,
    sources: &[Vec<u32>],
    rows: usize,
) -> Vec<Vec<u32>> {
    let mut options = bundle.manifest().decoding.clone();
    let beams = if label == "greedy" { 1 } else { 4 };
    options.merge(&DecodingOptions {
        num_beams: Some(beams),
        max_new_tokens: Some(24),
        ..DecodingOptions::default()
    });
    if label == "beam4_lp0.6_early" {
        options.length_penalty = Some(0.6);
        options.early_stopping = Some(EarlyStopping::True);
    }
    let settings = Arc::new(Settings::with_symbols(&options, bundle.target()).unwrap());
    let mut engine = engine::open(bundle, kind).unwrap();
    let results = decode_each(&mut *engine, sources.to_vec(), &settings, rows);
    results.into_iter().map(|result| result.unwrap()[0].ids.clone()).collect()
}

#[test]
fn ids_are_those_of_transformers_in_every_engine_alone_and_in_a_batch() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let bundle = Bundle::open(&folder).unwrap();
        let end = bundle.manifest().special_ids.end;
        for (kind, label) in engines().into_iter().flat_map(|kind| LABELS.map(|label| (kind, label))) {
            let (sources, outputs) = expected(&folder, label, end);
            let many: Vec<Vec<u32>> = sources.iter().cycle().take(32).cloned().collect();
            let all: Vec<Vec<u32>> = outputs.iter().cycle().take(32).cloned().collect();
            for (what, sources, outputs, rows) in
                [("alone", &sources, &outputs, 1), ("in a batch of 32", &many, &all, 32 * 4)]
            {
                let found = decoded(&bundle, kind, label, sources, rows);
                if let Some(at) = (0..found.len()).find(|&at| found[at] != outputs[at]) {
                    wrong.push(format!(
                        "{} in {kind}, {label}, {what}: text {at} gives {:?}, not {:?}",
                        folder.display(),
                        found[at],
                        outputs[at]
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
