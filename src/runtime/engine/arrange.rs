//! Tensors put together from rows of others: how rows join, leave and change places, and how what is of
//! different lengths is filled up.

use std::sync::Arc;

use super::tensor::{DataView, Tensor, TensorView, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::PaddingSide;

/// How a tensor is put together from rows of others.
#[derive(Clone, Copy, Debug)]
pub struct Arrangement<'a> {
    /// For each row of the result, the part that it is in, and the row there.
    pub rows: &'a [(usize, usize)],
    /// Axes of a row of the result.
    pub row_shape: &'a [usize],
    /// The axis of the rows in the parts.
    pub from: usize,
    /// The axis of the rows in the result.
    pub to: usize,
    /// Which axis of a row may be longer or shorter in the parts, and where it is filled with zeros or cut.
    pub along: Option<(usize, PaddingSide)>,
}

impl Arrangement<'_> {
    /// Axes of the result.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.row_shape.to_vec();
        shape.insert(self.to.min(shape.len()), self.rows.len());
        shape
    }

    /// The values of the result, from the axes and values of the parts.
    ///
    /// # Errors
    /// A sentence about a part that does not fit.
    pub fn collect<T: Copy + Default>(&self, parts: &[(&[usize], &[T])]) -> Result<Vec<T>, String> {
        let count = self.shape().iter().product();
        // Rows that are in one piece are put one behind the other, without zeros to write over.
        if self.from + self.to > 0 || self.along.is_some_and(|(axis, _)| axis > 0) {
            let mut result = vec![T::default(); count];
            return self.fill(parts, &mut result).map(|()| result);
        }
        note_copy(count);
        let mut result = Vec::with_capacity(count);
        let (wants, rest) = (self.row_shape.iter().product(), self.row_shape.get(1..).unwrap_or_default());
        for &(part, row) in self.rows {
            let &(shape, data) = parts.get(part).ok_or_else(|| format!("there is no part {part}"))?;
            let has = data.len() / shape.first().copied().unwrap_or(0).max(1);
            let fits = if self.along.is_some() { shape.get(2..) == Some(rest) } else { has == wants };
            let own =
                data.get(row * has..(row + 1) * has).filter(|_| fits).ok_or_else(|| self.unfit(shape))?;
            let kept = has.min(wants);
            if matches!(self.along, Some((_, PaddingSide::Left))) {
                result.resize(result.len() + wants - kept, T::default());
                result.extend_from_slice(&own[has - kept..]);
            } else {
                result.extend_from_slice(&own[..kept]);
                result.resize(result.len() + wants - kept, T::default());
            }
        }
        Ok(result)
    }

    fn unfit(&self, shape: &[usize]) -> String {
        format!("a part of shape {shape:?} does not fit rows of {:?}", self.row_shape)
    }

    /// Fills `result`, zeros as long as [`Self::shape`] says, from the axes and values of the parts.
    ///
    /// # Errors
    /// A sentence about a part that does not fit.
    pub fn fill<T: Copy>(&self, parts: &[(&[usize], &[T])], result: &mut [T]) -> Result<(), String> {
        note_copy(result.len());
        let row_len: usize = self.row_shape.iter().product();
        if result.len() != row_len * self.rows.len() {
            return Err(format!("{} values are no {} rows of {row_len}", result.len(), self.rows.len()));
        }
        let outsides: Vec<(&[usize], usize)> =
            parts.iter().map(|&(shape, data)| (shape, data.len())).collect();
        self.for_each_run(&outsides, |Run { part, from, to, len }| {
            result[to..to + len].copy_from_slice(&parts[part].1[from..from + len]);
        })
    }

    /// Tells of all values of the result that come from a part, in pieces that lie side by side in both; the
    /// others are zeros.
    ///
    /// - `parts`: axes of each, and how many values it has.
    ///
    /// # Errors
    /// A sentence about a part that does not fit.
    pub(super) fn for_each_run(
        &self,
        parts: &[(&[usize], usize)],
        mut each: impl FnMut(Run),
    ) -> Result<(), String> {
        let row_len: usize = self.row_shape.iter().product();
        let to = Rows::new(&self.shape(), self.to).unwrap_or(Rows { rows: 0, inner: 0 });
        for (row, &(part, from_row)) in self.rows.iter().enumerate() {
            let Some(&(shape, values)) = parts.get(part) else {
                return Err(format!("there is no part {part}"));
            };
            let from = Rows::new(shape, self.from)
                .filter(|from| from_row < from.rows)
                .ok_or_else(|| self.unfit(shape))?;
            let before = |shape: &[usize], axis: usize| shape.iter().take(axis).product::<usize>();
            // Blocks of one length, of which the end or the beginning is kept.
            let (blocks, has, wants) = match self.along {
                None => (1, values.checked_div(from.rows).unwrap_or(0), row_len),
                Some((axis, _)) => {
                    let blocks = before(self.row_shape, axis);
                    let has = values.checked_div(from.rows * blocks).unwrap_or(0);
                    let wants = row_len.checked_div(blocks).unwrap_or(0);
                    // Blocks of the same length are one.
                    if has == wants { (1, has * blocks, row_len) } else { (blocks, has, wants) }
                }
            };
            let kept = has.min(wants);
            let fits = match self.along {
                None => has == wants,
                Some((axis, _)) => {
                    let width: usize = self.row_shape.iter().skip(axis + 1).product();
                    shape.len() == self.row_shape.len() + 1 && width > 0 && has % width == 0
                }
            };
            if !fits || values != shape.iter().product::<usize>() {
                return Err(self.unfit(shape));
            }
            for block in 0..blocks {
                let (at_has, at_wants) = match self.along {
                    Some((_, PaddingSide::Left)) => (has - kept, wants - kept),
                    _ => (0, 0),
                };
                let mut source = block * has + at_has;
                let mut target = block * wants + at_wants;
                let mut left = kept;
                while left > 0 {
                    let len = left.min(from.run(source)).min(to.run(target));
                    each(Run { part, from: from.at(from_row, source), to: to.at(row, target), len });
                    (source, target, left) = (source + len, target + len, left - len);
                }
            }
        }
        Ok(())
    }
}

/// Values that lie side by side in a part and in the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) part: usize,
    /// Where the first lies in the part, and in the result.
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) len: usize,
}

/// Where the values of a row lie in a tensor.
#[derive(Clone, Copy)]
struct Rows {
    rows: usize,
    /// Values of a row that lie side by side.
    inner: usize,
}

impl Rows {
    fn new(shape: &[usize], axis: usize) -> Option<Self> {
        Some(Self { rows: *shape.get(axis)?, inner: shape[axis + 1..].iter().product() })
    }

    /// Values side by side from value `at` of a row on.
    fn run(self, at: usize) -> usize {
        self.inner - at % self.inner
    }

    /// Where value `at` of `row` is.
    fn at(self, row: usize, at: usize) -> usize {
        (at / self.inner * self.rows + row) * self.inner + at % self.inner
    }
}

/// The tensor behind a value that was never on a device.
pub(super) fn host(value: &Value) -> Result<&Tensor> {
    let any: &dyn std::any::Any = &**value;
    any.downcast_ref().ok_or_else(foreign)
}

/// The error about a value of another engine.
pub(super) fn foreign() -> Error {
    Error::new(ErrorKind::Internal, "a tensor of another engine")
}

/// What [`Graph::upload`](super::graph::Graph::upload) is in the host's memory.
pub(super) fn upload(tensor: TensorView<'_>) -> Result<Value> {
    let DataView::F32(data) = tensor.data else {
        return Err(Error::new(ErrorKind::Internal, "only f32 tensors are kept in the host's memory"));
    };
    note_copy(data.len());
    Ok(Arc::new(Tensor { shape: tensor.shape.to_vec(), data: data.to_vec() }))
}

/// What [`Graph::arrange`](super::graph::Graph::arrange) is in the host's memory.
pub(super) fn on_host(parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
    let tensors = parts.iter().map(|part| host(part)).collect::<Result<Vec<_>>>()?;
    let parts: Vec<(&[usize], &[f32])> =
        tensors.iter().map(|t| (t.shape.as_slice(), t.data.as_slice())).collect();
    let shape = arrangement.shape();
    let data = arrangement.collect(&parts).map_err(|message| Error::new(ErrorKind::Engine, message))?;
    Ok(Arc::new(Tensor { shape, data }))
}

#[cfg(test)]
thread_local! {
    /// Values that this thread copied in the host's memory, other than scores that were read.
    pub(crate) static COPIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts copies in tests; nothing otherwise.
pub(super) fn note_copy(_values: usize) {
    #[cfg(test)]
    COPIED.set(COPIED.get() + _values);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(parts: &[(&[usize], &[i32])], arrangement: Arrangement<'_>) -> Result<Vec<i32>, String> {
        let mut result = vec![0; arrangement.shape().iter().product()];
        let filled = arrangement.fill(parts, &mut result).map(|()| result);
        assert_eq!(filled, arrangement.collect(parts));
        filled
    }

    #[test]
    fn rows_are_picked_from_any_part_in_any_order() {
        let parts: [(&[usize], &[i32]); 2] = [(&[2, 2], &[1, 2, 3, 4]), (&[1, 2], &[5, 6])];
        let rows = [(1, 0), (0, 1), (0, 1)];
        let found =
            arranged(&parts, Arrangement { rows: &rows, row_shape: &[2], from: 0, to: 0, along: None });
        assert_eq!(found, Ok(vec![5, 6, 3, 4, 3, 4]));
    }

    #[test]
    fn rows_behind_layers_stay_there_or_come_to_the_front() {
        // (layers, rows, width).
        let parts: [(&[usize], &[i32]); 1] = [(&[2, 3, 1], &[1, 2, 3, 4, 5, 6])];
        let rows = [(0, 2), (0, 0)];
        let stay = Arrangement { rows: &rows, row_shape: &[2, 1], from: 1, to: 1, along: None };
        assert_eq!(arranged(&parts, stay), Ok(vec![3, 1, 6, 4]));
        assert_eq!(arranged(&parts, Arrangement { to: 0, ..stay }), Ok(vec![3, 6, 1, 4]));
        assert!(arranged(&parts, Arrangement { row_shape: &[3], ..stay }).is_err());
        assert!(arranged(&parts, Arrangement { rows: &[(0, 3)], ..stay }).is_err());
        assert!(arranged(&parts, Arrangement { rows: &[(1, 0)], ..stay }).is_err());
    }

    #[test]
    fn what_is_too_short_is_filled_and_what_is_too_long_is_cut_on_the_side_that_is_asked_for() {
        // (rows, heads, time).
        let parts: [(&[usize], &[i32]); 2] = [(&[1, 2, 3], &[1, 2, 3, 4, 5, 6]), (&[1, 2, 1], &[7, 8])];
        let rows = [(0, 0), (1, 0)];
        let left = Arrangement {
            rows: &rows,
            row_shape: &[2, 2],
            from: 0,
            to: 0,
            along: Some((1, PaddingSide::Left)),
        };
        assert_eq!(arranged(&parts, left), Ok(vec![2, 3, 5, 6, 0, 7, 0, 8]));
        let right = Arrangement { along: Some((1, PaddingSide::Right)), ..left };
        assert_eq!(arranged(&parts, right), Ok(vec![1, 2, 4, 5, 7, 0, 8, 0]));
        let empty: [(&[usize], &[i32]); 1] = [(&[1, 2, 0], &[])];
        assert_eq!(arranged(&empty, Arrangement { rows: &rows[..1], ..left }), Ok(vec![0; 4]));
    }
}
