//! What a person at a terminal sees: several translations, warnings, guesses, widths, colours and the line
//! editor.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::server::{run, s2s};

#[test]
fn three_return_sequences_are_three_lines_of_rank_score_and_text_for_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let translate = |arguments: &[&str]| run(s2s().arg("translate").arg(&bundle).args(arguments));
    let (code, stdout, stderr) = translate(&["--num-return-sequences", "3", "abc", "", "hello there"]);
    assert_eq!((code, &*stderr), (0, ""));
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.iter().map(|columns| columns[0]).collect::<Vec<_>>(), ["1", "2", "3"].repeat(3));
    assert!(lines.iter().all(|columns| columns.len() == 3), "{stdout}");
    for text in [&lines[..3], &lines[6..]] {
        let scores: Vec<f32> = text.iter().map(|columns| columns[1].parse().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b) && scores[0] < 0.0, "{scores:?}");
        assert!(text[0][2] != text[1][2] && text[1][2] != text[2][2], "{text:?}");
    }
    assert_eq!(lines[3..6].concat(), ["1", "", "", "2", "", "", "3", "", ""]);
    // As many beams as translations, unless it is said otherwise; the first is the best.
    assert_eq!(
        translate(&["--num-return-sequences", "3", "--num-beams", "3", "abc", "", "hello there"]).1,
        stdout
    );
    assert_eq!(translate(&["--num-beams", "3", "abc"]).1.trim_end(), lines[0][2]);
    let (code, _, stderr) = translate(&["--num-return-sequences", "3", "--num-beams", "2", "abc"]);
    assert!(code == 3 && stderr.contains("num_beams"), "{stderr}");
    // A line that fails has its three lines too, and JSON has all in one.
    let (code, stdout, _) =
        translate(&["--num-return-sequences", "3", "--unknown", "error", "\u{e9}", "abc"]);
    assert_eq!((code, stdout.lines().count()), (4, 6));
    let json: serde_json::Value =
        serde_json::from_str(&translate(&["--json", "--num-return-sequences", "3", "abc"]).1).unwrap();
    assert_eq!((json["alternatives"].as_array().unwrap().len(), &json["text"]), (2, &lines[0][2].into()));
    // Drawn ones need no beams.
    let drawn = translate(&["--num-return-sequences", "2", "--do-sample", "abc"]);
    assert_eq!((drawn.0, drawn.1.lines().count()), (0, 2), "{}", drawn.2);
}

#[test]
fn a_line_that_the_model_hardly_knows_is_warned_of_once_with_what_is_likely() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let translate = |arguments: &[&str]| run(s2s().arg("translate").arg(&bundle).args(arguments));
    let (code, stdout, stderr) = translate(&["ABC", "HELLO", "abc", "\u{65e5}\u{672c}"]);
    assert_eq!((code, stdout.lines().count()), (0, 4));
    assert_eq!(stderr.matches("warning: ").count(), 2, "{stderr}");
    assert!(stderr.contains("line 1: the model knows no upper case letters: `A`, `B`, `C`"), "{stderr}");
    assert!(stderr.contains("line 4: the model knows no symbol of it: `\u{65e5}`, `\u{672c}`"), "{stderr}");
    assert_eq!(translate(&["--quiet", "ABC"]).2, "");
    assert_eq!(translate(&["abc", "hello"]).2, "");
}

#[test]
fn unknown_copy_puts_the_symbol_into_the_output_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let translate = |policy: &str, text: &str| {
        run(s2s().arg("translate").arg(&bundle).args(["--unknown", policy, text])).1
    };
    for (text, symbols) in [
        ("ab\u{e9}cd", "\u{e9}"),
        ("hello \u{65e5}\u{672c} there", "\u{65e5}\u{672c}"),
        ("abc\u{df}", "\u{df}"),
    ] {
        let (copied, guessed) = (translate("copy", text), translate("unk", text));
        assert_eq!(
            (copied.matches(symbols).count(), guessed.contains(symbols)),
            (1, false),
            "{copied} {guessed}"
        );
        assert_eq!(copied.replace(symbols, ""), guessed, "nothing that the model says is lost");
    }
    assert!(translate("copy", "abc\u{df}").trim_end().ends_with('\u{df}'));
    assert_eq!(translate("copy", "\u{65e5}\u{672c}"), "\u{65e5}\u{672c}\n");
    // Beams and JSON alike.
    let (_, json, _) = run(s2s().arg("translate").arg(&bundle).args([
        "--json",
        "--num-beams",
        "2",
        "--unknown",
        "copy",
        "ab\u{e9}cd",
    ]));
    assert!(json.contains("\"unknown\":[\"\u{e9}\"]") && json.matches('\u{e9}').count() >= 3, "{json}");
}

#[test]
fn a_run_where_a_bundle_belongs_is_called_a_run_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("runs").join("x");
    std::fs::create_dir_all(at.join("checkpoints")).unwrap();
    std::fs::write(at.join("config.yaml"), "name: x\n").unwrap();
    std::fs::write(at.join("checkpoints").join("last.safetensors"), "").unwrap();
    let pairs = folder.path().join("pairs.tsv");
    std::fs::write(&pairs, "a\tA\n").unwrap();
    for (command, arguments) in [
        ("translate", vec!["abc"]),
        ("verify", vec![]),
        ("bench", vec![]),
        ("eval", vec![pairs.to_str().unwrap()]),
        ("predict", vec![]),
    ] {
        let (code, stdout, stderr) = run(s2s().arg(command).arg(&at).args(arguments));
        assert_eq!((code, &*stdout), (if command == "predict" { 2 } else { 5 }, ""), "{command}: {stderr}");
        let expected = format!("help: export it first: s2s export {} -o exported/x\n", at.display());
        assert!(
            stderr.contains("this is a training run, not a bundle") && stderr.ends_with(&expected),
            "{command}: {stderr}"
        );
    }
    let (code, _, stderr) = run(s2s().args(["serve-local", "--port", "0"]).arg(&at));
    assert!(code == 5 && stderr.contains("export it first"), "{stderr}");
}

#[test]
fn a_wrong_name_gets_a_guess_and_never_the_whole_list() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let decoding = folder.path().join("decoding.yaml");
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, include_str!("../configs/dates.yaml")).unwrap();
    let set =
        |assignment: &str| run(s2s().args(["config", "check"]).arg(&config).args(["--set", assignment])).2;
    for (assignment, guess) in [
        ("model.hidden_size=3", "did you mean `hidden`?"),
        ("model.latent_dim=256", "did you mean `hidden`?"),
        ("training.lr=0.1", "did you mean `learning_rate`?"),
        ("training.optimizer=adam", "did you mean `optimiser`?"),
        ("training.early_stopping.monitor=exactmatch", "did you mean `exact_match`?"),
        ("decoding.num_bims=3", "did you mean `num_beams`?"),
        ("decoding.output.score=true", "did you mean `scores`?"),
    ] {
        let stderr = set(assignment);
        let key = assignment.split_once('=').unwrap().0;
        assert!(stderr.contains(guess) && stderr.contains(key), "{assignment}: {stderr}");
    }
    let few = |stderr: &str| stderr.lines().last().unwrap().matches(", ").count() <= 8 && stderr.len() < 400;
    let stderr = set("training.qqqqq=1");
    assert!(few(&stderr) && stderr.contains("of the 2"), "{stderr}");
    for (yaml, expected) in
        [("num_beam_size: 4\n", "did you mean `beam_size`?"), ("qqqq: 4\n", "of the 48 known keys")]
    {
        std::fs::write(&decoding, yaml).unwrap();
        let (code, _, stderr) =
            run(s2s().arg("translate").arg(&bundle).args(["abc", "--decoding"]).arg(&decoding));
        assert!(code == 3 && stderr.contains(expected) && few(&stderr), "{stderr}");
    }
    let (code, _, stderr) = run(s2s().args(["lint", "--for", "onnxruntme", "x.onnx"]));
    assert!(code == 2 && stderr.contains("did you mean `onnxruntime`?"), "{stderr}");
    let (code, _, stderr) = run(s2s().arg("verify").arg(&bundle).args(["--runtimes", "openvin"]));
    assert!(code == 2 && stderr.contains("did you mean `openvino`?"), "{stderr}");
}

#[test]
fn the_demo_ends_with_what_to_type_next_and_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("run");
    let sets = [
        "data.task={name: dates, train: 200, dev: 20}",
        "model.hidden=16",
        "training.epochs=1",
        "decoding.max_new_tokens=12",
    ];
    let (code, stdout, stderr) =
        run(s2s().arg("demo").args(sets.iter().flat_map(|set| ["--set", set])).arg("-o").arg(&at));
    assert!(code == 0 && stdout.contains(" -> "), "{stderr}");
    let (_, next) = stderr.rsplit_once("Next:\n").unwrap();
    let path = at.join("bundle");
    for command in ["translate", "translate -i", "serve-local", "inspect"] {
        assert!(next.contains(&format!("s2s {command} {}", path.display())), "{next}");
    }
    assert!(next.trim_end().ends_with("s2s train my.yaml"), "{next}");
    assert_eq!(run(s2s().arg("translate").arg(&path).arg("4th of July 1976")).1.lines().count(), 1);
    // A run that has its bundle inside says so.
    let (code, _, stderr) = run(s2s().arg("translate").arg(&at).arg("x"));
    assert!(code == 5 && stderr.contains(&format!("its bundle is in {}", path.display())), "{stderr}");
}

/// Runs a command at a terminal of 80 columns; `keys` are typed once the prompt is there. None where no
/// Python is.
fn at_terminal(
    folder: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    keys: &str,
) -> Option<(i32, String)> {
    let script = r#"
import fcntl, os, pty, re, select, struct, sys, termios, time
keys, command = sys.argv[1].encode().decode("unicode_escape").encode(), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execv(command[0], command)
seen, end = b"", time.time() + 60
while time.time() < end:
    if select.select([terminal], [], [], 0.3)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    elif keys and re.search(rb"> (\r|\x1b\[[0-9;?]*[A-Za-z])*$", seen):
        part, keys = keys.split(b"\0", 1) if b"\0" in keys else (keys, b"")
        seen += b"\n"
        os.write(terminal, part)
else:
    os.kill(pid, 9)
code = os.waitpid(pid, 0)[1]
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(code) & 255)
"#;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = if python.exists() { python } else { "python3".into() };
    let file = folder.join("terminal.py");
    std::fs::write(&file, script).unwrap();
    let mut command = Command::new(python);
    command.arg(file).arg(keys).arg(env!("CARGO_BIN_EXE_s2s")).args(arguments);
    command.env_remove("NO_COLOR").env("TERM", "xterm").envs(environment.iter().copied());
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no Python, which makes the terminal");
            None
        }
        output => {
            let Output { status, stdout, stderr } = output.unwrap();
            let shown = String::from_utf8_lossy(&stdout).replace("\r\n", "\n");
            Some((status.code().unwrap(), shown + &String::from_utf8_lossy(&stderr)))
        }
    }
}

/// Without escape sequences of colours.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect::<String>()
}

#[cfg(unix)]
#[test]
fn verify_and_inspect_fit_eighty_columns_and_end_in_a_verdict_with_colour() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let path = bundle.to_str().unwrap();
    let check = ["verify", path, "--no-write", "--random", "4"];
    for (arguments, verdict) in [
        (&check[..], "PASSED: "),
        (&["inspect", path], "OK: 3 graphs"),
        (&["inspect", path, "--tensors"], "OK: "),
    ] {
        let Some((code, shown)) = at_terminal(folder.path(), arguments, &[], "") else { return };
        assert_eq!(code, 0, "{shown}");
        let text = plain(&shown);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.trim_end().lines().last().unwrap().starts_with(verdict), "{text}");
        assert!(shown.contains(&format!("\u{1b}[32m{verdict}")), "{shown:?}");
        let (_, without) = at_terminal(folder.path(), arguments, &[("NO_COLOR", "1")], "").unwrap();
        assert!(!without.contains('\u{1b}'), "{without:?}");
        // What is no terminal gets no colours, and the same lines whatever the width is called.
        let (_, piped, _) = run(s2s().args(arguments));
        assert!(
            piped.trim_end().lines().last().unwrap().starts_with(verdict) && !piped.contains('\u{1b}'),
            "{piped}"
        );
        assert_eq!(run(s2s().args(arguments).env("COLUMNS", "40")).1, piped);
    }
    // A damaged file of a bundle is called by its name, in red.
    std::fs::write(bundle.join("decoder.onnx"), std::fs::read(bundle.join("encoder.onnx")).unwrap()).unwrap();
    let (code, shown) = at_terminal(folder.path(), &check, &[], "").unwrap();
    assert!(
        code == 5 && shown.contains("\u{1b}[1;31merror:") && shown.contains("decoder.onnx: damaged"),
        "{shown}"
    );
}

#[cfg(unix)]
#[test]
fn the_conversation_edits_lines_brings_earlier_ones_back_and_ends_with_control_d() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let path = bundle.to_str().unwrap();
    let translate = |text: &str| run(s2s().args(["translate", path, text])).1.trim_end().to_owned();
    // "abd", back over the d, "c"; the line before once more, with "x" at its end; Ctrl-C drops a line;
    // Ctrl-D.
    let keys = "abd\\x7fc\\r\\0\\x1b[Ax\\r\\0hello\\x03\\0\\x04";
    let Some((code, shown)) = at_terminal(folder.path(), &["translate", "-i", path], &[], keys) else {
        return;
    };
    assert_eq!(code, 0, "{shown}");
    for text in ["abc", "abcx"] {
        assert!(shown.contains(&translate(text)), "{text} gives {}, not in {shown:?}", translate(text));
    }
    assert!(!shown.contains(&translate("hello")) && shown.contains("Ctrl-C once more"), "{shown:?}");
    // A terminal without -i and without texts is a conversation too; Ctrl-C twice ends it.
    let (code, shown) = at_terminal(folder.path(), &["translate", path], &[], "\\x03\\0\\x03").unwrap();
    assert!(code == 0 && !shown.contains("error"), "{shown:?}");
}
