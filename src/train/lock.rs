//! One process writes a run folder at a time: the lock that a training or an import holds as long as it
//! lives.
//!
//! The system gives a lock back when its process ends, however it ends, so that nothing has to be cleared
//! away after a crash. Readers (`s2s export`, `s2s inspect`, `--init-from`) need no lock: files are replaced
//! whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::files;

/// The file that is locked. It stays: what is locked is the open file, and a name that went away could be
/// locked twice.
const FILE: &str = ".lock";

/// Held while a run folder is written to; dropped, or by the end of the process, it is given back.
#[derive(Debug)]
pub(crate) struct RunLock {
    /// `None` where the file system has no locks.
    _file: Option<File>,
}

impl RunLock {
    /// Takes the lock of a run folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the process that holds it; [`ErrorKind::Io`].
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => {
                // For the error of whoever comes next; nothing depends on it.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                clear(folder);
                Ok(Self { _file: Some(file) })
            }
            Err(TryLockError::WouldBlock) => {
                let holder = process(&mut file).map_or_else(String::new, |id| format!(" (process {id})"));
                Err(Error::new(
                    ErrorKind::Usage,
                    format!("another training or import{holder} is writing to this run folder"),
                )
                .in_file(folder)
                .help("wait until it ends, or name another folder with --output"))
            }
            Err(TryLockError::Error(cause)) => {
                tracing::warn!(
                    "{}: cannot be locked ({cause}); see to it that no other training writes to this folder",
                    path.display()
                );
                Ok(Self { _file: None })
            }
        }
    }
}

/// Takes away the half-written files of a process that was killed; each lies beside its place under one name.
fn clear(folder: &Path) {
    for folder in [folder, &folder.join("checkpoints")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with('.') && name.ends_with(files::PART))
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Who holds the lock, as far as the file tells.
fn process(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_is_locked_once_and_again_when_the_lock_is_given_back() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let run = folder.path().join("runs/new");
        let held = RunLock::take(&run)?;
        let error = RunLock::take(&run).err().unwrap_or_else(|| panic!("the folder was locked twice"));
        assert_eq!(error.kind(), ErrorKind::Usage);
        let said = format!(
            "another training or import (process {}) is writing to this run folder",
            std::process::id()
        );
        assert_eq!(error.message(), said);
        drop(held);
        RunLock::take(&run).map(drop)
    }
}
