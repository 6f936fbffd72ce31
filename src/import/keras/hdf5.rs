//! The part of HDF5 that Keras writes: groups, string attributes, arrays of numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hdf5_pure::{File, Group};

use crate::error::{Error, ErrorKind, Result};

/// Groups within groups that are followed; Keras needs about eight.
const DEPTH: usize = 24;
/// Objects of a file that are looked at.
const MOST: usize = 100_000;

/// An array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    /// Axes, row-major.
    pub(super) shape: Vec<usize>,
    /// Values; other types of numbers are converted.
    pub(super) values: Vec<f32>,
}

/// An opened file.
pub(super) struct Hdf5(File);

impl Hdf5 {
    /// Whether these bytes begin as such a file.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x89HDF\r\n\x1a\n")
    }

    /// Opens a file in memory.
    pub(super) fn open(bytes: Vec<u8>) -> Result<Self> {
        guarded(|| File::from_bytes(bytes)).map(Self)
    }

    /// A string attribute of a group; `None` if there is no such group or attribute.
    pub(super) fn text(&self, group: &str, name: &str) -> Result<Option<String>> {
        guarded(|| {
            let Some(group) = self.group(group)? else { return Ok(None) };
            Ok(group.attrs()?.get(name).and_then(|value| value.as_str().map(str::to_owned)))
        })
    }

    /// Whether there is such a group.
    pub(super) fn has(&self, path: &str) -> Result<bool> {
        guarded(|| Ok(self.group(path)?.is_some()))
    }

    /// Names of the groups within a group.
    pub(super) fn groups(&self, path: &str) -> Result<Vec<String>> {
        guarded(|| self.group(path)?.map_or(Ok(Vec::new()), |group| group.groups()))
    }

    /// All arrays below a group, each with its path from there.
    pub(super) fn arrays(&self, path: &str) -> Result<Vec<(String, Array)>> {
        guarded(|| {
            let (mut found, mut seen) = (Vec::new(), 0);
            let Some(group) = self.group(path)? else { return Ok(found) };
            let mut open = vec![(String::new(), group, 0)];
            while let Some((prefix, group, depth)) = open.pop() {
                seen += 1;
                if depth > DEPTH || seen > MOST {
                    break;
                }
                for name in group.datasets()? {
                    let dataset = group.dataset(&name)?;
                    let shape = dataset.shape()?.into_iter().map(|n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
                    found.push((format!("{prefix}{name}"), Array { shape, values: dataset.read_f32()? }));
                }
                for name in group.groups()? {
                    open.push((format!("{prefix}{name}/"), group.group(&name)?, depth + 1));
                }
            }
            Ok(found)
        })
    }

    fn group(&self, path: &str) -> Result<Option<Group>, hdf5_pure::Error> {
        let mut group = self.0.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !group.groups()?.iter().any(|known| known == name) {
                return Ok(None);
            }
            group = group.group(name)?;
        }
        Ok(Some(group))
    }
}

/// Errors of the library as ours, and its panics too: a damaged file is nobody's defect.
fn guarded<T>(call: impl FnOnce() -> Result<T, hdf5_pure::Error>) -> Result<T> {
    let damaged = || Error::new(ErrorKind::Data, "a damaged HDF5 file").help("copy the file again, or save the model again");
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| damaged().caused_by(e)),
        Err(_) => Err(damaged()),
    }
}
