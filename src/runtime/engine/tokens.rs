//! Ids, one-hot rows and masks in the element types that graphs want.

use super::graph::DataView;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{BOOL, FLOAT, INT32};

/// Buffers that are filled again at each call.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    i64: Vec<i64>,
    i32: Vec<i32>,
    f32: Vec<f32>,
    bool: Vec<bool>,
}

impl Tokens {
    /// Takes small integers in the element type of an input (ONNX's number); in int64 where it is none that
    /// is known, which the graph's own check then refuses.
    #[expect(clippy::cast_possible_truncation, reason = "ids are below 2^31, and f32 holds those below 2^24")]
    pub(super) fn fill(&mut self, element_type: i32, values: impl Iterator<Item = i64>) -> DataView<'_> {
        match element_type {
            INT32 => DataView::I32(renew(&mut self.i32, values.map(|value| value as i32))),
            FLOAT => DataView::F32(renew(&mut self.f32, values.map(|value| value as f32))),
            BOOL => DataView::Bool(renew(&mut self.bool, values.map(|value| value != 0))),
            _ => DataView::I64(renew(&mut self.i64, values)),
        }
    }

    /// Takes rows of zeros with a 1 at the id; padding stays all zero.
    pub(super) fn one_hot(&mut self, ids: &[i64], width: usize, pad: u32) -> DataView<'_> {
        self.f32.clear();
        self.f32.resize(ids.len() * width, 0.0);
        for (row, &id) in self.f32.chunks_exact_mut(width).zip(ids) {
            if id != i64::from(pad) {
                row[id as usize] = 1.0;
            }
        }
        DataView::F32(&self.f32)
    }
}

fn renew<T>(buffer: &mut Vec<T>, values: impl Iterator<Item = T>) -> &[T] {
    buffer.clear();
    buffer.extend(values);
    buffer
}

/// Whether all ids are in a vocabulary.
///
/// # Errors
/// [`ErrorKind::Input`] naming the id.
pub(super) fn check_ids(ids: &[i64], symbols: usize, graph: &str) -> Result<()> {
    // Unsigned, so that one comparison finds negative ids too.
    if let Some(&id) = ids.iter().find(|&&id| id as u64 >= symbols as u64) {
        return Err(Error::new(
            ErrorKind::Input,
            format!("id {id}, but the vocabulary has the ids 0 to {}", symbols - 1),
        )
        .in_graph(graph, None));
    }
    Ok(())
}
