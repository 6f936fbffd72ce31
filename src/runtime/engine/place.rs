//! Where libraries of engines are looked for.

use std::path::PathBuf;

use serde::Serialize;

/// A place where an engine's library may lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The folder, or the file that `ORT_DYLIB_PATH` names.
    pub path: PathBuf,
    /// Why it was looked at, for example `active environment`.
    pub origin: &'static str,
    /// Libraries in it.
    pub libraries: usize,
}
