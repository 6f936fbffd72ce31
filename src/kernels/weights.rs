//! The constant right side of a product, in the form that this processor multiplies fastest.

use super::int8::{PackedInt8, matmul_int8};
use super::matmul::{Scratch, matmul_packed_into};
use super::matrix::{MatMut, MatRef};
use super::pack::Packed;
use super::store::Store;

/// A constant matrix B (k, n), packed once and read by every product.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Each value is an f32.
    F32(Packed<f32>),
    /// Each column lies on a grid of 8 bits. Products round the other operand to 16 bits a row, which changes
    /// a result by about 3e-5 of what is typical for its row.
    Int8(PackedInt8),
}

impl Weights {
    /// Packs `b` (k, n), in 8 bits where its values lie on such a grid, so that nothing is lost.
    pub fn of(b: MatRef<'_, f32>) -> Self {
        PackedInt8::of(b).map_or_else(|| Self::F32(Packed::default().repacked(b)), Self::Int8)
    }

    /// Returns its size as (k, n).
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(packed) => packed.shape(),
            Self::Int8(packed) => packed.shape(),
        }
    }

    /// Counts the bytes that a product reads of it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(packed) => packed.bytes(),
            Self::Int8(packed) => packed.bytes(),
        }
    }
}

/// Computes C (m, n) (+)= A (m, k) B (k, n) in f32 for constant weights B. The values of a row of C depend on
/// that row of A alone, never on how many rows there are.
pub fn matmul_weights(
    c: MatMut<'_, f32>,
    store: Store<'_, f32>,
    a: MatRef<'_, f32>,
    weights: &Weights,
    scratch: &mut Scratch<f32>,
) {
    match weights {
        Weights::F32(packed) => matmul_packed_into(c, store, a, packed, scratch),
        Weights::Int8(packed) => matmul_int8(c, store, a, packed, &mut scratch.int8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / 16_777_216.0 - 0.5)
            .collect()
    }

    /// Values on a grid of 8 bits for each column.
    fn on_a_grid(k: usize, n: usize) -> Vec<f32> {
        let integer = |x: f32| (x * 254.0).round();
        let scale = |j: usize| 0.01 + 0.001 * j as f32;
        let mut values: Vec<f32> =
            numbers(k * n, 5).into_iter().zip(0..).map(|(x, at)| integer(x) * scale(at % n)).collect();
        (0..n).for_each(|j| values[(j % k) * n + j] = -127.0 * scale(j));
        values
    }

    #[test]
    fn a_row_is_the_same_whatever_rows_are_beside_it() {
        let rows = 23;
        let shapes = [(600, 150), (8, 32), (1, 5), (30, 7), (17, 64), (64, 1), (5, 129)];
        let in_f32 = shapes.iter().map(|&(k, n)| (k, n, numbers(k * n, 2), false));
        let cases = in_f32.chain([(600, 150, on_a_grid(600, 150), true)]);
        for (k, n, b, is_int8) in cases {
            let (a, bias) = (numbers(rows * k, 1), numbers(n, 3));
            let weights = Weights::of(MatRef::new(&b, k, n));
            assert_eq!((weights.shape(), matches!(weights, Weights::Int8(_))), ((k, n), is_int8));
            let before = numbers(rows * n, 4);
            for store in [Store::Overwrite, Store::Add, Store::Bias(&bias)] {
                let product = |first: usize, rows: usize| {
                    let mut c = before[first * n..][..rows * n].to_vec();
                    let a = MatRef::new(&a[first * k..][..rows * k], rows, k);
                    let to = MatMut::new(&mut c, rows, n, n);
                    matmul_weights(to, store, a, &weights, &mut Scratch::default());
                    c
                };
                let all = product(0, rows);
                for some in 1..rows {
                    for first in [0, rows - some] {
                        let part = product(first, some);
                        let want = &all[first * n..][..some * n];
                        assert_eq!(part, want, "{some} rows from {first}, {k} x {n}, {store:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn weights_of_8_bits_are_four_times_smaller_and_multiply_as_those_of_f32() {
        let (rows, k, n) = (5, 300, 70);
        let (a, b) = (numbers(rows * k, 1), on_a_grid(k, n));
        let weights = Weights::of(MatRef::new(&b, k, n));
        let in_f32 = Weights::F32(Packed::default().repacked(MatRef::new(&b, k, n)));
        assert!(3 * weights.bytes() < in_f32.bytes());
        let product = |weights: &Weights| {
            let mut c = vec![0.0; rows * n];
            let (to, a) = (MatMut::new(&mut c, rows, n, n), MatRef::new(&a, rows, k));
            matmul_weights(to, Store::Overwrite, a, weights, &mut Scratch::default());
            c
        };
        let (got, want) = (product(&weights), product(&in_f32));
        for (at, (got, want)) in got.into_iter().zip(want).enumerate() {
            let (row, j) = (&a[at / n * k..][..k], at % n);
            // Half a unit for each activation, and the roundings of the sum in f32.
            let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let sum: f32 = (0..k).map(|p| b[p * n + j].abs()).sum();
            let most = sum * (0.5 * largest / 32_639.0 + 1e-6);
            assert!((got - want).abs() <= most, "{got} for {want}, within {most}");
        }
    }
}
