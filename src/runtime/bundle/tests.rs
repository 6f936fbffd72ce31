#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write;

use prost::Message;

use super::*;
use crate::contract::{self, SPECIAL_SYMBOLS};
use crate::decoding::DecodingOptions;
use crate::manifest::{GraphFile, OutputForm, StateWire, Wiring};
use crate::onnx::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto};
use crate::vocabulary::{TokeniserKind, TokeniserSpec};

fn vocabulary(symbols: &[&str]) -> VocabularySpec {
    let symbols = SPECIAL_SYMBOLS.iter().chain(symbols).map(|&symbol| symbol.to_owned()).collect();
    VocabularySpec { symbols, ..VocabularySpec::default() }
}

/// What the graphs of one export say about themselves.
fn props(role: Role) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (metadata::FORMAT_VERSION, "1.0".to_owned()),
        (metadata::ROLE, role.to_string()),
        (metadata::SOURCE_VOCABULARY, vocabulary(&["a", "b"]).metadata_json()),
        (metadata::TARGET_VOCABULARY, vocabulary(&["c"]).metadata_json()),
        (metadata::SPECIAL_IDS, r#"{"pad":0,"start":1,"end":2,"unk":3}"#.to_owned()),
        (metadata::WEIGHTS_SHA256, "f".repeat(64)),
    ])
}

fn model(inputs: &[&str], outputs: &[&str], props: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let values = |names: &[&str]| {
        names.iter().map(|&name| ValueInfoProto { name: name.to_owned(), ..Default::default() }).collect()
    };
    let give = |output: &&str| NodeProto {
        op_type: "Identity".to_owned(),
        input: vec![inputs[0].to_owned()],
        output: vec![(*output).to_owned()],
        ..NodeProto::default()
    };
    let node = outputs.iter().map(give).collect();
    let graph = GraphProto { node, input: values(inputs), output: values(outputs), ..GraphProto::default() };
    let metadata_props = props
        .iter()
        .map(|(&key, value)| StringStringEntryProto { key: key.to_owned(), value: value.clone() })
        .collect();
    ModelProto { graph: Some(graph), metadata_props, ..ModelProto::default() }.encode_to_vec()
}

fn encoder(props: &BTreeMap<&'static str, String>) -> Vec<u8> {
    model(&["encoder_input"], &["state_h_0"], props)
}

fn decoder(props: &BTreeMap<&'static str, String>) -> Vec<u8> {
    model(&["decoder_input", "state_h_0"], &["decoder_output", "next_state_h_0"], props)
}

/// A bundle whose manifest has the right hashes for whatever the graphs are.
fn files_of(encoder: Vec<u8>, decoder: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let graph =
        |role: Role, bytes: &[u8]| (role, GraphFile { file: role.file().to_owned(), sha256: sha256(bytes) });
    let state = StateWire {
        encoder_output: contract::state_h(0),
        decoder_input: contract::state_h(0),
        decoder_output: contract::next(&contract::state_h(0)),
        ..StateWire::default()
    };
    let manifest = Manifest {
        format_version: "1.0".to_owned(),
        name: "test".to_owned(),
        producer: "test".to_owned(),
        languages: None,
        io: Io::Ids,
        graphs: [graph(Role::Encoder, &encoder), graph(Role::Decoder, &decoder)].into(),
        files: BTreeMap::new(),
        weights_sha256: Some("f".repeat(64)),
        wiring: Wiring {
            encoder_input: contract::ENCODER_INPUT.to_owned(),
            decoder_input: contract::DECODER_INPUT.to_owned(),
            decoder_output: contract::DECODER_OUTPUT.to_owned(),
            output: OutputForm::Logits,
            states: vec![state],
            memory: vec![],
            attention: None,
            ..Wiring::default()
        },
        special_ids: SpecialIds::default(),
        decoding: DecodingOptions::default(),
        architecture: None,
        provenance: None,
        examples: Vec::new(),
        source: vocabulary(&["a", "b"]),
        target: vocabulary(&["c"]),
    };
    let yaml = manifest.to_yaml().unwrap().into_bytes();
    BTreeMap::from([
        (file::MANIFEST.to_owned(), yaml),
        (file::ENCODER.to_owned(), encoder),
        (file::DECODER.to_owned(), decoder),
        (file::README.to_owned(), b"# read me".to_vec()),
    ])
}

fn good() -> BTreeMap<String, Vec<u8>> {
    files_of(encoder(&props(Role::Encoder)), decoder(&props(Role::Decoder)))
}

fn write(files: &BTreeMap<String, Vec<u8>>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn zip(path: &Path, prefix: &str, files: &BTreeMap<String, Vec<u8>>) {
    let mut writer = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        writer.start_file(format!("{prefix}{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[track_caller]
fn refused(files: BTreeMap<String, Vec<u8>>, parts: &[&str]) {
    let error = Bundle::from_files("b", files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} has no {part:?}");
    }
    assert!(error.help_text().is_some(), "{error}: no help");
}

#[test]
fn a_bundle_opens_from_a_folder_its_manifest_a_zip_and_memory() {
    let files = good();
    let folder = write(&files);
    for prefix in ["", "my-model/"] {
        zip(&folder.path().join(format!("{}.zip", prefix.len())), prefix, &files);
    }
    let bundles = [
        Bundle::open(folder.path()).unwrap(),
        Bundle::open(folder.path().join("s2s.yaml")).unwrap(),
        Bundle::open(folder.path().join("0.zip")).unwrap(),
        Bundle::open(folder.path().join("9.zip")).unwrap(),
        Bundle::from_files("memory", files.clone()).unwrap(),
    ];
    for bundle in bundles {
        assert_eq!(bundle.graph(Role::Encoder).unwrap(), files[file::ENCODER]);
        assert_eq!(bundle.graph(Role::Decoder).unwrap(), files[file::DECODER]);
        assert_eq!(bundle.file(file::README), Some(&b"# read me"[..]));
        assert_eq!((bundle.source().size(), bundle.target().framed("cx")), (6, vec![4, 3]));
        assert_eq!(bundle.graph_info(Role::Decoder).unwrap().inputs[1].name, "state_h_0");
        assert!(bundle.graph(Role::Training).unwrap_err().to_string().contains("no training graph"));
    }
}

/// The good bundle with another source: its manifest changed, its graphs without metadata.
fn with_source(change: impl Fn(&mut Manifest)) -> BTreeMap<String, Vec<u8>> {
    let mut files = files_of(encoder(&BTreeMap::new()), decoder(&BTreeMap::new()));
    let text = String::from_utf8(files[file::MANIFEST].clone()).unwrap();
    let mut manifest = Manifest::from_yaml(&text, file::MANIFEST).unwrap();
    let bytes = TokeniserSpec { kind: TokeniserKind::Bytes, model: None, ids: None, config: None };
    manifest.source = VocabularySpec { tokeniser: Some(bytes), size: Some(384), ..VocabularySpec::default() };
    change(&mut manifest);
    let yaml = serde_json::to_string(&manifest).unwrap();
    files.insert(file::MANIFEST.to_owned(), yaml.into_bytes());
    files
}

#[test]
fn a_side_may_have_another_scheme_than_a_list_of_symbols() {
    let bundle = Bundle::from_files("b", with_source(|_| {})).unwrap();
    assert_eq!((bundle.source().size(), bundle.source().framed("a\u{e9}")), (384, vec![100, 198, 172, 1]));
    assert_eq!(bundle.source().detokenise(&[100, 198, 172, 1]), "a\u{e9}");
    assert_eq!(bundle.vocabularies().map(|it| it.map(Vocabulary::len)), [None, Some(5)]);
    let written = bundle.manifest().to_yaml().unwrap();
    assert!(written.contains("  tokeniser:\n    kind: bytes\n  size: 384\ntarget:\n"), "{written}");
    assert_eq!(Manifest::from_yaml(&written, "m").unwrap().source, bundle.manifest().source);
}

#[test]
fn a_tokeniser_is_refused_with_the_key_that_does_not_fit_it() {
    let spec = |manifest: &mut Manifest, change: fn(&mut VocabularySpec)| change(&mut manifest.source);
    for (change, parts) in [
        ((|side| side.size = None) as fn(&mut VocabularySpec), ["source.size", "missing"]),
        (|side| side.size = Some(3), ["source.size", "special id 3"]),
        (|side| side.size = Some(1 << 30), ["source.size", "are read"]),
        (|side| side.symbols = vec!["a".to_owned()], ["source.symbols", "has its own"]),
        (|side| side.tokeniser = None, ["source.size", "size of its own"]),
        (
            |side| side.tokeniser.as_mut().unwrap().model = Some("../a".to_owned()),
            ["source.tokeniser", "plain"],
        ),
        (|side| side.tokeniser.as_mut().unwrap().model = Some("gone".to_owned()), ["gone", "missing"]),
    ] {
        refused(with_source(|manifest| spec(manifest, change)), &parts);
    }
    // A newer version's settings would make other ids, whatever else of it is passed over.
    let newer = |text: &str| {
        text.replace("\"1.0\"", "\"1.9\"").replace("\"kind\":\"bytes\"", "\"kind\":\"bytes\",\"x\":1")
    };
    let mut files = with_source(|_| {});
    let text = newer(std::str::from_utf8(&files[file::MANIFEST]).unwrap());
    files.insert(file::MANIFEST.to_owned(), text.into_bytes());
    let error = Bundle::from_files("b", files).unwrap_err();
    assert!(error.to_string().contains("unknown field `x`"), "{error}");
}

#[test]
fn files_of_tokenisers_are_read_hashed_and_kept() {
    let listed = |manifest: &mut Manifest| {
        manifest.source.tokeniser.as_mut().unwrap().config = Some("tokenizer_config.json".to_owned());
        manifest.files = [("tokenizer_config.json".to_owned(), sha256(b"{}"))].into();
    };
    let mut files = with_source(listed);
    refused(files.clone(), &["tokenizer_config.json", "missing"]);
    files.insert("tokenizer_config.json".to_owned(), b"{ }".to_vec());
    refused(files.clone(), &["tokenizer_config.json", "changed"]);
    files.insert("tokenizer_config.json".to_owned(), b"{}".to_vec());
    let folder = write(&files);
    zip(&folder.path().join("b.zip"), "", &files);
    for bundle in [Bundle::open(folder.path()), Bundle::open(folder.path().join("b.zip"))] {
        assert_eq!(bundle.unwrap().file("tokenizer_config.json"), Some(&b"{}"[..]));
    }
}

#[test]
fn a_bundle_without_metadata_in_its_graphs_opens() {
    let none = BTreeMap::new();
    Bundle::from_files("b", files_of(encoder(&none), decoder(&none))).unwrap();
}

#[test]
fn missing_and_renamed_files_are_named() {
    let mut files = good();
    let bytes = files.remove(file::DECODER).unwrap();
    refused(files.clone(), &["decoder.onnx", "the decoder graph is missing"]);
    files.insert("decodr.onnx".to_owned(), bytes);
    let error = Bundle::open(write(&files).path()).unwrap_err();
    assert!(error.help_text().unwrap().contains("decodr.onnx"), "{error}");
    files.remove(file::MANIFEST);
    refused(files, &["s2s.yaml"]);
    assert_eq!(Bundle::open("no/such/folder").unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_changed_byte_in_any_graph_is_found() {
    for name in [file::ENCODER, file::DECODER] {
        let mut files = good();
        let bytes = files.get_mut(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        refused(files, &[name, "sha256"]);
    }
}

#[test]
fn a_graph_of_another_export_is_refused_even_if_its_hash_was_put_into_the_manifest() {
    let mut other = props(Role::Decoder);
    other.insert(metadata::WEIGHTS_SHA256, "e".repeat(64));
    refused(files_of(encoder(&props(Role::Encoder)), decoder(&other)), &["decoder.onnx", "weights"]);
}

#[test]
fn swapped_graphs_are_refused() {
    refused(
        files_of(encoder(&props(Role::Training)), decoder(&props(Role::Decoder))),
        &["encoder.onnx", "this is the training graph"],
    );
    refused(
        files_of(decoder(&props(Role::Decoder)), encoder(&props(Role::Encoder))),
        &["this is the decoder graph", "lists it as encoder"],
    );
    let bare = BTreeMap::new();
    refused(files_of(decoder(&bare), encoder(&bare)), &["encoder.onnx:encoder_input", "does not have"]);
}

#[test]
fn a_reordered_vocabulary_is_refused_with_the_first_id_that_differs() {
    for (key, side) in [(metadata::SOURCE_VOCABULARY, "source"), (metadata::TARGET_VOCABULARY, "target")] {
        let mut other = props(Role::Encoder);
        other.insert(key, vocabulary(&["b", "a"]).metadata_json());
        refused(files_of(encoder(&other), decoder(&props(Role::Decoder))), &["encoder.onnx", side, "id 4"]);
        other.insert(key, "{}".to_owned());
        refused(
            files_of(encoder(&other), decoder(&props(Role::Decoder))),
            &["encoder.onnx", side, "cannot be read"],
        );
    }
}

#[test]
fn other_special_ids_and_versions_in_a_graph_are_refused() {
    let mut other = props(Role::Encoder);
    other.insert(metadata::SPECIAL_IDS, r#"{"pad":3,"start":1,"end":2,"unk":0}"#.to_owned());
    refused(files_of(encoder(&other), decoder(&props(Role::Decoder))), &["special ids"]);
    let mut other = props(Role::Encoder);
    other.insert(metadata::FORMAT_VERSION, "7.0".to_owned());
    refused(
        files_of(encoder(&other), decoder(&props(Role::Decoder))),
        &["encoder.onnx", "format version \"7.0\""],
    );
}

#[test]
fn a_wiring_name_that_no_graph_has_is_refused_with_the_names_there_are() {
    let props = props(Role::Decoder);
    let files = files_of(
        encoder(&self::props(Role::Encoder)),
        model(&["decoder_input", "state_h_1"], &["decoder_output", "next_state_h_0"], &props),
    );
    let error = Bundle::from_files("b", files).unwrap_err();
    assert!(error.to_string().starts_with("decoder.onnx:state_h_0: "), "{error}");
    assert!(error.help_text().unwrap().contains("state_h_1"), "{error}");
}

/// `good()` with a self test, and a manifest that lists it and the README.
fn listed() -> BTreeMap<String, Vec<u8>> {
    let mut files = good();
    files.insert(file::SELF_TEST.to_owned(), br#"{"tolerance":1e-4,"cases":[]}"#.to_vec());
    let mut manifest =
        Manifest::from_yaml(std::str::from_utf8(&files[file::MANIFEST]).unwrap(), "s2s.yaml").unwrap();
    manifest.files =
        [file::SELF_TEST, file::README].map(|name| (name.to_owned(), sha256(&files[name]))).into();
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml().unwrap().into_bytes());
    files
}

#[test]
fn a_side_file_that_the_manifest_lists_must_be_there_and_be_the_same() {
    assert_eq!(Bundle::from_files("b", listed()).unwrap().manifest().files.len(), 2);
    for name in [file::SELF_TEST, file::README] {
        let mut files = listed();
        files.remove(name);
        refused(files.clone(), &[name, "missing, and the manifest lists it"]);
        assert!(Bundle::open(write(&files).path()).unwrap_err().to_string().contains("missing"));
        files.insert(name.to_owned(), b"{}".to_vec());
        refused(files, &[name, "changed since the export"]);
    }
    // Bundles of older versions list nothing.
    let mut files = good();
    files.remove(file::README);
    Bundle::from_files("b", files).unwrap();
}

#[test]
fn a_graph_with_weights_elsewhere_is_refused_when_the_bundle_is_opened() {
    let mut model = ModelProto::decode(encoder(&props(Role::Encoder)).as_slice()).unwrap();
    let location =
        StringStringEntryProto { key: "location".to_owned(), value: "../../../etc/passwd".to_owned() };
    let tensor = TensorProto {
        name: "w".to_owned(),
        dims: vec![8],
        data_type: 1,
        external_data: vec![location],
        ..TensorProto::default()
    };
    model.graph.as_mut().unwrap().initializer.push(tensor);
    refused(
        files_of(model.encode_to_vec(), decoder(&props(Role::Decoder))),
        &["encoder.onnx:w", "../../../etc/passwd"],
    );
}

#[test]
fn bytes_that_are_no_onnx_model_are_refused() {
    refused(
        files_of(b"\xff\xff\xff".to_vec(), decoder(&props(Role::Decoder))),
        &["encoder.onnx", "not an ONNX model"],
    );
    refused(files_of(vec![], decoder(&props(Role::Decoder))), &["encoder.onnx", "no graph"]);
}

#[test]
fn every_truncation_of_a_zip_is_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.zip");
    zip(&path, "", &good());
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(23) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(Bundle::open(&path).unwrap_err().kind(), ErrorKind::Bundle);
    }
}

#[test]
fn a_zip_of_several_bundles_or_without_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.zip");
    let both: BTreeMap<String, Vec<u8>> = ["a/", "b/"]
        .iter()
        .flat_map(|p| good().into_iter().map(move |(name, bytes)| (format!("{p}{name}"), bytes)))
        .collect();
    zip(&path, "", &both);
    assert!(Bundle::open(&path).unwrap_err().to_string().contains("several bundles"));
    zip(&path, "", &BTreeMap::from([("x".to_owned(), vec![1])]));
    assert!(Bundle::open(&path).unwrap_err().to_string().contains("no s2s.yaml"));
}

#[test]
fn a_zip_bomb_is_refused_at_a_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.zip");
    let mut files = good();
    files.insert(file::ENCODER.to_owned(), vec![0; 40 << 20]);
    zip(&path, "", &files);
    assert!(std::fs::metadata(&path).unwrap().len() < 1 << 20);
    let error = Bundle::open(&path).unwrap_err();
    assert!(error.to_string().contains("longer than 16 MiB"), "{error}");
    let mut files = good();
    files.insert(file::MANIFEST.to_owned(), vec![b'#'; 20 << 20]);
    zip(&path, "", &files);
    assert!(Bundle::open(&path).unwrap_err().to_string().contains("longer than"));
}
