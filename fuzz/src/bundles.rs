//! Bundles: the manifest alone, all files in memory, a zip of them, the self test.

use std::collections::BTreeMap;
use std::io::Write as _;

use prost::Message as _;
use s2s::inspect::Subject;
use s2s::serve::library::card;
use s2s_runtime::bundle::{Bundle, sha256};
use s2s_runtime::contract::file;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::manifest::{Manifest, Role};
use s2s_runtime::self_test::SelfTest;
use s2s_runtime::translator::TextCoder;

use super::decoding::Hashed;
use super::graphs::drawn;
use super::input::Input;
use super::mutate;
use super::properties::looked_at;
use super::runs::Scratch;

/// Between the files of an input.
const SEPARATOR: &str = "\n%%%%\n";

/// YAML of any form; what is read, is written and read again as the same.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(manifest) = looked_at(Manifest::from_yaml(text, "s2s.yaml")) else { return };
    let wiring = &manifest.wiring;
    assert_eq!(wiring.decoder_inputs().len(), 1 + wiring.states.len() + wiring.memory.len());
    assert!(card(&manifest).details.is_object());
    let written = looked_at(manifest.to_yaml()).expect("what was read can be written");
    let again = looked_at(Manifest::from_yaml(&written, "s2s.yaml")).expect("what was written can be read");
    assert_eq!(Some(written), looked_at(again.to_yaml()));
}

/// Files in memory: manifest, self test, and a graph for each role; hashes that say `ENCODER` and so on are
/// the true ones.
pub(crate) fn bundle(data: &[u8]) {
    if let Some(bundle) = looked_at(Bundle::from_files("fuzz", files(data))) {
        opened(&bundle);
    }
}

fn files(data: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let separator = SEPARATOR.as_bytes();
    let cut = |data: &[u8]| data.windows(separator.len()).position(|window| window == separator);
    let (mut parts, mut left) = (Vec::new(), data);
    while let Some(at) = cut(left).filter(|_| parts.len() < 4) {
        parts.push(left[..at].to_vec());
        left = &left[at + separator.len()..];
    }
    parts.push(left.to_vec());
    let mut parts = parts.into_iter();
    let mut manifest = String::from_utf8_lossy(&parts.next().unwrap_or_default()).into_owned();
    let mut files = BTreeMap::new();
    if let Some(test) = parts.next().filter(|test| !test.is_empty()) {
        files.insert(file::SELF_TEST.to_owned(), test);
    }
    for (role, placeholder) in
        [(Role::Encoder, "ENCODER"), (Role::Decoder, "DECODER"), (Role::Training, "TRAINING")]
    {
        // A part that is choices makes a graph; one that is missing is the plain graph.
        let bytes = match parts.next() {
            Some(bytes) if bytes.starts_with(b"\x08") => bytes,
            made => {
                let base =
                    mutate::bases().get(1 + role as usize).expect("there is one for each role").clone();
                let made = made.filter(|choices| !choices.is_empty());
                made.map_or(base, |choices| mutate::model(&mut Input::new(&choices))).encode_to_vec()
            }
        };
        manifest = manifest.replace(placeholder, &sha256(&bytes));
        files.insert(role.file().to_owned(), bytes);
    }
    files.insert(file::MANIFEST.to_owned(), manifest.into_bytes());
    files
}

/// All that is done with a bundle before an engine has it.
fn opened(bundle: &Bundle) {
    for role in Role::WITH_OPTIONAL {
        if let Some(info) = looked_at(bundle.graph_info(role)) {
            assert!(bundle.graph(role).is_ok_and(|bytes| !bytes.is_empty()));
            assert!(info.inputs.len() < 1 << 20);
        }
    }
    card(bundle.manifest());
    let coder = TextCoder::new(bundle);
    if let Some(settings) = looked_at(coder.settings(&DecodingOptions::default())) {
        looked_at(coder.encode("abc <unk> \u{fdfa}", &settings));
    }
    if let Some(test) = bundle.file(file::SELF_TEST) {
        run_self_test(test, bundle);
    }
    if let Some(subject) = looked_at(Subject::of_bundle(bundle)) {
        drawn(&subject);
    }
}

fn run_self_test(json: &[u8], bundle: &Bundle) {
    if let Some(test) = looked_at(SelfTest::from_json(json)) {
        looked_at(test.run(&mut Hashed::new(8, 1), &bundle.manifest().wiring));
    }
}

/// Self tests; what is read, is written and read again as the same, and what was recorded, passes.
pub(crate) fn self_test(data: &[u8]) {
    static OPEN: std::sync::OnceLock<Bundle> = std::sync::OnceLock::new();
    let bundle = OPEN
        .get_or_init(|| Bundle::from_files("base", files(MANIFEST.as_bytes())).expect("the base is right"));
    run_self_test(data, bundle);
    if let Some(test) = looked_at(SelfTest::from_json(data))
        && let Some(written) = looked_at(test.to_json())
    {
        assert_eq!(looked_at(SelfTest::from_json(&written)), Some(test));
    }
    let mut input = Input::new(data);
    let sources: Vec<Vec<u32>> = (0..1 + input.below(4))
        .map(|_| (0..1 + input.below(6)).map(|_| u32::from(input.byte() % 8)).collect())
        .collect();
    let (mut engine, wiring) = (Hashed::new(8, input.u64()), &bundle.manifest().wiring);
    let recorded =
        looked_at(SelfTest::record(&mut engine, wiring, &sources, 12)).expect("the engine never fails");
    recorded.run(&mut engine, wiring).expect("what was recorded passes");
}

/// A bundle for the graphs of [`mutate::bases`].
pub(crate) const MANIFEST: &str = r#"format_version: "1.0"
name: fuzz
producer: s2s fuzz
graphs:
  encoder: {file: encoder.onnx, sha256: ENCODER}
  decoder: {file: decoder.onnx, sha256: DECODER}
  training: {file: training.onnx, sha256: TRAINING}
wiring:
  encoder_input: encoder_input
  decoder_input: decoder_input
  decoder_output: decoder_output
  states:
  - {encoder_output: state_h_0, decoder_input: state_h_0, decoder_output: next_state_h_0}
  - {encoder_output: state_c_0, decoder_input: state_c_0, decoder_output: next_state_c_0}
source: {unit: character, symbols: ["<pad>", "<start>", "<end>", "<unk>", "a", "b"]}
target: {unit: character, symbols: ["<pad>", "<start>", "<end>", "<unk>", "a", "b"]}
"#;

/// A zip file: any bytes, or entries as the input says.
pub(crate) fn zip(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes = if data.starts_with(b"PK") { data.to_vec() } else { written(&mut input) };
    let scratch = Scratch::shared();
    let path = scratch.file("fuzz.zip", &bytes);
    if let Some(bundle) = looked_at(Bundle::open(&path)) {
        opened(&bundle);
    }
}

/// A zip of the files of a bundle, under names that the input chooses.
fn written(input: &mut Input<'_>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let files = files(MANIFEST.as_bytes());
    let names: Vec<&String> = files.keys().collect();
    for _ in 0..1 + input.below(12) {
        let folder = *input.pick(&["", "dates/", "a/", "a/b/", "../", "/", "./"]);
        let stored = *input.pick(&names);
        let name = if input.byte() < 230 { format!("{folder}{stored}") } else { input.text(b'\n') };
        let method =
            if input.flag() { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        let content = if input.byte() < 230 {
            files[stored].clone()
        } else {
            vec![input.byte(); input.below(1 << 16) * 64]
        };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        // A name that is there already is refused by the writer.
        if zip.start_file(name, options).is_ok() {
            zip.write_all(&content).expect("memory takes all");
        }
    }
    let mut bytes = zip.finish().expect("memory takes all").into_inner();
    // A few bytes of the headers changed.
    for _ in 0..input.below(4) {
        let (at, value) = (usize::from(input.u16()), input.byte());
        let from_end = bytes.len().saturating_sub(1 + at);
        bytes[from_end] = value;
    }
    bytes
}
