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
        eprintln!("skipped: {} is not there; set S2S_DATA to the folder that holds {file}", folder.join(file).display());
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
