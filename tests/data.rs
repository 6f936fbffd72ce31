//! Files of pairs as people bring them: each is trained on rightly or refused with what to do, and little
//! memory is needed.

use std::path::Path;
use std::process::Command;

use crate::common::server::{run, s2s};
use s2s::families::recurrent::Run;
use s2s::train::Which;
use serde_json::Value;

/// A file of pairs with a config beside it; `keys` are those of `data`, but for `train`.
struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new(text: impl AsRef<[u8]>, keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pairs.txt"), text).unwrap();
        let keys = if keys.contains("validation") {
            keys.to_owned()
        } else {
            format!("{keys}, validation: {{split: tail, fraction: 0.25}}")
        };
        let keys = keys.trim_start_matches(", ");
        let config = format!(
            "name: a\ndata: {{train: pairs.txt, {keys}}}\nmodel: {{hidden: 8, input: one_hot}}\n\
             training: {{epochs: 2, batch_size: 4, learning_rate: 0.01, threads: 1, examples: 0}}\ndecoding: {{max_new_tokens: 8}}\n"
        );
        std::fs::write(folder.path().join("a.yaml"), config).unwrap();
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = s2s();
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// Exit code, stdout and stderr of a training.
    fn train(&self) -> (i32, String, String) {
        run(&mut self.command(&["train", "a.yaml"]))
    }

    fn run(&self) -> Run {
        Run::open(&self.folder.path().join("runs/a")).unwrap()
    }
}

const PLAIN: &str = "go\tva\nrun\tcours\nstop\tarrête\nwait\tattends\n";

#[test]
fn the_same_pairs_in_any_form_give_the_same_weights() {
    let weights = |text: &str, keys: &str| {
        let case = Case::new(text, keys);
        let (code, _, stderr) = case.train();
        assert_eq!(code, 0, "{keys}: {stderr}");
        case.run().parameters(Which::Last).unwrap()
    };
    let expected = weights(PLAIN, "");
    let json = |form: fn(&str, &str) -> String| {
        PLAIN.lines().map(|line| line.split_once('\t').map(|(s, t)| form(s, t)).unwrap()).collect::<String>()
    };
    for (text, keys) in [
        (PLAIN.replace('\n', "\r\n"), ""),
        (PLAIN.replace('\n', "\r"), ""),
        (format!("\u{feff}{PLAIN}"), ""),
        (PLAIN.trim_end().to_owned(), ""),
        (PLAIN.replace('\n', "\n\n  \n"), ""),
        (PLAIN.replace('\n', "\tCC-BY\n"), "columns: {extra: ignore}"),
        (format!("English\tFrench\n{PLAIN}"), "header: true"),
        (format!("{PLAIN}x\t\n\ty\n"), "empty: skip"),
        (PLAIN.replace('\t', ";"), "separator: \";\""),
        (PLAIN.replace('\t', ";"), "format: csv, separator: \";\""),
        (format!(";;; words\n{}", PLAIN.replace('\t', "  ")), "separator: \"  \", comment: \";;;\""),
        (json(|s, t| format!("\"{s}\",\"{t}\"\r\n")), "format: csv"),
        (
            json(|s, t| format!("{{\"id\": 1, \"fr\": \"{t}\", \"en\": \"{s}\"}}\n")),
            "format: jsonl, columns: {source: en, target: fr}",
        ),
        (
            json(|s, t| format!("{{\"translation\": {{\"en\": \"{s}\", \"fr\": \"{t}\"}}}}\n")),
            "format: jsonl, columns: {source: en, target: fr}",
        ),
    ] {
        assert!(weights(&text, keys) == expected, "{keys} {text:?}");
    }
}

#[test]
fn what_cannot_be_trained_on_is_refused_with_its_line_and_what_to_do() {
    let utf16: Vec<u8> = format!("\u{feff}{PLAIN}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (text, keys, said) in [
        (utf16, "", ["pairs.txt: this is UTF-16", "iconv -f UTF-16 -t UTF-8"]),
        (
            b"a\tb\nc\tarr\xeate\n".to_vec(),
            "",
            ["pairs.txt:2: not valid UTF-8", "iconv -f WINDOWS-1252 -t UTF-8"],
        ),
        (b"a\tb\n".to_vec(), "", ["1 pair cannot be split", "at least one pair"]),
        (b"a;b\nc;d\n".to_vec(), "", ["pairs.txt:1: the line has no tab", "add `separator: \";\"`"]),
        (b"a\tb\nc\t\n".to_vec(), "", ["pairs.txt:2: the target is empty", "`empty: skip`"]),
        (b"a\tb\tc\n".to_vec(), "", ["pairs.txt:1: the line has 3 columns", "columns: {extra: ignore}"]),
        (
            b"{\"a\": \"b\"}\n".to_vec(),
            "format: jsonl",
            ["the object has no `source`", "the keys here are `a`"],
        ),
        (PLAIN.into(), "format: csv, separator: ab", ["a.yaml:2:data.separator", "one ASCII character"]),
        (
            PLAIN.into(),
            "format: jsonl, header: true",
            ["a.yaml:2:data.header", "`format: jsonl` has no such thing"],
        ),
    ] {
        let (code, _, stderr) = Case::new(text, keys).train();
        assert!(code == 4 || code == 3 && stderr.contains("a.yaml"), "{code} {stderr}");
        assert!(said.iter().all(|said| stderr.contains(said)), "{said:?}\n{stderr}");
    }
}

#[test]
fn what_may_be_wrong_with_a_file_is_said_before_the_training_and_nothing_where_nothing_is() {
    let findings = |text: &str, keys: &str| -> Vec<(String, u64, u64)> {
        let (code, stdout, stderr) =
            run(&mut Case::new(text, keys).command(&["--json", "config", "check", "a.yaml"]));
        assert_eq!(code, 0, "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let findings = report["data"][0]["findings"].as_array().unwrap();
        let found = |f: &Value| {
            (
                f["what"].as_str().unwrap().to_owned(),
                f["count"].as_u64().unwrap(),
                f["line"].as_u64().unwrap(),
            )
        };
        findings.iter().map(found).collect()
    };
    let tokens = "source: {unit: token}, target: {unit: token}";
    for (more, keys, what, count, line) in [
        ("go\tva\n", "", "duplicates", 1, 5),
        ("go\tvas\nrun\tcourez\nrun\tcourir\n", "", "conflicting targets", 2, 5),
        ("Go\tvas\n", "source: {normalisation: [lowercase]}", "conflicting targets", 1, 5),
        ("x\t\n\ty\n", "empty: skip", "empty sides", 2, 5),
        ("e\u{301}\tx\n", "", "normalisation", 1, 5),
        ("x\tarre\u{302}t\n", "", "normalisation", 1, 5),
        ("x\u{feff}\ty\n", "", "byte-order marks", 1, 5),
        ("x\ty\0\n", "", "NUL", 1, 5),
        ("x\u{85}\ty\n", "", "control characters", 1, 5),
        ("x\u{2028}\ty\n", "", "control characters", 1, 5),
        ("x\u{1b}[1m\ty\n", "", "control characters", 1, 5),
        ("x <pad>\ty\n", tokens, "special words", 1, 5),
        ("x\ty\rz\tw\r", "", "line ends", 2, 5),
    ] {
        assert_eq!(findings(&format!("{PLAIN}{more}"), keys), [(what.to_owned(), count, line)], "{more:?}");
    }
    for (text, keys) in [
        (PLAIN.to_owned(), ""),
        // Normalised anyway, in training and in use.
        (
            format!("{PLAIN}e\u{301}\tx\nz\te\u{301}\n"),
            "source: {normalisation: [nfc]}, target: {normalisation: [nfd]}",
        ),
        // One form on the side that nobody types.
        ("a\te\u{301}\nb\to\u{308}\n".to_owned(), ""),
        ("<end>\tx\nb\t<unk>\n".to_owned(), ""),
    ] {
        assert_eq!(findings(&text, keys), [], "{text:?}");
    }
}

#[test]
fn the_report_is_a_few_aligned_lines_on_stderr_and_keeps_to_eighty_columns() {
    let everything = format!("{PLAIN}go\tva\ngo\tvas\ne\u{301}\té\nx\u{feff}\ty\0\u{7}\n{}", "x\ty\rz\t\n");
    let case = Case::new(everything, "empty: skip, source: {unit: character}");
    let (code, stdout, stderr) = case.train();
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.starts_with(
            "pairs.txt: 9 pairs\n  source               median 2, longest 4 characters (line 3)\n"
        ),
        "{stderr}"
    );
    assert!(
        stderr.contains(
            "\n  duplicates           1 pair stands there again, first in line 5\n      they count more"
        ),
        "{stderr}"
    );
    assert!(
        stderr
            .contains("\n  empty sides          1 line left out: no source or no target, first in line 10\n"),
        "{stderr}"
    );
    assert!(stderr.lines().chain(stdout.lines()).all(|line| line.chars().count() <= 80), "{stderr}{stdout}");
    // A run that goes on, or a self-made task, has nothing to say; nor has anything with --quiet.
    let (code, _, stderr) = run(&mut case.command(&["train", "a.yaml", "--resume"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (code, stdout, stderr) = run(&mut case.command(&["-q", "train", "a.yaml", "--force"]));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
    let dates = "data={task: {name: dates, train: 20, dev: 4}}";
    let (code, _, stderr) = run(&mut case.command(&["train", "a.yaml", "--force", "--set", dates]));
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn a_check_of_a_config_looks_at_its_data_and_says_what_to_do_where_it_is_missing() {
    let case = Case::new(PLAIN, "");
    let check = || run(&mut case.command(&["config", "check", "a.yaml"]));
    let (code, stdout, stderr) = check();
    assert_eq!((code, stdout.as_str()), (0, "a.yaml: ok, trains \"a\"\n"));
    assert!(stderr.starts_with("pairs.txt: 4 pairs\n"), "{stderr}");
    std::fs::write(case.folder.path().join("pairs.txt"), "a\tb\nc\n").unwrap();
    let (code, _, stderr) = check();
    assert!(code == 4 && stderr.contains("pairs.txt:2: the line has no tab"), "{stderr}");
    std::fs::remove_file(case.folder.path().join("pairs.txt")).unwrap();
    let (code, stdout, stderr) = check();
    assert_eq!((code, stdout.as_str()), (0, "a.yaml: ok, trains \"a\"\n"));
    assert!(stderr.contains("its data is not there: pairs.txt") && stderr.contains("--data DIR"), "{stderr}");
}

#[test]
fn a_word_spelled_like_a_special_symbol_is_learnt_and_written_as_it_is() {
    let pairs = "a\tx <end> y\nb\t<unk>\n<pad>\t<start>\n";
    let keys = "source: {unit: token}, target: {unit: token}, dev: pairs.txt, validation: null";
    let case = Case::new(pairs, keys);
    let set = [
        "train",
        "a.yaml",
        "--set",
        "training.epochs=300",
        "--set",
        "training.learning_rate=0.03",
        "--set",
        "training.exact_match={every: 300}",
    ];
    let (code, _, stderr) = run(&mut case.command(&set));
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = run(&mut case.command(&["export", "runs/a", "-o", "b"]));
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = run(&mut case.command(&["translate", "b", "a", "b", "<pad>"]));
    assert_eq!((code, stdout.as_str()), (0, "x <end> y\n<unk>\n<start>\n"), "{stderr}");
    let (code, stdout, _) = run(&mut case.command(&["--json", "eval", "b", "pairs.txt"]));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, report["exact_match"].as_f64()), (0, Some(1.0)), "{stdout}");
}

#[test]
fn evaluations_and_imports_read_files_as_a_training_does() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("exported/dates");
    let folder = tempfile::tempdir().unwrap();
    for (name, text, said) in [
        ("a.tsv", "3 April 1999\t1999-04-03\r4 May 2001\t2001-05-04\r", "2 sources with 2 references"),
        ("a.jsonl", "{\"en\": \"3 April 1999\", \"iso\": \"1999-04-03\"}\n", "1 sources with 1 references"),
        ("b.tsv", "3 April 1999;1999-04-03\n", "the line has no tab"),
        ("c.tsv", "\u{1}\0\u{2}\0\u{3}\0", "this is UTF-16"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let (_, stdout, stderr) = run(s2s().arg("eval").arg(&bundle).arg(&file));
        assert!(stdout.contains(said) || stderr.contains(said), "{name}: {stdout}{stderr}");
    }
    let keras = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras/one_hot.h5");
    let pairs = folder.path().join("c.tsv");
    let (code, _, stderr) = run(s2s()
        .args(["import", "keras"])
        .arg(keras)
        .arg("--pairs")
        .arg(pairs)
        .arg("-o")
        .arg(folder.path().join("run")));
    assert!(code == 4 && stderr.contains("this is UTF-16") && stderr.contains("iconv"), "{stderr}");
}

#[test]
fn a_training_line_fits_the_terminal_and_the_end_names_the_checkpoints_and_the_next_command() {
    let case = Case::new(PLAIN.repeat(8), "");
    let (code, stdout, stderr) = case.train();
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    let first = lines.iter().find(|line| line.starts_with("epoch 1/2")).unwrap();
    assert!(first.contains("loss ") && first.contains(", dev ") && first.ends_with(" left"), "{first}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{stdout}");
    let end = &lines[lines.iter().position(|line| line.starts_with("The run is in")).unwrap()..];
    let is = |line: &str, start: &str, end: &str| line.starts_with(start) && line.ends_with(end);
    assert!(is(end[1], "  best  epoch 2, dev loss ", "  (by validation_loss)"), "{stdout}");
    assert!(is(end[2], "  last  epoch 2, dev loss ", "  (--resume goes on from it)"), "{stdout}");
    assert_eq!(end[3], "Next: s2s export runs/a");
}

/// The most memory that a training of these pairs had resident when its first step began.
#[cfg(target_os = "linux")]
fn peak(pairs: usize) -> (u64, u64) {
    use std::fmt::Write as _;
    use std::io::BufRead;

    let mut text = String::new();
    for i in 0..pairs {
        let words = [i % 97, i % 1009, i / 7].map(|n| format!("word{n}"));
        let _ = writeln!(
            text,
            "{} {} {}\t{}-{}-{} é",
            words[0], words[1], words[2], words[2], words[0], words[1]
        );
    }
    let case = Case::new(&text, "validation: {split: shuffled, fraction: 0.1}");
    let mut child = case
        .command(&["train", "a.yaml"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = std::io::BufReader::new(child.stdout.take().unwrap())
        .lines()
        .any(|line| line.unwrap().contains(" parameters, "));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(started);
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    (peak.parse::<u64>().unwrap() << 10, text.len() as u64)
}

#[cfg(target_os = "linux")]
#[test]
fn pairs_need_no_more_than_three_times_the_memory_of_their_file() {
    let (idle, _) = peak(100);
    let (peak, length) = peak(300_000);
    assert!(peak - idle < 3 * length, "{} bytes for a file of {length}", peak - idle);
}
