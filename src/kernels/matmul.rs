//! Matrix products for the shapes of recurrent training: few rows at a time against weights that stay for a whole
//! optimiser step. So B is packed once ([`Packed`]) and read as it lies by every time step.

use super::matrix::{MatMut, MatRef};
use super::pack::Packed;
use super::real::Real;
use super::tile::{Block, Tile};

/// What a product is added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Store<'a, R> {
    /// C = A B.
    Overwrite,
    /// C += A B.
    Add,
    /// C = A B with this row (n) added to every row.
    Bias(&'a [R]),
}

/// Reused memory for operands that are packed for one product.
#[derive(Clone, Debug, Default)]
pub struct Scratch<R> {
    a: Packed<R>,
    b: Packed<R>,
}

/// C (m, n) (+)= A (m, k) B (k, n), B packed before; the rows of C lie `c_row` apart.
pub fn matmul_packed<R: Real>(c: &mut [R], c_row: usize, store: Store<'_, R>, a: MatRef<'_, R>, b: &Packed<R>, scratch: &mut Scratch<R>) {
    run(R::tile(), MatMut::new(c, a.rows, b.shape().1, c_row), store, a, Right::Packed(b), scratch);
}

/// C (m, n) (+)= A (m, k) B (k, n), packing B for this product alone; the rows of C lie `c_row` apart.
pub fn matmul<R: Real>(c: &mut [R], c_row: usize, store: Store<'_, R>, a: MatRef<'_, R>, b: MatRef<'_, R>, scratch: &mut Scratch<R>) {
    matmul_into(MatMut::new(c, a.rows, b.columns, c_row), store, a, b, scratch);
}

/// [`matmul`] for a C that need not be a slice of its own.
pub fn matmul_into<R: Real>(c: MatMut<'_, R>, store: Store<'_, R>, a: MatRef<'_, R>, b: MatRef<'_, R>, scratch: &mut Scratch<R>) {
    run(R::tile(), c, store, a, Right::Loose(b), scratch);
}

/// B.
#[derive(Clone, Copy)]
enum Right<'a, R> {
    Packed(&'a Packed<R>),
    Loose(MatRef<'a, R>),
}

/// Most steps of k at once, and most rows of A: that much of both operands (0.5 MiB of A, 96 KiB of a panel of B) stays in
/// the second-level cache while it is used again and again.
const BLOCK_K: usize = 512;
const BLOCK_ROWS: usize = 256;

fn run<R: Real>(tile: Tile<R>, mut c: MatMut<'_, R>, store: Store<'_, R>, a: MatRef<'_, R>, b: Right<'_, R>, scratch: &mut Scratch<R>) {
    let (m, k) = (a.rows, a.columns);
    let (b_rows, n) = match b {
        Right::Packed(b) => b.shape(),
        Right::Loose(b) => (b.rows, b.columns),
    };
    assert_eq!(k, b_rows, "inner sizes agree");
    assert_eq!(c.shape(), (m, n), "outer sizes agree");
    if m == 0 || n == 0 {
        return;
    }
    if let Store::Bias(row) = store {
        assert_eq!(row.len(), n, "a bias for every column");
    }
    if k == 0 {
        for row in 0..m {
            match store {
                Store::Overwrite => c.row(row).fill(R::ZERO),
                Store::Add => {}
                Store::Bias(bias) => c.row(row).copy_from_slice(bias),
            }
        }
        return;
    }

    let k_block = k.div_ceil(k.div_ceil(BLOCK_K));
    for k0 in (0..k).step_by(k_block) {
        let k1 = (k0 + k_block).min(k);
        let (panels, panel_stride) = match b {
            Right::Packed(b) => (&b.panels()[k0 * tile.columns..], k * tile.columns),
            Right::Loose(b) => {
                scratch.b.pack_for(tile, b.block(k0..k1, 0..n));
                (scratch.b.panels(), (k1 - k0) * tile.columns)
            }
        };
        let last_panel = (n.div_ceil(tile.columns) - 1) * panel_stride;
        assert!(last_panel + (k1 - k0) * tile.columns <= panels.len(), "B is packed for this tile");
        for m0 in (0..m).step_by(BLOCK_ROWS) {
            let m1 = (m0 + BLOCK_ROWS).min(m);
            let a = a.block(m0..m1, k0..k1);
            // A row-major A is read where it lies; a transposed one would touch a new page for each k, so it is packed
            // into panels of the tile's rows.
            let (a_data, a_row, a_column, a_stride) = if a.column_stride == 1 {
                (a.data, a.row_stride, 1, tile.rows * a.row_stride)
            } else {
                scratch.a.pack_panels(tile, tile.rows, a.transposed());
                (scratch.a.panels(), 1, tile.rows, (k1 - k0) * tile.rows)
            };
            for (p, column) in (0..n).step_by(tile.columns).enumerate() {
                for (i, row) in (m0..m1).step_by(tile.rows).enumerate() {
                    let c_row = c.row_stride();
                    let c = c.at(row, column);
                    let (start, start_row) = match store {
                        Store::Overwrite if k0 == 0 => (std::ptr::null(), 0),
                        Store::Bias(bias) if k0 == 0 => (bias[column..].as_ptr(), 0),
                        _ => (c.cast_const(), c_row),
                    };
                    let block = Block {
                        k: k1 - k0,
                        a: a_data[i * a_stride..].as_ptr(),
                        a_row,
                        a_column,
                        b: panels[p * panel_stride..].as_ptr(),
                        c,
                        c_row,
                        rows: tile.rows.min(m1 - row),
                        columns: tile.columns.min(n - column),
                        start,
                        start_row,
                    };
                    // SAFETY: the asserts above, those of `MatRef` and `MatMut` and those of packing hold A, B and C to the
                    // extents that `Block` promises.
                    unsafe { (tile.run)(&block) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Level, tile};
    use proptest::prelude::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97)) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
    }

    #[allow(clippy::too_many_arguments)]
    fn check(level: Level, m: usize, k: usize, n: usize, transposed: (bool, bool), store: u8, packed: bool, tolerance: f32) {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 4));
        let c_row = n + 3;
        let before = numbers(m * c_row, 3);
        let a_ref = if transposed.0 { MatRef::new(&a, k, m).transposed() } else { MatRef::new(&a, m, k) };
        let b_ref = if transposed.1 { MatRef::new(&b, n, k).transposed() } else { MatRef::new(&b, k, n) };
        let mut b_packed = Packed::default();
        b_packed.pack_for(tile::f32_at(level), b_ref);
        let right = if packed { Right::Packed(&b_packed) } else { Right::Loose(b_ref) };
        let store = [Store::Overwrite, Store::Add, Store::Bias(&bias)][usize::from(store)];
        let mut c = before.clone();
        run(tile::f32_at(level), MatMut::new(&mut c, m, n, c_row), store, a_ref, right, &mut Scratch::default());
        let a_at = |i: usize, p: usize| f64::from(if transposed.0 { a[p * m + i] } else { a[i * k + p] });
        let b_at = |p: usize, j: usize| f64::from(if transposed.1 { b[j * k + p] } else { b[p * n + j] });
        for i in 0..m {
            for j in 0..c_row {
                let was = before[i * c_row + j];
                let start = match store {
                    _ if j >= n => was,
                    Store::Overwrite => 0.0,
                    Store::Add => was,
                    Store::Bias(bias) => bias[j],
                };
                let product: f64 = if j < n { (0..k).map(|p| a_at(i, p) * b_at(p, j)).sum() } else { 0.0 };
                let (got, want) = (c[i * c_row + j], (f64::from(start) + product) as f32);
                assert!((got - want).abs() <= tolerance, "{level:?} {m}x{k}x{n} at {i},{j}: {got} for {want}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_tile_agrees_with_the_definition(
            m in 0usize..20, k in 0usize..70, n in 0usize..110, transposed: (bool, bool), store in 0u8..3, packed: bool,
        ) {
            for level in Level::supported() {
                check(level, m, k, n, transposed, store, packed, 1e-6 * (1.0 + k as f32).sqrt());
            }
        }
    }

    #[test]
    fn products_of_several_blocks_agree_with_the_definition() {
        for level in Level::supported() {
            for store in 0..3 {
                for transposed in [(true, false), (false, true)] {
                    let (m, k, n) = (2 * BLOCK_ROWS + 11, 2 * BLOCK_K + 7, 19);
                    // A thousand roundings, each relative to a sum of up to a hundred.
                    check(level, m, k, n, transposed, store, false, 1e-4);
                    check(level, m, k, n, transposed, store, true, 1e-4);
                }
            }
        }
    }
}
