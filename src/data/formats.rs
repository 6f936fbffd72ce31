//! Files to pairs, in each format that there is.

use std::path::Path;

use s2s_runtime::files;

use super::pairs::{Met, Pairs};
use super::reading::{Reading, check_encoding, expected};
use super::{Progress, jsonl, separated};
use crate::config::checked::{Extra, Format, FormatKind};
use crate::error::{Error, ErrorKind, Result};

/// The first `limit` pairs of `bytes`; duplicates are kept, a byte-order mark at the beginning is not. Lines
/// end in LF, CR LF or CR. `file` is only named in errors.
///
/// # Errors
/// [`ErrorKind::Data`] with file and line: a column is missing or one too many, a side is empty, a quote
/// stays open, the line is longer than [`LONGEST_LINE`](super::reading::LONGEST_LINE), the text is not UTF-8;
/// or there is no pair.
pub fn parse(bytes: &[u8], file: &Path, format: &Format, limit: Option<usize>) -> Result<Pairs> {
    collect(bytes, file, format, limit, &mut |_, _, _| Ok(()), &mut |_, _, _| ())
}

/// As [`parse`], with a `check` of each pair and its line before it is kept.
///
/// # Errors
/// As [`parse`], and those of `check`.
pub fn collect(
    bytes: &[u8],
    file: &Path,
    format: &Format,
    limit: Option<usize>,
    check: &mut dyn FnMut(u64, &str, &str) -> Result<()>,
    progress: &mut Progress<'_>,
) -> Result<Pairs> {
    check_encoding(bytes, file)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Texts are no longer than the file; what is reserved and not written to is no memory.
    let mut pairs = Pairs::with_capacity(bytes.len());
    let mut visit = |line: u64, source: &str, target: &str| {
        check(line, source, target)?;
        pairs.push(line, source, target).map_err(|e| e.at_line(file, Some(line), None))
    };
    let mut progress = |what: &'static str, done: usize, all: usize| progress(what, done, all);
    let mut reading = Reading {
        bytes,
        file,
        format,
        limit: limit.unwrap_or(usize::MAX),
        visit: &mut visit,
        progress: &mut progress,
        found: 0,
        empty: Met::default(),
        returns: Met::default(),
    };
    match &format.kind {
        FormatKind::Separated(separator) => separated::lines(&mut reading, separator)?,
        FormatKind::Csv(separator) => separated::csv(&mut reading, *separator)?,
        FormatKind::Jsonl(names) => jsonl::lines(&mut reading, names.as_ref())?,
    }
    let Reading { empty, returns, .. } = reading;
    (pairs.empty, pairs.returns) = (empty, returns);
    pairs.shrink_to_fit();
    if pairs.is_empty() {
        return Err(Error::new(ErrorKind::Data, "the file holds no pair")
            .in_file(file)
            .help(expected(format)));
    }
    Ok(pairs)
}

/// The first `limit` pairs of a file: source and target in the first two columns, separated by tabs, or by
/// commas if its name ends in `.csv`, further columns ignored; or objects of JSON if it ends in `.jsonl`.
///
/// # Errors
/// As [`parse`]; [`ErrorKind::Io`] if it cannot be read.
pub fn read(file: &Path, limit: Option<usize>) -> Result<Pairs> {
    let bytes = files::read(file, files::DATA)?;
    let ends_in =
        |wanted: &str| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted));
    let kind = match () {
        () if ends_in("csv") => FormatKind::Csv(b','),
        () if ends_in("jsonl") => FormatKind::Jsonl(None),
        () => FormatKind::Separated("\t".to_owned()),
    };
    parse(&bytes, file, &Format { kind, extra: Extra::Ignore, ..Format::default() }, limit)
}
