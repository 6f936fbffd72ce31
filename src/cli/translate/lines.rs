//! Lines in, lines out: what `s2s translate` reads and writes.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;

use s2s_runtime::decoding::Settings;
use s2s_runtime::printable;
use s2s_runtime::translator::{Alternative, TextCoder, Translation, TranslatorPool};
use serde::Serialize;

use super::remarks::Remarks;
use crate::cli::{report, terminal};
use crate::error::{Error, ErrorKind, Result};

/// Lines that are read ahead are translated together, at most this many.
const MOST_LINES: usize = 16_384;
/// A longer line is an error, not memory.
const LONGEST_LINE: usize = 1 << 20;

/// Where the output goes, and what became of the lines so far.
pub(super) struct Lines<W> {
    pub(super) settings: Arc<Settings>,
    pub(super) coder: TextCoder,
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) read: u64,
    pub(super) failed: usize,
    pub(super) remarks: Remarks,
    pub(super) out: W,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Record<'a> {
    line: u64,
    source: &'a str,
    #[serde(flatten)]
    translation: &'a Translation,
}

impl<W: Write> Lines<W> {
    pub(super) fn translate(&mut self, pool: &mut TranslatorPool, block: Vec<Result<String>>) -> Result<()> {
        let texts: Vec<&str> = block.iter().flatten().map(String::as_str).collect();
        let mut translations = pool.translate_with(&texts, &self.settings).into_iter();
        for line in block {
            let (source, translation) = match line {
                Ok(source) => {
                    let lost = || Err(Error::new(ErrorKind::Internal, "a line has no result"));
                    (source, translations.next().unwrap_or_else(lost))
                }
                Err(error) => (String::new(), Err(error)),
            };
            self.write(&source, translation)?;
        }
        self.out.flush().map_err(closed)
    }

    /// Writes what became of a line; errors and remarks go to stderr.
    pub(super) fn write(&mut self, source: &str, translation: Result<Translation>) -> Result<()> {
        self.read += 1;
        match translation {
            Ok(translation) => {
                self.remark(source, &translation);
                if self.json {
                    let record = Record { line: self.read, source, translation: &translation };
                    let record = serde_json::to_string(&record)
                        .map_err(|e| Error::new(ErrorKind::Internal, "not JSON").caused_by(e))?;
                    return writeln!(self.out, "{record}").map_err(closed);
                }
                self.write_ranked(Some(&translation))
            }
            Err(error) => {
                self.failed += 1;
                let shown = error.message().to_owned();
                let error = error.at_line("input", Some(self.read), None);
                if self.json {
                    eprintln!("{}", report::render_json(&error));
                    let record = serde_json::json!({ "line": self.read, "source": source, "error": shown });
                    return writeln!(self.out, "{record}").map_err(closed);
                }
                eprint!("{}", report::render(&error, terminal::stderr_has_colours()));
                self.write_ranked(None)
            }
        }
    }

    /// Whether each line gets several, with rank and score.
    pub(super) fn is_ranked(&self) -> bool {
        self.settings.num_return_sequences > 1
    }

    /// The line of a translation; of several, as many lines as were asked for, with rank, score and text
    /// between tabs. Ranks that nothing was found for have neither score nor text.
    pub(super) fn write_ranked(&mut self, translation: Option<&Translation>) -> Result<()> {
        let text = |one: &Alternative| one_line(&one.text).into_owned();
        if !self.is_ranked() {
            return writeln!(self.out, "{}", translation.map(|t| text(&t.best)).unwrap_or_default())
                .map_err(closed);
        }
        let is_decoded = translation.is_some_and(|t| t.source_tokens > 0);
        let all = translation
            .into_iter()
            .filter(|_| is_decoded)
            .flat_map(|t| [&t.best].into_iter().chain(&t.alternatives));
        let mut all = all.map(|one| (format!("{:.4}", one.score), text(one)));
        for rank in 1..=self.settings.num_return_sequences {
            let (score, text) = all.next().unwrap_or_default();
            writeln!(self.out, "{rank}\t{score}\t{text}").map_err(closed)?;
        }
        Ok(())
    }

    /// Says on stderr what is likely where the model hardly knows a line; once for each kind.
    pub(super) fn remark(&mut self, source: &str, translation: &Translation) {
        if self.quiet {
            return;
        }
        if let Some(remark) =
            self.remarks.on(source, &translation.unknown, self.coder.source(), self.settings.unknown)
        {
            let colours = terminal::stderr_has_colours();
            eprintln!("{} line {}: {remark}", terminal::paint("1;33", "warning:", colours), self.read);
            eprintln!("  {} {}", terminal::paint("1;36", "help:", colours), printable::line(&remark.help()));
        }
    }

    pub(super) fn outcome(self) -> Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Error::new(
                ErrorKind::Input,
                format!("{failed} of {} lines could not be translated", self.read),
            )),
        }
    }
}

pub(super) fn closed(cause: std::io::Error) -> Error {
    Error::io("stdout", cause)
}

/// An output line stays one line, and its columns stay columns.
pub(super) fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

/// Waits for one line, then takes what else is there already: a person gets every line at once, a file goes
/// in bulk.
pub(super) fn read_block<R: Read>(reader: &mut BufReader<R>) -> Result<Vec<Result<String>>> {
    let mut block = Vec::new();
    while let Some(line) = read_line(reader)? {
        block.push(line);
        if block.len() >= MOST_LINES || !reader.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(block)
}

/// The next line without its end; `None` at the end of the input. A line that is no text is an inner error.
pub(super) fn read_line(reader: &mut impl BufRead) -> Result<Option<Result<String>>> {
    let mut line = Vec::new();
    let limit = LONGEST_LINE as u64 + 1;
    let read = reader
        .by_ref()
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(|cause| Error::io("stdin", cause))?;
    if read == 0 {
        return Ok(None);
    }
    if line.len() > LONGEST_LINE && line.last() != Some(&b'\n') {
        // The rest of it is read and forgotten.
        reader.skip_until(b'\n').map_err(|cause| Error::io("stdin", cause))?;
        return Ok(Some(Err(too_long())));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    let text = String::from_utf8(line).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        Error::new(ErrorKind::Input, format!("not UTF-8: byte {at} of the line"))
    });
    Ok(Some(text))
}

fn too_long() -> Error {
    Error::new(ErrorKind::Input, format!("a line of more than {LONGEST_LINE} bytes"))
}

/// A line that was typed, under the same limit as one that is read.
pub(super) fn typed(line: String) -> Result<String> {
    if line.len() > LONGEST_LINE { Err(too_long()) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lines(input: &[u8]) -> Vec<std::result::Result<String, String>> {
        let mut reader = BufReader::new(input);
        let mut all = Vec::new();
        while let Some(line) = read_line(&mut reader).unwrap() {
            all.push(line.map_err(|e| e.to_string()));
        }
        all
    }

    #[test]
    fn lines_end_with_a_line_feed_or_both_signs_and_the_last_may_end_with_nothing() {
        assert_eq!(lines(b"a\r\nb\n\nc"), ["a", "b", "", "c"].map(|s| Ok(s.to_owned())));
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_does_not_stop_the_next() {
        let mut input = b"ab\xffc\n".to_vec();
        input.extend(vec![b'x'; LONGEST_LINE + 1]);
        input.extend(b"\nlast\n");
        let read = lines(&input);
        assert_eq!(read[0], Err("not UTF-8: byte 3 of the line".to_owned()));
        assert!(read[1].as_ref().unwrap_err().contains("more than"));
        assert_eq!(read[2], Ok("last".to_owned()));
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn a_block_is_what_has_arrived() {
        let mut reader = BufReader::with_capacity(8, &b"a\nb\nc\nd\ne\nf\n"[..]);
        assert_eq!(read_block(&mut reader).unwrap().len(), 4);
        assert_eq!(read_block(&mut reader).unwrap().len(), 2);
        assert!(read_block(&mut reader).unwrap().is_empty());
    }
}
