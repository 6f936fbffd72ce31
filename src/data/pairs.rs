//! Pairs of text in one buffer, and the files that they are read from.

use std::path::Path;
use std::sync::Arc;

use s2s_runtime::files;

use super::{Progress, jsonl, separated};
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

/// How often something was met, and where first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// How often.
    pub count: usize,
    /// 1-based line of the first; 0 where there is none.
    pub line: u64,
}

/// Pairs of text, one behind the other in one buffer: some eight bytes a pair more than the texts themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    text: String,
    /// Where a pair's source and its target end; its source begins where the pair before ends.
    ends: Vec<[u32; 2]>,
    /// Where the lines of pairs do not follow each other: the pair, and its line.
    lines: Vec<(u32, u64)>,
    /// Lines without a source or a target, which were left out.
    pub empty: Met,
    /// Lines that end in CR alone.
    pub returns: Met,
}

/// Some pairs of a buffer, in an order of their own.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pairs: Arc<Pairs>,
    order: Order,
}

#[derive(Clone, Debug)]
enum Order {
    Range(usize, usize),
    List(Vec<u32>),
}

impl Default for Order {
    fn default() -> Self {
        Self::Range(0, 0)
    }
}

impl Met {
    pub(super) fn meet(&mut self, line: u64) {
        if self.count == 0 {
            self.line = line;
        }
        self.count += 1;
    }
}

impl Pairs {
    /// Adds a pair that stands in `line`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] beyond 4 GiB of text or 2^32 pairs.
    pub fn push(&mut self, line: u64, source: &str, target: &str) -> Result<()> {
        let too_much = || {
            let error = Error::new(ErrorKind::Data, "more than 4 GiB of text, or more than 4294967295 pairs");
            error.help("`data.limit: N` takes the first pairs only")
        };
        let end = |length: usize| u32::try_from(length).map_err(|_| too_much());
        let at = end(self.ends.len())?;
        let ends =
            [end(self.text.len() + source.len())?, end(self.text.len() + source.len() + target.len())?];
        if line != self.lines.last().map_or(0, |&(first, line)| line + u64::from(at - first)) {
            self.lines.push((at, line));
        }
        self.text.push_str(source);
        self.text.push_str(target);
        self.ends.push(ends);
        Ok(())
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Source and target of a pair.
    pub fn get(&self, i: usize) -> (&str, &str) {
        let start = if i == 0 { 0 } else { self.ends[i - 1][1] as usize };
        let [middle, end] = self.ends[i].map(|end| end as usize);
        (&self.text[start..middle], &self.text[middle..end])
    }

    /// Source and target of each pair.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// 1-based line of a pair.
    pub fn line(&self, i: usize) -> u64 {
        let after = self.lines.partition_point(|&(first, _)| first as usize <= i);
        let Some(&(first, line)) = self.lines.get(after.wrapping_sub(1)) else { return i as u64 + 1 };
        line + (i as u64 - u64::from(first))
    }
}

impl<'a> FromIterator<&'a Pair> for Pairs {
    fn from_iter<T: IntoIterator<Item = &'a Pair>>(pairs: T) -> Self {
        let mut all = Self::default();
        for (pair, line) in pairs.into_iter().zip(1..) {
            // Pairs that are held already are far fewer than a buffer takes.
            if all.push(line, &pair.source, &pair.target).is_err() {
                break;
            }
        }
        all
    }
}

impl Part {
    /// All pairs.
    pub fn whole(pairs: Arc<Pairs>) -> Self {
        let order = Order::Range(0, pairs.len());
        Self { pairs, order }
    }

    /// The pairs at these positions.
    pub fn listed(pairs: Arc<Pairs>, positions: Vec<u32>) -> Self {
        Self { pairs, order: Order::List(positions) }
    }

    /// Cuts the pairs from `at` on off.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let order = match &mut self.order {
            Order::Range(start, end) => {
                let at = *start + at.min(*end - *start);
                Order::Range(at, std::mem::replace(end, at))
            }
            Order::List(positions) => {
                let rest = positions.split_off(at.min(positions.len()));
                positions.shrink_to_fit();
                Order::List(rest)
            }
        };
        Self { pairs: Arc::clone(&self.pairs), order }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        match &self.order {
            Order::Range(start, end) => end - start,
            Order::List(positions) => positions.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn position(&self, i: usize) -> usize {
        match &self.order {
            Order::Range(start, _) => start + i,
            Order::List(positions) => positions[i] as usize,
        }
    }

    /// Source and target of a pair.
    pub fn get(&self, i: usize) -> (&str, &str) {
        self.pairs.get(self.position(i))
    }

    /// Source and target of each pair.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// 1-based line of a pair.
    pub fn line(&self, i: usize) -> u64 {
        self.pairs.line(self.position(i))
    }
}

/// Most bytes of a line, or of a CSV record of several lines: what is read as one text is bounded before it
/// is one.
pub const LONGEST_LINE: usize = 1 << 20;

/// A file of pairs under way: where it is, how its lines are split, and what is made of them.
pub(super) struct Reading<'a> {
    pub(super) bytes: &'a [u8],
    /// Only named in errors.
    pub(super) file: &'a Path,
    pub(super) format: &'a Format,
    /// Most pairs.
    pub(super) limit: usize,
    /// Gets line, source and target of each pair.
    pub(super) visit: &'a mut dyn FnMut(u64, &str, &str) -> Result<()>,
    pub(super) progress: &'a mut Progress<'a>,
    pub(super) found: usize,
    pub(super) empty: Met,
    pub(super) returns: Met,
}

impl Reading<'_> {
    /// Whether as many pairs are found as are wanted.
    pub(super) fn is_done(&self) -> bool {
        self.found >= self.limit
    }

    /// Says how far it has come, now and then.
    pub(super) fn at(&mut self, byte: usize) {
        if self.found.is_multiple_of(1 << 14) {
            (self.progress)("reading", byte, self.bytes.len());
        }
    }

    /// Hands a pair on, unless a side of it is empty and such pairs are left out.
    pub(super) fn pair(&mut self, line: u64, source: &str, target: &str) -> Result<()> {
        for (side, text) in [("source", source), ("target", target)] {
            if text.trim().is_empty() {
                if self.format.skip_empty {
                    self.empty.meet(line);
                    return Ok(());
                }
                let help =
                    format!("{}; `empty: skip` in `data` leaves such lines out", expected(self.format));
                return Err(self.problem(line, format!("the {side} is empty"), help));
            }
        }
        (self.visit)(line, source, target)?;
        self.found += 1;
        Ok(())
    }

    pub(super) fn problem(&self, line: u64, message: impl Into<String>, help: impl Into<String>) -> Error {
        Error::new(ErrorKind::Data, message).at_line(self.file, Some(line), None).help(help)
    }

    pub(super) fn too_long(&self, line: u64) -> Error {
        let message = format!("the line is longer than {} MiB", LONGEST_LINE >> 20);
        self.problem(
            line,
            message,
            "is this a file of pairs, one a line? Cut long texts into sentences, or take the line out",
        )
    }

    /// Bytes of a line as text.
    pub(super) fn text<'t>(&self, line: u64, bytes: &'t [u8]) -> Result<&'t str> {
        std::str::from_utf8(bytes).map_err(|cause| {
            let message = format!("not valid UTF-8 at byte {} of the line", cause.valid_up_to() + 1);
            self.problem(line, message, from_another_encoding(self.file)).caused_by(cause)
        })
    }
}

/// The first `limit` pairs of `bytes`; duplicates are kept, a byte-order mark at the beginning is not. Lines
/// end in LF, CR LF or CR. `file` is only named in errors.
///
/// # Errors
/// [`ErrorKind::Data`] with file and line: a column is missing or one too many, a side is empty, a quote
/// stays open, the line is longer than [`LONGEST_LINE`], the text is not UTF-8; or there is no pair.
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
    let mut pairs = Pairs { text: String::with_capacity(bytes.len()), ..Pairs::default() };
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
    pairs.text.shrink_to_fit();
    pairs.ends.shrink_to_fit();
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
    parse(
        &bytes,
        file,
        &Format { kind, extra: crate::config::checked::Extra::Ignore, ..Format::default() },
        limit,
    )
}

/// What a line should look like.
pub(super) fn expected(format: &Format) -> String {
    let (source, target) = (format.source + 1, format.target + 1);
    let columns = |separator: &str| {
        format!(
            "a line has columns separated by {separator}; the source is column {source}, the target column {target}"
        )
    };
    match &format.kind {
        FormatKind::Separated(separator) if separator == "\t" => columns("tabs"),
        FormatKind::Separated(separator) => columns(&format!("{separator:?}")),
        FormatKind::Csv(b',') => columns("commas"),
        FormatKind::Csv(separator) => columns(&format!("{:?}", char::from(*separator))),
        FormatKind::Jsonl(names) => {
            let [source, target] = names.clone().unwrap_or_else(|| ["source", "target"].map(str::to_owned));
            format!(
                "a line is an object of JSON with the texts `{source}` and `{target}`; `data.columns` names others"
            )
        }
    }
}

/// How a file is made one of UTF-8, in a command to type.
fn from_another_encoding(file: &Path) -> String {
    let name = file.display();
    format!(
        "s2s reads UTF-8; if this is Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8 '{name}' > NEW (if Chinese: -f GB18030)"
    )
}

/// Whether a file may be text in UTF-8, by how it begins.
///
/// # Errors
/// [`ErrorKind::Data`] with a command that makes it one.
pub fn check_encoding(bytes: &[u8], file: &Path) -> Result<()> {
    let name = file.display();
    let head = &bytes[..bytes.len().min(1 << 10)];
    let zeros =
        |start: usize| head.iter().skip(start).step_by(2).filter(|&&b| b == 0).count() * 10 > head.len() * 3;
    let (what, command) = match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => ("UTF-32", "iconv -f UTF-32 -t UTF-8"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("UTF-16", "iconv -f UTF-16 -t UTF-8"),
        _ if zeros(1) => ("UTF-16", "iconv -f UTF-16LE -t UTF-8"),
        _ if zeros(0) => ("UTF-16", "iconv -f UTF-16BE -t UTF-8"),
        [0x1f, 0x8b, ..] => ("a gzip file", "gunzip -c"),
        [b'P', b'K', 3, 4, ..] => ("a zip file", "unzip -p"),
        _ => return Ok(()),
    };
    let error =
        Error::new(ErrorKind::Data, format!("this is {what}, where text in UTF-8 should be")).in_file(file);
    Err(error.help(format!("{command} '{name}' > NEW, and name the new file")))
}
