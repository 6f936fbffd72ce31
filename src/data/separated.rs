//! Lines of columns: with a separator and no quoting, or as CSV.

use std::cell::Cell;
use std::io::Read;

use super::reading::{LONGEST_LINE, Reading, expected};
use crate::config::checked::{Extra, Format};
use crate::error::{Error, ErrorKind, Result};

/// Lines, whatever ends them: LF, CR LF, or CR alone as on old Macs.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    /// Where the next line begins.
    pub(super) at: usize,
    number: u64,
}

/// A line without its end.
pub(super) struct Line<'a> {
    /// 1-based number in the file.
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
    /// Whether CR alone ends it.
    pub(super) is_returned: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, number: 0 }
    }

    /// The next line, with the byte at which it begins; `None` at the end, or where enough was read.
    ///
    /// # Errors
    /// A line of more than [`LONGEST_LINE`] bytes.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>) -> Result<Option<(usize, Line<'a>)>> {
        if reading.is_done() {
            return Ok(None);
        }
        let at = self.at;
        let Some(line) = self.next() else { return Ok(None) };
        if line.is_returned {
            reading.returns.meet(line.number);
        }
        if line.bytes.len() > LONGEST_LINE {
            return Err(reading.too_long(line.number));
        }
        Ok(Some((at, line)))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        self.number += 1;
        let length = rest.iter().position(|&b| b == b'\n' || b == b'\r').unwrap_or(rest.len());
        let end = match &rest[length..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        self.at += length + end;
        let is_returned = end == 1 && rest[length] == b'\r';
        Some(Line { number: self.number, bytes: &rest[..length], is_returned })
    }
}

/// Columns between separators, without quoting. A separator of spaces alone takes in further spaces.
pub(super) fn lines(reading: &mut Reading<'_>, separator: &str) -> Result<()> {
    let format = reading.format;
    let mut lines = Lines::new(reading.bytes);
    let mut is_head = format.header;
    while let Some((at, line)) = lines.read(reading)? {
        let is_blank = line.bytes.trim_ascii().is_empty() && !line.bytes.contains(&b'\t');
        if is_blank || format.comment.as_ref().is_some_and(|mark| line.bytes.starts_with(mark.as_bytes())) {
            continue;
        }
        if std::mem::take(&mut is_head) {
            continue;
        }
        let text = reading.text(line.number, line.bytes)?;
        let (source, target) = columns(reading, line.number, text, split(text, separator, format))?;
        reading.pair(line.number, source, target)?;
        reading.at(at);
    }
    Ok(())
}

/// The columns of a line; the last one that is wanted may take in all that follows.
fn split<'a>(text: &'a str, separator: &str, format: &Format) -> impl Iterator<Item = &'a str> {
    let most = if format.extra == Extra::Join { format.needed() } else { usize::MAX };
    let of_spaces = separator.bytes().all(|b| b == b' ');
    let mut rest = Some(text);
    let mut count = 0;
    std::iter::from_fn(move || {
        let text = rest?;
        count += 1;
        let cut = if count < most { text.split_once(separator) } else { None };
        rest = cut.map(|(_, rest)| if of_spaces { rest.trim_start_matches(' ') } else { rest });
        Some(cut.map_or(text, |(column, _)| column))
    })
}

/// Source and target out of the columns of a line.
fn columns<'a>(
    reading: &Reading<'_>,
    line: u64,
    text: &str,
    columns: impl Iterator<Item = &'a str>,
) -> Result<(&'a str, &'a str)> {
    let format = reading.format;
    let (mut source, mut target, mut count) = ("", "", 0);
    for column in columns {
        if count == format.source {
            source = column;
        }
        if count == format.target {
            target = column;
        }
        count += 1;
    }
    let needed = format.needed();
    if count < needed {
        let message = match (expected(format), count) {
            (said, 1) if said.contains("tabs") => "the line has no tab".to_owned(),
            (_, 1) => format!("the line has one column, not {needed}"),
            (_, n) => format!("the line has {n} columns, not {needed}"),
        };
        return Err(reading.problem(line, message, hint(format, text).unwrap_or_else(|| expected(format))));
    }
    if format.extra == Extra::Error && count > needed {
        let help = "add `columns: {extra: ignore}` to `data` if further columns (an attribution, say) are \
            right, \
                    `{extra: join}` if they are text of the last one";
        return Err(reading.problem(line, format!("the line has {count} columns, not {needed}"), help));
    }
    Ok((source, target))
}

/// What a line that cannot be cut looks like.
fn hint(format: &Format, line: &str) -> Option<String> {
    let marks =
        [";;;", "#"].into_iter().find(|mark| line.starts_with(mark)).filter(|_| format.comment.is_none());
    if let Some(mark) = marks {
        return Some(format!("if lines that begin so are comments, add `comment: \"{mark}\"` to `data`"));
    }
    if line.starts_with('{') && line.trim_end().ends_with('}') {
        return Some("this looks like JSON: `format: jsonl` in `data` reads an object a line".to_owned());
    }
    let (separator, about) =
        [("\t", "a tab"), ("  ", "two spaces"), (";", "a semicolon"), ("|", "a bar"), (",", "a comma")]
            .into_iter()
            .find(|s| line.contains(s.0))?;
    let more =
        if matches!(separator, ";" | ",") { "; with quoted fields `format: csv` beside it" } else { "" };
    Some(format!(
        "the line has {about}: if that separates the columns, add `separator: {separator:?}` to `data`{more}"
    ))
}

/// Bytes that are given to the CSV reader, which knows no limit, no further than so far behind the record
/// that it reads.
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

/// Records of RFC 4180 with any separator.
pub(super) fn csv(reading: &mut Reading<'_>, separator: u8) -> Result<()> {
    // The reader reads ahead by a buffer of its own.
    const BUFFER: usize = 1 << 16;
    let (bytes, format) = (reading.bytes, reading.format);
    let comment = format.comment.as_ref().and_then(|mark| mark.bytes().next());
    let end = Cell::new(LONGEST_LINE + BUFFER);
    let window = Window { bytes, at: 0, end: &end };
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).buffer_capacity(BUFFER).delimiter(separator).comment(comment);
    let mut reader = builder.from_reader(window);
    let mut record = csv::ByteRecord::new();
    let (mut line, mut is_head) = (1, format.header);
    while !reading.is_done() {
        let start = reader.position().byte() as usize;
        end.set(start.saturating_add(LONGEST_LINE + BUFFER));
        let more = reader.read_byte_record(&mut record).map_err(|cause| match cause.kind() {
            csv::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::FileTooLarge => reading.too_long(line),
            _ => Error::new(ErrorKind::Data, "not readable as CSV").in_file(reading.file).caused_by(cause),
        })?;
        if !more {
            break;
        }
        let stop = (reader.position().byte() as usize).min(bytes.len());
        let raw = &bytes[start.min(stop)..stop];
        let skipped = passed_over(raw, comment);
        let number = line + line_ends(&raw[..skipped], &raw[skipped..]);
        let raw = &raw[skipped..];
        line = number + line_ends(raw, &bytes[stop..]);
        if raw.len() > LONGEST_LINE {
            return Err(reading.too_long(number));
        }
        if raw.ends_with(b"\r") && !bytes[stop..].starts_with(b"\n") {
            reading.returns.meet(number);
        }
        if open_quote(raw, separator) {
            return Err(reading.problem(
                number,
                "a quoted field is not closed",
                "write a quote inside a quoted field twice: \"\"",
            ));
        }
        if std::mem::take(&mut is_head) {
            continue;
        }
        let fields =
            record.iter().map(|field| reading.text(number, field).map_err(|e| plain(reading, number, e)));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let joined;
        let fields = match format.extra {
            // Only the last separator is known to have been one: the fields are put together again.
            Extra::Join if fields.len() > format.needed() => {
                joined = fields[format.needed() - 1..].join(char::from(separator).encode_utf8(&mut [0; 4]));
                [&fields[..format.needed() - 1], &[joined.as_str()]].concat()
            }
            _ => fields,
        };
        let text = if fields.len() == 1 { fields[0] } else { "" };
        let (source, target) = columns(reading, number, text, fields.iter().copied())?;
        reading.pair(number, source, target)?;
        reading.at(start);
    }
    Ok(())
}

/// A byte of a field is no byte of its line.
fn plain(reading: &Reading<'_>, line: u64, error: Error) -> Error {
    let help = error.help_text().unwrap_or_default().to_owned();
    reading.problem(line, "not valid UTF-8", help).caused_by(error)
}

/// Bytes of blank lines and comments in front of a record.
fn passed_over(raw: &[u8], comment: Option<u8>) -> usize {
    let mut at = 0;
    while let Some(&first) = raw.get(at) {
        if matches!(first, b'\n' | b'\r') {
            at += 1;
        } else if Some(first) == comment {
            at += raw[at..].iter().position(|&b| b == b'\n').unwrap_or(raw.len() - at);
        } else {
            break;
        }
    }
    at
}

/// Ends of lines in `bytes`, before `next`.
fn line_ends(bytes: &[u8], next: &[u8]) -> u64 {
    let next = next.first().copied();
    let after = |i: usize| bytes.get(i + 1).copied().or(next);
    bytes.iter().enumerate().filter(|&(i, &b)| b == b'\n' || b == b'\r' && after(i) != Some(b'\n')).count()
        as u64
}

/// Whether a record of the file ends inside a quoted field; the csv crate takes that silently.
fn open_quote(raw: &[u8], separator: u8) -> bool {
    let mut quoted = false;
    let mut at_start = true;
    for &byte in raw {
        match byte {
            b'"' if quoted || at_start => quoted = !quoted,
            // A doubled quote closes and opens again.
            b'"' if !quoted => quoted = true,
            _ => {}
        }
        at_start = !quoted && (byte == separator || matches!(byte, b'\n' | b'\r'));
    }
    quoted
}
