//! Matrix products for the shapes of recurrent training: few rows at a time against weights that stay for a
//! whole optimiser step. So B is packed once ([`Packed`]) and read as it lies by every time step.

use super::int8::ScratchInt8;
use super::matrix::{MatMut, MatRef};
use super::pack::{Aligned, CACHE_LINE, Packed, Panels, lay_out};
use super::real::Real;
use super::store::{Store, fill_with_start};
use super::tile::{Block, Tile};

/// Reused memory for operands that are packed for one product.
#[derive(Clone, Debug, Default)]
pub struct Scratch<R> {
    a: Aligned<R>,
    b: Aligned<R>,
    pub(super) int8: ScratchInt8,
}

/// Computes C (m, n) (+)= A (m, k) B (k, n), B packed before; C is row-major at the front of `c`.
pub fn matmul_packed<R: Real>(
    c: &mut [R],
    store: Store<'_, R>,
    a: MatRef<'_, R>,
    b: &Packed<R>,
    scratch: &mut Scratch<R>,
) {
    let n = b.shape().1;
    matmul_packed_into(MatMut::new(c, a.rows, n, n), store, a, b, scratch);
}

/// Does as [`matmul_packed`] for a C whose rows need not be next to each other.
pub fn matmul_packed_into<R: Real>(
    c: MatMut<'_, R>,
    store: Store<'_, R>,
    a: MatRef<'_, R>,
    b: &Packed<R>,
    scratch: &mut Scratch<R>,
) {
    run(R::tile(), c, store, a, Right::Packed(b), scratch);
}

/// Computes C (m, n) (+)= A (m, k) B (k, n), packing B for this product alone; C is row-major at the front of
/// `c`.
pub fn matmul<R: Real>(
    c: &mut [R],
    store: Store<'_, R>,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    scratch: &mut Scratch<R>,
) {
    matmul_into(MatMut::new(c, a.rows, b.columns, b.columns), store, a, b, scratch);
}

/// Does as [`matmul`] for a C whose rows need not be next to each other.
pub fn matmul_into<R: Real>(
    c: MatMut<'_, R>,
    store: Store<'_, R>,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    scratch: &mut Scratch<R>,
) {
    run(R::tile(), c, store, a, Right::Loose(b), scratch);
}

/// B, which is on the right of the product.
#[derive(Clone, Copy)]
enum Right<'a, R> {
    Packed(&'a Packed<R>),
    Loose(MatRef<'a, R>),
}

/// Most steps of k at once, and most rows of A: that much of A (1 MiB) and two panels of B (96 KiB each), one
/// in use and one on its way, stay in the second-level cache.
const BLOCK_K: usize = 512;
const BLOCK_ROWS: usize = 512;

fn run<R: Real>(
    tile: Tile<R>,
    mut c: MatMut<'_, R>,
    store: Store<'_, R>,
    a: MatRef<'_, R>,
    b: Right<'_, R>,
    scratch: &mut Scratch<R>,
) {
    let (m, k) = (a.rows, a.columns);
    let (b_rows, n) = match b {
        Right::Packed(b) => b.shape(),
        Right::Loose(b) => (b.rows, b.columns),
    };
    assert_eq!(k, b_rows, "inner sizes agree");
    assert_eq!(c.shape(), (m, n), "outer sizes agree");
    if fill_with_start(&mut c, store, k) {
        return;
    }

    let panels = Panels::of_tile(tile, n);
    let k_block = k.div_ceil(k.div_ceil(BLOCK_K));
    for ks in (0..k).step_by(k_block).map(|k0| k0..(k0 + k_block).min(k)) {
        for ms in (0..m).step_by(BLOCK_ROWS).map(|m0| m0..(m0 + BLOCK_ROWS).min(m)) {
            let a = a.block(ms.clone(), ks.clone());
            // A row-major A is read where it lies; a transposed one would touch a new page for each k, so it
            // is packed into panels of the tile's rows.
            let (a_data, a_row, a_column, a_stride) = if a.column_stride == 1 {
                (a.data, a.row_stride, 1, tile.rows * a.row_stride)
            } else {
                let a_panels = Panels::even(tile.rows, ms.len());
                let packed = scratch.a.of_length(a_panels.len(ks.len()));
                lay_out(tile, packed, a_panels, a.transposed());
                (&*packed, 1, tile.rows, ks.len() * tile.rows)
            };
            for (p, columns) in panels.ranges().enumerate() {
                let (panel, next) = match b {
                    Right::Packed(b) => {
                        let panels = &b.panels()[(p * k + ks.start) * tile.columns..];
                        (panels, panels.get(k * tile.columns..).map(|next| (next, tile.columns)))
                    }
                    // A panel at a time, so that the next one comes from an outer cache while this one is
                    // computed with; packed again for each block of A, whose rows outweigh it.
                    Right::Loose(b) => {
                        let panel = scratch.b.of_length(ks.len() * tile.columns);
                        lay_out(
                            tile,
                            panel,
                            Panels::even(tile.columns, columns.len()),
                            b.block(ks.clone(), columns.clone()),
                        );
                        let has_next = columns.end < n && b.column_stride == 1;
                        (
                            &*panel,
                            has_next
                                .then(|| (&b.data[ks.start * b.row_stride + columns.end..], b.row_stride)),
                        )
                    }
                };
                assert!(ks.len() * tile.columns <= panel.len(), "B is packed for this tile");
                for (i, row) in ms.clone().step_by(tile.rows).enumerate() {
                    let c_row = c.row_stride();
                    let c = c.at(row, columns.start);
                    let (start, start_row) = match store {
                        Store::Overwrite if ks.start == 0 => (std::ptr::null(), 0),
                        Store::Bias(bias) if ks.start == 0 => (bias[columns.start..].as_ptr(), 0),
                        _ => (c.cast_const(), c_row),
                    };
                    // Each tile asks for one cache line of every row of the next panel, until all are asked
                    // for.
                    let line = i * (CACHE_LINE / size_of::<R>());
                    let (later, later_step) = match next {
                        Some((next, step)) if line < tile.columns.min(next.len()) => {
                            (next[line..].as_ptr(), step)
                        }
                        _ => (panel.as_ptr(), 0),
                    };
                    let block = Block {
                        k: ks.len(),
                        a: a_data[i * a_stride..].as_ptr(),
                        a_row,
                        a_column,
                        b: panel.as_ptr(),
                        c,
                        c_row,
                        rows: tile.rows.min(ms.end - row),
                        columns: columns.len(),
                        start,
                        start_row,
                        later,
                        later_step,
                    };
                    // SAFETY: the asserts above, those of `MatRef` and `MatMut` and those of packing hold A,
                    // B and C to the extents that `Block` promises.
                    unsafe { (tile.run)(&block) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{matrix, numbers};
    use crate::{Level, tile};
    use proptest::prelude::*;

    /// A product (m, k) by (k, n) in one of its forms.
    #[derive(Clone, Copy)]
    struct Case {
        shape: (usize, usize, usize),
        /// Whether A and B lie transposed.
        transposed: (bool, bool),
        /// Which [`Store`] it is, in the order of the enum.
        store: u8,
        /// Whether B is packed before.
        packed: bool,
    }

    fn check(level: Level, case: Case, tolerance: f32) {
        let Case { shape: (m, k, n), transposed, store, packed } = case;
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 4));
        let c_row = n + 3;
        let before = numbers(m * c_row, 3);
        let a_ref = matrix(&a, m, k, transposed.0);
        let b_ref = matrix(&b, k, n, transposed.1);
        let mut b_packed = Packed::default();
        b_packed.pack_for(tile::f32_at(level), b_ref);
        let right = if packed { Right::Packed(&b_packed) } else { Right::Loose(b_ref) };
        let store = [Store::Overwrite, Store::Add, Store::Bias(&bias)][usize::from(store)];
        let mut c = before.clone();
        run(
            tile::f32_at(level),
            MatMut::new(&mut c, m, n, c_row),
            store,
            a_ref,
            right,
            &mut Scratch::default(),
        );
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
                assert!(
                    (got - want).abs() <= tolerance,
                    "{level:?} {m}x{k}x{n} at {i},{j}: {got} for {want}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn every_tile_agrees_with_the_definition(
            m in 0usize..20, k in 0usize..70, n in 0usize..110, transposed: (bool, bool), store in 0u8..3, packed: bool,
        ) {
            for level in Level::supported() {
                let case = Case { shape: (m, k, n), transposed, store, packed };
                check(level, case, 1e-6 * (1.0 + k as f32).sqrt());
            }
        }
    }

    #[test]
    fn products_of_several_blocks_agree_with_the_definition() {
        for level in Level::supported() {
            for store in 0..3 {
                for transposed in [(true, false), (false, true)] {
                    let shape = (2 * BLOCK_ROWS + 11, 2 * BLOCK_K + 7, 19);
                    for packed in [false, true] {
                        // A thousand roundings, each relative to a sum of up to a hundred.
                        check(level, Case { shape, transposed, store, packed }, 1e-4);
                    }
                }
            }
        }
    }
}
