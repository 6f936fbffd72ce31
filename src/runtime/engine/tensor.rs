//! Tensors: lent to a graph, in the host's memory, or kept by an engine.

use std::any::Any;
use std::sync::Arc;

use crate::graph_info::{BOOL, FLOAT, INT32, INT64};

/// A tensor that is lent to a graph.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Axes.
    pub shape: &'a [usize],
    /// Row-major values.
    pub data: DataView<'a>,
}

/// Values of a [`TensorView`].
#[derive(Clone, Copy, Debug)]
pub enum DataView<'a> {
    /// Ids, masks.
    I64(&'a [i64]),
    /// The same for graphs that want them in 32 bits.
    I32(&'a [i32]),
    /// States, logits, one-hot rows, masks.
    F32(&'a [f32]),
    /// Masks.
    Bool(&'a [bool]),
}

impl DataView<'_> {
    /// ONNX's number of the element type, and how many values there are.
    pub(crate) fn described(self) -> (i32, usize) {
        match self {
            Self::I64(data) => (INT64, data.len()),
            Self::I32(data) => (INT32, data.len()),
            Self::F32(data) => (FLOAT, data.len()),
            Self::Bool(data) => (BOOL, data.len()),
        }
    }
}

/// A tensor in the host's memory, as f32; its buffers are reused from call to call. Ids come as f32 too,
/// which is exact below 2^24.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Axes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

/// A tensor that an engine keeps, in the host's memory or on a device. Only its own engine can do more with
/// it than ask for its outside.
pub trait DeviceTensor: Any + Send + Sync {
    /// Axes.
    fn shape(&self) -> &[usize];
    /// ONNX's number of the element type.
    fn element_type(&self) -> i32;
}

/// A tensor of an engine, shared rather than copied.
pub type Value = Arc<dyn DeviceTensor>;

impl DeviceTensor for Tensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn element_type(&self) -> i32 {
        FLOAT
    }
}
