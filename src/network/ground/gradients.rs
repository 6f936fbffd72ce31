//! The gradients of all parameters, summed over the shards of a batch.
//!
//! A pass over a shard leaves gradients of activations. What the parameters' gradients are made of is listed
//! by the layers as [`Summand`]s; when all shards are done, the threads share the tensors among them. So
//! there is one array of gradients for any number of threads, the products run over the rows of all shards,
//! and nobody waits for a slow shard twice.

use std::ops::Range;

use super::parameters::{ParameterId, Parameters};
use s2s_kernels::{
    MatMut, MatRef, Real, Scratch, Store, Team, add_assign, add_scaled, matmul_into, sum_of_squares,
};

/// One summand of the gradient of a tensor, seen as a matrix whose columns are the tensor's last axis.
#[derive(Clone, Copy, Debug)]
pub enum Summand<'a, R> {
    /// A (m, k) B (k, n), into the first n columns of m rows.
    Product {
        /// The first of the rows.
        first_row: usize,
        /// Usually the transpose of the gradients of a layer's outputs.
        a: MatRef<'a, R>,
        /// Usually a layer's inputs.
        b: MatRef<'a, R>,
    },
    /// For each id a row of values, into the row of that id.
    Rows {
        /// The row of the tensor for each row of `values`.
        ids: &'a [u32],
        /// The values of each id, (ids, columns).
        values: &'a [R],
        /// What each row is multiplied by; empty for 1.
        factors: &'a [R],
    },
    /// A row of values, into a whole row.
    Row {
        /// The number of the row or column.
        at: usize,
        /// What is added to the row, (columns).
        values: &'a [R],
    },
    /// A column of values, into a whole column.
    Column {
        /// The number of the row or column.
        at: usize,
        /// What is added to the column, (rows).
        values: &'a [R],
    },
    /// A matrix (rows, columns), into the whole tensor.
    Matrix(MatRef<'a, R>),
}

/// What one shard adds.
pub type Summands<'a, R> = Vec<(ParameterId, Summand<'a, R>)>;

/// Gradients of all parameters, laid out like these, that begin every step as zeros without being cleared.
///
/// A table of thousands of symbols gets a few rows a step, a matrix as a whole a product. So each row has a
/// mark: what is not marked counts as zero and holds leftovers of an earlier step.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    values: Parameters<R>,
    written: Vec<bool>,
    /// (rows, columns) of each tensor.
    shapes: Vec<(usize, usize)>,
    scratch: Vec<Scratch<R>>,
}

/// A stretch of the values that was written as a whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The number of values in the stretch.
    pub len: usize,
    /// Whether they are gradients; else the gradients are zero.
    pub is_written: bool,
}

/// Multiplications that are worth a thread of their own; about 50 microseconds.
const WORTH_A_THREAD: usize = 4 << 20;
/// Multiplications that take as long as adding one value from memory.
const WORK_OF_ADDING: usize = 32;
/// Rows and columns are divided among threads by so many: whole tiles of every kind.
const ROWS: usize = 24;
const COLUMNS: usize = 48;

impl<R: Real> Gradients<R> {
    /// Makes zeros for these parameters.
    pub fn new(parameters: &Parameters<R>) -> Self {
        let shape = |entry: &super::parameters::Entry| {
            let columns = entry.shape.last().copied().unwrap_or(1);
            (entry.len() / columns.max(1), columns)
        };
        let shapes: Vec<_> = parameters.iter().map(|(entry, _)| shape(entry)).collect();
        let rows = shapes.iter().map(|(rows, _)| rows).sum();
        Self { values: parameters.zeros_like(), written: vec![false; rows], shapes, scratch: Vec::new() }
    }

    /// Replaces the gradients by the sum of what all shards add, in their order; gives the sum of squares.
    pub fn set(&mut self, shards: &[Summands<'_, R>], team: &mut Team) -> f64 {
        let mut by_tensor = vec![Vec::new(); self.shapes.len()];
        for (id, summand) in shards.iter().flatten() {
            by_tensor[id.0].push(*summand);
        }
        let (mut values, mut written) = (self.values.data_mut(), self.written.as_mut_slice());
        let mut pieces = Vec::new();
        for (&(rows, columns), summands) in self.shapes.iter().zip(&by_tensor) {
            let (tensor, marks);
            (tensor, values) = values.split_at_mut(rows * columns);
            (marks, written) = written.split_at_mut(rows);
            pieces.extend(divide(
                MatMut::new(tensor, rows, columns, columns),
                marks,
                summands,
                team.threads(),
            ));
        }
        let mut squares = vec![0.0; pieces.len()];
        let mut items: Vec<_> = pieces.into_iter().zip(&mut squares).collect();
        // The longest first: a long one at the end would be waited for.
        items.sort_by_key(|(piece, _)| std::cmp::Reverse(piece.work));
        team.each_with(&mut self.scratch, items.into_iter(), |scratch, (piece, squares)| {
            *squares = piece.run(scratch);
        });
        squares.into_iter().sum()
    }

    /// Borrows all values end to end.
    pub fn data(&self) -> &[R] {
        self.values.data()
    }

    /// Tells which values are gradients: stretches in their order, for each `part` values.
    pub fn parts(&self, part: usize) -> Vec<Vec<Stretch>> {
        let mut parts: Vec<Vec<Stretch>> = Vec::new();
        let (mut marks, mut room) = (self.written.iter(), 0);
        for &(rows, columns) in &self.shapes {
            for &is_written in marks.by_ref().take(rows) {
                let mut left = columns;
                while left > 0 {
                    if room == 0 {
                        parts.push(Vec::new());
                        room = part;
                    }
                    let len = left.min(room);
                    (left, room) = (left - len, room - len);
                    match parts.last_mut() {
                        Some(stretches) => match stretches.last_mut() {
                            Some(last) if last.is_written == is_written => last.len += len,
                            _ => stretches.push(Stretch { len, is_written }),
                        },
                        None => unreachable!("a part was begun"),
                    }
                }
            }
        }
        parts
    }

    /// Gives the gradients of these parameters as tensors, computed on one thread.
    pub fn of(parameters: &Parameters<R>, shards: &[Summands<'_, R>]) -> Parameters<R> {
        let mut gradients = Self::new(parameters);
        gradients.set(shards, &mut Team::new(1));
        gradients.into_parameters()
    }

    /// Gives the gradients as tensors, zeros written out.
    fn into_parameters(mut self) -> Parameters<R> {
        let mut values = self.values.data_mut();
        let mut marks = self.written.iter();
        for &(rows, columns) in &self.shapes {
            for &is_written in marks.by_ref().take(rows) {
                let row;
                (row, values) = values.split_at_mut(columns);
                if !is_written {
                    row.fill(R::ZERO);
                }
            }
        }
        self.values
    }
}

/// Some rows of some columns of a tensor, for one thread.
struct Piece<'p, 'a, R> {
    block: MatMut<'p, R>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// The marks of a table's rows; `None` in a tensor that is written as a whole.
    marks: Option<&'p mut [bool]>,
    summands: &'p [Summand<'a, R>],
    work: usize,
}

/// Divides a tensor among threads: by its longer side, or a table by rows, whose marks are theirs alone.
fn divide<'p, 'a, R: Real>(
    tensor: MatMut<'p, R>,
    marks: &'p mut [bool],
    summands: &'p [Summand<'a, R>],
    threads: usize,
) -> Vec<Piece<'p, 'a, R>> {
    let (rows, columns) = tensor.shape();
    let is_whole = summands.iter().any(|s| matches!(s, Summand::Product { .. } | Summand::Matrix(_)));
    let by_columns = is_whole && columns > rows;
    let work = summands.iter().map(Summand::work).sum::<usize>();
    let parts = (work / WORTH_A_THREAD).clamp(1, threads);
    let (len, unit) = if by_columns { (columns, COLUMNS) } else { (rows, ROWS) };
    let size = len.div_ceil(parts).next_multiple_of(unit).max(1);
    let blocks = if by_columns { tensor.split_columns(size) } else { tensor.split_rows(size) };
    if is_whole {
        marks.fill(true);
    }
    let mut marks = (!is_whole).then(|| marks.chunks_mut(size));
    let piece = |(i, block): (usize, MatMut<'p, R>)| {
        let (first_row, first_column) = if by_columns { (0, i * size) } else { (i * size, 0) };
        let (m, n) = block.shape();
        let marks = marks.as_mut().and_then(Iterator::next);
        Piece {
            block,
            rows: first_row..first_row + m,
            columns: first_column..first_column + n,
            marks,
            summands,
            work: work / parts,
        }
    };
    blocks.into_iter().enumerate().map(piece).collect()
}

impl<R: Real> Piece<'_, '_, R> {
    /// Adds everything up; gives the sum of squares.
    fn run(mut self, scratch: &mut Scratch<R>) -> f64 {
        let mut own = Vec::new();
        let is_whole = self.marks.is_none();
        let marks = match self.marks.take() {
            Some(marks) => marks,
            None => {
                own.resize(self.rows.len(), false);
                &mut own
            }
        };
        marks.fill(false);
        for summand in self.summands {
            match *summand {
                Summand::Product { first_row, a, b } => self.add_product(marks, first_row, a, b, scratch),
                Summand::Rows { ids, values, factors } => {
                    let width = values.len() / ids.len().max(1);
                    for (n, &id) in ids.iter().enumerate() {
                        let factor = factors.get(n).copied();
                        self.add_row(marks, id as usize, &values[n * width..][..width], factor);
                    }
                }
                Summand::Row { at, values } => self.add_row(marks, at, values, None),
                Summand::Column { at, values } if self.columns.contains(&at) => {
                    let at = at - self.columns.start;
                    for ((row, mark), &value) in marks.iter_mut().enumerate().zip(&values[self.rows.clone()])
                    {
                        let row = self.block.row(row);
                        if !std::mem::replace(mark, true) {
                            row.fill(R::ZERO);
                        }
                        row[at] += value;
                    }
                }
                Summand::Column { .. } => {}
                Summand::Matrix(matrix) => {
                    self.rows.clone().for_each(|row| self.add_row(marks, row, matrix.row(row), None));
                }
            }
        }
        let mut squares = 0.0;
        for (row, &mark) in marks.iter().enumerate() {
            let values = self.block.row(row);
            if mark {
                squares += sum_of_squares(values);
            } else if is_whole {
                values.fill(R::ZERO);
            }
        }
        squares
    }

    /// Adds to a row of the tensor, where it is one of this piece.
    fn add_row(&mut self, marks: &mut [bool], row: usize, values: &[R], factor: Option<R>) {
        if !self.rows.contains(&row) {
            return;
        }
        let (row, values) = (row - self.rows.start, &values[self.columns.clone()]);
        let is_new = !std::mem::replace(&mut marks[row], true);
        let row = self.block.row(row);
        match factor {
            None if is_new => row.copy_from_slice(values),
            None => add_assign(row, values),
            Some(factor) => {
                if is_new {
                    row.fill(R::ZERO);
                }
                add_scaled(row, values, factor);
            }
        }
    }

    /// Adds A B from `first_row` of the tensor on, as far as it is in this piece.
    fn add_product(
        &mut self,
        marks: &mut [bool],
        first_row: usize,
        a: MatRef<'_, R>,
        b: MatRef<'_, R>,
        scratch: &mut Scratch<R>,
    ) {
        let ((m, k), (_, n)) = (a.shape(), b.shape());
        let rows = self.rows.start.max(first_row)..self.rows.end.min(first_row + m);
        let columns = self.columns.start..self.columns.end.min(n);
        if rows.is_empty() || columns.is_empty() || k == 0 {
            return;
        }
        let local = rows.start - self.rows.start..rows.end - self.rows.start;
        let marks = &mut marks[local.clone()];
        let is_new = !marks.contains(&true);
        for (row, mark) in local.clone().zip(marks) {
            if !std::mem::replace(mark, true) {
                // What the product does not write, or all where it is to be added.
                let from = if is_new { columns.len() } else { 0 };
                self.block.row(row)[from..].fill(R::ZERO);
            }
        }
        let store = if is_new { Store::Overwrite } else { Store::Add };
        let (a, b) =
            (a.block(rows.start - first_row..rows.end - first_row, 0..k), b.block(0..k, columns.clone()));
        matmul_into(self.block.block(local, 0..columns.len()), store, a, b, scratch);
    }
}

impl<'a, R: Real> Summand<'a, R> {
    /// Makes the sum over the rows of outer products: left (rows, m) transposed times right (rows, n).
    pub fn over_rows(left: MatRef<'a, R>, right: MatRef<'a, R>) -> Self {
        Self::Product { first_row: 0, a: left.transposed(), b: right }
    }

    /// Estimates how many multiplications it takes.
    fn work(&self) -> usize {
        match self {
            Self::Product { a, b, .. } => a.shape().0 * a.shape().1 * b.shape().1,
            Self::Rows { values, .. } | Self::Row { values, .. } | Self::Column { values, .. } => {
                values.len() * WORK_OF_ADDING
            }
            Self::Matrix(matrix) => matrix.shape().0 * matrix.shape().1 * WORK_OF_ADDING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f64 / 500.0 - 1.0).collect()
    }

    /// Tensors large enough to be divided by rows and by columns, a table, one of which only rows after the
    /// first get a product, and two that nobody writes, though one is offered a product over no rows.
    const SHAPES: [[usize; 2]; 6] = [[1000, 101], [50, 1000], [3000, 64], [200, 30], [4, 5], [2, 3]];
    /// Rows that the products run over.
    const K: usize = 150;

    struct Shard {
        numbers: [Vec<f64>; 8],
        symbols: Vec<u32>,
    }

    impl Shard {
        fn new(seed: usize) -> Self {
            let sizes = [1000 * K, K * 100, 1000, 50 * K, K * 1000, 50 * 1000, 400 * 64, 400];
            Self {
                numbers: sizes.map(|n| numbers(n, seed)),
                symbols: (0..400).map(|i| (i * i * 31 + seed as u32) % 1500).collect(),
            }
        }

        fn summands<'a>(&'a self, ids: &[ParameterId]) -> Summands<'a, f64> {
            let [d, x, bias, h, logits, matrix, rows, factors] = &self.numbers;
            let product =
                |m: usize, n: usize, a: &'a [f64], b: &'a [f64]| (MatRef::new(a, m, K), MatRef::new(b, K, n));
            let ((a, b), (c, e), (f, g)) =
                (product(1000, 100, d, x), product(50, 1000, h, logits), product(199, 30, d, x));
            let (ids_twice, no_rows) = (&self.symbols[..], MatRef::new(&[], 4, 0));
            vec![
                (ids[0], Summand::Column { at: 100, values: bias }),
                (ids[0], Summand::Product { first_row: 0, a, b }),
                (ids[1], Summand::Product { first_row: 0, a: c, b: e }),
                (ids[1], Summand::Matrix(MatRef::new(matrix, 50, 1000))),
                (ids[2], Summand::Rows { ids: ids_twice, values: rows, factors }),
                (ids[2], Summand::Rows { ids: ids_twice, values: rows, factors: &[] }),
                (ids[2], Summand::Row { at: 2999, values: &bias[..64] }),
                (ids[3], Summand::Product { first_row: 1, a: f, b: g }),
                (ids[4], Summand::Product { first_row: 0, a: no_rows, b: MatRef::new(&[], 0, 5) }),
            ]
        }

        fn add_to(&self, expected: &mut [Vec<f64>]) {
            let [d, x, bias, h, logits, matrix, rows, factors] = &self.numbers;
            let mut product = |tensor: usize, first_row: usize, m: usize, n: usize, a: &[f64], b: &[f64]| {
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let at = (first_row + i) * SHAPES[tensor][1] + j;
                    expected[tensor][at] += (0..K).map(|p| a[i * K + p] * b[p * n + j]).sum::<f64>();
                }
            };
            product(0, 0, 1000, 100, d, x);
            product(1, 0, 50, 1000, h, logits);
            product(3, 1, 199, 30, d, x);
            bias.iter().enumerate().for_each(|(i, b)| expected[0][i * 101 + 100] += b);
            matrix.iter().enumerate().for_each(|(i, x)| expected[1][i] += x);
            for (n, &id) in self.symbols.iter().enumerate() {
                (0..64)
                    .for_each(|j| expected[2][id as usize * 64 + j] += rows[n * 64 + j] * (1.0 + factors[n]));
            }
            bias[..64].iter().enumerate().for_each(|(j, b)| expected[2][2999 * 64 + j] += b);
        }
    }

    #[test]
    fn sums_are_those_of_the_definition_for_any_number_of_threads_and_leftovers_count_for_nothing() {
        let mut p = Parameters::<f64>::default();
        let ids: Vec<ParameterId> =
            SHAPES.iter().enumerate().map(|(i, shape)| p.add(format!("{i}"), shape)).collect();
        let steps = [vec![Shard::new(1), Shard::new(2)], vec![Shard::new(3)], Vec::new()];
        for threads in [1, 2, 5] {
            let (mut gradients, mut team) = (Gradients::new(&p), Team::new(threads));
            for shards in &steps {
                let mut expected: Vec<Vec<f64>> = SHAPES.iter().map(|[m, n]| vec![0.0; m * n]).collect();
                shards.iter().for_each(|shard| shard.add_to(&mut expected));
                let summands: Vec<_> = shards.iter().map(|shard| shard.summands(&ids)).collect();
                let squares = gradients.set(&summands, &mut team);
                let wanted: f64 = expected.iter().flatten().map(|x| x * x).sum();
                assert!((squares - wanted).abs() <= 1e-9 * wanted, "{squares} for {wanted}");
                let got = gradients.clone().into_parameters();
                for (&id, expected) in ids.iter().zip(&expected) {
                    for (i, (got, want)) in got.get(id).iter().zip(expected).enumerate() {
                        assert!(
                            (got - want).abs() < 1e-9,
                            "{id:?}, {threads} threads, value {i}: {got} for {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn parts_are_as_long_as_asked_and_say_which_rows_are_gradients() {
        let mut p = Parameters::<f64>::default();
        let (a, b) = (p.add("a", &[4, 3]), p.add("b", &[5]));
        let mut gradients = Gradients::new(&p);
        let (rows, bias) = ([1.0; 9], [1.0; 5]);
        let summands = vec![
            (a, Summand::Rows { ids: &[1, 3, 1], values: &rows, factors: &[] }),
            (b, Summand::Row { at: 0, values: &bias }),
        ];
        gradients.set(&[summands], &mut Team::new(1));
        let parts: Vec<Vec<_>> = gradients
            .parts(7)
            .into_iter()
            .map(|part| part.iter().map(|s| (s.len, s.is_written)).collect())
            .collect();
        assert_eq!(
            parts,
            [vec![(3, false), (3, true), (1, false)], vec![(2, false), (5, true)], vec![(3, true)]]
        );
    }
}
