//! What the layers' ONNX forms share.

use crate::onnx::builder::{GraphBuilder, Value};

pub use s2s_runtime::manifest::Io;

/// One side (source or target) of a graph over whole texts.
#[derive(Clone, Debug)]
pub struct GraphSide {
    /// Whether texts come as ids or as one-hot rows.
    pub io: Io,
    /// Ids (time, batch), or rows (time, batch, vocabulary).
    pub input: Value,
    /// 1 at tokens, 0 at padding; f32 (time, batch, 1).
    pub mask: Value,
}

/// The sizes of a Split, as its second input.
pub(super) fn split_sizes(g: &mut GraphBuilder, sizes: &[usize]) -> Value {
    let sizes: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
    g.int64(&[sizes.len()], &sizes)
}
