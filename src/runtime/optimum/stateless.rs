//! The graphs of a folder that keep no state.

use std::path::Path;

use prost::Message as _;

use super::external;
use super::layout::Layout;
use crate::bundle::files::Files;
use crate::error::Result;

/// An encoder and a decoder that reads all tokens at each step, with their weights.
#[derive(Clone, Debug)]
pub struct Stateless {
    /// The encoder's file and its ONNX bytes: ids and their mask become hidden states.
    pub encoder: (String, Vec<u8>),
    /// The decoder's: the mask, ids and hidden states become logits of every position.
    pub decoder: (String, Vec<u8>),
}

impl Stateless {
    /// Those of the folder `path`, if it has such a decoder.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) if a graph is damaged or its weights are missing; of
    /// reading.
    pub(crate) fn read(path: &Path, files: &mut dyn Files) -> Result<Option<Self>> {
        let layout = Layout::of(path, &files.names())?;
        let Some(whole) = layout.whole().map(str::to_owned) else { return Ok(None) };
        let mut read = |file: String| {
            let model = external::read(files, &file)?.into_model();
            Ok((file, model.encode_to_vec()))
        };
        Ok(Some(Self { encoder: read(layout.encoder.clone())?, decoder: read(whole)? }))
    }
}
