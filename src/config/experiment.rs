//! What a training asks of a config, whatever it trains.

use std::fmt::Debug;
use std::path::Path;

use s2s_runtime::files;

use super::checked::{Config, LoadOptions};
use super::raw::{Node, Value};
use super::training::Training;
use crate::error::Result;

/// Reads the key `model.kind` of the config in `file`, which says what the rest of it means; `None` where it
/// is not there. A file that cannot be read has none either: its own reader says why.
pub fn kind(file: &Path, options: &LoadOptions) -> Option<String> {
    let node = Node::overlaid(&files::read_text(file, files::CONFIG).ok()?, file, &options.overrides).ok()?;
    let child = |node: Node, key: &str| match node.value {
        Value::Map(entries) => entries.into_iter().find(|(name, _)| name == key).map(|(_, node)| node),
        _ => None,
    };
    match child(child(node, "model")?, "kind")?.value {
        Value::String(kind) => Some(kind),
        _ => None,
    }
}

/// A config that has been read and checked.
pub trait Experiment: Clone + Debug + Send + Sync + 'static {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) with file, line and key.
    fn load(file: &Path, options: &LoadOptions) -> Result<Self>;
    /// Returns the name of the run folder and of the bundle.
    fn name(&self) -> &str;
    /// Returns the run folder, where the config names one.
    fn output(&self) -> Option<&Path> {
        None
    }
    /// Returns how the network is trained.
    fn training(&self) -> &Training;
    /// Returns licence and attribution of the data, for the bundle.
    fn rights(&self) -> [Option<&str>; 2];
    /// Returns the config as typed with overrides, as JSON.
    fn to_json(&self) -> serde_json::Value;
    /// Returns the same without the paths of this machine.
    fn provenance(&self) -> serde_json::Value;
    /// Returns what decides the weights: the config without what may change when a run is resumed.
    fn fingerprint(&self) -> serde_json::Value;
    /// Fixes threads and data folder, so that the copy in the run folder gives the same run from anywhere.
    ///
    /// # Errors
    /// None in practice: both keys are sections of a checked config.
    fn settle(&mut self, threads: usize, folder: Option<&Path>) -> Result<()>;
}

impl Experiment for Config {
    fn load(file: &Path, options: &LoadOptions) -> Result<Self> {
        Self::load(file, options)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn output(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    fn training(&self) -> &Training {
        &self.training
    }

    fn rights(&self) -> [Option<&str>; 2] {
        [self.data.licence.as_deref(), self.data.attribution.as_deref()]
    }

    fn to_json(&self) -> serde_json::Value {
        self.to_json()
    }

    fn provenance(&self) -> serde_json::Value {
        self.provenance()
    }

    fn fingerprint(&self) -> serde_json::Value {
        self.fingerprint()
    }

    fn settle(&mut self, threads: usize, folder: Option<&Path>) -> Result<()> {
        self.settle(threads, folder)
    }
}
