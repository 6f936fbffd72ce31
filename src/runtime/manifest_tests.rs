#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::contract::{self, FORMAT_VERSION, SPECIAL_SYMBOLS};
use crate::decoding::DecodingOptions;
use crate::error::ErrorKind;
use crate::vocabulary::VocabularySpec;

fn spec(symbols: &[&str]) -> VocabularySpec {
    let symbols = SPECIAL_SYMBOLS.iter().chain(symbols).map(|&symbol| symbol.to_owned()).collect();
    VocabularySpec { symbols, ..VocabularySpec::default() }
}

fn manifest() -> Manifest {
    let graph = |name: &str| GraphFile { file: format!("{name}.onnx"), sha256: "0".repeat(64) };
    Manifest {
        format_version: FORMAT_VERSION.to_owned(),
        name: "dates".to_owned(),
        producer: "s2s 0.1.0".to_owned(),
        languages: None,
        io: Io::Ids,
        graphs: [(Role::Encoder, graph("encoder")), (Role::Decoder, graph("decoder"))].into(),
        files: BTreeMap::new(),
        weights_sha256: Some("a".repeat(64)),
        wiring: Wiring {
            encoder_input: "encoder_input".to_owned(),
            decoder_input: "decoder_input".to_owned(),
            decoder_output: "decoder_output".to_owned(),
            output: OutputForm::Logits,
            states: vec![StateWire {
                encoder_output: "state_h_0".to_owned(),
                decoder_input: "state_h_0".to_owned(),
                decoder_output: "next_state_h_0".to_owned(),
                ..StateWire::default()
            }],
            memory: vec![],
            attention: None,
            ..Wiring::default()
        },
        special_ids: SpecialIds::default(),
        decoding: DecodingOptions::default(),
        architecture: Some(serde_json::json!({"symbols": [], "source": {"symbols": []}, "hidden": 256})),
        provenance: Some(Provenance {
            licence: Some("source:\n  symbols: []\n".to_owned()),
            ..Provenance::default()
        }),
        examples: Vec::new(),
        source: spec(&["a", "b"]),
        target: spec(&["c"]),
    }
}

#[test]
fn a_manifest_is_read_back_as_it_was_written() {
    let written = manifest().to_yaml().unwrap();
    let again = Manifest::from_yaml(&written, "s2s.yaml").unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(manifest()).unwrap());
    assert_eq!(again.to_yaml().unwrap(), written);
}

#[test]
fn keys_are_written_in_the_order_of_a_reader_and_symbols_last() {
    let written = manifest().to_yaml().unwrap();
    let keys: Vec<&str> = written
        .lines()
        .filter(|line| !line.starts_with([' ', '-']))
        .filter_map(|line| line.split(':').next())
        .collect();
    let expected = [
        "format_version",
        "name",
        "producer",
        "io",
        "graphs",
        "weights_sha256",
        "wiring",
        "special_ids",
        "decoding",
        "architecture",
        "provenance",
        "source",
        "target",
    ];
    assert_eq!(keys, expected, "{written}");
    assert!(
        written.ends_with("  symbols: [\n    \"<pad>\", \"<start>\", \"<end>\", \"<unk>\", \"c\",\n    ]\n"),
        "{written}"
    );
}

#[test]
fn symbols_that_yaml_might_misread_come_back_unchanged() {
    let mut manifest = manifest();
    manifest.source = spec(&[
        " ",
        "~",
        "\t",
        "\n",
        "\r",
        "\u{2028}",
        "\u{2029}",
        "\u{85}",
        "\u{feff}",
        "\u{a0}",
        "\u{7f}",
        "\u{0}",
        "\u{1b}",
        "'",
        "\"",
        "\\",
        "#",
        "-",
        ":",
        "?",
        "!",
        "&",
        "*",
        "%",
        "@",
        "`",
        "|",
        ">",
        "[",
        "]",
        "{",
        "}",
        ",",
        "<",
        "=",
        "1",
        "0",
        "y",
        "n",
        "é",
        "\u{301}",
        "\u{1f600}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{e000}",
        "\u{10ffff}",
    ]);
    manifest.target = spec(&[
        "yes",
        "null",
        "no",
        "true",
        "1.0",
        "0x1f",
        "1e3",
        ".nan",
        "---",
        "...",
        "<<",
        "2026-01-01",
        "!!str",
        "12:30",
    ]);
    manifest.target.unit = crate::vocabulary::Unit::Token;
    let again = Manifest::from_yaml(&manifest.to_yaml().unwrap(), "s2s.yaml").unwrap();
    assert_eq!((again.source, again.target), (manifest.source, manifest.target));
}

#[test]
fn examples_that_yaml_might_misread_come_back_unchanged() {
    for texts in [
        ["yes", "null", "1.0", "---", "2026-01-01"],
        ["\nsource:\n", "# no", "\u{85}\u{2028}\u{feff}", "\u{202e}\u{5d0}", "'\"\\"],
    ] {
        let manifest = Manifest { examples: texts.map(str::to_owned).to_vec(), ..manifest() };
        let written = manifest.to_yaml().unwrap();
        assert!(written.contains("\nexamples: [\n"), "{written}");
        assert_eq!(Manifest::from_yaml(&written, "s2s.yaml").unwrap().examples, texts);
    }
}

#[test]
fn symbols_may_stand_in_a_block_list_without_quotes() {
    let block = "  symbols:\n  - <pad>\n  - <start>\n  - <end>\n  - <unk>\n  - c\n";
    let written = manifest().to_yaml().unwrap();
    let at = written.rfind("  symbols:").unwrap();
    let again = Manifest::from_yaml(&format!("{}{block}", &written[..at]), "s2s.yaml").unwrap();
    assert_eq!(again.target, manifest().target);
}

#[test]
fn an_unknown_key_is_an_error_with_line_and_nearest_name() {
    let text = manifest()
        .to_yaml()
        .unwrap()
        .replace("  encoder_input: encoder_input\n", "  encoder_input: encoder_input\n  encoder_inptu: x\n");
    let error = Manifest::from_yaml(&text, "s2s.yaml").unwrap_err();
    let line = text.lines().position(|line| line.contains("inptu")).unwrap() + 1;
    assert_eq!(
        error.to_string(),
        format!("s2s.yaml:{line}:wiring.encoder_inptu: unknown key `encoder_inptu`")
    );
    assert_eq!(error.help_text(), Some("did you mean `encoder_input`?"));
    assert_eq!(error.kind(), ErrorKind::Bundle);
}

#[test]
fn a_newer_minor_version_is_read_and_its_unknown_keys_are_passed_over() {
    let text = manifest().to_yaml().unwrap();
    let newer = text
        .replace("format_version: \"1.0\"", "format_version: \"1.99\"")
        .replace("format_version: '1.0'", "format_version: '1.99'");
    let newer = newer
        .replace("\nwiring:\n", "\nnews: {a: [1, 2]}\nwiring:\n  later: true\n")
        .replace("  - encoder_output:", "  - precision: half\n    encoder_output:")
        .replace("    file: decoder.onnx", "    compression: none\n    file: decoder.onnx");
    assert!(newer.contains("1.99") && newer.contains("half") && newer.contains("compression"), "{newer}");
    let again = Manifest::from_yaml(&newer, "s2s.yaml").unwrap();
    assert_eq!(
        (again.wiring, again.graphs, again.source),
        (manifest().wiring, manifest().graphs, manifest().source)
    );
    assert!(Manifest::from_yaml(&newer.replace("1.99", "1.0"), "s2s.yaml").is_err());
}

#[test]
fn sixty_thousand_keys_of_a_newer_version_are_passed_over_in_no_time() {
    let text = manifest().to_yaml().unwrap().replace("1.0", "1.99");
    let keys: String = (0..60_000).map(|i| format!("k{i}: 1\n")).collect();
    let start = std::time::Instant::now();
    let again = Manifest::from_yaml(&format!("{keys}{text}"), "s2s.yaml").unwrap();
    // It took 26 s when each key was found by an error of its own.
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
    assert_eq!(again.wiring, manifest().wiring);
}

#[test]
fn every_part_of_a_newer_manifest_may_have_keys_that_are_not_known_yet() {
    let mut full = manifest();
    full.languages = Some(Languages { source: Some("en".to_owned()), target: None });
    full.files = [(contract::file::README.to_owned(), "0".repeat(64))].into();
    full.examples.push("abba".to_owned());
    full.wiring.memory.push(MemoryWire {
        encoder_output: "encoder_output".to_owned(),
        decoder_input: "encoder_output".to_owned(),
    });
    full.provenance.as_mut().unwrap().data.push(DataFile {
        file: "a.tsv".to_owned(),
        sha256: "0".repeat(64),
        pairs: 3,
    });
    full.source.padding = Some(crate::vocabulary::Padding {
        symbol: "a".to_owned(),
        length: 4,
        least: 0,
        side: Default::default(),
    });
    let mut value: Value = serde_json::to_value(&full).unwrap();
    let expected = value.clone();
    value["format_version"] = "1.99".into();
    /// Gives every object a key more, but for those whose keys are names: roles are fixed, and settings have
    /// no fixed form.
    fn extend(value: &mut Value, path: &str) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| extend(item, path)),
            Value::Object(object) => {
                object.iter_mut().for_each(|(key, value)| extend(value, &format!("{path}.{key}")));
                if !matches!(path, ".graphs") && !path.starts_with(".architecture") {
                    object.insert("later".to_owned(), true.into());
                }
            }
            _ => {}
        }
    }
    extend(&mut value, "");
    assert!(value.to_string().matches("later").count() > 12);
    let mut found =
        serde_json::to_value(Manifest::from_yaml(&value.to_string(), "s2s.yaml").unwrap()).unwrap();
    found["format_version"] = expected["format_version"].clone();
    assert_eq!(found, expected);
}

#[test]
fn numbers_that_nothing_honest_has_are_refused_before_anything_is_made_of_them() {
    let check = |change: fn(&mut Manifest), key: &str| {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = manifest.to_yaml().unwrap_err();
        assert!(error.to_string().contains(&format!(":{key}: ")) && error.help_text().is_some(), "{error}");
    };
    check(|m| m.source.longest = usize::MAX, "source.longest");
    check(|m| m.name = "n".repeat(2000), "name");
    check(
        |m| {
            m.wiring.states = (0..1025)
                .map(|i| StateWire { decoder_input: i.to_string(), ..m.wiring.states[0].clone() })
                .collect();
        },
        "wiring",
    );
    check(|m| m.examples = vec!["a".to_owned(); MOST_EXAMPLES + 1], "examples");
    check(|m| m.examples = vec!["a".repeat(LONGEST_EXAMPLE + 1)], "examples");
    check(|m| drop(m.files.insert("../x".to_owned(), "0".repeat(64))), "files.../x");
    check(|m| drop(m.files.insert("README.md".to_owned(), "0".to_owned())), "files.README.md");
    let mut many = manifest();
    many.target.symbols = vec![String::new(); MOST_SYMBOLS + 1];
    assert_eq!(many.check().unwrap_err().0, "target.symbols");
}

#[test]
fn another_major_version_is_refused_with_a_readable_error() {
    let text = manifest().to_yaml().unwrap().replace("1.0", "2.0");
    let error = Manifest::from_yaml(&text, "s2s.yaml").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("s2s.yaml:1:format_version: format version \"2.0\"; this program reads"),
        "{error}"
    );
    assert!(error.help_text().unwrap().contains("update"));
    assert!(
        Manifest::from_yaml("format_version: latest\n", "s2s.yaml")
            .unwrap_err()
            .help_text()
            .unwrap()
            .contains("major.minor")
    );
    assert!(Manifest::from_yaml("name: x\n", "s2s.yaml").unwrap_err().to_string().contains("format_version"));
}

#[test]
fn files_outside_the_bundle_are_refused() {
    for file in ["../encoder.onnx", "/etc/passwd", "a/b.onnx", "c:\\x.onnx", "..", ""] {
        let mut manifest = manifest();
        manifest.graphs.get_mut(&Role::Encoder).unwrap().file = file.to_owned();
        let error = manifest.to_yaml().unwrap_err();
        assert!(error.to_string().contains("graphs.encoder.file"), "{error}");
    }
}

#[test]
fn faults_in_vocabularies_wiring_and_hashes_name_their_key() {
    let check = |change: fn(&mut Manifest), key: &str| {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = manifest.to_yaml().unwrap_err();
        assert!(error.to_string().contains(&format!(":{key}: ")), "{error}");
        assert_eq!(error.kind(), ErrorKind::Bundle);
    };
    check(|m| m.source.symbols.push("a".to_owned()), "source.symbols");
    check(|m| m.target.symbols.swap(0, 1), "target.symbols");
    check(|m| m.wiring.states[0].decoder_input = "decoder_input".to_owned(), "wiring");
    check(|m| m.graphs.get_mut(&Role::Decoder).unwrap().sha256 = "abc".to_owned(), "graphs.decoder.sha256");
    check(|m| drop(m.graphs.remove(&Role::Decoder)), "graphs");
    check(|m| m.special_ids.end = 7, "special_ids");
}

#[test]
fn hostile_yaml_is_refused_quickly() {
    let start = std::time::Instant::now();
    let bomb = "a: &a [x, x]\n".to_owned()
        + &(1..40).map(|i| format!("b{i}: &b{i} [*a, *a, *a]\n")).collect::<String>();
    for text in [
        "[".repeat(100_000),
        format!("format_version: {}", "{".repeat(100_000)),
        bomb,
        "\u{0}\u{1}".to_owned(),
        String::new(),
    ] {
        assert!(Manifest::from_yaml(&text, "s2s.yaml").is_err());
    }
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
}

proptest! {
    #[test]
    fn any_symbols_survive_the_manifest(text in prop::collection::vec(any::<char>(), 0..60)) {
        let text: String = text.into_iter().collect();
        let mut manifest = manifest();
        manifest.source = crate::vocabulary::Vocabulary::build(crate::vocabulary::Unit::Character, [], [&text]).spec().clone();
        let again = Manifest::from_yaml(&manifest.to_yaml().unwrap(), "s2s.yaml").unwrap();
        prop_assert_eq!(again.source, manifest.source);
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(text in any::<String>()) {
        let _ = Manifest::from_yaml(&text, "s2s.yaml");
        let _ = Manifest::from_yaml(&format!("format_version: '1.5'\n{text}"), "s2s.yaml");
    }
}
