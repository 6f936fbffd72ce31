//! What the tests of several kernels share.

use super::matrix::MatRef;

/// Numbers between -1/2 and 1/2.
pub(super) fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97)) >> 8) as f32 / 16_777_216.0 - 0.5)
        .collect()
}

/// A matrix (rows, columns), which lies transposed or not.
pub(super) fn matrix(data: &[f32], rows: usize, columns: usize, transposed: bool) -> MatRef<'_, f32> {
    if transposed { MatRef::new(data, columns, rows).transposed() } else { MatRef::new(data, rows, columns) }
}
