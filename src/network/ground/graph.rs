//! What the layers' ONNX forms share.

use s2s_runtime::contract::PAD;

use super::parameters::{ParameterId, Parameters};
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use crate::onnx::messages::DataType;

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
pub(in crate::network) fn split_sizes(g: &mut GraphBuilder, sizes: &[usize]) -> Value {
    let sizes: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
    g.int64(&[sizes.len()], &sizes)
}

/// A parameter as an initialiser of the same name, shape and bytes.
pub(in crate::network) fn emit_parameter(
    p: &Parameters<f32>,
    id: ParameterId,
    g: &mut GraphBuilder,
) -> Value {
    let entry = p.entry(id);
    g.initializer(&entry.name, &entry.shape, p.get(id))
}

pub(in crate::network) fn squeeze(g: &mut GraphBuilder, value: &Value, axis: i64) -> Value {
    let axes = g.int64(&[1], &[axis]);
    g.node("Squeeze", &[value, &axes], &[])
}

pub(in crate::network) fn unsqueeze(g: &mut GraphBuilder, value: &Value, axis: i64) -> Value {
    let axes = g.int64(&[1], &[axis]);
    g.node("Unsqueeze", &[value, &axes], &[])
}

/// 1 at tokens, 0 at padding, f32 in the shape of the ids: ids are never negative, and PAD is 0.
pub(in crate::network) fn emit_mask(g: &mut GraphBuilder, ids: &Value) -> Value {
    let pad = g.int64(&[], &[i64::from(PAD)]);
    let is_token = g.node("Greater", &[ids, &pad], &[]);
    g.node("Cast", &[&is_token], &[("to", Attribute::Int(DataType::Float as i64))])
}
