//! A bundle in a zip file, read without unpacking it to disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::files::{Files, NO_FOLDER};
use crate::contract::file;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, FileKind};

/// More entries than any bundle has, and few enough to list.
const MOST_ENTRIES: usize = 10_000;
/// Weights hardly shrink; what unpacks to more than this times its size, beyond `FREE_SIZE`, is no honest
/// bundle.
const LARGEST_RATIO: u64 = 200;
/// Small files (YAML, Markdown) may shrink as they like.
const FREE_SIZE: u64 = 16 << 20;

pub(super) struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<File>,
    /// The folder within the zip that holds the manifest or config: empty, or ends with a slash.
    prefix: String,
}

impl<'a> Archive<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self> {
        let wrong = |message: &str| Error::new(ErrorKind::Bundle, message.to_owned()).in_file(path);
        let file = files::open(path, files::ARCHIVE)?;
        let zip = ZipArchive::new(file).map_err(|e| {
            wrong(NO_FOLDER).help("give the folder that `s2s export` wrote, or a zip of it").caused_by(e)
        })?;
        if zip.len() > MOST_ENTRIES {
            return Err(wrong("too many files for a bundle").help("zip the bundle's folder alone"));
        }
        // People zip the folder as often as its contents.
        let prefixes_of = |marker: &str| {
            let mut prefixes: Vec<String> = zip
                .file_names()
                .filter_map(|name| name.ok()?.strip_suffix(marker).map(str::to_owned))
                .filter(|prefix| {
                    prefix.is_empty() || (prefix.ends_with('/') && prefix.matches('/').count() == 1)
                })
                .collect();
            prefixes.sort();
            prefixes
        };
        let mut prefixes = prefixes_of(file::MANIFEST);
        if prefixes.is_empty() {
            // Folders of other programs have a config instead.
            prefixes = prefixes_of(crate::optimum::CONFIG);
        }
        if prefixes.len() > 1 {
            return Err(wrong("several bundles in one zip file").help("zip the folder of one bundle"));
        }
        let prefix = prefixes.pop().unwrap_or_default();
        Ok(Self { path, zip, prefix })
    }
}

impl Files for Archive<'_> {
    fn read(&mut self, name: &str, kind: FileKind) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let damaged = |e: zip::result::ZipError| {
            Error::new(ErrorKind::Bundle, "damaged in the zip file").in_file(&path).caused_by(e)
        };
        let Some(index) = self.zip.index_for_name(&format!("{}{name}", self.prefix)) else { return Ok(None) };
        let entry = self.zip.by_index(index).map_err(damaged)?;
        let honest = FREE_SIZE.max(entry.compressed_size().saturating_mul(LARGEST_RATIO));
        let (expected, kind) = (entry.size(), FileKind { limit: kind.limit.min(honest), ..kind });
        files::read_limited(entry, expected, &path, kind).map(Some)
    }

    fn names(&self) -> Vec<String> {
        let names = self
            .zip
            .file_names()
            .filter_map(|name| name.ok()?.strip_prefix(self.prefix.as_str()).map(str::to_owned));
        names.collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
