#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use super::super::{Encoded, LanguageIds, TextLimits, Tokeniser, UnknownPolicy, Unwritten};
use super::*;

/// What transformers makes of texts and ids; testdata/tokenisers/make.py wrote it.
#[derive(Deserialize)]
struct Case {
    size: usize,
    #[serde(default)]
    seconds: f64,
    /// A scheme that no folder of transformers has.
    kind: Option<TokeniserKind>,
    model: Option<String>,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    decoded: Vec<String>,
    wild: Vec<Vec<u32>>,
    wild_decoded: Vec<String>,
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tokenisers")
}

type Files = BTreeMap<String, prost::bytes::Bytes>;

/// The files of a folder, graphs left out.
fn files_of(folder: &Path) -> Files {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| path.extension().is_some_and(|end| end != "onnx"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (name(&path), std::fs::read(&path).unwrap().into())).collect()
}

fn open(folder: &Path, files: &Files, case: &Case) -> Result<[Arc<dyn Tokeniser>; 2]> {
    let named = NamedFiles { folder, files };
    let special = SpecialIds { pad: 0, start: 0, end: 0, unk: 0 };
    let [source, target] = match case.kind {
        Some(kind) => {
            let tokeniser = TokeniserSpec { kind, model: case.model.clone(), ids: None, config: None };
            let spec = VocabularySpec {
                tokeniser: Some(tokeniser),
                size: Some(case.size),
                ..VocabularySpec::default()
            };
            [spec.clone(), spec]
        }
        None => {
            let config = serde_json::from_slice(&files["config.json"]).unwrap();
            let found = of_folder(named, &config, [case.size; 2])?;
            [found.source, found.target]
        }
    };
    Ok([Side::open(&source, special, named)?.tokeniser(), Side::open(&target, special, named)?.tokeniser()])
}

fn opened(name: &str) -> [Arc<dyn Tokeniser>; 2] {
    let folder = committed().join(name);
    let files = files_of(&folder);
    open(&folder, &files, &serde_json::from_slice(&files["case.json"]).unwrap()).unwrap()
}

fn encoded(tokeniser: &dyn Tokeniser, text: &str) -> Encoded {
    tokeniser.tokenise(text, UnknownPolicy::Unk, TextLimits::NONE).unwrap()
}

/// Where a text that is streamed differs from the whole, if it does.
fn streamed(tokeniser: &dyn Tokeniser, ids: &[u32]) -> Option<String> {
    let (mut text, mut rest) = (String::new(), Unwritten::default());
    let whole = tokeniser.detokenise(ids);
    for &id in ids {
        tokeniser.write(id, &mut rest, &mut text);
        if !whole.starts_with(&text) {
            return Some(format!("{text:?} is no beginning of {whole:?}"));
        }
    }
    None
}

/// `S2S_TOKENISERS` names other folders than the committed ones.
#[test]
fn ids_and_texts_equal_those_of_transformers() {
    let root = std::env::var_os("S2S_TOKENISERS").map_or_else(committed, PathBuf::from);
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.join("case.json").exists());
    folders.sort();
    assert!(folders.len() >= 20, "{} folders", folders.len());
    let mut faults = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let files = files_of(&folder);
        let case: Case = serde_json::from_slice(&files["case.json"]).unwrap();
        let [source, target] = match open(&folder, &files, &case) {
            Ok(sides) => sides,
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        let begin = Instant::now();
        let sources: Vec<Vec<u32>> = case.texts.iter().map(|text| source.framed(text)).collect();
        let seconds = begin.elapsed().as_secs_f64();
        let mut own = Vec::new();
        for ((text, found), ids) in case.texts.iter().zip(&sources).zip(&case.ids) {
            // A text without a token is not decoded, whatever stands around it.
            if found != ids && !(found.is_empty() && ids.len() <= source.frame_size()) {
                own.push(format!("{name}: {text:?} is {found:?} instead of {ids:?}"));
            }
        }
        let outputs = case.ids.iter().zip(&case.decoded).chain(case.wild.iter().zip(&case.wild_decoded));
        for (ids, text) in outputs {
            let found = target.detokenise(ids);
            if found != *text {
                own.push(format!("{name}: {ids:?} says {found:?} instead of {text:?}"));
            }
            own.extend(streamed(&*target, ids).map(|fault| format!("{name}: {ids:?}: {fault}")));
        }
        println!(
            "{name}: {} texts, {} outputs, {} faults; {seconds:.3} s, transformers {:.3} s",
            case.texts.len(),
            case.ids.len() + case.wild.len(),
            own.len(),
            case.seconds
        );
        own.truncate(6);
        faults.extend(own);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn folders_that_optimum_wrote_have_the_ids_and_texts_that_transformers_gave_them() {
    let Some(data) = std::env::var_os("S2S_DATA").map(|data| PathBuf::from(data).join("optimum-tiny")) else {
        println!("skipped: S2S_DATA names no folder of data");
        return;
    };
    for name in ["marian", "t5", "bart"] {
        let folder = data.join(name);
        let files = files_of(&folder);
        let json = |name: &str| serde_json::from_slice::<Value>(&files[name]).unwrap();
        let (config, expected) = (json("config.json"), json("expected.json"));
        let size = config["vocab_size"].as_u64().unwrap() as usize;
        let named = NamedFiles { folder: &folder, files: &files };
        let found = of_folder(named, &config, [size; 2]).unwrap();
        let special = SpecialIds { pad: 0, start: 0, end: 0, unk: 0 };
        let [source, target] =
            [&found.source, &found.target].map(|side| Side::open(side, special, named).unwrap().tokeniser());
        let ids = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
        let texts = expected["sources"].as_array().unwrap();
        for (text, expected) in texts.iter().zip(expected["source_ids"].as_array().unwrap()) {
            assert_eq!(source.framed(text.as_str().unwrap()), ids(expected), "{name}: {text}");
        }
        for output in
            expected["generated"].as_object().unwrap().values().flat_map(|all| all.as_array().unwrap())
        {
            assert_eq!(target.detokenise(&ids(&output["ids"])), output["text"].as_str().unwrap(), "{name}");
        }
    }
}

#[test]
fn languages_stand_where_the_model_wants_them() {
    for (name, code, before, behind) in [
        ("m2m100", "de", Some("__de__"), None),
        ("nllb", "arb_Arab", Some("arb_Arab"), None),
        ("nllb_legacy", "arb_Arab", None, Some("arb_Arab")),
        ("nllb_fast", "arb_Arab", Some("arb_Arab"), None),
        ("mbart", "de_DE", None, Some("de_DE")),
        ("mbart50", "sl_SI", Some("sl_SI"), None),
    ] {
        let [tokeniser, _] = opened(name);
        let id = tokeniser.language(code).unwrap();
        assert_eq!(tokeniser.forced_first(id), Some(id), "{name}");
        let mut source = encoded(&*tokeniser, "a");
        let text = tokeniser.frame(&mut source, LanguageIds { source: Some(id), target: None });
        assert_eq!(
            (source.ids.len() - text.len(), source.symbols.len()),
            (tokeniser.frame_size(), source.ids.len())
        );
        let found = [source.ids.first(), source.ids.last()].map(|at| at == Some(&id));
        assert_eq!(found, [before.is_some(), behind.is_some()], "{name}");
        assert_eq!(tokeniser.find(before.or(behind).unwrap()), Some(id), "{name}");
        assert_eq!(tokeniser.language("xx"), None);
    }
    let [marian, _] = opened("marian");
    let id = marian.language("fra").unwrap();
    assert_eq!(marian.forced_first(id), None, "the source says it");
    let mut source = encoded(&*marian, "a");
    marian.frame(&mut source, LanguageIds { source: None, target: Some(id) });
    assert_eq!(source.ids, marian.framed(">>fra<<a"));
}

#[test]
fn a_text_is_read_no_further_than_its_limits() {
    for name in ["json_unigram", "json_byte_level", "t5", "t5_new", "t5_bpe", "marian", "byt5"] {
        let [tokeniser, _] = opened(name);
        let with = |text: &str, characters, symbols| {
            let limits = TextLimits { characters, symbols };
            let found = tokeniser.tokenise(text, UnknownPolicy::Unk, limits);
            found.map(|found| found.ids.len()).map_err(|error| error.message().to_owned())
        };
        let tokens = with("a b", 9, 9).unwrap();
        assert_eq!(with("a b", 9, tokens), Ok(tokens), "{name}");
        assert_eq!(with("a b", 9, tokens - 1), Err(format!("the text has more than {} tokens", tokens - 1)));
        assert_eq!(with("abcde", 4, 9), Err("the text has more than 4 characters".to_owned()), "{name}");
    }
    // One character that becomes 18.
    let [tokeniser, _] = opened("json_unigram");
    let limits = TextLimits { characters: 10, symbols: 99 };
    let error = tokeniser.tokenise("\u{fdfa}", UnknownPolicy::Unk, limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
}

#[test]
fn unknown_pieces_follow_the_policy() {
    let [tokeniser, _] = opened("marian");
    let unk = tokeniser.special_ids().unk;
    let with = |policy| tokeniser.tokenise("a \u{1f9ff}\u{1f9ff} a", policy, TextLimits::NONE);
    let found = with(UnknownPolicy::Copy).unwrap();
    assert_eq!((found.ids[2], found.unknown), (unk, vec!["\u{1f9ff}\u{1f9ff}".to_owned()]));
    assert_eq!(&found.symbols[2], "\u{1f9ff}\u{1f9ff}");
    assert!(!with(UnknownPolicy::Skip).unwrap().ids.contains(&unk));
    assert_eq!(with(UnknownPolicy::Error).unwrap_err().kind(), ErrorKind::Input);
}

/// Characters of the texts that are timed.
const LONG: usize = 1 << 18;

#[test]
fn the_time_for_a_text_grows_with_its_length_whatever_it_repeats() {
    let names = [
        "json_unigram",
        "json_byte_level",
        "json_byte_fallback",
        "json_word_piece",
        "t5_fast",
        "t5",
        "t5_new",
        "t5_bpe",
        "marian",
        "byt5",
    ];
    for name in names {
        let [tokeniser, _] = opened(name);
        for part in ["a", "a ", " ", "<mask>", "</s> ", "\u{301}", "\u{65e5}", ">>", "\n\t", "1", "."] {
            let text = part.repeat(LONG / part.chars().count());
            let begin = Instant::now();
            let tokens = encoded(&*tokeniser, &text).ids.len();
            let seconds = begin.elapsed().as_secs_f64();
            if seconds > 0.25 {
                println!("{name}: {part:?} over and over, {tokens} tokens: {seconds:.2} s");
            }
            assert!(seconds < 10.0, "{name}: {part:?} takes {seconds:.1} s");
        }
    }
}

#[test]
fn a_damaged_or_unknown_file_is_refused_with_its_name_and_key() {
    let refused = |name: &str, change: &dyn Fn(&mut Files)| {
        let folder = committed().join(name);
        let mut files = files_of(&folder);
        let case: Case = serde_json::from_slice(&files["case.json"]).unwrap();
        change(&mut files);
        let error = open(&folder, &files, &case).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
        error.to_string()
    };
    let edited = |files: &mut Files, name: &str, from: &str, to: &str| {
        let text = String::from_utf8(files[name].to_vec()).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        files.insert(name.to_owned(), text.replacen(from, to, 1).into_bytes().into());
    };
    for (name, file, from, to, says) in [
        ("json_unigram", "tokenizer.json", "\"type\":\"Metaspace\"", "\"type\":\"CTC\"", "tokenizer.json:"),
        (
            "json_unigram",
            "tokenizer.json",
            "\"TemplateProcessing\"",
            "\"Other\"",
            "post_processor: the type Other",
        ),
        ("json_unigram", "tokenizer.json", "\"Unigram\"", "\"Bigram\"", "tokenizer.json:model"),
        ("json_unigram", "tokenizer.json", "{", "[", "tokenizer.json:1: no JSON"),
        ("json_byte_level", "tokenizer.json", "\"dropout\":null", "\"dropout\":0.1", "model.dropout"),
        ("t5", "tokenizer_config.json", "{", "{\"split_special_tokens\":true,", "split_special_tokens"),
        (
            "t5",
            "tokenizer_config.json",
            "\"sp_model_kwargs\":{}",
            "\"sp_model_kwargs\":{\"alpha\":1}",
            "sp_model_kwargs",
        ),
        ("marian", "vocab.json", "0", "70000", "vocab.json: "),
    ] {
        let error = refused(name, &|files| edited(files, file, from, to));
        assert!(error.contains(says), "{error} has no {says:?}");
    }
    let cut = refused("t5", &|files| {
        let bytes = files["spiece.model"].to_vec();
        files.insert("spiece.model".to_owned(), bytes[..bytes.len() / 2].to_vec().into());
    });
    assert!(cut.contains("spiece.model: "), "{cut}");
    let gone = refused("t5", &|files| drop(files.remove("spiece.model")));
    assert!(gone.contains("no files of a tokenizer"), "{gone}");
}

#[test]
fn a_file_with_a_changed_byte_is_refused_or_makes_ids_and_texts_all_the_same() {
    // Numbers of Knuth's generator: the same changes at each run.
    let mut state = 7u64;
    let mut random = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    let (mut refused, mut opened) = (0, 0);
    for (name, file) in [
        ("json_unigram", "tokenizer.json"),
        ("json_byte_level", "tokenizer.json"),
        ("json_byte_fallback", "tokenizer.json"),
        ("json_word_piece", "tokenizer.json"),
        ("t5_fast", "tokenizer.json"),
        ("t5", "spiece.model"),
        ("t5_bpe", "spiece.model"),
        ("marian", "vocab.json"),
        ("marian", "tokenizer_config.json"),
        ("nllb", "tokenizer_config.json"),
    ] {
        let folder = committed().join(name);
        let files = files_of(&folder);
        let case: Case = serde_json::from_slice(&files["case.json"]).unwrap();
        for _ in 0..40 {
            let mut changed = files.clone();
            let mut bytes = files[file].to_vec();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                bytes[at] = if file.ends_with("json") {
                    b"0123456789ae{}[]\",:\\"[random(20)]
                } else {
                    random(256) as u8
                };
            }
            changed.insert(file.to_owned(), bytes.into());
            let Ok([source, target]) = open(&folder, &changed, &case) else {
                refused += 1;
                continue;
            };
            opened += 1;
            for text in ["a \u{e9} \u{fb01}</s> \u{1f600}b", "<extra_id_0>  x\u{2581}", ">>fra<< \u{65e5}"] {
                drop(source.tokenise(
                    text,
                    UnknownPolicy::Copy,
                    TextLimits { characters: 1000, symbols: 100 },
                ));
            }
            let ids: Vec<u32> = (0..32).map(|_| random(case.size + 2) as u32).collect();
            assert_eq!(streamed(&*target, &ids), None);
        }
    }
    assert!(refused > 50 && opened > 50, "{refused} refused, {opened} opened");
}
