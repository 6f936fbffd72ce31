//! Weights that lie in files beside a graph: listed with their hash in the manifest, like every file of a
//! bundle, and read into the graph that names them.

use std::collections::BTreeMap;

use prost::bytes::Bytes;

use super::files::Files;
use crate::checked::External;
use crate::contract::file;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{GRAPH, WEIGHTS, sha256};
use crate::manifest::is_plain_name;

/// The files that graphs have named so far.
pub(super) struct Weights<'a> {
    /// What the manifest lists: sha256 by name.
    listed: &'a BTreeMap<String, String>,
    files: &'a mut dyn Files,
    pub(super) read: BTreeMap<String, Bytes>,
    /// Bytes that the graph at hand took.
    taken: u64,
}

impl<'a> Weights<'a> {
    pub(super) fn new(listed: &'a BTreeMap<String, String>, files: &'a mut dyn Files) -> Self {
        Self { listed, files, read: BTreeMap::new(), taken: 0 }
    }

    /// Begins with another graph, whose bytes are counted anew.
    pub(super) fn next_graph(&mut self) {
        self.taken = 0;
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if the file lies outside the bundle, is not listed, has changed, or is too
    /// short; [`ErrorKind::Io`] if reading fails.
    pub(super) fn fetch(&mut self, tensor: External<'_>) -> Result<Bytes> {
        let wrong = |message: String| Error::new(ErrorKind::Bundle, message);
        let name = tensor.location.strip_prefix("./").unwrap_or(tensor.location);
        if !is_plain_name(name) {
            return Err(wrong(format!("its values lie in {name:?}, which is no file beside the graph"))
                .help(
                    "put the weights beside the graphs: onnx.save_model(..., location=\"decoder.onnx.data\")",
                ));
        }
        // Several tensors may name the same bytes.
        self.taken = self.taken.saturating_add(tensor.length);
        if self.taken > GRAPH.limit {
            return Err(wrong(
                "with its weights the graph is longer than 2 GiB, which no ONNX model may be".to_owned(),
            )
            .help("export it in smaller parts, or with narrower weights"));
        }
        let data = match self.read.get(name) {
            Some(data) => data,
            None => {
                let data = Bytes::from(self.listed_file(name)?);
                self.read.entry(name.to_owned()).or_insert(data)
            }
        };
        let part = usize::try_from(tensor.offset).ok().zip(usize::try_from(tensor.length).ok());
        let part = part.and_then(|(from, length)| {
            let part = from..from.checked_add(length)?;
            (part.end <= data.len()).then(|| data.slice(part))
        });
        part.ok_or_else(|| {
            wrong(format!(
                "its values are {} bytes from {} on of {name}, which has {}",
                tensor.length,
                tensor.offset,
                data.len()
            ))
            .help("copy the whole bundle again, or export the model again")
        })
    }

    fn listed_file(&mut self, name: &str) -> Result<Vec<u8>> {
        let wrong = |message: String| Error::new(ErrorKind::Bundle, message);
        let data = self.files.read(name, WEIGHTS)?.ok_or_else(|| {
            wrong(format!("its values lie in {name}, which is missing"))
                .help("copy the whole bundle again: a graph and the file with its weights belong together")
        })?;
        let found = sha256(&data);
        match self.listed.get(name) {
            Some(listed) if listed.eq_ignore_ascii_case(&found) => Ok(data),
            Some(listed) => Err(wrong(format!(
                "its values lie in {name}, which has changed: its sha256 is {found}, the manifest says \
                 {listed}"
            ))
            .help(
                "copy the whole bundle again, or export it again; files of several exports cannot be mixed",
            )),
            None => Err(wrong(format!("its values lie in {name}, which the manifest does not list"))
                .help(format!("write into {}: files: {{{name:?}: {found}}}", file::MANIFEST))),
        }
    }
}
