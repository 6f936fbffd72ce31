//! What several test programs need.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use s2s::export::{ExportInput, ExportOptions, Replace, bundle_files, write_bundle};
use s2s::network::Seq2Seq;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::vocabulary::{Unit, Vocabulary};
use serde_json::json;

/// Writes a small untrained bundle into `folder`: random weights, but every source gives an output of its own.
pub(crate) fn bundle(folder: &Path) -> PathBuf {
    let letters = ["abcdefghijklmnopqrstuvwxyz ", "ABCDEFGHIJKLMNOP-"];
    let [source, target] = letters.map(|text| Vocabulary::build(Unit::Character, Vec::new(), [text]));
    let architecture = json!({
        "source_vocabulary": source.len(), "target_vocabulary": target.len(),
        "source_input": "one_hot", "target_input": "one_hot", "cell": "lstm", "hidden": 24, "layers": 1,
    });
    let network = Seq2Seq::new(serde_json::from_value(architecture).unwrap()).unwrap();
    let parameters = network.initialise(7);
    let decoding = DecodingOptions { max_new_tokens: Some(40), ..DecodingOptions::default() };
    let input = ExportInput {
        network: &network,
        parameters: &parameters,
        source: &source,
        target: &target,
        name: "random",
        decoding,
        provenance: None,
    };
    let files = bundle_files(&input, &ExportOptions::default()).unwrap();
    let path = folder.join("bundle");
    write_bundle(&path, &files, &Replace::AnyBundle).unwrap();
    path
}
