//! Blocks of a document that are run, and the marks in front of them.

use std::collections::BTreeMap;

/// What a block is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// ```` ```sh ````, for bash.
    Shell,
    /// ```` ```python ````.
    Python,
}

/// A block that is run, with the marks of the HTML comments directly in front of it:
///
/// | mark | what it does |
/// |---|---|
/// | `not run: REASON` | the block is only shown |
/// | `server: ARGUMENTS` | `s2s serve-local ARGUMENTS` runs beside the block; `localhost:8080` becomes its address |
/// | `set: KEY=VALUE; KEY=VALUE` | further `--set` of `s2s train` and `s2s demo`, so that a training ends soon |
/// | `given: NAME = FILE` | a file of the reader, a copy of FILE of the project; several, apart with `;` |
/// | `stdin: TEXT` | what the block reads; nothing otherwise |
/// | `needs: DATA` | the block is about the public data: without it, what it prints is not compared |
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: Language,
    /// The line of the opening fence, counted from 1.
    pub(crate) line: usize,
    pub(crate) code: String,
    pub(crate) marks: BTreeMap<String, String>,
    /// What it prints, stdout and stderr together as a terminal shows them, from a block that the mark
    /// `prints` (or `prints: full`, for whole trainings) puts behind it.
    pub(crate) prints: Option<Prints>,
}

/// What a block is said to print.
#[derive(Debug)]
pub(crate) struct Prints {
    pub(crate) text: String,
    /// Only where trainings run to their end.
    pub(crate) full: bool,
}

const MARKS: [&str; 7] = ["not run", "server", "set", "given", "stdin", "needs", "prints"];
/// Marks that mean nothing without a value.
const WITH_VALUE: [&str; 6] = ["not run", "server", "set", "given", "stdin", "needs"];

/// The marks of one comment, or `None` for a comment of another kind (`<!-- runtimes -->`, `<!-- numbers: ...
/// -->`).
fn mark(document: &str, line: usize, comment: &str) -> (String, String) {
    let (name, value) = comment.split_once(':').unwrap_or((comment, ""));
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    assert!(
        MARKS.contains(&name.as_str()),
        "{document}, line {line}: the mark {name:?} is none of {MARKS:?}"
    );
    assert!(
        !value.is_empty() || !WITH_VALUE.contains(&name.as_str()),
        "{document}, line {line}: the mark {name:?} says nothing"
    );
    (name, value)
}

/// All blocks of a document that are run, in order.
pub(crate) fn parse(document: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut marks = BTreeMap::new();
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->")) {
            comments.push((index + 1, comment.trim().to_owned()));
            continue;
        }
        let Some(language) = trimmed.strip_prefix("```") else {
            comments.clear();
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut code = String::new();
        for (_, line) in lines.by_ref() {
            if line.trim() == "```" {
                break;
            }
            code.push_str(line.get(indent..).unwrap_or_else(|| line.trim_start()));
            code.push('\n');
        }
        let language = match language {
            "sh" => Some(Language::Shell),
            "python" => Some(Language::Python),
            _ => None,
        };
        let printed =
            comments.iter().any(|(_, comment)| comment.split(':').next().unwrap().trim() == "prints");
        if language.is_none() && !printed {
            comments.clear();
            continue;
        }
        marks.extend(comments.drain(..).map(|(line, comment)| mark(document, line, &comment)));
        match (language, marks.remove("prints")) {
            (Some(language), None) => {
                blocks.push(Block {
                    language,
                    line: index + 1,
                    code,
                    marks: std::mem::take(&mut marks),
                    prints: None,
                });
            }
            (None, Some(kind)) => {
                let before = blocks.last_mut().filter(|block| block.prints.is_none());
                let before = before.unwrap_or_else(|| {
                    panic!("{document}, line {}: no block that could print this", index + 1)
                });
                assert!(kind.is_empty() || kind == "full", "{document}, line {}: prints: {kind}", index + 1);
                before.prints = Some(Prints { text: code, full: kind == "full" });
            }
            _ => panic!("{document}, line {}: `prints` stands in front of a ```text block", index + 1),
        }
    }
    blocks
}
