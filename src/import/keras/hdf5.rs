//! The part of HDF5 that Keras writes: groups, string attributes, arrays of numbers.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hdf5_pure::{File, Group};

use crate::error::{Error, ErrorKind, Result};

/// Groups within groups that are followed; Keras needs about eight.
const DEPTH: usize = 24;
/// Groups of a layer that are looked at.
const MOST: usize = 100_000;
/// Arrays and groups of one group that are looked at, each found by walking over all of them; Keras needs
/// three.
const MOST_CHILDREN: usize = 1_000;

/// An array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    /// The axes of the values, which are row-major.
    pub(super) shape: Vec<usize>,
    /// Values; other types of numbers are converted.
    pub(super) values: Vec<f32>,
}

/// An opened file, read in whole.
pub(super) struct Hdf5 {
    file: File,
    /// Bytes that its arrays may still take, as f32: shapes are claims, chunks that are not there read as
    /// zeros, and one array may have many names.
    left: Cell<u64>,
}

impl Hdf5 {
    /// Whether these bytes begin as such a file.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x89HDF\r\n\x1a\n")
    }

    /// Opens a file in memory, whose arrays may take `most` bytes in all.
    pub(super) fn open(bytes: Vec<u8>, most: u64) -> Result<Self> {
        Ok(Self { file: guarded(|| File::from_bytes(bytes))?, left: Cell::new(most) })
    }

    /// A string attribute of a group; `None` if there is no such group or attribute.
    pub(super) fn text(&self, group: &str, name: &str) -> Result<Option<String>> {
        guarded(|| {
            let Some(group) = self.group(group)? else { return Ok(None) };
            Ok(group.attrs()?.get(name).and_then(|value| value.as_str().map(str::to_owned)))
        })
    }

    /// A list of strings that a group has as an attribute; `None` if there is no such group or attribute.
    pub(super) fn strings(&self, group: &str, name: &str) -> Result<Option<Vec<String>>> {
        guarded(|| {
            let Some(group) = self.group(group)? else { return Ok(None) };
            Ok(group.attrs()?.get(name).and_then(|value| value.as_strings().map(<[String]>::to_vec)))
        })
    }

    /// Whether there is such a group.
    pub(super) fn has(&self, path: &str) -> Result<bool> {
        guarded(|| Ok(self.group(path)?.is_some()))
    }

    /// Names of the groups within a group.
    pub(super) fn groups(&self, path: &str) -> Result<Vec<String>> {
        let groups = guarded(|| self.group(path)?.map_or(Ok(Vec::new()), |group| group.groups()))?;
        if groups.len() <= MOST_CHILDREN {
            return Ok(groups);
        }
        let message = format!("{} layers, more than the {MOST_CHILDREN} that are looked at", groups.len());
        Err(Error::new(ErrorKind::Data, message).help("is this the right file?"))
    }

    /// All arrays below a group, each with its path from there.
    pub(super) fn arrays(&self, path: &str) -> Result<Vec<(String, Array)>> {
        let mut too_large = None;
        let arrays = guarded(|| {
            let (mut found, mut seen) = (Vec::new(), 0);
            let Some(group) = self.group(path)? else { return Ok(found) };
            let mut open = vec![(String::new(), group, 0)];
            while let Some((prefix, group, depth)) = open.pop() {
                seen += 1;
                if depth > DEPTH || seen > MOST {
                    break;
                }
                for name in group.datasets()?.into_iter().take(MOST_CHILDREN) {
                    let dataset = group.dataset(&name)?;
                    let shape: Vec<usize> = dataset
                        .shape()?
                        .into_iter()
                        .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
                        .collect();
                    let width = dataset.element_size()?.max(size_of::<f32>() as u64);
                    let bytes =
                        shape.iter().fold(width, |product, &axis| product.saturating_mul(axis as u64));
                    let Some(left) = self.left.get().checked_sub(bytes) else {
                        too_large = Some(format!(
                            "array {prefix}{name} of shape {shape:?} is larger than the file can hold"
                        ));
                        return Ok(found);
                    };
                    self.left.set(left);
                    found.push((format!("{prefix}{name}"), Array { shape, values: dataset.read_f32()? }));
                }
                for name in group.groups()?.into_iter().take(MOST_CHILDREN) {
                    open.push((format!("{prefix}{name}/"), group.group(&name)?, depth + 1));
                }
            }
            Ok(found)
        })?;
        match too_large {
            Some(message) => {
                Err(Error::new(ErrorKind::Data, message).help("copy the file again, or save the model again"))
            }
            None => Ok(arrays),
        }
    }

    fn group(&self, path: &str) -> Result<Option<Group>, hdf5_pure::Error> {
        let mut group = self.file.root();
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
    let damaged = || {
        Error::new(ErrorKind::Data, "a damaged HDF5 file")
            .help("copy the file again, or save the model again")
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| damaged().caused_by(e)),
        Err(_) => Err(damaged()),
    }
}
