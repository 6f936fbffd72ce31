//! A graph that was exported for one row, which is run once for each.

use super::arrange::Arrangement;
use super::graph::{DataView, Feed, Graph, Tensor, TensorView, Value};
use crate::error::{Error, ErrorKind, Result};

/// A graph that takes one row at a time; to its caller it takes any number.
pub(super) struct RowByRow {
    graph: Box<dyn Graph>,
    /// The axis of the rows in each input and output.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

impl RowByRow {
    /// - `inputs`, `outputs`: the axis of the rows in each; 0 for what comes from the host's memory.
    pub(super) fn new(graph: Box<dyn Graph>, inputs: Vec<usize>, outputs: Vec<usize>) -> Self {
        Self { graph, inputs, outputs }
    }

    /// One of the rows of a tensor of the engine.
    fn row(&mut self, value: &Value, axis: usize, row: usize) -> Result<Value> {
        let mut row_shape = value.shape().to_vec();
        if axis >= row_shape.len() {
            return Err(Error::new(ErrorKind::Internal, "a tensor without rows"));
        }
        row_shape.remove(axis);
        let rows = [(0, row)];
        let one = Arrangement { rows: &rows, row_shape: &row_shape, from: axis, to: axis, along: None };
        self.graph.arrange(&[value], &one)
    }
}

/// A row of a tensor in the host's memory, whose rows are its first axis.
fn of_host<'a>(view: TensorView<'a>, row: usize, shape: &'a [usize]) -> TensorView<'a> {
    fn part<T>(data: &[T], row: usize, len: usize) -> &[T] {
        data.get(row * len..(row + 1) * len).unwrap_or_default()
    }
    let len = shape.iter().product();
    let data = match view.data {
        DataView::I64(data) => DataView::I64(part(data, row, len)),
        DataView::I32(data) => DataView::I32(part(data, row, len)),
        DataView::F32(data) => DataView::F32(part(data, row, len)),
        DataView::Bool(data) => DataView::Bool(part(data, row, len)),
    };
    TensorView { shape, data }
}

impl Graph for RowByRow {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
        let rows = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(0);
        if rows <= 1 {
            return self.graph.call(inputs, outputs);
        }
        let shapes: Vec<Vec<usize>> = inputs
            .iter()
            .map(|input| std::iter::once(1).chain(input.shape().iter().skip(1).copied()).collect())
            .collect();
        let axes = self.inputs.clone();
        let mut parts: Vec<Vec<Value>> = vec![Vec::with_capacity(rows); self.outputs.len()];
        for row in 0..rows {
            let mut own: Vec<Option<Value>> = Vec::with_capacity(inputs.len());
            for (input, &axis) in inputs.iter().zip(&axes) {
                own.push(match input {
                    Feed::Host(_) => None,
                    Feed::Value(value) => Some(self.row(value, axis, row)?),
                });
            }
            let feeds: Vec<Feed<'_>> = inputs
                .iter()
                .zip(&own)
                .zip(&shapes)
                .map(|((input, own), shape)| match (input, own) {
                    (Feed::Host(view), _) => Feed::Host(of_host(*view, row, shape)),
                    (_, Some(value)) => Feed::Value(value),
                    (input, None) => *input,
                })
                .collect();
            self.graph.call(&feeds, outputs)?;
            parts.iter_mut().zip(outputs.drain(..)).for_each(|(part, output)| part.push(output));
        }
        let order: Vec<(usize, usize)> = (0..rows).map(|row| (row, 0)).collect();
        for (part, &axis) in parts.iter().zip(&self.outputs) {
            let mut row_shape = part.first().map_or_else(Vec::new, |value| value.shape().to_vec());
            if part.len() != rows || axis >= row_shape.len() {
                return Err(Error::new(ErrorKind::Engine, "an output without rows"));
            }
            row_shape.remove(axis);
            let together =
                Arrangement { rows: &order, row_shape: &row_shape, from: axis, to: axis, along: None };
            outputs.push(self.graph.arrange(&part.iter().collect::<Vec<_>>(), &together)?);
        }
        Ok(())
    }

    fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
        self.graph.upload(tensor)
    }

    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        self.graph.read(value, into)
    }

    fn read_rows(&self, value: &Value, width: usize, rows: &[usize], into: &mut Tensor) -> Result<()> {
        self.graph.read_rows(value, width, rows, into)
    }

    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        self.graph.arrange(parts, arrangement)
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        Ok(Box::new(Self { graph: self.graph.fork()?, inputs, outputs }))
    }
}
