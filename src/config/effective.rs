//! A config as typed, overrides laid over: what becomes of it, whatever it trains.

use std::path::Path;

use super::raw::{Node, Value};
use super::training::Training;
use crate::error::{Error, ErrorKind, Result};

impl Node {
    /// Reads a config and lays `KEY=VALUE` over it, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for YAML that cannot be read, [`ErrorKind::Usage`] for an override that cannot be
    /// laid over it.
    pub(super) fn overlaid(text: &str, file: &Path, overrides: &[String]) -> Result<Self> {
        let mut node = Self::parse(text, file)?;
        overrides.iter().try_for_each(|assignment| node.set(assignment))?;
        Ok(node)
    }

    /// The config as JSON for a bundle: without the paths of the machine that it was trained on.
    pub(super) fn provenance(&self) -> serde_json::Value {
        let mut json = self.to_json();
        if let Some(map) = json.as_object_mut() {
            map.shift_remove("output");
            remove(map, "data", &["folder"]);
        }
        json
    }

    /// What decides the weights: the config without what may change when a run is resumed.
    ///
    /// - `free`: sections and keys that decide none.
    pub(super) fn fingerprint(&self, free: &[&str], training: &Training) -> serde_json::Value {
        let mut json = self.provenance();
        if let Some(map) = json.as_object_mut() {
            free.iter().for_each(|key| drop(map.shift_remove(*key)));
            remove(map, "data", &["licence", "attribution"]);
            remove(map, "training", &training.resumable());
        }
        json
    }

    /// Fixes the number of threads and the folder of the data, so that the copy in the run folder gives the
    /// same run from anywhere.
    ///
    /// # Errors
    /// None for a config that was checked: both keys lie in sections.
    pub(super) fn settle(&mut self, threads: usize, data_folder: Option<&Path>) -> Result<()> {
        let mut put = |keys: [&str; 2], value| {
            let no_section = |_| Error::new(ErrorKind::Internal, format!("`{}` is no section", keys[0]));
            self.put(&keys, Self::settled(value)).map_err(no_section)
        };
        put(["training", "threads"], Value::Integer(threads as i64))?;
        match data_folder {
            Some(folder) => put(["data", "folder"], Value::String(folder.to_string_lossy().into_owned())),
            None => Ok(()),
        }
    }
}

fn remove(json: &mut serde_json::Map<String, serde_json::Value>, section: &str, keys: &[&str]) {
    if let Some(section) = json.get_mut(section).and_then(|section| section.as_object_mut()) {
        keys.iter().for_each(|key| drop(section.shift_remove(*key)));
    }
}
