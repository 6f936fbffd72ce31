//! Borrowed matrices: what products read, and what they write.

use std::marker::PhantomData;
use std::ops::Range;

use super::real::Real;

/// A borrowed matrix (rows, columns) with any strides.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    pub(super) data: &'a [R],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, R: Real> MatRef<'a, R> {
    /// Borrows a row-major matrix (rows, columns) whose rows lie `columns` apart.
    pub fn new(data: &'a [R], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Borrows a row-major matrix (rows, columns) whose rows lie `row_stride` apart.
    pub fn strided(data: &'a [R], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1);
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "a matrix within its slice"
        );
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Returns its size as (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Borrows some rows of some columns, neither range empty.
    #[must_use]
    pub fn block(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a block within its matrix");
        let start = rows.start * self.row_stride + columns.start * self.column_stride;
        Self { data: &self.data[start..], rows: rows.len(), columns: columns.len(), ..self }
    }

    /// The value at a row and column of the matrix.
    pub(super) fn at(&self, row: usize, column: usize) -> R {
        self.data[row * self.row_stride + column * self.column_stride]
    }

    /// Borrows one row of a row-major matrix.
    pub fn row(&self, row: usize) -> &'a [R] {
        assert_eq!(self.column_stride, 1, "a row-major matrix");
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// Returns the transpose without copying a value.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A mutably borrowed row-major matrix (rows, columns), which can be split so that several threads write
/// parts of it.
#[derive(Debug)]
pub struct MatMut<'a, R> {
    start: *mut R,
    rows: usize,
    columns: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [R]>,
}

// SAFETY: it stands for the values of a `&'a mut [R]` that nothing else names meanwhile.
unsafe impl<R: Send> Send for MatMut<'_, R> {}

impl<'a, R> MatMut<'a, R> {
    /// Borrows a matrix (rows, columns) whose rows lie `row_stride` apart.
    pub fn new(data: &'a mut [R], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1);
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "a matrix within its slice"
        );
        Self { start: data.as_mut_ptr(), rows, columns, row_stride, borrow: PhantomData }
    }

    /// Returns its size as (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The distance between two rows, in values.
    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The value at a row and column of the matrix.
    pub(super) fn at(&self, row: usize, column: usize) -> *mut R {
        self.start.wrapping_add(row * self.row_stride + column)
    }

    /// Borrows one row.
    pub fn row(&mut self, row: usize) -> &mut [R] {
        assert!(row < self.rows, "a row of the matrix");
        // SAFETY: the row lies within the borrowed values, and no other part of the matrix names it.
        unsafe { std::slice::from_raw_parts_mut(self.at(row, 0), self.columns) }
    }

    /// Borrows some rows of some columns for a while.
    pub fn block(&mut self, rows: Range<usize>, columns: Range<usize>) -> MatMut<'_, R> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows of the matrix");
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns of the matrix");
        let start = self.at(rows.start, columns.start);
        MatMut {
            start,
            rows: rows.len(),
            columns: columns.len(),
            row_stride: self.row_stride,
            borrow: PhantomData,
        }
    }

    /// Splits it into parts of `rows` rows each, the last one of what is left.
    pub fn split_rows(self, rows: usize) -> Vec<Self> {
        let part =
            |first: usize| Self { start: self.at(first, 0), rows: rows.min(self.rows - first), ..self };
        (0..self.rows).step_by(rows.max(1)).map(part).collect()
    }

    /// Splits it into parts of `columns` columns each, the last one of what is left.
    pub fn split_columns(self, columns: usize) -> Vec<Self> {
        let part = |first: usize| Self {
            start: self.at(0, first),
            columns: columns.min(self.columns - first),
            ..self
        };
        (0..self.columns).step_by(columns.max(1)).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_matrix_are_disjoint_and_all_of_it() {
        for by_rows in [true, false] {
            let mut data = vec![0; 5 * 7];
            let matrix = MatMut::new(&mut data, 5, 6, 7);
            let parts = if by_rows { matrix.split_rows(2) } else { matrix.split_columns(4) };
            assert_eq!(
                parts.iter().map(MatMut::shape).collect::<Vec<_>>(),
                if by_rows { [(2, 6), (2, 6), (1, 6)].to_vec() } else { [(5, 4), (5, 2)].to_vec() }
            );
            std::thread::scope(|scope| {
                for (n, mut part) in (1..).zip(parts) {
                    scope.spawn(move || {
                        (0..part.shape().0).for_each(|row| part.row(row).iter_mut().for_each(|x| *x += n));
                    });
                }
            });
            let want = |i: usize| match (i / 7, i % 7) {
                (_, 6) => 0,
                (row, column) => 1 + if by_rows { row / 2 } else { column / 4 },
            };
            assert!(data.iter().enumerate().all(|(i, &x)| x == want(i)), "{data:?}");
        }
    }

    #[test]
    #[should_panic(expected = "rows of the matrix")]
    fn a_block_outside_is_refused() {
        MatMut::new(&mut [0; 6], 2, 3, 3).block(1..3, 0..1);
    }
}
