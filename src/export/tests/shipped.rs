//! The bundle that the project ships, written again from its own weights.

use std::path::Path;

use super::*;
use crate::network::Network;

/// `S2S_RENEW=1` writes what has changed into `exported/dates`: graphs, README and record, of the same weights.
#[test]
fn the_shipped_bundle_is_what_this_version_writes_graph_by_graph_and_its_readme_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("exported/dates");
    let bundle = Bundle::open(&folder).unwrap();
    let manifest = bundle.manifest();
    let network =
        Seq2Seq::new(serde_json::from_value(manifest.architecture.clone().unwrap()).unwrap()).unwrap();
    let training = ModelProto::decode(bundle.graph(Role::Training).unwrap()).unwrap().graph.unwrap();
    let find = |name: &str| {
        training.initializer.iter().find(|t| t.name == name).and_then(|t| Some((t.shape()?, t.floats()?)))
    };
    let parameters = network.import(find).unwrap();
    let [source, target] = bundle.vocabularies();
    let input = ExportInput {
        network: &network,
        parameters: &parameters,
        source: source.unwrap(),
        target: target.unwrap(),
        name: &manifest.name,
        decoding: manifest.decoding.clone(),
        provenance: manifest.provenance.clone(),
    };
    let options = ExportOptions { examples: manifest.examples.clone(), ..ExportOptions::default() };
    let files = bundle_files(&input, &options).unwrap();
    if std::env::var_os("S2S_RENEW").is_some() {
        write_bundle(&folder, &files, &Replace::AnyBundle).unwrap();
        return verify_path(&folder, &VerifyOptions::default(), true).unwrap().check().unwrap();
    }
    for role in Role::ALL {
        assert!(
            files[role.file()] == bundle.graph(role).unwrap(),
            "{role}: other bytes than the shipped ones; S2S_RENEW=1 writes them anew"
        );
    }
    let readme = |files: &[u8]| String::from_utf8(files.to_vec()).unwrap();
    assert_eq!(
        readme(&files[file::README]),
        readme(bundle.file(file::README).unwrap()),
        "S2S_RENEW=1 writes it anew"
    );
}
