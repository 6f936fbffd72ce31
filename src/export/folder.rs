//! The folder of a bundle: never half-written, and nothing that was there is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use s2s_runtime::bundle::{Bundle, sha256};
use s2s_runtime::contract::file;
use s2s_runtime::files;

use super::staging::Staging;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;

/// What happens to a folder that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It is replaced if it is any bundle, damaged or not, with all that lies in it (`--force`).
    AnyBundle,
    /// It is replaced if it is a bundle that s2s exported under this name and nothing else lies in it:
    /// exporting again after more training should not need a flag, but another model, or a user's own file,
    /// is not lost by mistake.
    OlderOf(String),
}

/// A bundle that is written completely, beside its place and under another name; it goes away if it is
/// dropped.
#[derive(Debug)]
pub struct Staged(Staging);

/// Writes `files` to a temporary folder beside `target`.
///
/// # Errors
/// [`ErrorKind::Usage`] if `target` is there and `replace` does not cover it; [`ErrorKind::Io`].
pub fn stage(target: &Path, files: &BTreeMap<String, Vec<u8>>, replace: &Replace) -> Result<Staged> {
    // `a/b/` and `a/b` are one folder; `..` and links are resolved by the system.
    let target: PathBuf = target.components().collect();
    if target.file_name().is_none() {
        return Err(Error::new(ErrorKind::Usage, "this cannot be the folder of a bundle")
            .in_file(&target)
            .help("name a new folder"));
    }
    check_replaceable(&target, replace)?;
    let staging = Staging::beside(&target)?;
    for (name, bytes) in files {
        write_synced(&staging.path().join(name), bytes)?;
    }
    Ok(Staged(staging))
}

/// Writes `files` to the folder `target`: all of them or none. Subfolders are not made.
///
/// # Errors
/// As [`stage`] and [`Staged::commit`].
pub fn write_bundle(target: &Path, files: &BTreeMap<String, Vec<u8>>, replace: &Replace) -> Result<()> {
    stage(target, files, replace)?.commit()
}

impl Staged {
    /// Where the files are now.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Moves the bundle to its place, in one step where the system can; an older one is deleted last.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; what was at the place is still there.
    pub fn commit(self) -> Result<()> {
        self.0.commit()
    }
}

/// Writes `conformance.json` beside the graphs and, where the manifest lists files, its hash into the
/// manifest.
///
/// The bundle can be opened at each moment: its entry is taken out of the list before the file changes, and
/// comes back last. The manifest is changed as text, so that comments and the keys of later versions stay.
///
/// # Errors
/// [`ErrorKind::Io`].
pub(super) fn write_record(bundle: &Bundle, json: &[u8]) -> Result<()> {
    let (path, record) = (bundle.path().join(file::MANIFEST), bundle.path().join(file::CONFORMANCE));
    let text = String::from_utf8_lossy(bundle.file(file::MANIFEST).unwrap_or_default()).into_owned();
    const LIST: &str = "\nfiles:\n";
    if bundle.manifest().files.is_empty() || !text.contains(LIST) {
        return write_atomically(&record, json);
    }
    let entry = format!("  {}: ", file::CONFORMANCE);
    let bare: String = text.split_inclusive('\n').filter(|line| !line.starts_with(&entry)).collect();
    // A list of nothing would be no list.
    if bare != text && bundle.manifest().files.len() > 1 {
        write_atomically(&path, bare.as_bytes())?;
    }
    write_atomically(&record, json)?;
    write_atomically(&path, bare.replacen(LIST, &format!("{LIST}{entry}{}\n", sha256(json)), 1).as_bytes())
}

/// Empty folders are always replaced, folders that are no bundle never.
fn check_replaceable(target: &Path, replace: &Replace) -> Result<()> {
    const OWN: [&str; 8] = [
        file::MODEL,
        file::MANIFEST,
        file::ENCODER,
        file::DECODER,
        file::TRAINING,
        file::CONFORMANCE,
        file::SELF_TEST,
        file::README,
    ];
    let refused = |message: String, help: &str| {
        Err(Error::new(ErrorKind::Usage, message).in_file(target).help(help.to_owned()))
    };
    if !target.exists() {
        return Ok(());
    }
    if !target.is_dir() {
        return refused("there is a file of this name".to_owned(), "name another folder");
    }
    let entries = fs::read_dir(target).map_err(|e| Error::io(target, e))?;
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        return Ok(());
    }
    if !names.iter().any(|name| name == file::MANIFEST) {
        return refused("this folder is there, and is no bundle".to_owned(), "name another folder");
    }
    let Replace::OlderOf(name) = replace else { return Ok(()) };
    const HELP: &str = "--force replaces it, with all that lies in it; -o names another folder";
    let older = older(&target.join(file::MANIFEST));
    match &older {
        None => return refused("this folder holds a bundle that s2s did not export".to_owned(), HELP),
        Some(older) if older.name != *name => {
            return refused(
                format!("this folder holds another model, {:?}; the export is {name:?}", older.name),
                HELP,
            );
        }
        Some(_) => {}
    }
    let listed = |name: &String| older.as_ref().is_some_and(|older| older.lists(name));
    match names.iter().find(|name| !OWN.contains(&name.as_str()) && !listed(name)) {
        Some(other) => refused(format!("{other:?} in this folder is no part of the bundle"), HELP),
        None => Ok(()),
    }
}

/// What the manifest of a bundle that s2s wrote says of itself; the rest of it may be damaged or of an older
/// version.
#[derive(serde::Deserialize)]
struct Older {
    name: String,
    producer: String,
    /// Files by role and by name, as far as they can be read.
    #[serde(default)]
    graphs: serde_json::Value,
    #[serde(default)]
    files: serde_json::Value,
}

impl Older {
    /// Whether a file of this name belongs to the bundle.
    fn lists(&self, name: &str) -> bool {
        let graphs = self.graphs.as_object().into_iter().flat_map(serde_json::Map::values);
        let is_graph = |graph: &serde_json::Value| graph["file"].as_str() == Some(name);
        self.files.get(name).is_some() || graphs.into_iter().any(is_graph)
    }
}

fn older(manifest: &Path) -> Option<Older> {
    let head: Older = serde_yaml::from_str(&files::read_text(manifest, files::MANIFEST).ok()?).ok()?;
    head.producer.starts_with("s2s ").then_some(head)
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path).map_err(|e| Error::io(path, e))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = file::ENCODER;

    fn files(text: &str) -> BTreeMap<String, Vec<u8>> {
        let manifest = format!("name: {text}\nproducer: s2s 0.1.0\n");
        BTreeMap::from([
            (file::MANIFEST.to_owned(), manifest.into_bytes()),
            (FILE.to_owned(), text.as_bytes().to_vec()),
        ])
    }

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn same(name: &str) -> Replace {
        Replace::OlderOf(name.to_owned())
    }

    #[test]
    fn a_bundle_appears_whole_and_leaves_nothing_beside_it() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let target = root.path().join("new/dates");
        write_bundle(&target, &files("dates"), &same("dates"))?;
        assert_eq!(entries(&root.path().join("new")), ["dates"]);
        assert_eq!(entries(&target), ["encoder.onnx", "s2s.yaml"]);
        Ok(())
    }

    #[test]
    fn a_staged_bundle_that_is_dropped_leaves_the_old_one_and_no_trace() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let target = root.path().join("dates");
        write_bundle(&target, &files("dates"), &same("dates"))?;
        let mut newer = files("dates");
        newer.insert(FILE.to_owned(), b"newer".to_vec());
        drop(stage(&target, &newer, &same("dates"))?);
        assert_eq!(entries(root.path()), ["dates"]);
        assert_eq!(fs::read(target.join(FILE)).ok().as_deref(), Some(&b"dates"[..]));
        Ok(())
    }

    #[test]
    fn an_older_bundle_of_the_same_name_is_replaced_with_all_its_files() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let target = root.path().join("dates");
        let mut older = files("dates");
        older.insert("conformance.json".to_owned(), b"{}".to_vec());
        write_bundle(&target, &older, &same("dates"))?;
        write_bundle(&target, &files("dates"), &same("dates"))?;
        assert_eq!(
            (entries(&target), entries(root.path())),
            (vec![FILE.to_owned(), "s2s.yaml".to_owned()], vec!["dates".to_owned()])
        );
        Ok(())
    }

    #[test]
    fn another_model_other_files_and_a_file_are_not_overwritten_without_force() -> Result<()> {
        let root = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let io = |e| Error::io(root.path(), e);
        let (model, other, plain) =
            (root.path().join("model"), root.path().join("other"), root.path().join("plain"));
        write_bundle(&model, &files("french"), &same("french"))?;
        fs::create_dir(&other).map_err(io)?;
        fs::write(other.join("thesis.txt"), "x").map_err(io)?;
        fs::write(&plain, "x").map_err(io)?;
        let with_notes = root.path().join("with_notes");
        write_bundle(&with_notes, &files("dates"), &same("dates"))?;
        fs::write(with_notes.join("notes.txt"), "x").map_err(io)?;
        let cases = [
            (&model, "another model"),
            (&other, "no bundle"),
            (&plain, "a file of this name"),
            (&with_notes, "notes.txt"),
        ];
        for (target, message) in cases {
            let error = write_bundle(target, &files("dates"), &same("dates")).err();
            assert!(
                error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Usage && e.message().contains(message)),
                "{error:?}"
            );
        }
        assert_eq!(entries(root.path()), ["model", "other", "plain", "with_notes"]);
        for target in [&model, &with_notes] {
            write_bundle(target, &files("dates"), &Replace::AnyBundle)?;
            assert_eq!(fs::read(target.join(FILE)).ok().as_deref(), Some(&b"dates"[..]));
        }
        let error = write_bundle(&other, &files("dates"), &Replace::AnyBundle).err();
        assert!(error.is_some_and(|e| e.message().contains("no bundle")), "force is for bundles");
        Ok(())
    }
}
