//! `s2s translate` as users run it: lines in, lines out, exit codes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use crate::common::server::s2s;
use serde_json::Value;

/// Exit code, stdout, stderr.
fn translate(bundle: &Path, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = s2s()
        .arg("translate")
        .arg(bundle)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command that refuses its flags closes stdin without reading it.
    let _ = writer.join().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn every_line_gets_its_own_line_in_order_whatever_the_workers_and_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let words = ["abc", "", "a", "hello there", "zzzz", "b", "cab cab cab"];
    let input: String =
        (0..300).map(|n| format!("{}{}\n", words[n % words.len()], &"xyz"[..n % 4])).collect();
    let (code, expected, stderr) =
        translate(&bundle, &["--workers", "1", "--max-batch-size", "1"], input.as_bytes());
    assert_eq!((code, &*stderr), (0, ""));
    assert_eq!(expected.lines().count(), 300);
    assert!(
        expected.lines().collect::<std::collections::BTreeSet<_>>().len() > 3,
        "a model that says one thing proves nothing"
    );
    for arguments in [&["--workers", "3", "--max-batch-size", "7"][..], &[]] {
        assert_eq!(
            translate(&bundle, arguments, input.as_bytes()),
            (0, expected.clone(), String::new()),
            "{arguments:?}"
        );
    }
    // Texts as arguments instead of lines, and a last line without its end.
    let (_, from_arguments, _) = translate(&bundle, &["abc", "zzzz"], b"");
    assert_eq!(from_arguments, translate(&bundle, &[], b"abc\r\nzzzz").1);
}

#[test]
fn lines_that_cannot_be_translated_are_empty_named_on_stderr_and_4_while_the_others_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let flags = ["--unknown", "error"];
    let (code, stdout, stderr) = translate(&bundle, &flags, "abc\na\u{e9}b\nzz\n\u{fffd}\n".as_bytes());
    assert_eq!(code, 4, "{stderr}");
    let good = translate(&bundle, &flags, b"abc\nzz\n").1;
    let good: Vec<&str> = good.lines().collect();
    assert_eq!(stdout.lines().collect::<Vec<_>>(), [good[0], "", good[1], ""]);
    assert!(
        stderr.contains("input:2") && stderr.contains('\u{e9}') && stderr.contains("2 of 4 lines"),
        "{stderr}"
    );

    let (code, stdout, stderr) = translate(&bundle, &[], b"abc\n\xff\xfe\nzz\n");
    assert_eq!((code, stdout.lines().count()), (4, 3), "{stderr}");
    assert!(stderr.contains("UTF-8") && stderr.contains("input:2"), "{stderr}");
}

#[test]
fn json_lines_carry_the_source_the_text_its_score_and_the_error_of_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let flags =
        ["--json", "--num-beams", "3", "--num-return-sequences", "2", "--token-scores", "--unknown", "error"];
    let (code, stdout, stderr) = translate(&bundle, &flags, "abc\n\u{e9}\n".as_bytes());
    assert_eq!(code, 4);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["line"], &lines[0]["source"], lines[0]["source_tokens"].as_u64()),
        (&1.into(), &"abc".into(), Some(3))
    );
    let scores = lines[0]["token_scores"].as_array().unwrap();
    assert_eq!(lines[0]["generated_tokens"].as_u64(), Some(scores.len() as u64));
    let (best, second) =
        (lines[0]["score"].as_f64().unwrap(), lines[0]["alternatives"][0]["score"].as_f64().unwrap());
    assert!(second <= best && best < 0.0, "{best} {second}");
    assert!(lines[1]["error"].is_string() && lines[1]["line"] == 2);
    let failure: Value = serde_json::from_str(stderr.lines().next().unwrap()).unwrap();
    assert_eq!(failure["error"]["place"]["line"], 2);
    // The text is that of the plain output.
    let plain = translate(&bundle, &["--num-beams", "3"], b"abc\n").1;
    assert_eq!(lines[0]["text"], plain.trim_end_matches('\n'));
}

#[test]
fn the_decoding_file_lies_under_the_flags_and_its_errors_name_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let file = folder.path().join("decoding.yaml");
    let with = |yaml: &str, flags: &[&str]| {
        std::fs::write(&file, yaml).unwrap();
        let path = file.to_str().unwrap();
        translate(&bundle, &[&["--decoding", path], flags].concat(), b"hello there\n")
    };
    let length = |output: (i32, String, String)| {
        assert_eq!((output.0, &*output.2), (0, ""));
        output.1.trim_end_matches('\n').chars().count()
    };
    let four = "max_decoding_length: 4\nmin_new_tokens: 4\n";
    assert_eq!(length(with(four, &[])), 4);
    assert_eq!(
        length(with(four, &["--max-new-tokens", "9"])),
        9.min(length(with("", &["--max-new-tokens", "9"])).max(4))
    );
    for (yaml, place, says) in [
        ("# beams\nnum_beams: 2\nlength_penality: 1\n", "decoding.yaml:3", "length_penalty"),
        ("num_beams: two\n", "decoding.yaml:1", "num_beams"),
        ("# a\n\ntop_p: 1.5\n", "decoding.yaml:3", "top_p"),
        ("output: {score: true}\n", "decoding.yaml:1", "scores"),
    ] {
        let (code, stdout, stderr) = with(yaml, &[]);
        assert_eq!((code, &*stdout), (3, ""), "{yaml}: {stderr}");
        assert!(stderr.contains(place) && stderr.contains(says), "{yaml}: {stderr}");
    }
    // Combinations that contradict each other name the key, wherever the halves come from.
    let (code, _, stderr) = with("do_sample: true\n", &["--num-beams", "4"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("do_sample"), "{stderr}");
}

#[test]
fn drawn_texts_depend_on_the_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let draw = |seed: &str, rest: &[&str]| {
        translate(&bundle, &[&["--do-sample", "--seed", seed], rest].concat(), b"abc\nb\nabc\nzz zz\n").1
    };
    let once = draw("7", &[]);
    assert_eq!(once, draw("7", &["--max-batch-size", "1", "--workers", "1"]));
    assert_ne!(once, draw("8", &[]));
    assert_eq!(once.lines().next(), once.lines().nth(2), "the same text with the same seed");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let mut child = s2s()
        .arg("translate")
        .arg(&bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // Ends when the command does, far from the end of the input.
        for _ in 0..1_000_000 {
            if stdin.write_all(b"hello there\n").is_err() {
                return true;
            }
        }
        false
    });
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(writer.join().unwrap(), "the command read everything although nobody listened");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(0), "".into()));
}

#[test]
fn a_conversation_answers_each_line_before_the_next_one_comes() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let expected = translate(&bundle, &[], b"abc\nhello there\n").1;
    let mut child = s2s()
        .arg("translate")
        .arg(&bundle)
        .arg("-i")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for (text, expected) in ["abc", "hello there"].iter().zip(expected.lines()) {
        writeln!(stdin, "{text}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end_matches('\n'), expected);
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_that_says_what_is_missing_and_never_the_processor_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let (code, stdout, stderr) = translate(&bundle, &["--engine", "tract", "--device", "cuda"], b"abc\n");
    assert_eq!((code, &*stdout), (2, ""), "{stderr}");
    assert!(stderr.contains("tract") && stderr.contains("--engine ort"), "{stderr}");
    assert_eq!(translate(&bundle, &["--device", "gpu"], b"").0, 2);

    let (code, stdout, stderr) = translate(&bundle, &["--device", "cuda"], b"abc\n");
    if code != 0 {
        assert_eq!(stdout, "", "{stderr}");
        // Without the library its own absence is what is missing.
        assert!(stderr.contains("ONNX Runtime") && stderr.contains("help"), "{stderr}");
        assert!(stderr.contains("onnxruntime-gpu") || stderr.contains("was not found"), "{stderr}");
    }
    let (code, automatic, stderr) = translate(&bundle, &["--device", "auto"], b"abc\n");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(automatic, translate(&bundle, &[], b"abc\n").1);
    assert!(stderr.contains("processor"), "where it ran is said: {stderr}");
}
