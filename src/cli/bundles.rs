//! What a path is that should be a bundle and is none, and what to do about it.

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::{NO_BUNDLE, NO_FOLDER};
use s2s_runtime::contract::file;
use s2s_runtime::did_you_mean;

use crate::error::{Error, ErrorKind, Place};
use crate::export::feature_kind;
use crate::network::features::FeatureNetwork as _;
use crate::network::perceptron::Mlp;

/// Files of a folder that are looked at.
const MOST_ENTRIES: usize = 1000;
/// Bundles in a folder that are named.
const SHOWN: usize = 3;

/// The error about a path that is no bundle, in terms of what it is: a run, a config, a graph, a folder of
/// bundles, nothing at all. Other errors stay as they are.
pub(super) fn explain(error: Error) -> Error {
    let (path, key) = match error.place() {
        Some(Place::File { path, key, .. }) if error.kind() == ErrorKind::Bundle => {
            (path.clone(), key.clone())
        }
        _ => return error,
    };
    let is_manifest = path.ends_with(file::MANIFEST);
    match (path.parent(), key.as_deref()) {
        // The first thing that a reader of other manifests stumbles over.
        (Some(folder), Some("kind")) if is_manifest && feature_kind(folder).as_deref() == Some(Mlp::KIND) => {
            let error = Error::new(
                error.kind(),
                "this is the bundle of a perceptron, which reads numbers and not texts",
            );
            error
                .in_file(folder)
                .help(format!("s2s predict {} FILE.csv predicts classes with it", folder.display()))
        }
        // Other errors are about files in a bundle.
        (_, None) if error.message().starts_with(NO_BUNDLE) || error.message() == NO_FOLDER => {
            match what_it_is(&path) {
                Some((message, help)) => Error::new(error.kind(), message).in_file(path).help(help),
                None => error,
            }
        }
        _ => error,
    }
}

/// Whether a folder is one that a training wrote: its config, and a place for checkpoints.
fn is_run(path: &Path) -> bool {
    path.join("config.yaml").is_file() && path.join("checkpoints").is_dir()
}

fn has_bundle(path: &Path) -> bool {
    path.join(file::MANIFEST).is_file()
}

/// What a path is that is no bundle, and what to do; `None` for a bundle, and for what cannot be told.
pub(super) fn what_it_is(path: &Path) -> Option<(String, String)> {
    let shown = path.display();
    let name = |path: &Path| {
        path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    if is_run(path) {
        let message = "this is a training run, not a bundle".to_owned();
        let inside = path.join("bundle");
        return Some(match has_bundle(&inside) {
            true => (message, format!("its bundle is in {}", inside.display())),
            false if !path.join("checkpoints").join("last.safetensors").is_file() => (
                message,
                format!(
                    "it has no checkpoint yet: train it first, s2s train --resume {shown}, then export it"
                ),
            ),
            false => (message, format!("export it first: s2s export {shown} -o exported/{}", name(path))),
        });
    }
    if has_bundle(path) {
        return None;
    }
    if path.is_dir() {
        let bundles = inside(path).into_iter().filter(|entry| has_bundle(entry)).collect::<Vec<_>>();
        if !bundles.is_empty() {
            let more = if bundles.len() > SHOWN {
                format!(" and {} more", bundles.len() - SHOWN)
            } else {
                String::new()
            };
            let names: Vec<String> =
                bundles.iter().take(SHOWN).map(|bundle| bundle.display().to_string()).collect();
            return Some((
                "this is a folder of bundles, not a bundle".to_owned(),
                format!("name one of them: {}{more}", names.join(", ")),
            ));
        }
        if let Some(run) = path.parent().filter(|run| path.ends_with("checkpoints") && is_run(run)) {
            return what_it_is(run);
        }
        return None;
    }
    if !path.exists() {
        return Some(("no such file or folder".to_owned(), nearest(path)));
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match ending.as_str() {
        _ if path.ends_with(file::MANIFEST) => Some((
            "this is the manifest of a bundle, not the bundle".to_owned(),
            format!("name the folder that it lies in: {}", folder.display()),
        )),
        "yaml" | "yml" => Some((
            "this is a YAML file, not a bundle".to_owned(),
            format!("if it is a config, train it first: s2s train {shown}, then export the run"),
        )),
        "onnx" => Some((
            "this is a lone ONNX file, not a bundle".to_owned(),
            match has_bundle(folder) {
                true => format!("name the folder that it lies in: {}", folder.display()),
                false => {
                    format!(
                        "a bundle has a manifest and all graphs: s2s import onnx drafts it for an encoder and a \
                         decoder; s2s inspect {shown} shows this one"
                    )
                }
            },
        )),
        "h5" | "keras" | "hdf5" => Some((
            "this is a model of Keras, not a bundle".to_owned(),
            format!("read it in first: s2s import keras {shown} --help"),
        )),
        "safetensors" if folder.parent().is_some_and(is_run) => folder.parent().and_then(what_it_is),
        _ => None,
    }
}

fn inside(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_ENTRIES);
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// What to do about a path at which nothing is: a neighbour with nearly the same name, or how bundles come
/// about.
fn nearest(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let neighbours = inside(folder);
    let names: Vec<String> =
        neighbours.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    let typed = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match did_you_mean(&typed, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", path.with_file_name(near).display()),
        None => {
            "a bundle is the folder that `s2s export` wrote, or a zip of it; `s2s demo` makes one in a minute"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_no_bundle_is_called_what_it_is_and_the_next_command_is_said() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in [
            "runs/x/checkpoints",
            "runs/y/checkpoints",
            "runs/y/bundle",
            "exported/one",
            "exported/two",
            "empty",
        ] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for name in [
            "runs/x/config.yaml",
            "runs/y/config.yaml",
            "runs/x/checkpoints/last.safetensors",
            "a.yaml",
            "m.onnx",
            "m.h5",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        for bundle in ["runs/y/bundle", "exported/one", "exported/two"] {
            std::fs::write(at(bundle).join(file::MANIFEST), "format_version: 1.0\n").unwrap();
        }
        for (name, message, help) in [
            ("runs/x", "training run", "s2s export "),
            ("runs/x/checkpoints", "training run", "-o exported/x"),
            ("runs/x/checkpoints/last.safetensors", "training run", "s2s export "),
            ("runs/y", "training run", "runs/y/bundle"),
            ("exported", "folder of bundles", "exported/one, "),
            ("exported/on", "no such file or folder", "did you mean "),
            ("nothing/at/all", "no such file or folder", "s2s demo"),
            ("a.yaml", "YAML file", "s2s train "),
            ("m.onnx", "lone ONNX file", "s2s inspect "),
            ("m.h5", "model of Keras", "s2s import keras "),
        ] {
            let error = explain(Error::new(ErrorKind::Bundle, NO_BUNDLE).in_file(at(name)));
            assert!(error.message().contains(message), "{name}: {error}");
            assert!(error.help_text().unwrap().contains(help), "{name}: {:?}", error.help_text());
        }
        let manifest = at("empty").join(file::MANIFEST);
        std::fs::write(&manifest, "format_version: \"1.0\"\nkind: mlp\n").unwrap();
        let error = explain(Error::new(ErrorKind::Bundle, "unknown key `kind`").at_line(
            &manifest,
            Some(2),
            Some("kind"),
        ));
        assert!(
            error.message().contains("perceptron") && error.help_text().unwrap().contains("s2s predict"),
            "{error}"
        );
        // What is wrong with a perceptron's bundle itself is said.
        let error = explain(Error::new(ErrorKind::Bundle, "changed").in_file(&manifest));
        assert_eq!(error.message(), "changed");
        for name in ["exported/one", "empty"] {
            assert_eq!(
                explain(Error::new(ErrorKind::Bundle, "damaged").in_file(at(name))).message(),
                "damaged"
            );
        }
        assert_eq!(explain(Error::new(ErrorKind::Io, "other").in_file(at("runs/x"))).message(), "other");
    }
}
