//! Every kind of model that is imported (tests/keras/kinds.py), in every file that Keras 2 and Keras 3 save
//! of it: the same 30 texts as Keras's own, the same probabilities, and the table of docs/keras.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::translator::{Translator, TranslatorPool};
use zip::ZipArchive;

use super::{Case, cases_in, export, fixtures, import, is_tie, kinds, probability_error};

/// Kinds as the script names them, what they are, and the row of their first symbol.
const KINDS: &[(&str, &str, usize)] = &[
    ("names", "LSTM, one-hot; dropout; names with slashes (Keras 2)", 0),
    ("masking", "`Masking` over one-hot rows, `use_bias=False`", 0),
    ("masked_ids", "`Embedding(mask_zero=True)`", 1),
    ("apart", "`TimeDistributed(Dense)`, the softmax apart", 0),
    ("stacked", "two layers a side", 0),
    ("uneven", "three encoder layers, one decoder layer", 0),
    ("top_states", "two layers a side, all from the top layer's states", 0),
    ("deep_decoder", "two decoder layers, the upper from zeros", 0),
    ("bidirectional", "`Bidirectional(LSTM)`, states by `Concatenate`", 0),
    ("bidirectional_gru", "two `Bidirectional(GRU)`, masked", 1),
    ("gru", "GRU, `reset_after=True`", 0),
    ("gru_no_bias", "GRU, `use_bias=False`", 0),
    ("gru_reset_before", "GRU, `reset_after=False`", 0),
    ("hard_sigmoid", "gates with `hard_sigmoid`", 0),
    ("nested", "models within the model, `Sequential` too", 0),
    ("attention", "`Attention`, the output reads state and context", 1),
    ("attention_tanh", "`Attention`, masked, and a dense layer with tanh", 1),
    ("attention_scaled", "`Attention(use_scale=True)`", 1),
    ("attention_additive", "`AdditiveAttention`", 1),
    ("attention_gru", "`Attention` over GRUs", 1),
    ("luong_general", "Luong's general attention of `Dot` layers, `--padding none`", 0),
    ("pair", "encoder model and decoder model", 0),
    ("pair_attention", "encoder model and decoder model with attention, `--padding none`", 0),
    ("pair_gru", "encoder model and decoder model, GRU", 0),
    ("weights", "`save_weights(\"s2s.weights.h5\")` and `--config`", 0),
    ("saved_model", "SavedModel folder, bidirectional", 0),
    ("checkpoint", "`save_weights(\"s2s\")`, `hard_sigmoid`, and `--config`", 0),
];

/// Limit for probabilities: weights that are drawn, and larger than those of trained models, amplify the
/// rounding of f32 from step to step; a gate, a row or a sign in the wrong place changes the first decimal.
const AMPLIFIED: f64 = 1e-4;

/// The archive's members in a folder of their own.
fn unpacked(folder: &Path) -> Vec<String> {
    let bytes = fs::read(fixtures().join("kinds.zip")).unwrap();
    let mut zip = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    for name in &names {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        fs::write(path, bytes).unwrap();
    }
    names
}

/// The saved models of one kind and version: the name of the format, and the arguments that import it.
fn saved(names: &[String], kind: &str, version: usize) -> BTreeMap<String, Vec<String>> {
    let prefix = format!("{kind}.k{version}.");
    let own: BTreeSet<&str> = names.iter().filter_map(|name| name.strip_prefix(&prefix)).collect();
    let mut found = BTreeMap::new();
    for format in ["h5", "keras"] {
        if own.contains(format) {
            found.insert(format!("`.{format}`"), vec![format!("{prefix}{format}")]);
        }
        if own.contains(format!("encoder.{format}").as_str()) {
            let [encoder, decoder] = ["encoder", "decoder"].map(|part| format!("{prefix}{part}.{format}"));
            found.insert(format!("`.{format}`"), vec![encoder, "--decoder".to_owned(), decoder]);
        }
    }
    let config = ["--config".to_owned(), format!("{prefix}config.json")];
    for (format, member, file) in
        [("`.weights.h5`", "weights.h5", "weights.h5"), ("checkpoint", "checkpoint/m.index", "checkpoint/m")]
    {
        if own.contains(member) {
            found.insert(format.to_owned(), [&[format!("{prefix}{file}")][..], &config].concat());
        }
    }
    if own.contains("savedmodel/keras_metadata.pb") {
        found.insert("folder".to_owned(), vec![format!("{prefix}savedmodel")]);
    }
    found
}

/// How many texts are Keras's own in every engine.
fn equal_texts(bundle: &Path, cases: &[Case]) -> usize {
    let opened = Bundle::open(bundle).unwrap();
    let texts: Vec<&str> = cases.iter().map(|case| case.source.as_str()).collect();
    let mut equal = vec![true; cases.len()];
    for engine in kinds() {
        let translator = Translator::open(bundle, engine).unwrap().with_max_batch(7);
        let mut pool = TranslatorPool::new(translator, 1).unwrap();
        let translations = pool.translate_each(&texts, &DecodingOptions::default()).unwrap();
        for ((translation, case), equal) in translations.into_iter().zip(cases).zip(&mut equal) {
            let text = &translation.unwrap().text;
            *equal &= *text == case.target.trim_end_matches('\n') || is_tie(&opened, engine, case, text);
        }
        if equal.iter().all(|equal| *equal) {
            let error = probability_error(&opened, engine, cases);
            assert!(error < AMPLIFIED, "{} in {engine:?}: a probability is {error:e} off", bundle.display());
        }
    }
    equal.into_iter().filter(|equal| *equal).count()
}

#[test]
fn every_kind_in_every_file_says_what_keras_says_and_the_table_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let names = unpacked(folder.path());
    let mut table = "| model | Keras 2 | Keras 3 |\n|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    let only = std::env::var("S2S_KERAS_KIND").ok();
    for &(kind, what, first) in KINDS {
        if only.as_ref().is_some_and(|only| only != kind) {
            continue;
        }
        table.push_str(&format!("| {what} |"));
        for version in [2, 3] {
            let mut cells = Vec::new();
            for (format, arguments) in saved(&names, kind, version) {
                let golden =
                    fs::read_to_string(folder.path().join(format!("{kind}.k{version}.json"))).unwrap();
                let cases = cases_in(&golden);
                let different: BTreeSet<&str> = cases.iter().map(|case| case.target.as_str()).collect();
                assert!(cases.len() == 30 && different.len() > 15, "{kind}: {different:?} prove little");
                let mut vocabulary = vec!["--vocabulary".to_owned(), format!("vocabulary{first}.json")];
                if what.contains("--padding") {
                    vocabulary.extend(["--padding", "none"].map(str::to_owned));
                }
                let name = arguments[0].replace('/', "_");
                let run: PathBuf = folder.path().join(format!("{name}.run"));
                let arguments = [&arguments[..], &vocabulary].concat();
                import(folder.path(), &arguments, &run)
                    .unwrap_or_else(|said| panic!("{arguments:?}: {said}"));
                let bundle = export(&run, &folder.path().join(format!("{name}.bundle")));
                let equal = equal_texts(&bundle, &cases);
                if equal != cases.len() {
                    wrong.push(format!("{arguments:?}: {equal}"));
                }
                cells.push(format!("{format} {equal}"));
            }
            table.push_str(&format!(
                " {} |",
                if cells.is_empty() { "-".to_owned() } else { cells.join(", ") }
            ));
        }
        table.push('\n');
        println!("{}", table.lines().last().unwrap());
    }
    assert!(wrong.is_empty(), "texts that are Keras's own, of 30: {wrong:#?}");
    let all = names.iter().filter_map(|name| name.split_once(".k")).map(|(kind, _)| kind);
    for kind in all.collect::<BTreeSet<_>>() {
        assert!(KINDS.iter().any(|(known, ..)| *known == kind), "{kind} is in the archive and not imported");
    }
    if only.is_none() {
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keras.md")).unwrap();
        assert!(page.contains(&table), "docs/keras.md has another table than\n{table}");
    }
}
