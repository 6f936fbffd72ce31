//! How an error looks on the terminal or, with `--json`, to a program.

use std::error::Error as _;
use std::fmt::Write as _;
use std::path::Path;

use s2s_runtime::files::{self, FileKind};
use s2s_runtime::printable;
use serde_json::json;

use crate::cli::terminal;
use crate::error::{Error, ErrorKind, Place, exit_code};

/// Longest line of a file that is shown.
const LONGEST_EXCERPT: usize = 120;

/// The error in lines: what, the line of the file, causes, and what would be right.
pub fn render(error: &Error, colours: bool) -> String {
    let paint = |code: &str, text: &str| terminal::paint(code, text, colours);
    let said = printable::lines(&error.to_string()).into_owned();
    // Who asks a program to stop has met no error.
    let mut text = match error.kind() {
        ErrorKind::Interrupted => format!(
            "{said}
"
        ),
        _ => format!(
            "{} {said}
",
            paint("1;31", "error:")
        ),
    };
    if let Some(Place::File { path, line: Some(line), .. }) = error.place()
        && let Some(excerpt) = line_of(path, *line)
    {
        let margin = " ".repeat(line.to_string().len());
        let bar = paint("34", "|");
        let _ = write!(
            text,
            " {margin} {bar}\n {} {bar} {}\n {margin} {bar}\n",
            paint("34", &line.to_string()),
            printable::lines(&excerpt)
        );
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = printable::lines(&inner.to_string()).into_owned();
        // "no such file or folder" is said already.
        let is_missing = inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound);
        if !is_missing && !text.contains(&said) {
            let _ = writeln!(text, "  {} {}", paint("1", "cause:"), said.replace('\n', "\n    "));
        }
        cause = inner.source();
    }
    if let Some(help) = error.help_text() {
        let _ = writeln!(text, "  {} {}", paint("1;36", "help:"), printable::lines(help));
    }
    text
}

/// The error as one JSON object.
pub fn render_json(error: &Error) -> String {
    let (file, line, key, graph, node) = match error.place() {
        Some(Place::File { path, line, key }) => {
            (Some(path.display().to_string()), *line, key.clone(), None, None)
        }
        Some(Place::Graph { graph, node }) => (None, None, None, Some(graph.clone()), node.clone()),
        _ => (None, None, None, None, None),
    };
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    let place = json!({ "file": file, "line": line, "key": key, "graph": graph, "node": node });
    let kind = format!("{:?}", error.kind()).to_lowercase();
    let body = json!({
        "kind": kind, "message": error.message(), "place": place, "help": error.help_text(), "causes": causes,
        "exit_code": exit_code(error.kind()),
    });
    printable::json(&json!({ "error": body }).to_string()).into_owned()
}

/// Whether all that happened is that nobody reads the output any more (`s2s translate ... | head`), which is
/// no failure.
pub fn is_broken_pipe(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
        {
            return error.kind() == ErrorKind::Io;
        }
        cause = inner.source();
    }
    false
}

fn line_of(path: &Path, line: u64) -> Option<String> {
    // A file of data may be huge; what is quoted are configurations.
    let bytes = files::read(path, FileKind { limit: 1 << 20, ..files::CONFIG }).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?)?.trim_end();
    let shown: String = found.chars().take(LONGEST_EXCERPT).collect();
    Some(if shown.len() < found.len() { shown + "..." } else { shown })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_error_in_a_file_quotes_the_line_and_says_what_would_be_right() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.yaml");
        fs::write(&path, "model:\n  hiden: 256\n")?;
        let error = Error::new(ErrorKind::Config, "unknown key")
            .at_line(&path, Some(2), Some("model.hiden"))
            .help("did you mean `hidden`?");
        let expected = format!(
            "error: {}:2:model.hiden: unknown key\n   |\n 2 |   hiden: 256\n   |\n  help: did you mean \
             `hidden`?\n",
            path.display()
        );
        assert_eq!(render(&error, false), expected);
        Ok(())
    }

    #[test]
    fn an_interruption_is_no_error() {
        let error = Error::new(ErrorKind::Interrupted, "stopped and saved").in_file("runs/a").help("go on");
        assert_eq!(render(&error, false), "runs/a: stopped and saved\n  help: go on\n");
    }

    #[test]
    fn a_cause_is_shown_once_and_escapes_do_not_reach_the_terminal() {
        let cause = std::io::Error::other("the \u{1b}[2J disk");
        let error = Error::new(ErrorKind::Io, "cannot write").caused_by(cause);
        assert_eq!(render(&error, false), "error: cannot write\n  cause: the \\u{1b}[2J disk\n");
        let error = Error::io("x", std::io::Error::other("odd"));
        assert_eq!(render(&error, false), "error: x: odd\n");
    }

    #[test]
    fn an_error_is_also_json() {
        let error = Error::new(ErrorKind::Bundle, "no input").in_graph("decoder.onnx", Some("lstm"));
        let parsed: serde_json::Value = serde_json::from_str(&render_json(&error)).unwrap_or_default();
        assert_eq!(parsed["error"]["place"]["graph"], "decoder.onnx");
        assert_eq!(parsed["error"]["exit_code"], 5);
        assert_eq!(parsed["error"]["kind"], "bundle");
    }

    #[test]
    fn only_a_broken_pipe_is_no_failure() {
        let error = |kind: std::io::ErrorKind| Error::io("stdout", kind.into());
        assert!(is_broken_pipe(&error(std::io::ErrorKind::BrokenPipe)));
        assert!(!is_broken_pipe(&error(std::io::ErrorKind::StorageFull)));
    }
}
