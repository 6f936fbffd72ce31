#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::corpus::{self, Corpus};
use super::formats::parse;
use super::groups::group;
use super::pairs::{Pair, Pairs, Part};
use crate::config::checked::{Extra, Format, FormatKind};
use crate::config::{Config, LoadOptions};
use crate::error::ErrorKind;

fn tsv() -> Format {
    Format::default()
}

fn separated(separator: &str) -> Format {
    Format { kind: FormatKind::Separated(separator.to_owned()), ..tsv() }
}

fn csv() -> Format {
    Format { kind: FormatKind::Csv(b','), ..tsv() }
}

fn jsonl(names: Option<[&str; 2]>) -> Format {
    Format { kind: FormatKind::Jsonl(names.map(|names| names.map(str::to_owned))), ..tsv() }
}

fn read(bytes: &[u8], format: &Format) -> Result<Vec<(String, String)>, String> {
    let pairs = parse(bytes, Path::new("a.txt"), format, None).map_err(|e| {
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.help_text().is_some(), "{e}");
        e.to_string()
    })?;
    Ok(pairs.iter().map(|(source, target)| (source.to_owned(), target.to_owned())).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    Ok(expected.iter().map(|(s, t)| ((*s).to_owned(), (*t).to_owned())).collect())
}

#[test]
fn lines_become_pairs_whatever_ends_them_and_duplicates_stay() {
    let text = "\u{feff}a\tä\r\nb c\t嗨。\r\n\r\na\tä";
    let expected = pairs(&[("a", "ä"), ("b c", "嗨。"), ("a", "ä")]);
    assert_eq!(read(text.as_bytes(), &tsv()), expected);
    for end in ["\n", "\r"] {
        assert_eq!(read(text.replace("\r\n", end).as_bytes(), &tsv()), expected, "{end:?}");
    }
    let mixed = parse(b"a\tb\rc\td\ne\tf\r\n\rg\th\r", Path::new("a"), &tsv(), None).unwrap();
    assert_eq!((mixed.len(), mixed.returns.count, mixed.returns.line, mixed.line(3)), (4, 3, 1, 5));
    let ignoring = Format { extra: Extra::Ignore, ..tsv() };
    assert_eq!(read(b"a\tb\tCC-BY by someone\n", &ignoring), pairs(&[("a", "b")]));
    let joining = Format { extra: Extra::Join, ..tsv() };
    assert_eq!(read(b"a\tb\tc\n", &joining), pairs(&[("a", "b\tc")]));
    assert_eq!(
        read(b"id\tx\ty\n1\ta\tb\n", &Format { source: 2, target: 1, header: true, ..tsv() }),
        pairs(&[("b", "a")])
    );
}

#[test]
fn columns_stand_between_any_separator_and_comments_are_left_out() {
    let cmudict = Format { comment: Some(";;;".to_owned()), ..separated("  ") };
    let text = b";;; # of entries\nABBY  AE1 B IY0\n\n;;;\nCAB   K AE1 B\n";
    assert_eq!(read(text, &cmudict), pairs(&[("ABBY", "AE1 B IY0"), ("CAB", "K AE1 B")]));
    assert_eq!(parse(text, Path::new("a"), &cmudict, None).unwrap().line(1), 5);
    assert_eq!(read("a ||| b\nc ||| d".as_bytes(), &separated(" ||| ")), pairs(&[("a", "b"), ("c", "d")]));
    let first_space = Format { extra: Extra::Join, ..separated(" ") };
    assert_eq!(read(b"abby AE1 B IY0\n", &first_space), pairs(&[("abby", "AE1 B IY0")]));
    let semicolons =
        Format { kind: FormatKind::Csv(b';'), comment: Some("#".to_owned()), header: true, ..tsv() };
    let text = b"# \"made\" by hand\nsource;target\r\r\"a;\"\"\";b\r\r\nc;d,e\n";
    assert_eq!(read(text, &semicolons), pairs(&[("a;\"", "b"), ("c", "d,e")]));
}

#[test]
fn objects_of_json_become_pairs_by_their_keys() {
    for (text, names) in [
        (r#"{"en": "a\u00e4", "fr": "b"}"#, Some(["en", "fr"])),
        (r#"{"fr": "b", "id": 7, "en": "aä"}"#, Some(["en", "fr"])),
        (r#"{"translation": {"en": "aä", "fr": "b"}}"#, Some(["en", "fr"])),
        (r#"{"id": 1, "translation": {"en": "aä", "fr": "b"}}"#, Some(["translation.en", "translation.fr"])),
        (r#"{"target": "b", "source": "aä"}"#, None),
        (r#"{"translation": {"en": "aä", "fr": "b"}}"#, None),
        (r#"{"id": 3, "en": "aä", "fr": "b"}"#, None),
    ] {
        assert_eq!(
            read(format!("{text}\n\n{text}\r\n").as_bytes(), &jsonl(names)),
            pairs(&[("aä", "b"), ("aä", "b")]),
            "{text}"
        );
    }
    for (text, names, said) in [
        ("{}", None, "a.txt:2: the object has no `source`"),
        (r#"{"en": "a", "de": "b"}"#, Some(["en", "fr"]), "a.txt:2: the object has no `fr`"),
        (r#"{"en": "a", "fr": 5}"#, Some(["en", "fr"]), "a.txt:2: `fr` is not a text"),
        (r#"{"en": "a", "fr": null}"#, Some(["en", "fr"]), "a.txt:2: the target is empty"),
        ("[1]", None, "a.txt:2: this is no object of JSON"),
        ("{", None, "a.txt:2: not readable as JSON: EOF while parsing an object, column 1"),
    ] {
        assert_eq!(
            read(
                format!("{{\"source\": \"a\", \"target\": \"b\", \"en\": \"a\", \"fr\": \"b\"}}\n{text}\n")
                    .as_bytes(),
                &jsonl(names)
            )
            .unwrap_err(),
            said
        );
    }
}

#[test]
fn a_file_in_another_encoding_is_refused_with_the_command_that_makes_it_utf_8() {
    let utf16 =
        |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    for (bytes, message, command) in [
        (
            utf16("\u{feff}run.\tcours.\n", u16::to_le_bytes),
            "this is UTF-16, where",
            "iconv -f UTF-16 -t UTF-8 'a.txt' > NEW",
        ),
        (
            utf16("\u{feff}run.\tcours.\n", u16::to_be_bytes),
            "this is UTF-16, where",
            "iconv -f UTF-16 -t UTF-8",
        ),
        (utf16("run.\tcours.\n", u16::to_le_bytes), "this is UTF-16, where", "iconv -f UTF-16LE -t UTF-8"),
        (utf16("run.\tcours.\n", u16::to_be_bytes), "this is UTF-16, where", "iconv -f UTF-16BE -t UTF-8"),
        (
            b"a\tb\ncaf\xe9\tc\n".to_vec(),
            "a.txt:2: not valid UTF-8 at byte 4 of the line",
            "iconv -f WINDOWS-1252 -t UTF-8 'a.txt' > NEW",
        ),
        (b"\x1f\x8b\x08\0".to_vec(), "this is a gzip file", "gunzip -c 'a.txt' > NEW"),
        (b"PK\x03\x04".to_vec(), "this is a zip file", "unzip -p 'a.txt' > NEW"),
    ] {
        let error = parse(&bytes, Path::new("a.txt"), &tsv(), None).unwrap_err();
        assert!(
            error.to_string().contains(message) && error.help_text().unwrap().contains(command),
            "{error} {:?}",
            error.help_text()
        );
    }
    // A NUL here and there is text.
    assert_eq!(read(b"a\0\tb\n", &tsv()), pairs(&[("a\0", "b")]));
}

#[test]
fn lines_without_a_side_are_left_out_where_the_config_says_so() {
    for format in [tsv(), csv(), jsonl(None)] {
        let line = |source: &str, target: &str| match &format.kind {
            FormatKind::Jsonl(_) => format!("{{\"source\": \"{source}\", \"target\": \"{target}\"}}\n"),
            FormatKind::Csv(_) => format!("{source},{target}\n"),
            FormatKind::Separated(_) => format!("{source}\t{target}\n"),
        };
        let text = [line("a", "b"), line(" ", "b"), line("a", ""), line("c", "d")].concat();
        let error = parse(text.as_bytes(), Path::new("a.txt"), &format, None).unwrap_err();
        assert_eq!(error.to_string(), "a.txt:2: the source is empty");
        assert!(error.help_text().unwrap().contains("`empty: skip` in `data` leaves such lines out"));
        let found =
            parse(text.as_bytes(), Path::new("a.txt"), &Format { skip_empty: true, ..format.clone() }, None)
                .unwrap();
        assert_eq!((found.len(), found.empty.count, found.empty.line, found.line(1)), (2, 2, 2, 4));
    }
}

#[test]
fn what_a_line_looks_like_is_proposed_where_it_cannot_be_cut() {
    for (line, help) in [
        ("a;b", "`separator: \";\"`"),
        ("ABBY  AE1 B", "`separator: \"  \"`"),
        ("a ||| b", "`separator: \"|\"`"),
        (";;; a comment", "`comment: \";;;\"`"),
        ("# a comment", "`comment: \"#\"`"),
        ("{\"a\": 1}", "`format: jsonl`"),
        ("plain", "a line has columns separated by tabs; the source is column 1, the target column 2"),
    ] {
        let error = parse(format!("{line}\n").as_bytes(), Path::new("a.txt"), &tsv(), None).unwrap_err();
        assert_eq!(error.to_string(), "a.txt:1: the line has no tab");
        assert!(error.help_text().unwrap().contains(help), "{line}: {:?}", error.help_text());
    }
}

#[test]
fn pairs_know_their_lines_and_parts_of_them_their_order() {
    let mut all = Pairs::default();
    for (i, line) in [1, 2, 5, 6, 6, 9].into_iter().enumerate() {
        all.push(line, &"s".repeat(i), &"t".repeat(i)).unwrap();
    }
    assert_eq!((0..6).map(|i| all.line(i)).collect::<Vec<_>>(), [1, 2, 5, 6, 6, 9]);
    assert_eq!(all.get(3), ("sss", "ttt"));
    let all = std::sync::Arc::new(all);
    let mut part = Part::listed(all.clone(), vec![5, 0, 2]);
    let rest = part.split_off(1);
    assert_eq!((part.len(), part.line(0), rest.len(), rest.get(1)), (1, 9, 2, ("ss", "tt")));
    let mut whole = Part::whole(all);
    let mut rest = whole.split_off(4);
    let last = rest.split_off(1);
    assert_eq!((whole.len(), rest.len(), rest.line(0), last.line(0)), (4, 1, 6, 9));
}

#[test]
fn csv_fields_may_be_quoted() {
    assert_eq!(
        read(b"\"a, \"\"b\"\"\",c\r\nd,\"e\nf\"\ng,h\n", &csv()),
        pairs(&[("a, \"b\"", "c"), ("d", "e\nf"), ("g", "h")])
    );
}

#[test]
fn bad_lines_are_named_with_their_number() {
    for (bytes, format, message) in [
        (&b""[..], tsv(), "a.txt: the file holds no pair"),
        (b"\xef\xbb\xbf\r\n\n", tsv(), "a.txt: the file holds no pair"),
        (b"a\tb\nno tab here\n", tsv(), "a.txt:2: the line has no tab"),
        (b"a\tb\n\nc\td\te\n", tsv(), "a.txt:3: the line has 3 columns, not 2"),
        (b"a\tb\n\tb\n", tsv(), "a.txt:2: the source is empty"),
        (b"a\t \n", tsv(), "a.txt:1: the target is empty"),
        (b"a\tb\nc\td\xff\n", tsv(), "a.txt:2: not valid UTF-8 at byte 4 of the line"),
        (b"", csv(), "a.txt: the file holds no pair"),
        (b"a,b\nc\n", csv(), "a.txt:2: the line has one column, not 2"),
        (b"a,b\nc,\"d\ne,f\n", csv(), "a.txt:2: a quoted field is not closed"),
        (b"a,b\nc,\xff\n", csv(), "a.txt:2: not valid UTF-8"),
    ] {
        let error = read(bytes, &format).unwrap_err();
        assert_eq!(error, message, "{bytes:?}");
    }
}

#[test]
fn several_targets_of_a_source_become_one_group() {
    let all: Vec<Pair> = [("a", "x"), ("b", "y"), ("a", "z"), ("a", "x")]
        .map(|(s, t)| Pair { source: s.to_owned(), target: t.to_owned() })
        .into();
    let vocabulary = s2s_runtime::vocabulary::Vocabulary::build(Default::default(), vec![], ["ab"]);
    let groups = group(&Part::whole(Pairs::from_iter(&all).into()), &vocabulary);
    assert_eq!(groups.iter().map(|g| g.source.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(groups[0].references, ["x", "z"]);
}

/// The folder of real data: `S2S_DATA`, else `../shared/data` beside the project; `None` prints why the test
/// is skipped.
fn data_folder(file: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("S2S_DATA").map_or_else(beside, PathBuf::from);
    if !folder.join(file).is_file() {
        let thread = std::thread::current();
        let (test, missing) = (thread.name().unwrap_or("a test of data"), folder.join(file));
        // Past the capture of libtest, so that scripts/test can count it.
        let line = format!(
            "\nskipped: {test}: {} is not there; set S2S_DATA to the folder that holds {file}\n",
            missing.display()
        );
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
    let corpus = Corpus::load(&config.data, config.training.seed, &mut |_, _, _| ()).unwrap();
    let corpus::Counted { source, target, statistics: counts } =
        corpus.count(&config.data, &mut |_, _, _| ()).unwrap();
    assert_eq!((counts.samples, counts.training, counts.validation), (10_000, 8_000, 2_000));
    assert_eq!((counts.source_tokens, counts.target_tokens), (73, 2_165));
    assert_eq!((counts.longest_source, counts.longest_target), (33, 22));
    // PAD, START, END and UNK lie in front of the characters.
    assert_eq!((source.len(), target.len()), (73 + 4, 2_163 + 4));
    assert_eq!(corpus.validation.iter().last().map(|p| p.0), Some("I agree with you on this issue."));
}

#[test]
fn a_line_or_a_record_of_more_than_a_mebibyte_is_named_and_not_held() {
    let long = "x".repeat(super::reading::LONGEST_LINE + 1);
    let lines = "a\nb,c\n".repeat(super::reading::LONGEST_LINE / 4);
    for (bytes, format, line) in [
        (format!("a\tb\n{long}\tb\n"), tsv(), 2),
        (format!("a\tb\n{long}"), tsv(), 2),
        (format!("a\tb\n{}", "\t".repeat(2 << 20)), tsv(), 2),
        (format!("a,b\n{long},b\n"), csv(), 2),
        (format!("a,b\n{}\n", ",".repeat(2 << 20)), csv(), 2),
        // A quote that opens and never closes takes in every line after it.
        (format!("a,b\n\"{lines}"), csv(), 2),
    ] {
        let error = read(bytes.as_bytes(), &format).unwrap_err();
        assert_eq!(error, format!("a.txt:{line}: the line is longer than 1 MiB"), "{format:?}");
    }
    let fits = "x".repeat(1000);
    let many = format!("{fits},y\n").repeat(3000);
    assert_eq!(read(many.as_bytes(), &csv()).unwrap().len(), 3000, "the limit is a record's, not the file's");
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
        Corpus::load(&config.data, 1, &mut |_, _, _| ())
    };
    let (longest, characters) = (super::lengths::LONGEST_TEXT, "{unit: character}");
    for (text, side, tokens) in [
        ("x".repeat(1_000_000), characters, 1_000_000),
        ("x".repeat(longest + 1), characters, longest + 1),
        ("x ".repeat(longest + 1), "{unit: token}", longest + 1),
        // One character that compatibility decomposition makes eighteen of.
        ("\u{fdfa}".repeat(1000), "{normalisation: [nfkc]}", 18_000),
    ] {
        let error = load(&format!("a\tb\n{text}\tb\n"), side).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let said =
            format!("pairs.tsv:2: the source has {tokens} tokens; at most {longest} can be trained on");
        assert!(error.to_string().ends_with(&said), "{error}");
    }
    let error =
        load(&format!("a\tb\n{}\t{}\n", "x".repeat(longest), "y".repeat(longest)), characters).unwrap_err();
    assert!(error.to_string().contains("pairs.tsv:2: 16384 source and 16384 target tokens"), "{error}");
    for (text, side) in [("x".repeat(longest), characters), ("long ".repeat(longest), "{unit: token}")] {
        assert_eq!(load(&format!("a\tb\n{text}\tb\n"), side).unwrap().validation.len(), 1);
    }
}
