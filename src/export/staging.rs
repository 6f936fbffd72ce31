//! A folder that appears whole: written beside its place, then put there in one step.
//!
//! ```text
//! .NAME.RANDOM.part/lock    locked by the process that writes
//! .NAME.RANDOM.part/new     what it writes
//! .NAME.RANDOM.part/old     what lay in its place, for as long as the file system needs to replace it
//! ```
//!
//! A process that is killed leaves such a folder behind; the next one that writes to the same place finds
//! that nobody holds its lock and clears it away. Files and folders are synced before they are moved, so that
//! a loss of power leaves the old folder or the new one too.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const LOCK: &str = "lock";
const NEW: &str = "new";
const OLD: &str = "old";
const SUFFIX: &str = ".part";

/// A folder under way; it goes away if it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    folder: tempfile::TempDir,
    new: PathBuf,
    target: PathBuf,
    /// Held until the folder is gone.
    _lock: File,
}

impl Staging {
    /// An empty folder beside `target`, on the same file system; what killed processes left there is cleared
    /// away.
    pub(super) fn beside(target: &Path) -> Result<Self> {
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        let prefix = prefix(target);
        clear(parent, &prefix, target);
        loop {
            let folder = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .tempdir_in(parent)
                .map_err(|e| Error::io(parent, e))?;
            let path = folder.path().join(LOCK);
            match File::create_new(&path).and_then(|lock| locked(lock, &path)) {
                Ok(Some(lock)) => {
                    let new = folder.path().join(NEW);
                    fs::create_dir(&new).map_err(|e| Error::io(&new, e))?;
                    return Ok(Self { folder, new, target: target.to_owned(), _lock: lock });
                }
                // Another process took it for one that was left behind, before it was locked.
                Ok(None) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
                Err(e) => return Err(Error::io(&path, e)),
            }
        }
    }

    /// Where the files are now.
    pub(super) fn path(&self) -> &Path {
        &self.new
    }

    /// Puts the folder in its place; what is there is replaced, in one step where the system can exchange two
    /// folders (Linux and macOS on their common file systems), else in two.
    pub(super) fn commit(self) -> Result<()> {
        let Self { folder, new, target, _lock } = self;
        make_readable(&new)?;
        sync(&new)?;
        let failed = |e| Error::io(&target, e);
        loop {
            match exchange(&new, &target) {
                Ok(true) => break,
                Ok(false) => {
                    let old = folder.path().join(OLD);
                    if let Err(e) = replace(&new, &target, &old) {
                        // It must not go away with this folder.
                        let kept = old.exists().then(|| folder.keep().join(OLD));
                        return Err(match kept {
                            Some(kept) => {
                                failed(e).help(format!("the older folder is now {}", kept.display()))
                            }
                            None => failed(e),
                        });
                    }
                    break;
                }
                // Nothing is there, unless another process has been quicker.
                Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::rename(&new, &target) {
                    Ok(()) => break,
                    Err(e)
                        if matches!(
                            e.kind(),
                            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                        ) => {}
                    Err(e) => return Err(failed(e)),
                },
                Err(e) => return Err(failed(e)),
            }
        }
        sync(parent(&target))?;
        let path = folder.path().to_owned();
        match folder.close() {
            // Another process took it for one that was left behind as its lock went away, and clears it away.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
                Ok(())
            }
            closed => closed
                .map_err(|e| Error::io(path, e).help("the new folder is in place; delete this one by hand")),
        }
    }
}

/// What [`exchange`] does, in two steps: a kill between them leaves the older folder aside, and the next
/// process moves it back.
fn replace(new: &Path, target: &Path, old: &Path) -> io::Result<()> {
    match fs::rename(target, old) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        moved => moved?,
    }
    fs::rename(new, target).or_else(|e| {
        fs::rename(old, target)?;
        Err(e)
    })
}

/// What every folder under way beside `target` is called.
fn prefix(target: &Path) -> String {
    format!(".{}.", target.file_name().unwrap_or_default().to_string_lossy())
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The lock, unless another process has it, or has done away with the file.
fn locked(lock: File, path: &Path) -> io::Result<Option<File>> {
    match lock.try_lock() {
        Ok(()) => Ok(path.exists().then_some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks: others see that they cannot tell, and leave the folder alone.
        Err(TryLockError::Error(_)) => Ok(Some(lock)),
    }
}

/// Clears away what killed processes left; what cannot be is left for another time.
fn clear(parent: &Path, prefix: &str, target: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX));
        // `.a.` begins the folders of `a.b` too: the random part has letters and digits alone.
        if !random.is_some_and(|random| random.chars().all(|c| c.is_ascii_alphanumeric())) {
            continue;
        }
        let folder = entry.path();
        // Whoever made the folder and did not come to its lock finds this one, and makes another folder.
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).open(folder.join(LOCK));
        let Some(_lock) = lock.ok().filter(|lock| lock.try_lock().is_ok()) else { continue };
        let old = folder.join(OLD);
        if old.exists() && !target.exists() && fs::rename(&old, target).is_err() {
            continue;
        }
        let _ = fs::remove_dir_all(&folder);
    }
}

/// Exchanges two folders in one step; false where the system cannot.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(new: &Path, target: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP | Errno::PERM) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Temporary folders are for their owner alone; what is written is read by whoever serves it.
fn make_readable(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(|e| Error::io(folder, e))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The names of files live in their folder; without this a loss of power could undo a rename.
pub(super) fn sync(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    }

    fn write(staging: &Staging, text: &str) -> Result<()> {
        let path = staging.path().join("file");
        fs::write(&path, text).map_err(|e| Error::io(path, e))
    }

    fn read(target: &Path) -> String {
        fs::read_to_string(target.join("file")).unwrap_or_default()
    }

    #[test]
    fn what_a_killed_process_left_is_cleared_away_and_what_a_living_one_writes_is_not() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let target = root.path().join("dates");
        let living = Staging::beside(&target)?;
        write(&living, "living")?;
        for (name, half) in [
            (".dates.aB3.part", "new"),
            (".dates.aB4.part", ""),
            (".dates.v2.x1.part", "new"),
            (".other.aB3.part", "new"),
        ] {
            fs::create_dir_all(root.path().join(name).join(half)).map_err(|e| Error::io(name, e))?;
        }
        let second = Staging::beside(&target)?;
        write(&second, "second")?;
        assert_eq!(
            names(root.path()).len(),
            4,
            "two that are written to, two of other places: {:?}",
            names(root.path())
        );
        second.commit()?;
        assert_eq!(read(&target), "second");
        living.commit()?;
        assert_eq!(read(&target), "living");
        let mut left = names(root.path());
        left.sort();
        assert_eq!(left, [".dates.v2.x1.part", ".other.aB3.part", "dates"]);
        Ok(())
    }

    #[test]
    fn a_folder_that_a_kill_left_aside_comes_back() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let target = root.path().join("dates");
        let aside = root.path().join(".dates.aB3.part/old");
        fs::create_dir_all(&aside)
            .and_then(|()| fs::write(aside.join("file"), "older"))
            .map_err(|e| Error::io(&aside, e))?;
        drop(Staging::beside(&target)?);
        assert_eq!((read(&target).as_str(), names(root.path()).len()), ("older", 1));
        Ok(())
    }

    #[test]
    fn writers_to_one_place_at_once_leave_one_of_their_folders_whole() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let target = root.path().join("dates");
        let writer = |number: usize| -> Result<()> {
            for _ in 0..20 {
                let staging = Staging::beside(&target)?;
                write(&staging, &number.to_string())?;
                let path = staging.path().join("second");
                fs::write(&path, number.to_string()).map_err(|e| Error::io(path, e))?;
                staging.commit()?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|number| scope.spawn(move || writer(number))).collect();
            writers
                .into_iter()
                .for_each(|writer| writer.join().unwrap_or(Ok(())).unwrap_or_else(|e| panic!("{e}")));
        });
        assert_eq!(
            read(&target),
            fs::read_to_string(target.join("second")).unwrap_or_else(|e| panic!("{e}"))
        );
        assert_eq!(names(root.path()), ["dates"]);
        Ok(())
    }
}
