//! Files that are whole or not there: written beside their place, synced, renamed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// How the temporary names of files end.
pub(crate) const PART: &str = ".part";

/// Writes `bytes` to `path` so that a crash at any moment leaves the old file or the new one.
///
/// The temporary name is always the same, so that crashes leave one such file at most and the next writing replaces it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}{PART}"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself lives in the folder.
        match path.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|cause| {
        drop(fs::remove_file(&temporary));
        Error::io(path, cause)
    })
}
