//! Where a bundle's files are read from: a folder, or memory; a zip is in `archive`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files::{self, FileKind};
use crate::manifest::is_plain_name;

/// How the error about a path begins at which no bundle lies.
pub const NO_BUNDLE: &str = "not a bundle";
/// The error about a file that is no zip.
pub const NO_FOLDER: &str = "neither a folder nor a readable zip file";

/// Where the files of a bundle are read from.
pub(crate) trait Files {
    /// The file called `name`, or `None` if there is no such file. Longer than its kind may be is an error.
    fn read(&mut self, name: &str, kind: FileKind) -> Result<Option<Vec<u8>>>;
    /// Names of all files, for errors.
    fn names(&self) -> Vec<String>;
    /// How a file is called in errors.
    fn path(&self, name: &str) -> PathBuf;
    /// Whether `name` is a link to a file that lies neither in this folder nor where `beside` lies, links
    /// followed: stores of models keep a folder of links to files that lie side by side.
    fn leads_out(&self, _name: &str, _beside: &str) -> bool {
        false
    }
}

/// A folder that holds a bundle.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Files for Folder<'_> {
    fn read(&mut self, name: &str, kind: FileKind) -> Result<Option<Vec<u8>>> {
        files::read_if_there(self.path(name), kind)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0).into_iter().flatten().flatten();
        entries.take(1000).filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        debug_assert!(is_plain_name(name), "the manifest was checked");
        self.0.join(name)
    }

    fn leads_out(&self, name: &str, beside: &str) -> bool {
        let folder_of = |path: PathBuf| path.canonicalize().ok()?.parent().map(Path::to_owned);
        let lies_in = folder_of(self.path(name));
        // A file that is not there is an error of its own.
        lies_in.is_some() && lies_in != self.0.canonicalize().ok() && lies_in != folder_of(self.path(beside))
    }
}

/// A bundle's files in memory.
pub(super) struct Memory<'a> {
    pub(super) name: &'a Path,
    pub(super) files: &'a BTreeMap<String, Vec<u8>>,
}

impl Files for Memory<'_> {
    fn read(&mut self, name: &str, _kind: FileKind) -> Result<Option<Vec<u8>>> {
        Ok(self.files.get(name).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.name.join(name)
    }
}
