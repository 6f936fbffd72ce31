//! The constant right side of a product, in the form that this processor multiplies fastest.

use super::matmul::{Scratch, Store, matmul_packed_into};
use super::matrix::{MatMut, MatRef};
use super::pack::Packed;

/// A constant matrix B (k, n), packed once and read by every product.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Each value is an f32.
    F32(Packed<f32>),
}

impl Weights {
    /// Packs `b` (k, n).
    pub fn of(b: MatRef<'_, f32>) -> Self {
        Self::F32(Packed::default().repacked(b))
    }

    /// Returns its size as (k, n).
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(packed) => packed.shape(),
        }
    }

    /// Counts the bytes that a product reads of it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(packed) => packed.bytes(),
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

    #[test]
    fn a_row_is_the_same_whatever_rows_are_beside_it() {
        let (rows, k, n) = (23, 600, 150);
        let (a, b, bias) = (numbers(rows * k, 1), numbers(k * n, 2), numbers(n, 3));
        let weights = Weights::of(MatRef::new(&b, k, n));
        assert_eq!(weights.shape(), (k, n));
        let product = |rows: usize, a: &[f32]| {
            let mut c = vec![0.0; rows * n];
            let (to, a) = (MatMut::new(&mut c, rows, n, n), MatRef::new(a, rows, k));
            matmul_weights(to, Store::Bias(&bias), a, &weights, &mut Scratch::default());
            c
        };
        let all = product(rows, &a);
        for some in 1..rows {
            for first in [0, rows - some] {
                let part = product(some, &a[first * k..][..some * k]);
                assert_eq!(part, all[first * n..][..some * n], "{some} rows from {first}");
            }
        }
    }
}
