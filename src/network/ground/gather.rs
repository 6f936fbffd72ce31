//! Rows of tables picked by id, and gradients added back to them.

use s2s_kernels::{Real, add_assign};

/// `out[n] = table[ids[n]]`, rows of `width`.
pub(in crate::network) fn gather_rows<R: Real>(table: &[R], width: usize, ids: &[u32], out: &mut [R]) {
    for (row, &id) in out.chunks_exact_mut(width).zip(ids) {
        row.copy_from_slice(&table[id as usize * width..][..width]);
    }
}

/// `table[ids[n]] += rows[n]`, rows of `width`.
pub(in crate::network) fn add_to_rows<R: Real>(table: &mut [R], width: usize, ids: &[u32], rows: &[R]) {
    for (row, &id) in rows.chunks_exact(width).zip(ids) {
        add_assign(&mut table[id as usize * width..][..width], row);
    }
}

/// A (rows, columns) matrix as (columns, rows).
pub(in crate::network) fn transpose<R: Real>(matrix: &[R], rows: usize, columns: usize) -> Vec<R> {
    let mut out = vec![R::ZERO; matrix.len()];
    for r in 0..rows {
        for c in 0..columns {
            out[c * rows + r] = matrix[r * columns + c];
        }
    }
    out
}
