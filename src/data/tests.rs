#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::corpus::{self, Corpus};
use super::pairs::{Pair, parse};
use crate::config::checked::{Format, FormatKind};
use crate::config::{Config, LoadOptions};
use crate::error::ErrorKind;

const TSV: Format = Format { kind: FormatKind::Tsv, source: 0, target: 1, extra_is_error: true, header: false };
const CSV: Format = Format { kind: FormatKind::Csv, ..TSV };

fn read(bytes: &[u8], format: Format) -> Result<Vec<(String, String)>, String> {
    let pairs = parse(bytes, Path::new("a.txt"), format, None).map_err(|e| {
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.help_text().is_some(), "{e}");
        e.to_string()
    })?;
    Ok(pairs.into_iter().map(|Pair { source, target }| (source, target)).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    Ok(expected.iter().map(|(s, t)| ((*s).to_owned(), (*t).to_owned())).collect())
}

#[test]
fn lines_become_pairs_whatever_ends_them_and_duplicates_stay() {
    assert_eq!(read("\u{feff}a\tä\r\nb c\t嗨。\r\n\r\na\tä".as_bytes(), TSV), pairs(&[("a", "ä"), ("b c", "嗨。"), ("a", "ä")]));
    let ignoring = Format { extra_is_error: false, ..TSV };
    assert_eq!(read(b"a\tb\tCC-BY by someone\n", ignoring), pairs(&[("a", "b")]));
    assert_eq!(read(b"id\tx\ty\n1\ta\tb\n", Format { source: 2, target: 1, header: true, ..TSV }), pairs(&[("b", "a")]));
}

#[test]
fn csv_fields_may_be_quoted() {
    assert_eq!(read(b"\"a, \"\"b\"\"\",c\r\nd,\"e\nf\"\ng,h\n", CSV), pairs(&[("a, \"b\"", "c"), ("d", "e\nf"), ("g", "h")]));
}

#[test]
fn bad_lines_are_named_with_their_number() {
    for (bytes, format, message) in [
        (&b""[..], TSV, "a.txt: the file holds no pair"),
        (b"\xef\xbb\xbf\r\n\n", TSV, "a.txt: the file holds no pair"),
        (b"a\tb\nno tab here\n", TSV, "a.txt:2: the line has no tab"),
        (b"a\tb\n\nc\td\te\n", TSV, "a.txt:3: the line has 3 columns, not 2"),
        (b"a\tb\n\tb\n", TSV, "a.txt:2: the source is empty"),
        (b"a\t \n", TSV, "a.txt:1: the target is empty"),
        (b"a\tb\nc\td\xff\n", TSV, "a.txt:2: not valid UTF-8 at byte 4 of the line"),
        (b"", CSV, "a.txt: the file holds no pair"),
        (b"a,b\nc\n", CSV, "a.txt:2: the line has one column, not 2"),
        (b"a,b\nc,\"d\ne,f\n", CSV, "a.txt:2: a quoted field is not closed"),
        (b"a,b\nc,\xff\n", CSV, "a.txt:2: not valid UTF-8"),
    ] {
        let error = read(bytes, format).unwrap_err();
        assert_eq!(error, message, "{bytes:?}");
    }
}

#[test]
fn several_targets_of_a_source_become_one_group() {
    let all: Vec<Pair> =
        [("a", "x"), ("b", "y"), ("a", "z"), ("a", "x")].map(|(s, t)| Pair { source: s.to_owned(), target: t.to_owned() }).into();
    let vocabulary = s2s_runtime::vocabulary::Vocabulary::build(Default::default(), vec![], ["ab"]);
    let groups = corpus::group(&all, &vocabulary);
    assert_eq!(groups.iter().map(|g| g.source.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(groups[0].references, ["x", "z"]);
}

/// The folder of real data: `S2S_DATA`, else `../shared/data` beside the project; `None` prints why the test is skipped.
fn data_folder(file: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("S2S_DATA").map_or_else(beside, PathBuf::from);
    if !folder.join(file).is_file() {
        let thread = std::thread::current();
        let (test, missing) = (thread.name().unwrap_or("a test of data"), folder.join(file));
        // Past the capture of libtest, so that scripts/test can count it.
        let line = format!("\nskipped: {test}: {} is not there; set S2S_DATA to the folder that holds {file}\n", missing.display());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return None;
    }
    Some(folder)
}

#[test]
fn the_first_ten_thousand_lines_of_the_tutorial_file_count_as_the_tutorial_counts() {
    let Some(folder) = data_folder("manythings/cmn-tw.txt") else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/cmn_chars.yaml");
    let config = Config::load(&path, &LoadOptions { data: Some(folder), ..LoadOptions::default() }).unwrap();
    let corpus = Corpus::load(&config.data, config.training.seed).unwrap();
    let (source, target) = corpus.vocabularies(&config.data);
    let counts = corpus.statistics(&source, &target);
    assert_eq!((counts.samples, counts.training, counts.validation), (10_000, 8_000, 2_000));
    assert_eq!((counts.source_tokens, counts.target_tokens), (73, 2_165));
    assert_eq!((counts.longest_source, counts.longest_target), (33, 22));
    // PAD, START, END and UNK lie in front of the characters.
    assert_eq!((source.len(), target.len()), (73 + 4, 2_163 + 4));
    assert_eq!(corpus.validation.last().map(|p| p.source.as_str()), Some("I agree with you on this issue."));
}

#[test]
fn a_line_or_a_record_of_more_than_a_mebibyte_is_named_and_not_held() {
    let long = "x".repeat(super::pairs::LONGEST_LINE + 1);
    let lines = "a\nb,c\n".repeat(super::pairs::LONGEST_LINE / 4);
    for (bytes, format, line) in [
        (format!("a\tb\n{long}\tb\n"), TSV, 2),
        (format!("a\tb\n{long}"), TSV, 2),
        (format!("a\tb\n{}", "\t".repeat(2 << 20)), TSV, 2),
        (format!("a,b\n{long},b\n"), CSV, 2),
        (format!("a,b\n{}\n", ",".repeat(2 << 20)), CSV, 2),
        // A quote that opens and never closes takes in every line after it.
        (format!("a,b\n\"{lines}"), CSV, 2),
    ] {
        let error = read(bytes.as_bytes(), format).unwrap_err();
        assert_eq!(error, format!("a.txt:{line}: the line is longer than 1 MiB"), "{format:?}");
    }
    let fits = "x".repeat(1000);
    let many = format!("{fits},y\n").repeat(3000);
    assert_eq!(read(many.as_bytes(), CSV).unwrap().len(), 3000, "the limit is a record's, not the file's");
}

#[test]
fn a_text_too_long_to_train_on_is_named_with_its_line_before_anything_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str, side: &str| {
        std::fs::write(folder.path().join("pairs.tsv"), text).unwrap();
        let yaml = format!(
            "name: a\ndata: {{train: pairs.tsv, validation: {{split: tail, fraction: 0.5}}, source: {side}}}\n\
             model: {{hidden: 8, input: one_hot}}\ntraining: {{epochs: 1, batch_size: 2, learning_rate: 0.1}}\n"
        );
        let config = Config::parse(&yaml, &folder.path().join("a.yaml"), &LoadOptions::default()).unwrap();
        Corpus::load(&config.data, 1)
    };
    let (longest, characters) = (corpus::LONGEST_TEXT, "{unit: character}");
    for (text, side, tokens) in [
        ("x".repeat(1_000_000), characters, 1_000_000),
        ("x".repeat(longest + 1), characters, longest + 1),
        ("x ".repeat(longest + 1), "{unit: token}", longest + 1),
        // One character that compatibility decomposition makes eighteen of.
        ("\u{fdfa}".repeat(1000), "{normalisation: [nfkc]}", 18_000),
    ] {
        let error = load(&format!("a\tb\n{text}\tb\n"), side).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let said = format!("pairs.tsv:2: the source has {tokens} tokens; at most {longest} can be trained on");
        assert!(error.to_string().ends_with(&said), "{error}");
    }
    let error = load(&format!("a\tb\n{}\t{}\n", "x".repeat(longest), "y".repeat(longest)), characters).unwrap_err();
    assert!(error.to_string().contains("pairs.tsv:2: 16384 source and 16384 target tokens"), "{error}");
    for (text, side) in [("x".repeat(longest), characters), ("long ".repeat(longest), "{unit: token}")] {
        assert_eq!(load(&format!("a\tb\n{text}\tb\n"), side).unwrap().validation.len(), 1);
    }
}
