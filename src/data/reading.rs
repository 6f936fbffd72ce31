//! A file of pairs under way, whatever its format: what is bounded, what is wrong with a line, and what would
//! be right.

use std::path::Path;

use super::Progress;
use super::pairs::Met;
use crate::config::checked::{Format, FormatKind};
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of a line, or of a CSV record of several lines: what is read as one text is bounded before it
/// is one.
pub const LONGEST_LINE: usize = 1 << 20;

/// A file of pairs under way: where it is, how its lines are split, and what is made of them.
pub(super) struct Reading<'a> {
    pub(super) bytes: &'a [u8],
    /// Only named in errors.
    pub(super) file: &'a Path,
    pub(super) format: &'a Format,
    /// After so many pairs nothing more is read.
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

/// What a line should look like.
pub(super) fn expected(format: &Format) -> String {
    let (source, target) = (format.source + 1, format.target + 1);
    let columns = |separator: &str| {
        format!(
            "a line has columns separated by {separator}; the source is column {source}, the target column \
             {target}"
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
                "a line is an object of JSON with the texts `{source}` and `{target}`; `data.columns` names \
                 others"
            )
        }
    }
}

/// How a file is made one of UTF-8, in a command to type.
fn from_another_encoding(file: &Path) -> String {
    let name = file.display();
    format!(
        "s2s reads UTF-8; if this is Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8 '{name}' > NEW \
         (if Chinese: -f GB18030)"
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
