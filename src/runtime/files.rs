//! The one way in which a file that somebody names is read: regular files only, and never more of one than
//! its kind may have.
//!
//! A FIFO or a device where a file should be would block a program for good, or never end; a file of the
//! wrong kind would fill the memory. Both are refused before anything is read, with what the file is and what
//! would be right.

use std::fs::{File, FileType, OpenOptions};
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// A kind of file: what errors call it, how long it may be, and the kind of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKind {
    /// With its article, for example `a config`.
    pub name: &'static str,
    /// Most bytes of it that are read.
    pub limit: u64,
    /// Kind of the errors about a file that is not of this kind; failures to read are [`ErrorKind::Io`].
    pub error: ErrorKind,
}

/// A bundle as one zip file; its members have limits of their own.
pub const ARCHIVE: FileKind = FileKind { name: "a bundle", limit: 16 << 30, error: ErrorKind::Bundle };
/// A manifest.
pub const MANIFEST: FileKind = FileKind { name: "a manifest", limit: 64 << 20, error: ErrorKind::Bundle };
/// An ONNX file: protobuf's own limit.
pub const GRAPH: FileKind =
    FileKind { name: "an ONNX graph", limit: (2 << 30) - 1, error: ErrorKind::Bundle };
/// Weights of a graph in a file of their own, as long as a graph that has them within.
pub const WEIGHTS: FileKind =
    FileKind { name: "the weights of an ONNX graph", limit: GRAPH.limit, error: ErrorKind::Bundle };
/// A file beside manifest and graphs; reading JSON takes some ten times as much memory.
pub const SIDE_FILE: FileKind =
    FileKind { name: "a file of a bundle", limit: 16 << 20, error: ErrorKind::Bundle };
/// A file of a tokeniser: the largest in use have a quarter of that.
pub const TOKENISER: FileKind =
    FileKind { name: "a file of a tokeniser", limit: 128 << 20, error: ErrorKind::Bundle };
/// A config of a training.
pub const CONFIG: FileKind = FileKind { name: "a config", limit: 16 << 20, error: ErrorKind::Config };
/// Decoding options in YAML.
pub const OPTIONS: FileKind =
    FileKind { name: "a file of decoding options", limit: 16 << 20, error: ErrorKind::Config };
/// Pairs, samples or texts. They are held in memory while they are trained on.
pub const DATA: FileKind = FileKind { name: "a file of data", limit: 4 << 30, error: ErrorKind::Data };
/// Vocabularies as JSON.
pub const VOCABULARY: FileKind = FileKind { name: "a vocabulary", limit: 256 << 20, error: ErrorKind::Data };
/// What a training logs: one line or record an epoch.
pub const LOG: FileKind = FileKind { name: "a log of a training", limit: 256 << 20, error: ErrorKind::Data };
/// Weights and the optimiser's two moments of as many parameters as one graph can hold, four times [`GRAPH`]
/// with the header.
pub const CHECKPOINT: FileKind = FileKind { name: "a checkpoint", limit: 8 << 30, error: ErrorKind::Data };
/// A model of another program.
pub const FOREIGN_MODEL: FileKind =
    FileKind { name: "a saved model", limit: 4 << 30, error: ErrorKind::Data };

/// Opens a regular file for reading; links are followed.
///
/// # Errors
/// [`FileKind::error`] for a FIFO, a device, a socket or a folder, which are not waited for;
/// [`ErrorKind::Io`] if it cannot be opened.
pub fn open(path: impl AsRef<Path>, kind: FileKind) -> Result<File> {
    let path = path.as_ref();
    // Asked first because opening some devices does something; asked again of what was opened, which may be
    // another file.
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    check_regular(about.file_type(), path, kind)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a FIFO would wait for a writer; regular files do not know this flag.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path).map_err(|e| Error::io(path, e))?;
    let about = file.metadata().map_err(|e| Error::io(path, e))?;
    check_regular(about.file_type(), path, kind)?;
    check_length(about.len(), path, kind)?;
    Ok(file)
}

/// Reads a regular file whole.
///
/// # Errors
/// As [`open`]; [`FileKind::error`] if it is longer than its kind may be, also where its length was not known
/// before.
pub fn read(path: impl AsRef<Path>, kind: FileKind) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = open(path, kind)?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    read_limited(file, length, path, kind)
}

/// As [`read`]; `None` if there is no such file.
///
/// # Errors
/// As [`read`], but for a missing file.
pub fn read_if_there(path: impl AsRef<Path>, kind: FileKind) -> Result<Option<Vec<u8>>> {
    let path = path.as_ref();
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => read(path, kind).map(Some),
    }
}

/// Reads a regular file as text.
///
/// # Errors
/// As [`read`]; [`FileKind::error`] with the line that is not UTF-8.
pub fn read_text(path: impl AsRef<Path>, kind: FileKind) -> Result<String> {
    let path = path.as_ref();
    to_text(read(path, kind)?, path, kind)
}

/// The bytes of a file as text.
///
/// # Errors
/// [`FileKind::error`] with the line that is not UTF-8.
pub fn to_text(bytes: Vec<u8>, path: impl AsRef<Path>, kind: FileKind) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count() as u64;
        Error::new(kind.error, "not valid UTF-8")
            .at_line(path, Some(line), None)
            .help("save the file as UTF-8")
    })
}

/// Reads to the end of `reader`, of which `expected` bytes are announced, unless that is longer than its kind
/// may be.
///
/// - `path`: how it is called in errors; nothing is opened.
///
/// # Errors
/// [`FileKind::error`] if there are more bytes than [`FileKind::limit`]; [`ErrorKind::Io`] if reading fails.
pub fn read_limited(
    reader: impl Read,
    expected: u64,
    path: impl AsRef<Path>,
    kind: FileKind,
) -> Result<Vec<u8>> {
    let path = path.as_ref();
    check_length(expected, path, kind)?;
    // The announced length may be a lie: no more than a moderate amount is reserved on its word.
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(64 << 20)).unwrap_or_default());
    reader.take(kind.limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    check_length(bytes.len() as u64, path, kind)?;
    Ok(bytes)
}

/// sha256 of `bytes`, 64 lower-case hexadecimal digits, as manifests have it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_length(length: u64, path: &Path, kind: FileKind) -> Result<()> {
    if length <= kind.limit {
        return Ok(());
    }
    let most = match kind.limit {
        // The limit of graphs is one byte below a round number.
        limit if limit >= (1 << 30) - 1 => format!("{} GiB", limit.div_ceil(1 << 30)),
        limit if limit >= 1 << 20 => format!("{} MiB", limit >> 20),
        limit => format!("{limit} bytes"),
    };
    Err(Error::new(kind.error, format!("longer than {most}, the most that is read of {}", kind.name))
        .in_file(path)
        .help("is this the right file?"))
}

fn check_regular(found: FileType, path: &Path, kind: FileKind) -> Result<()> {
    let what = match special(found) {
        None if found.is_file() => return Ok(()),
        _ if found.is_dir() => "a folder",
        what => what.unwrap_or("no regular file"),
    };
    let help = match what {
        "a folder" => format!("name {} itself, not the folder that it lies in", kind.name),
        _ => format!(
            "{} is read from a regular file: write it to one first, and name that (`<(...)` of a shell gives \
             a FIFO)",
            kind.name
        ),
    };
    Err(Error::new(kind.error, format!("this is {what}, where {} should be", kind.name))
        .in_file(path)
        .help(help))
}

#[cfg(unix)]
fn special(found: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    match found {
        _ if found.is_fifo() => Some("a FIFO"),
        _ if found.is_char_device() || found.is_block_device() => Some("a device"),
        _ if found.is_socket() => Some("a socket"),
        _ => None,
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: FileKind = FileKind { name: "a note", limit: 4, error: ErrorKind::Data };

    #[test]
    fn a_file_up_to_its_limit_is_read_and_a_longer_one_is_not() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let path = folder.path().join("note");
        for (text, fits) in [("", true), ("four", true), ("fives", false)] {
            std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
            let read = read(&path, SHORT);
            assert_eq!(
                read.as_ref().map_or("", |bytes| std::str::from_utf8(bytes).unwrap_or("?")),
                if fits { text } else { "" }
            );
            assert!(
                fits || read.is_err_and(
                    |e| e.kind() == ErrorKind::Data && e.message().contains("longer than 4 bytes")
                )
            );
        }
        // What announces less than it has is stopped all the same.
        assert!(read_limited(std::io::repeat(b'x'), 1, &path, SHORT).is_err());
        assert!(
            read_limited(std::io::empty(), u64::MAX, &path, SHORT).is_err(),
            "an announcement alone must not be believed"
        );
        Ok(())
    }

    #[test]
    fn a_folder_and_a_missing_file_are_named() {
        let error = read(std::env::temp_dir(), SHORT).err().unwrap_or_else(|| panic!("a folder was read"));
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Data, "this is a folder, where a note should be")
        );
        assert!(read("no such file", SHORT).is_err_and(|e| e.kind() == ErrorKind::Io));
    }

    #[test]
    fn text_that_is_no_utf_8_is_named_with_its_line() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let path = folder.path().join("note");
        std::fs::write(&path, b"a\n\n\xff").map_err(|e| Error::io(&path, e))?;
        let error = read_text(&path, SHORT).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.ends_with("note:3: not valid UTF-8"), "{error}");
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_and_a_device_are_refused_at_once() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let fifo = folder.path().join("fifo");
        let made =
            std::process::Command::new("mkfifo").arg(&fifo).status().map_err(|e| Error::io(&fifo, e))?;
        assert!(made.success());
        for (path, what) in [(fifo.as_path(), "a FIFO"), (Path::new("/dev/zero"), "a device")] {
            let error = read(path, SHORT).err().unwrap_or_else(|| panic!("{what} was read"));
            assert_eq!(
                (error.kind(), error.message()),
                (ErrorKind::Data, format!("this is {what}, where a note should be").as_str())
            );
        }
        // A link to a file is a file.
        let (note, link) = (folder.path().join("note"), folder.path().join("link"));
        std::fs::write(&note, "four")
            .and_then(|()| std::os::unix::fs::symlink(&note, &link))
            .map_err(|e| Error::io(&link, e))?;
        assert_eq!(read(&link, SHORT)?, b"four");
        Ok(())
    }
}
