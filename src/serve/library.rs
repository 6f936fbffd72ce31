//! Bundles on disk: found, loaded, and loaded anew when they are replaced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use s2s_runtime::bundle::{Bundle, is_bundle_folder};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, Device, EngineKind};
use s2s_runtime::manifest::Manifest;
use s2s_runtime::translator::TextCoder;
use s2s_runtime::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::sync::Notify;

use super::bundle_model::BundleModel;
use super::graphs::Graphs;
use super::languages::spoken;
use super::model::{Card, Model as _};
use super::scheduler::Scheduler;
use super::server::Server;

/// Where bundles lie, and how each is served.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// Bundles, zips of them, or folders of bundles.
    pub paths: Vec<PathBuf>,
    /// What runs the graphs.
    pub engine: EngineKind,
    /// Where texts are decoded. Graphs that are asked for as they are run on the processor.
    pub device: Device,
    /// Decoding threads of each model.
    pub workers: usize,
    /// Over the options of each bundle.
    pub decoding: DecodingOptions,
    /// In place of the language that a bundle names.
    pub source_language: Option<String>,
    /// In place of the language that a bundle names.
    pub target_language: Option<String>,
}

/// Names, times and sizes of a bundle's files: what changes when it is replaced.
type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// A bundle that is served.
#[derive(Clone, Debug)]
struct Shelved {
    name: String,
    stamp: Stamp,
}

/// What is served of a [`Library`].
#[derive(Debug, Default)]
pub struct Shelf {
    served: BTreeMap<PathBuf, Shelved>,
    /// Bundles that could not be loaded, as they were then.
    refused: BTreeMap<PathBuf, Stamp>,
    /// Those that could not be loaded at the start, and why.
    failed: Vec<(PathBuf, String)>,
    /// Bundles that have changed since they were loaded, as they were at the last look: they may still be
    /// changing.
    changing: BTreeMap<PathBuf, Stamp>,
}

impl Shelf {
    /// Bundles that could not be loaded at the start, and why.
    pub fn failed(&self) -> &[(PathBuf, String)] {
        &self.failed
    }
}

fn is_bundle(path: &Path) -> bool {
    is_bundle_folder(path)
        || (path.is_file() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip")))
}

/// Every bundle: each path that is one, and those directly in each path that is a folder of bundles.
///
/// # Errors
/// A folder that cannot be read.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() || is_bundle(path) {
            // What is neither is told so when it is opened.
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|cause| Error::io(path, cause))?;
        // A name that begins with a dot is a bundle that is being written.
        let is_hidden =
            |path: &PathBuf| path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let mut inside: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|p| !is_hidden(p) && is_bundle(p)).collect();
        inside.sort();
        match inside.is_empty() {
            true => found.push(path.clone()),
            false => found.extend(inside),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|path| seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    Ok(found)
}

fn stamp(path: &Path) -> Stamp {
    let mut files = vec![path.to_owned()];
    files.extend(std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()));
    files.sort();
    let data = |file: PathBuf| {
        let data = std::fs::metadata(&file).ok();
        (file, data.as_ref().and_then(|data| data.modified().ok()), data.map_or(0, |data| data.len()))
    };
    files.into_iter().map(data).collect()
}

/// What clients are told of a bundle.
pub fn card(manifest: &Manifest) -> Card {
    let languages = manifest.languages.clone().unwrap_or_default();
    let provenance = manifest.provenance.as_ref();
    let side = |spec: &s2s_runtime::vocabulary::VocabularySpec| json!({ "unit": spec.unit, "symbols": spec.size(), "normalisation": spec.normalisation, "longest": spec.longest });
    let graphs: Vec<_> = manifest
        .graphs
        .iter()
        .map(|(role, graph)| json!({ "role": role, "file": graph.file, "sha256": graph.sha256 }))
        .collect();
    let pairs: usize = provenance.map_or(0, |p| p.data.iter().map(|file| file.pairs).sum());
    Card {
        name: manifest.name.clone(),
        source_language: languages.source,
        target_language: languages.target,
        languages: Vec::new(),
        has_attention: manifest.wiring.attention.is_some(),
        details: json!({
            "format_version": manifest.format_version,
            "producer": manifest.producer,
            "weights_sha256": manifest.weights_sha256,
            "architecture": manifest.architecture,
            "io": manifest.io,
            "graphs": graphs,
            "source": side(&manifest.source),
            "target": side(&manifest.target),
            "decoding": manifest.decoding,
            "examples": manifest.examples,
            "training_pairs": if pairs > 0 { json!(pairs) } else { serde_json::Value::Null },
            "scores": provenance.and_then(|p| p.scores.clone()),
            "licence": provenance.and_then(|p| p.licence.clone()),
            "attribution": provenance.and_then(|p| p.attribution.clone()),
        }),
    }
}

/// Refuses a model of which every text has more rows than a batch may have: each request would be refused.
fn fits(rows: usize, most: usize) -> Result<()> {
    if rows <= most {
        return Ok(());
    }
    let message =
        format!("decodes each text with {rows} beams or samples, and a batch has at most {most} rows");
    Err(Error::new(ErrorKind::Usage, message).help(format!(
        "set --max-batch-size to {rows} or more, or ask for fewer (num_beams) with --decoding"
    )))
}

impl Library {
    fn load(&self, path: &Path, server: &Server) -> Result<(Scheduler, Stamp)> {
        // Taken before reading, so that a change during it is seen at the next look.
        let stamp = stamp(path);
        let bundle = Arc::new(Bundle::open(path)?);
        let engine = engine::open_on(&bundle, self.engine, self.device)?;
        let mut card = card(bundle.manifest());
        card.languages = spoken(bundle.source().languages().iter().map(|language| language.code.as_str()));
        card.source_language = self.source_language.clone().or(card.source_language);
        card.target_language = self.target_language.clone().or(card.target_language);
        let metrics = server.metrics().model(&card.name);
        let model = BundleModel::new(card, TextCoder::new(&bundle), engine, self.decoding.clone())?;
        fits(model.settings(&DecodingOptions::default())?.most_rows(), server.limits().max_batch_size)
            .map_err(|error| error.in_file(path))?;
        let scheduler = Scheduler::start(Arc::new(model), self.workers, server.limits(), &metrics)?;
        Ok((scheduler.with_graphs(Graphs::new(&bundle, self.engine, self.workers)), stamp))
    }

    /// Loads every bundle. One of several that cannot be loaded is named as an error in the log, and the
    /// others are served; it is tried again when it has changed.
    ///
    /// # Errors
    /// Why the first could not be loaded, if none could; two of the same name.
    pub fn open(&self, server: &Server) -> Result<(Shelf, Vec<Scheduler>)> {
        let (mut shelf, mut schedulers, mut first) = (Shelf::default(), Vec::new(), None);
        for path in find(&self.paths)? {
            let before = stamp(&path);
            let (scheduler, stamp) = match self.load(&path, server) {
                Ok(loaded) => loaded,
                Err(error) => {
                    shelf.failed.push((path.clone(), error.to_string()));
                    shelf.refused.insert(path, before);
                    first.get_or_insert(error);
                    continue;
                }
            };
            let name = scheduler.model().card().name.clone();
            if shelf.served.values().any(|other| other.name == name) {
                let message = format!("two bundles are called {name}");
                return Err(Error::new(ErrorKind::Usage, message)
                    .in_file(path)
                    .help("export one of them with another name"));
            }
            shelf.served.insert(path, Shelved { name, stamp });
            schedulers.push(scheduler);
        }
        match first {
            Some(error) if schedulers.is_empty() => Err(error),
            _ => {
                for (path, error) in &shelf.failed {
                    tracing::error!(bundle = %path.display(), "NOT served: {error}");
                }
                Ok((shelf, schedulers))
            }
        }
    }

    /// Loads what is new or has been replaced; what cannot be loaded leaves the old one in its place.
    ///
    /// A bundle is loaded when it has looked the same twice, lest it be read while it is copied.
    pub fn look(&self, shelf: &mut Shelf, server: &Server) {
        self.visit(shelf, server, false);
    }

    /// Looks as [`look`](Self::look) does, but loads what has changed at once, and tries again what could not
    /// be loaded: whoever asks for it says that the bundles are whole.
    pub fn reload(&self, shelf: &mut Shelf, server: &Server) {
        self.visit(shelf, server, true);
    }

    fn visit(&self, shelf: &mut Shelf, server: &Server, at_once: bool) {
        let paths = match find(&self.paths) {
            Ok(paths) => paths,
            Err(error) => {
                tracing::warn!(%error, "bundles cannot be listed");
                return;
            }
        };
        for path in paths {
            let now = stamp(&path);
            let refused = shelf.refused.get(&path).filter(|_| !at_once);
            let known = shelf.served.get(&path).map(|shelved| &shelved.stamp).into_iter().chain(refused);
            if !is_bundle(&path) || known.into_iter().any(|known| *known == now) {
                shelf.changing.remove(&path);
                continue;
            }
            if !at_once && shelf.changing.get(&path) != Some(&now) {
                shelf.changing.insert(path, now);
                continue;
            }
            shelf.changing.remove(&path);
            if let Err(error) = self.shelve(&path, shelf, server) {
                tracing::warn!(%error, bundle = %path.display(), "a bundle that has changed cannot be \
                    loaded; the old one goes on");
                shelf.refused.insert(path, now);
            }
        }
    }

    fn shelve(&self, path: &Path, shelf: &mut Shelf, server: &Server) -> Result<()> {
        let (scheduler, stamp) = self.load(path, server)?;
        let name = scheduler.model().card().name.clone();
        if shelf.served.iter().any(|(other, shelved)| other != path && shelved.name == name) {
            return Err(Error::new(ErrorKind::Usage, format!("another bundle is called {name} already"))
                .in_file(path));
        }
        let old = shelf.served.insert(path.to_owned(), Shelved { name: name.clone(), stamp });
        shelf.refused.remove(path);
        server.replace(old.as_ref().map(|old| old.name.as_str()), scheduler);
        tracing::info!(model = name, bundle = %path.display(), "loaded \
            {}", if old.is_some() { "anew" } else { "beside the others" });
        Ok(())
    }

    /// Looks every `interval` (zero: never), and loads what has changed at once when `hangup` says so, for as
    /// long as it is awaited.
    pub async fn watch(
        self: Arc<Self>,
        mut shelf: Shelf,
        server: Arc<Server>,
        interval: Duration,
        hangup: Arc<Notify>,
    ) {
        loop {
            let at_once = tokio::select! {
                () = tokio::time::sleep(interval), if !interval.is_zero() => false,
                () = hangup.notified() => true,
            };
            let (library, at) = (Arc::clone(&self), Arc::clone(&server));
            let looked = tokio::task::spawn_blocking(move || {
                library.visit(&mut shelf, &at, at_once);
                shelf
            });
            match looked.await {
                Ok(after) => shelf = after,
                Err(panic) => {
                    tracing::error!(%panic, "looking for changed bundles panicked; they are not looked for \
                        any more");
                    return;
                }
            }
            if at_once {
                tracing::info!("looked for changed bundles, as SIGHUP asked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_whose_beams_do_not_fit_into_a_batch_is_refused_with_the_flag_that_helps() {
        assert!(fits(4, 4).is_ok());
        let error = fits(5, 4).err();
        assert_eq!(error.as_ref().map(Error::kind), Some(ErrorKind::Usage));
        let help = error.as_ref().and_then(Error::help_text).unwrap_or_default();
        assert!(help.contains("--max-batch-size to 5 or more"), "{help}");
    }
}
