//! The safetensors files of checkpoints, read as what they may be: the work of somebody else.
//!
//! The format's own reader refuses headers longer than the file, tensors that overlap, leave holes or do not
//! fit their shapes, and names that come twice. Here the file is held against the network that it says it is
//! of, before memory is asked for it.

use std::path::{Path, PathBuf};

use s2s_runtime::files;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::limits::check_stored;
use crate::network::{Layout, Parameters};

/// Reads the JSON of a header.
pub(super) type ReadHeader<H> = fn(&str) -> serde_json::Result<H>;

/// The bytes of a checkpoint.
pub(super) struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    help: &'static str,
}

/// A checkpoint whose tensors can be looked up.
pub(super) struct Tensors<'a> {
    about: &'a TensorFile,
    file: SafeTensors<'a>,
}

impl TensorFile {
    /// Reads a file; `help` says what to do about one that is damaged.
    pub(super) fn read(path: &Path, help: &'static str) -> Result<Self> {
        Ok(Self { path: path.to_owned(), bytes: files::read(path, files::CHECKPOINT)?, help })
    }

    /// An error about this file.
    pub(super) fn damaged(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Data, message).in_file(&self.path).help(self.help)
    }

    /// The JSON under `key` of the metadata, read by `read`; `None` where the key is not there.
    pub(super) fn header<H>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> serde_json::Result<H>,
    ) -> Result<Option<H>> {
        let (_, about) = SafeTensors::read_metadata(&self.bytes).map_err(|e| self.unreadable(&e))?;
        let json = about.metadata().as_ref().and_then(|m| m.get(key));
        json.map(|json| read(json))
            .transpose()
            .map_err(|e| self.damaged(format!("`{key}` is not readable: {e}")))
    }

    fn unreadable(&self, e: &safetensors::SafeTensorError) -> Error {
        self.damaged(format!("not a safetensors file: {e}"))
    }

    /// The JSON object under `key` of the metadata, and the tensors. Where the key is not there, `older`
    /// names another and what reads its JSON.
    pub(super) fn parse<H: DeserializeOwned>(
        &self,
        key: &str,
        older: Option<(&str, ReadHeader<H>)>,
    ) -> Result<(H, Tensors<'_>)> {
        let mut header = self.header(key, |json| serde_json::from_str(json))?;
        if let (None, Some((key, read))) = (&header, older) {
            header = self.header(key, read)?;
        }
        let header = header.ok_or_else(|| self.damaged(format!("the metadata lacks `{key}`")))?;
        let file = SafeTensors::deserialize(&self.bytes).map_err(|e| self.unreadable(&e))?;
        Ok((header, Tensors { about: self, file }))
    }
}

impl Tensors<'_> {
    /// Whether the optimiser's moments are there; without them a checkpoint is only read for its weights.
    pub(super) fn has_moments(&self) -> bool {
        self.file.iter().any(|(name, _)| name.starts_with("m."))
    }

    /// Whether the file is long enough for the weights of a network, and the moments where it has them.
    pub(super) fn check(&self, layout: &Layout) -> Result<()> {
        let sets = if self.has_moments() { 3 } else { 1 };
        let check = check_stored(layout, self.about.bytes.len(), sets * size_of::<f32>());
        check.map_err(|e| self.about.damaged(e.message()))
    }

    /// The parameters whose names begin with `prefix`; `import` takes what finds a tensor's shape and values
    /// by name.
    pub(super) fn gather(
        &self,
        prefix: &str,
        import: impl FnOnce(&mut dyn FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>) -> Result<Parameters<f32>>,
    ) -> Result<Parameters<f32>> {
        let mut other = None;
        let mut find = |name: &str| {
            let tensor = self.file.tensor(&format!("{prefix}{name}")).ok()?;
            if tensor.dtype() != Dtype::F32 {
                other = Some(format!("tensor {prefix}{name} is of type {:?}, not F32", tensor.dtype()));
                return None;
            }
            Some((
                tensor.shape().to_vec(),
                tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            ))
        };
        let found = import(&mut find);
        found.map_err(|e| self.about.damaged(other.unwrap_or_else(|| format!("{prefix}{}", e.message()))))
    }

    /// The weights, all of them finite.
    pub(super) fn weights(
        &self,
        import: impl FnOnce(&mut dyn FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>) -> Result<Parameters<f32>>,
    ) -> Result<Parameters<f32>> {
        let weights = self.gather("", import)?;
        for (entry, values) in weights.iter() {
            if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                return Err(self.about.damaged(format!("value {at} of {} is {}", entry.name, values[at])));
            }
        }
        Ok(weights)
    }
}
