//! Files of pairs: one line, one source text and one target text.

use std::cell::Cell;
use std::io::Read;
use std::path::Path;

use s2s_runtime::files;

use crate::config::checked::{Format, FormatKind};
use crate::error::{Error, ErrorKind, Result};

/// A source text and its target text, as they stand in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// What is read.
    pub source: String,
    /// What shall be written.
    pub target: String,
}

/// Most bytes of a line, or of a CSV record of several lines: what is read as one text is bounded before it is one.
pub const LONGEST_LINE: usize = 1 << 20;

/// The first `limit` pairs of `bytes`; duplicates are kept, a byte-order mark and CR before LF are not. `file` is only
/// named in errors.
///
/// # Errors
/// [`ErrorKind::Data`] with file and line: a column is missing or one too many, a side is empty, a quote stays open, the
/// line is longer than [`LONGEST_LINE`], the text is not UTF-8; or there is no pair.
pub fn parse(bytes: &[u8], file: &Path, format: Format, limit: Option<usize>) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    each(bytes, file, format, limit, |_, pair| {
        pairs.push(pair);
        Ok(())
    })?;
    Ok(pairs)
}

/// As [`parse`], pair by pair: `visit` gets each with its 1-based line.
///
/// # Errors
/// As [`parse`], and those of `visit`.
pub fn each(bytes: &[u8], file: &Path, format: Format, limit: Option<usize>, mut visit: impl FnMut(u64, Pair) -> Result<()>) -> Result<()> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let limit = limit.unwrap_or(usize::MAX);
    let found = match format.kind {
        FormatKind::Tsv => tsv(bytes, file, format, limit, &mut visit)?,
        FormatKind::Csv => csv(bytes, file, format, limit, &mut visit)?,
    };
    if found == 0 {
        return Err(Error::new(ErrorKind::Data, "the file holds no pair").in_file(file).help(expected(format)));
    }
    Ok(())
}

/// The first `limit` pairs of a file: source and target in the first two columns, separated by tabs, or by commas if its
/// name ends in `.csv`; further columns are ignored.
///
/// # Errors
/// As [`parse`]; [`ErrorKind::Io`] if it cannot be read.
pub fn read(file: &Path, limit: Option<usize>) -> Result<Vec<Pair>> {
    let bytes = files::read(file, files::DATA)?;
    let csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let kind = if csv { FormatKind::Csv } else { FormatKind::Tsv };
    parse(&bytes, file, Format { kind, source: 0, target: 1, extra_is_error: false, header: false }, limit)
}

fn expected(format: Format) -> String {
    let (source, target) = (format.source + 1, format.target + 1);
    let separator = match format.kind {
        FormatKind::Tsv => "tabs",
        FormatKind::Csv => "commas",
    };
    format!("a line has columns separated by {separator}; the source is column {source}, the target column {target}")
}

fn problem(file: &Path, line: u64, message: impl Into<String>, help: impl Into<String>) -> Error {
    Error::new(ErrorKind::Data, message).at_line(file, Some(line), None).help(help)
}

fn too_long(file: &Path, line: u64) -> Error {
    let message = format!("the line is longer than {} MiB", LONGEST_LINE >> 20);
    problem(file, line, message, "is this a file of pairs, one a line? Cut long texts into sentences, or take the line out")
}

type Visit<'a> = &'a mut dyn FnMut(u64, Pair) -> Result<()>;

/// Number of pairs that were visited.
fn tsv(bytes: &[u8], file: &Path, format: Format, limit: usize, visit: Visit<'_>) -> Result<usize> {
    let mut found = 0;
    for (number, line) in (1u64..).zip(bytes.split(|&b| b == b'\n')).skip(usize::from(format.header)) {
        if found == limit {
            break;
        }
        if line.len() > LONGEST_LINE {
            return Err(too_long(file, number));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let line = std::str::from_utf8(line).map_err(|cause| {
            let message = format!("not valid UTF-8 at byte {} of the line", cause.valid_up_to() + 1);
            problem(file, number, message, "save the file as UTF-8").caused_by(cause)
        })?;
        let columns: Vec<&str> = line.split('\t').collect();
        visit(number, pair(&columns, file, number, format)?)?;
        found += 1;
    }
    Ok(found)
}

/// Bytes that are given to the CSV reader, which knows no limit, no further than so far behind the record that it reads.
struct Window<'a> {
    bytes: &'a [u8],
    at: usize,
    end: &'a Cell<usize>,
}

impl Read for Window<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let end = self.bytes.len().min(self.end.get());
        if self.at >= end && end < self.bytes.len() {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let read = into.len().min(end - self.at);
        into[..read].copy_from_slice(&self.bytes[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

/// Number of pairs that were visited.
fn csv(bytes: &[u8], file: &Path, format: Format, limit: usize, visit: Visit<'_>) -> Result<usize> {
    // The reader reads ahead by a buffer of its own.
    const BUFFER: usize = 1 << 16;
    let end = Cell::new(LONGEST_LINE + BUFFER);
    let window = Window { bytes, at: 0, end: &end };
    let mut reader = csv::ReaderBuilder::new().has_headers(format.header).flexible(true).buffer_capacity(BUFFER).from_reader(window);
    let mut record = csv::ByteRecord::new();
    let mut found = 0;
    while found < limit {
        let start = reader.position().byte() as usize;
        let first = reader.position().line();
        end.set(start.saturating_add(LONGEST_LINE + BUFFER));
        let more = reader.read_byte_record(&mut record).map_err(|cause| match cause.kind() {
            csv::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::FileTooLarge => too_long(file, first),
            _ => Error::new(ErrorKind::Data, "not readable as CSV").in_file(file).caused_by(cause),
        })?;
        if !more {
            break;
        }
        let line = record.position().map_or(1, csv::Position::line);
        let raw = &bytes[start.min(bytes.len())..(reader.position().byte() as usize).min(bytes.len())];
        if raw.len() > LONGEST_LINE {
            return Err(too_long(file, line));
        }
        if open_quote(raw) {
            return Err(problem(file, line, "a quoted field is not closed", "write a quote inside a quoted field twice: \"\""));
        }
        let columns = record
            .iter()
            .map(std::str::from_utf8)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| problem(file, line, "not valid UTF-8", "save the file as UTF-8").caused_by(cause))?;
        visit(line, pair(&columns, file, line, format)?)?;
        found += 1;
    }
    Ok(found)
}

/// Whether a record of the file ends inside a quoted field; the csv crate takes that silently.
fn open_quote(raw: &[u8]) -> bool {
    let mut quoted = false;
    let mut at_start = true;
    for &byte in raw {
        match byte {
            b'"' if quoted || at_start => quoted = !quoted,
            // A doubled quote closes and opens again.
            b'"' if !quoted => quoted = true,
            _ => {}
        }
        at_start = !quoted && matches!(byte, b',' | b'\n' | b'\r');
    }
    quoted
}

fn pair(columns: &[&str], file: &Path, line: u64, format: Format) -> Result<Pair> {
    let needed = 1 + format.source.max(format.target);
    if columns.len() < needed {
        let message = match (format.kind, columns.len()) {
            (FormatKind::Tsv, 1) => "the line has no tab".to_owned(),
            (_, 1) => format!("the line has one column, not {needed}"),
            (_, n) => format!("the line has {n} columns, not {needed}"),
        };
        return Err(problem(file, line, message, expected(format)));
    }
    if format.extra_is_error && columns.len() > needed {
        let help = "add `columns: {extra: ignore}` to `data` if further columns (an attribution, say) are right";
        return Err(problem(file, line, format!("the line has {} columns, not {needed}", columns.len()), help));
    }
    let (source, target) = (columns[format.source], columns[format.target]);
    for (side, text) in [("source", source), ("target", target)] {
        if text.trim().is_empty() {
            return Err(problem(file, line, format!("the {side} is empty"), expected(format)));
        }
    }
    Ok(Pair { source: source.to_owned(), target: target.to_owned() })
}
