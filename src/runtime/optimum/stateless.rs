//! The graphs of a folder that keep no state.

use std::path::Path;

use prost::Message as _;

use super::external;
use super::graphs::{in_float, out_float};
use super::layout::Layout;
use super::names::{HIDDEN, LAST_HIDDEN, LOGITS};
use crate::bundle::files::Files;
use crate::error::Result;
use crate::graph_info::TensorInfo;
use crate::onnx::ModelProto;

/// An encoder and a decoder that reads all tokens at each step, with their weights.
#[derive(Clone, Debug)]
pub struct Stateless {
    /// The encoder's file and its ONNX bytes: ids and their mask become hidden states.
    pub encoder: (String, Vec<u8>),
    /// The encoder's output, f32 (batch, source_time, width).
    pub encoder_output: String,
    /// The decoder's file and bytes: the mask, ids and hidden states become logits of every position.
    pub decoder: (String, Vec<u8>),
    /// The decoder's input that takes what the encoder gave.
    pub decoder_hidden: String,
    /// The decoder's output, f32 (batch, target_time, target_vocabulary).
    pub decoder_output: String,
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
        let mut read = |file: &str| Ok(external::read(files, file)?.into_model());
        let (mut encoder, mut decoder) = (read(&layout.encoder)?, read(&whole)?);
        // Halves are f32 outside.
        let output = |model: &mut ModelProto, name: &str| {
            model.graph.as_mut().map_or_else(|| name.to_owned(), |graph| out_float(graph, name))
        };
        let hidden = |model: &mut ModelProto| -> Option<String> {
            let graph = model.graph.as_mut()?;
            let declared = graph.input.iter().find(|input| input.name == HIDDEN).map(TensorInfo::of)?;
            Some(in_float(graph, &declared))
        };
        let (encoder_output, decoder_output) =
            (output(&mut encoder, LAST_HIDDEN), output(&mut decoder, LOGITS));
        let decoder_hidden = hidden(&mut decoder).unwrap_or_else(|| HIDDEN.to_owned());
        Ok(Some(Self {
            encoder: (layout.encoder.clone(), encoder.encode_to_vec()),
            encoder_output,
            decoder: (whole, decoder.encode_to_vec()),
            decoder_hidden,
            decoder_output,
        }))
    }
}
