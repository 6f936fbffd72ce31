//! Products of two operands that are both computed, used once and then never again, and attention out of them.

use super::level::multiversion;
use super::matmul::{Scratch, matmul_into};
use super::matrix::{MatMut, MatRef};
use super::softmax::softmax_rows;
use super::store::Store;

/// Rows of A from which on B is packed: fewer do not pay for the copy.
const ROWS_TO_PACK: usize = 4;

/// Lanes that sums run in, so that the compiler may vectorise them without reordering within a lane.
const LANES: usize = 16;
/// Columns of a weighted sum of rows whose sums stay in registers.
const COLUMNS: usize = 4 * LANES;

/// Reused memory of [`attend`] and [`matmul_once`].
#[derive(Clone, Debug, Default)]
pub struct AttentionScratch {
    product: Scratch<f32>,
    scores: Vec<f32>,
    row: Vec<f32>,
}

/// What is added to the scores (m, n) of [`attend`]: a mask, a bias of positions.
#[derive(Clone, Copy, Debug)]
pub struct Addend<'a> {
    /// The values, from the first that is added on.
    pub values: &'a [f32],
    /// Distance between rows; 0 if all rows are given the same.
    pub row_stride: usize,
    /// Distance between columns; 0 if a row is given one value.
    pub column_stride: usize,
}

/// Computes C (m, n) = A (m, k) B (k, n) for a B that is multiplied once: few rows of A read it where it lies.
pub fn matmul_once(
    mut c: MatMut<'_, f32>,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    scratch: &mut AttentionScratch,
) {
    assert_eq!(a.columns, b.rows, "inner sizes agree");
    assert_eq!(c.shape(), (a.rows, b.columns), "outer sizes agree");
    if a.rows >= ROWS_TO_PACK {
        return matmul_into(c, Store::Overwrite, a, b, &mut scratch.product);
    }
    for row in 0..a.rows {
        let vector = if a.column_stride == 1 {
            a.row(row)
        } else {
            scratch.row.clear();
            scratch.row.extend((0..a.columns).map(|k| a.data[row * a.row_stride + k * a.column_stride]));
            &scratch.row
        };
        if b.column_stride == 1 {
            weighted_rows(c.row(row), vector, b);
        } else {
            dots(c.row(row), vector, b.transposed());
        }
    }
}

/// Computes attention: out (m, d) = softmax(`scale` q (m, k) keys (n, k)^T + addends) values (n, d), the softmax
/// along n.
///
/// The source is Vaswani et al., Attention Is All You Need (2017), equation 1.
pub fn attend(
    out: MatMut<'_, f32>,
    q: MatRef<'_, f32>,
    keys: MatRef<'_, f32>,
    values: MatRef<'_, f32>,
    (scale, addends): (f32, &[Addend<'_>]),
    scratch: &mut AttentionScratch,
) {
    let (m, n) = (q.rows, keys.rows);
    let mut scores = std::mem::take(&mut scratch.scores);
    // A room that is written whole before it is read; only what is new is filled.
    if scores.len() < m * n {
        scores.resize(m * n, 0.0);
    }
    let room = &mut scores[..m * n];
    matmul_once(MatMut::new(room, m, n, n), q, keys.transposed(), scratch);
    if n > 0 {
        for (at, row) in room.chunks_exact_mut(n).enumerate() {
            scale_each(row, scale);
            for addend in addends {
                let values = &addend.values[at * addend.row_stride..];
                match addend.column_stride {
                    0 => add_one(row, values[0]),
                    1 => super::add_assign(row, &values[..n]),
                    stride => row.iter_mut().zip(values.iter().step_by(stride)).for_each(|(x, &y)| *x += y),
                }
            }
        }
        softmax_rows(room, n);
    }
    matmul_once(out, MatRef::new(room, m, n), values, scratch);
    scratch.scores = scores;
}

multiversion! {
    fn scale_each(row: &mut [f32], scale: f32) {
        for x in row {
            *x *= scale;
        }
    }
}

multiversion! {
    fn add_one(row: &mut [f32], value: f32) {
        for x in row {
            *x += value;
        }
    }
}

multiversion! {
    /// Computes the product of a vector with each row of a row-major matrix.
    fn dots(out: &mut [f32], vector: &[f32], rows: MatRef<'_, f32>) {
        let (chunks, rest) = vector.as_chunks::<LANES>();
        for (row, out) in out.iter_mut().enumerate() {
            let other = rows.row(row);
            let (others, other_rest) = other.as_chunks::<LANES>();
            let mut lanes = [0.0f32; LANES];
            for (a, b) in chunks.iter().zip(others) {
                for j in 0..LANES {
                    lanes[j] = if FMA { a[j].mul_add(b[j], lanes[j]) } else { a[j] * b[j] + lanes[j] };
                }
            }
            let mut width = LANES / 2;
            while width > 0 {
                for j in 0..width {
                    lanes[j] += lanes[j + width];
                }
                width /= 2;
            }
            let mut sum = lanes[0];
            for (a, b) in rest.iter().zip(other_rest) {
                sum += a * b;
            }
            *out = sum;
        }
    }
}

multiversion! {
    /// Computes the sum of the rows of a row-major matrix, each times its weight.
    fn weighted_rows(out: &mut [f32], weights: &[f32], rows: MatRef<'_, f32>) {
        let (blocks, rest) = out.as_chunks_mut::<COLUMNS>();
        for (at, block) in blocks.iter_mut().enumerate() {
            let mut sums = [0.0f32; COLUMNS];
            for (row, &weight) in weights.iter().enumerate() {
                let values: &[f32; COLUMNS] =
                    rows.row(row)[at * COLUMNS..].first_chunk().expect("a block within the row");
                for j in 0..COLUMNS {
                    sums[j] = if FMA { weight.mul_add(values[j], sums[j]) } else { weight * values[j] + sums[j] };
                }
            }
            *block = sums;
        }
        rest.fill(0.0);
        let first = blocks.len() * COLUMNS;
        for (row, &weight) in weights.iter().enumerate() {
            for (sum, &value) in rest.iter_mut().zip(&rows.row(row)[first..]) {
                *sum = if FMA { weight.mul_add(value, *sum) } else { weight * value + *sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{matrix, numbers};
    use proptest::prelude::*;

    fn at(matrix: &MatRef<'_, f32>, row: usize, column: usize) -> f64 {
        f64::from(matrix.data[row * matrix.row_stride + column * matrix.column_stride])
    }

    proptest! {
        #[test]
        fn attention_is_its_definition_however_its_operands_lie(
            m in 1usize..7, n in 1usize..40, k in 1usize..70, d in 1usize..140, transposed: [bool; 3], masked: bool,
        ) {
            let data = [numbers(m * k, 1), numbers(n * k, 2), numbers(n * d, 3), numbers(m * n, 4)];
            let (q, keys, values) = (
                matrix(&data[0], m, k, transposed[0]),
                matrix(&data[1], n, k, transposed[1]),
                matrix(&data[2], n, d, transposed[2]),
            );
            let scale = 0.7;
            let mut mask = vec![0.0; n];
            if masked {
                // All but the last, as exporters write it.
                mask[..n - 1].fill(f32::MIN);
            }
            let addends = [
                Addend { values: &data[3], row_stride: n, column_stride: 1 },
                Addend { values: &mask, row_stride: 0, column_stride: 1 },
                Addend { values: &data[3], row_stride: n, column_stride: 0 },
            ];
            let mut out = vec![f32::NAN; m * d];
            let to = MatMut::new(&mut out, m, d, d);
            attend(to, q, keys, values, (scale, &addends), &mut AttentionScratch::default());
            for i in 0..m {
                let scores: Vec<f64> = (0..n).map(|j| {
                    let dot: f64 = (0..k).map(|p| at(&q, i, p) * at(&keys, j, p)).sum();
                    let [first, other] = [j, 0].map(|j| f64::from(data[3][i * n + j]));
                    dot * f64::from(scale) + first + other + f64::from(mask[j])
                }).collect();
                let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for p in 0..d {
                    let want: f64 = weights.iter().enumerate().map(|(j, w)| w / sum * at(&values, j, p)).sum();
                    // Dozens of roundings of sums of up to twenty.
                    assert!((f64::from(out[i * d + p]) - want).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_row_of_no_columns_attends_to_nothing_and_nan_is_seen() {
        let mut out = [1.0; 2];
        let to = MatMut::new(&mut out, 1, 2, 2);
        let none = MatRef::new(&[], 0, 2);
        attend(to, MatRef::new(&[1.0, 2.0], 1, 2), none, none, (1.0, &[]), &mut AttentionScratch::default());
        assert_eq!(out, [0.0; 2]);
        let mut row = [0.0, f32::NAN, 1.0];
        let width = row.len();
        softmax_rows(&mut row, width);
        assert!(row.iter().all(|x| x.is_nan()));
    }
}
