//! One loaded ONNX graph, whatever runs it: tensors in and out by position.

use crate::error::Result;

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
    /// Ids.
    I64(&'a [i64]),
    /// States, logits, one-hot rows.
    F32(&'a [f32]),
}

/// An f32 tensor that a graph gives; its buffers are reused from call to call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Axes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

/// A loaded graph with a fixed list of inputs and outputs.
pub trait Graph: Send {
    /// Runs the graph.
    ///
    /// - `inputs`: in the order given when the graph was loaded.
    /// - `outputs`: filled in the order given when the graph was loaded; grown as needed.
    fn run(&mut self, inputs: &[TensorView<'_>], outputs: &mut Vec<Tensor>) -> Result<()>;

    /// The same graph for another worker; weights are shared where the engine can.
    fn fork(&self) -> Result<Box<dyn Graph>>;
}
