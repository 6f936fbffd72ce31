//! Where the matrices of a batched product lie in its tensors.

use s2s_kernels::MatRef;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

/// The axes of a tensor that holds a matrix for each element of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matrices {
    /// Where each axis of the batch is.
    pub(super) batch: TVec<Option<usize>>,
    /// `None` for a matrix of one row.
    pub(super) rows: Option<usize>,
    pub(super) columns: Option<usize>,
}

/// The axes of C (m, n) = A (m, k) B (k, n), one product for each element of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    pub(super) a: Matrices,
    pub(super) b: Matrices,
    pub(super) c: Matrices,
}

/// The axes of an [`EinSum`] that is such a product of two computed operands; `None` for others. Whether its
/// matrices can be read and written where they lie is for the caller to ask.
pub(super) fn axes(model: &TypedModel, node: &TypedNode, op: &EinSum) -> TractResult<Option<Axes>> {
    rule_if!(op.q_params.is_none() && op.operating_dt == DatumType::F32 && node.inputs.len() == 2);
    let facts = model.node_input_facts(node.id)?;
    rule_if!(
        facts.iter().all(|fact| fact.datum_type == DatumType::F32 && fact.is_plain() && fact.konst.is_none())
    );
    let matrices = || Matrices { batch: tvec!(), rows: None, columns: None };
    let (mut a, mut b, mut c) = (matrices(), matrices(), matrices());
    let mut is_summed = false;
    for axis in op.axes.iter_all_axes() {
        let places = [&axis.inputs[0], &axis.inputs[1], &axis.outputs[0]];
        rule_if!(places.iter().all(|places| places.len() <= 1));
        let [in_a, in_b, in_c] = places.map(|places| places.first().copied());
        match (in_a, in_b, in_c) {
            (Some(in_a), Some(in_b), None) if !is_summed => {
                rule_if!(facts[0].shape[in_a] == facts[1].shape[in_b]);
                (a.columns, b.rows, is_summed) = (Some(in_a), Some(in_b), true);
            }
            (Some(_), None, Some(_)) if a.rows.is_none() => (a.rows, c.rows) = (in_a, in_c),
            (None, Some(_), Some(_)) if b.columns.is_none() => (b.columns, c.columns) = (in_b, in_c),
            (_, _, Some(_)) => {
                a.batch.push(in_a);
                b.batch.push(in_b);
                c.batch.push(in_c);
            }
            _ => return Ok(None),
        }
    }
    rule_if!(is_summed);
    Ok(Some(Axes { a, b, c }))
}

/// Whether the values of each row lie side by side.
pub(super) fn has_rows(matrices: &Matrices) -> bool {
    matrices.columns.is_some() && matrices.columns == matrices.rank().checked_sub(1)
}

/// Whether the values of each row or of each column lie side by side, so that products can read them.
pub(super) fn is_readable(matrices: &Matrices) -> bool {
    let last = matrices.rank().checked_sub(1);
    last.is_some() && (matrices.rows == last || matrices.columns == last)
}

/// A tensor's matrices, found by element of the batch.
#[derive(Debug)]
pub(super) struct Found {
    /// (rows, columns) of each matrix.
    pub(super) size: (usize, usize),
    pub(super) row_stride: usize,
    column_stride: usize,
    /// Distance between elements along each axis of the batch; 0 where all have the same.
    batch: TVec<usize>,
    len: usize,
}

impl Matrices {
    /// Counts the axes of the tensor.
    pub(super) fn rank(&self) -> usize {
        self.batch.iter().chain([&self.rows, &self.columns]).flatten().count()
    }

    /// Finds the matrices in a tensor of these axes.
    ///
    /// - `batch`: the size of each axis of the batch.
    pub(super) fn find(&self, shape: &[usize], batch: &[usize]) -> TractResult<Found> {
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let size = |axis: Option<usize>| axis.map_or(1, |axis| shape[axis]);
        let distance = |axis: Option<usize>| axis.map_or(0, stride);
        let along = |(axis, &size): (&Option<usize>, &usize)| match *axis {
            Some(axis) if shape[axis] == size => Ok(stride(axis)),
            Some(axis) if shape[axis] != 1 => bail!("axes of {} and {size} in one batch", shape[axis]),
            _ => Ok(0),
        };
        Ok(Found {
            size: (size(self.rows), size(self.columns)),
            row_stride: distance(self.rows),
            column_stride: distance(self.columns),
            batch: self.batch.iter().zip(batch).map(along).collect::<TractResult<_>>()?,
            len: shape.iter().product(),
        })
    }

    /// Widens the size of each axis of the batch to what this tensor has.
    pub(super) fn widen(&self, shape: &[usize], batch: &mut [usize]) {
        for (axis, size) in self.batch.iter().zip(batch) {
            *size = axis.map_or(1, |axis| shape[axis]).max(*size);
        }
        // An axis of nothing stays one of nothing: `find` compares it, and an empty batch has no element.
    }
}

impl Found {
    /// Where the matrix of an element of the batch begins.
    pub(super) fn start(&self, element: &[usize]) -> usize {
        element.iter().zip(&self.batch).map(|(at, stride)| at * stride).sum()
    }

    /// The distance between columns; 0 where rows are of one value.
    pub(super) fn column_stride(&self) -> usize {
        if self.size.1 == 1 { 0 } else { self.column_stride }
    }

    /// The distance between rows, for a matrix whose columns are side by side.
    pub(super) fn row_stride(&self) -> usize {
        self.row_stride.max(self.size.1)
    }

    /// The matrix of an element of the batch.
    pub(super) fn matrix<'a>(&self, data: &'a [f32], element: &[usize]) -> MatRef<'a, f32> {
        let ((rows, columns), data) = (self.size, &data[self.start(element).min(self.len)..]);
        if self.column_stride <= 1 || columns == 1 && self.row_stride != 1 {
            MatRef::strided(data, rows, columns, self.row_stride.max(columns))
        } else {
            MatRef::strided(data, columns, rows, self.column_stride.max(rows)).transposed()
        }
    }
}

/// Calls `each` for every element of a batch, the last axis fastest.
pub(super) fn for_each_element(batch: &[usize], mut each: impl FnMut(&[usize])) {
    let mut element: TVec<usize> = batch.iter().map(|_| 0).collect();
    for _ in 0..batch.iter().product() {
        each(&element);
        for (at, &size) in element.iter_mut().zip(batch).rev() {
            *at += 1;
            if *at < size {
                break;
            }
            *at = 0;
        }
    }
}
