//! Products with weights of 8 bits: the grid that they lie on, how they are packed, and how activations are
//! rounded to 16 bits a row.

use super::level::multiversion;
use super::matrix::{MatMut, MatRef};
use super::pack::{Aligned, Panels};
use super::slices::add_scaled;
use super::store::{Store, fill_with_start};
use super::tile_int8::{self, BlockInt8, GROUP, LARGEST, MOST_K, OFFSET, TileInt8};

/// A matrix B (k, n) of 8-bit integers with a scale for each column, in the order in which the tile reads it.
#[derive(Clone, Debug)]
pub struct PackedInt8 {
    k: usize,
    n: usize,
    tile: TileInt8,
    /// Panels as the tile wants them, filled up with zeros.
    data: Aligned<u8>,
    /// The value of one unit, for each column.
    scales: Vec<f32>,
    /// The last row of B if that alone lies beside the grid, as a bias that stands among weights does; empty
    /// if it does not.
    beside: Vec<f32>,
}

/// The largest weight of a column, in units of its scale.
const LARGEST_WEIGHT: f32 = 127.0;
/// How far a weight may lie beside the grid, in parts of itself: restoring multiplies an integer by a scale
/// and rounds, and so does finding the scale, 6e-8 each.
const BESIDE: f32 = 5e-7;
/// Smaller matrices and those of fewer integers (a mask, a permutation) gain nothing.
const LEAST_ELEMENTS: usize = 4096;
const LEAST_K: usize = 16;
const LEAST_INTEGERS: usize = 32;

impl PackedInt8 {
    /// Packs `b` (k, n) if each of its columns lies on a grid of 8 bits: the column's largest magnitude (or
    /// the largest of the matrix) / 127 times integers. That is what DequantizeLinear restores from symmetric
    /// weights. The last row may lie beside the grid and then stays in f32. `None` if another value does, or
    /// if the matrix is too small to gain.
    pub fn of(b: MatRef<'_, f32>) -> Option<Self> {
        Self::for_tile(tile_int8::best(), b)
    }

    fn for_tile(tile: TileInt8, b: MatRef<'_, f32>) -> Option<Self> {
        let (k, n) = b.shape();
        if k < LEAST_K || k * n < LEAST_ELEMENTS {
            return None;
        }
        let (scales, beside) = match scales(b) {
            Some(scales) => (scales, Vec::new()),
            None => {
                let last = (0..n).map(|j| b.at(k - 1, j)).collect();
                (scales(b.block(0..k - 1, 0..n))?, last)
            }
        };
        let on_grid = if beside.is_empty() { k } else { k - 1 };
        let groups = on_grid.div_ceil(GROUP);
        let panels = Panels::balanced(tile.columns, tile.lanes, n);
        let mut data = Aligned::default();
        let to = data.of_length(panels.len(groups * GROUP));
        to.fill(0);
        let mut seen = [false; 256];
        for (panel, columns) in to.chunks_exact_mut(groups * GROUP * tile.columns).zip(panels.ranges()) {
            for p in 0..on_grid {
                let group = &mut panel[p / GROUP * GROUP * tile.columns..];
                for (place, j) in columns.clone().enumerate() {
                    let integer = nearest(b.at(p, j), scales[j]) as i32 + OFFSET;
                    let byte = u8::try_from(integer).ok()?;
                    seen[usize::from(byte)] = true;
                    let step = p % GROUP;
                    group[if tile.grouped { place * GROUP + step } else { step * tile.columns + place }] =
                        byte;
                }
            }
        }
        let integers = seen.iter().filter(|&&seen| seen).count();
        (integers >= LEAST_INTEGERS).then_some(Self { k, n, tile, data, scales, beside })
    }

    /// Returns its size as (k, n).
    pub fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// Counts the bytes of all panels and scales.
    pub fn bytes(&self) -> usize {
        self.data.as_slice().len() + size_of_val(self.scales.as_slice()) + size_of_val(self.beside.as_slice())
    }
}

/// The integer of a weight, 0 for a column of zeros.
#[inline(always)]
fn nearest(x: f32, scale: f32) -> f32 {
    if scale > 0.0 { (x / scale).round_ties_even() } else { 0.0 }
}

/// The scale of each column, if all of them lie on a grid.
fn scales(b: MatRef<'_, f32>) -> Option<Vec<f32>> {
    let (k, n) = b.shape();
    let mut largest = vec![0.0f32; n];
    // In the order of memory: the matrices are large.
    let by_rows = b.column_stride == 1;
    if by_rows {
        (0..k).for_each(|p| largest_of_each(&mut largest, b.row(p)));
    } else {
        let columns = b.transposed();
        for (j, largest) in largest.iter_mut().enumerate() {
            *largest = columns
                .row(j)
                .iter()
                .fold(0.0, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        }
    }
    let of_all = largest.iter().fold(0.0f32, |a, &b| a.max(b)) / LARGEST_WEIGHT;
    if !of_all.is_finite() {
        return None;
    }
    // Either every column has a grid of its own, or all have that of the largest.
    let own: Vec<f32> = largest.iter().map(|&x| x / LARGEST_WEIGHT).collect();
    let fits = |scales: &[f32]| {
        if by_rows {
            (0..k).all(|p| on_grids(b.row(p), scales))
        } else {
            let columns = b.transposed();
            scales.iter().enumerate().all(|(j, &scale)| on_grid(columns.row(j), scale))
        }
    };
    if fits(&own) {
        return Some(own);
    }
    let same = vec![of_all; n];
    fits(&same).then_some(same)
}

multiversion! {
    fn largest_of_each(largest: &mut [f32], row: &[f32]) {
        for (largest, &x) in largest.iter_mut().zip(row) {
            let x = x.abs();
            *largest = if x > *largest { x } else { *largest };
        }
    }
}

multiversion! {
    /// Whether each value of a row is a multiple of its column's scale.
    fn on_grids(row: &[f32], scales: &[f32]) -> bool {
        let mut beside = 0u32;
        for (&x, &scale) in row.iter().zip(scales) {
            beside += u32::from(is_beside(x, scale));
        }
        beside == 0
    }
}

multiversion! {
    /// Whether each value is a multiple of the scale.
    fn on_grid(column: &[f32], scale: f32) -> bool {
        let mut beside = 0u32;
        for &x in column {
            beside += u32::from(is_beside(x, scale));
        }
        beside == 0
    }
}

/// NaN is beside every grid.
#[inline(always)]
fn is_beside(x: f32, scale: f32) -> bool {
    let within = (x - nearest(x, scale) * scale).abs() <= BESIDE * x.abs();
    !within
}

/// Reused memory for activations that are rounded for one product.
#[derive(Clone, Debug, Default)]
pub(super) struct ScratchInt8 {
    /// (rows, k filled up to whole groups) 16 bits each.
    values: Aligned<i16>,
    /// The value of one unit, for each row.
    factors: Vec<f32>,
    /// The sum of the integers of each row and block of k.
    sums: Vec<i32>,
    /// A row of A that does not lie contiguous.
    row: Vec<f32>,
}

/// Most rows of A at once, so that what is read again for each panel stays in the second-level cache.
const BLOCK_ROWS: usize = 512;

/// Computes C (m, n) (+)= A (m, k) B (k, n); A is rounded to 16 bits a value, its largest magnitude in a row
/// being 32,639 units.
pub(super) fn matmul_int8(
    mut c: MatMut<'_, f32>,
    store: Store<'_, f32>,
    a: MatRef<'_, f32>,
    b: &PackedInt8,
    scratch: &mut ScratchInt8,
) {
    let (m, k) = a.shape();
    let (b_rows, n) = b.shape();
    assert_eq!(k, b_rows, "inner sizes agree");
    assert_eq!(c.shape(), (m, n), "outer sizes agree");
    if fill_with_start(&mut c, store, k) {
        return;
    }
    if b.beside.is_empty() {
        return on_the_grid(c, store, a, b, scratch);
    }
    on_the_grid(c.block(0..m, 0..n), store, a.block(0..m, 0..k - 1), b, scratch);
    for row in 0..m {
        add_scaled(c.row(row), &b.beside, a.at(row, k - 1));
    }
}

/// The product with the rows of B that lie on the grid, which the columns of A are; C is not empty.
fn on_the_grid(
    c: MatMut<'_, f32>,
    store: Store<'_, f32>,
    a: MatRef<'_, f32>,
    b: &PackedInt8,
    scratch: &mut ScratchInt8,
) {
    let (m, k) = a.shape();
    let n = b.n;
    let tile = b.tile;
    let whole_k = k.next_multiple_of(GROUP);
    let blocks = k.div_ceil(MOST_K);
    quantise(scratch, tile.in_bytes, a);
    let values = scratch.values.as_slice();
    assert!(values.len() == m * whole_k && scratch.factors.len() == m && scratch.sums.len() == m * blocks);

    let panels = Panels::balanced(tile.columns, tile.lanes, n);
    let panel_bytes = whole_k * tile.columns;
    assert_eq!(b.data.as_slice().len(), panels.len(whole_k), "B is packed for this tile");
    for (block, k0) in (0..k).step_by(MOST_K).enumerate() {
        let steps = (whole_k - k0).min(MOST_K);
        for ms in (0..m).step_by(BLOCK_ROWS).map(|m0| m0..(m0 + BLOCK_ROWS).min(m)) {
            for (p, columns) in panels.ranges().enumerate() {
                let panel = &b.data.as_slice()[p * panel_bytes + k0 * tile.columns..][..steps * tile.columns];
                for row in ms.clone().step_by(tile.rows) {
                    let c_row = c.row_stride();
                    let c = c.at(row, columns.start);
                    let (start, start_row) = match store {
                        Store::Overwrite if block == 0 => (std::ptr::null(), 0),
                        Store::Bias(bias) if block == 0 => (bias[columns.start..].as_ptr(), 0),
                        _ => (c.cast_const(), c_row),
                    };
                    let a = values[row * whole_k..].as_ptr().cast::<u8>();
                    let block = BlockInt8 {
                        groups: steps / GROUP,
                        a: if tile.in_bytes { a.wrapping_add(k0) } else { a.wrapping_add(2 * k0) },
                        a_row: 2 * whole_k,
                        low: whole_k,
                        b: panel.as_ptr(),
                        scales: b.scales[columns.clone()].as_ptr(),
                        factors: scratch.factors[row..].as_ptr(),
                        sums: scratch.sums[row * blocks + block..].as_ptr(),
                        sums_row: blocks,
                        c,
                        c_row,
                        rows: tile.rows.min(ms.end - row),
                        columns: columns.len(),
                        start,
                        start_row,
                    };
                    // SAFETY: the asserts above, those of `MatMut` and the lengths of the slices hold all
                    // operands to the extents that `BlockInt8` promises.
                    unsafe { (tile.run)(&block) };
                }
            }
        }
    }
}

/// Rounds each row of A; one with a value that is not finite becomes NaN as a whole.
fn quantise(scratch: &mut ScratchInt8, in_bytes: bool, a: MatRef<'_, f32>) {
    let (m, k) = a.shape();
    let whole_k = k.next_multiple_of(GROUP);
    let blocks = k.div_ceil(MOST_K);
    scratch.factors.resize(m, 0.0);
    scratch.sums.resize(m * blocks, 0);
    let values = scratch.values.of_length(m * whole_k);
    for (i, ((to, factor), sums)) in values
        .chunks_exact_mut(whole_k)
        .zip(&mut scratch.factors)
        .zip(scratch.sums.chunks_exact_mut(blocks))
        .enumerate()
    {
        let row = if a.column_stride == 1 {
            a.row(i)
        } else {
            scratch.row.clear();
            scratch.row.extend((0..k).map(|p| a.at(i, p)));
            &scratch.row
        };
        let largest = f32::from_bits(largest_bits(row));
        *factor = if largest.is_finite() { largest / LARGEST as f32 } else { f32::NAN };
        // The factor of a tiny row may be 0 or its inverse infinite: such rows are 0 beside anything.
        let inverse = LARGEST as f32 / largest;
        let inverse = if largest.is_finite() && inverse.is_finite() { inverse } else { 0.0 };
        if in_bytes {
            // SAFETY: a row of 16-bit values has twice as many bytes, which any 8-bit values may fill.
            let bytes: &mut [i8] =
                unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), 2 * whole_k) };
            let (high, low) = bytes.split_at_mut(whole_k);
            high[k..].fill(0);
            low[k..].fill(0);
            for (at, sum) in (0..k).step_by(MOST_K).zip(sums) {
                let part = at..(at + MOST_K).min(k);
                *sum = round_to_bytes(&row[part.clone()], inverse, &mut high[part.clone()], &mut low[part]);
            }
        } else {
            to[k..].fill(0);
            for (at, sum) in (0..k).step_by(MOST_K).zip(sums) {
                let part = at..(at + MOST_K).min(k);
                *sum = round_to_words(&row[part.clone()], inverse, &mut to[part]);
            }
        }
    }
}

multiversion! {
    /// Finds the largest magnitude as the bits of an f32, of which those of infinity and NaN are the largest.
    fn largest_bits(row: &[f32]) -> u32 {
        const LANES: usize = 32;
        let mut lanes = [0u32; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = (*lane).max(x.to_bits() & 0x7fff_ffff);
            }
        }
        lanes.into_iter().chain(rest.iter().map(|x| x.to_bits() & 0x7fff_ffff)).fold(0, u32::max)
    }
}

/// The nearest integer of a value within the range of 16 bits.
#[inline(always)]
fn rounded(x: f32, inverse: f32) -> i32 {
    /// Adding 1.5 * 2^23 rounds to the nearest integer, which then is the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

multiversion! {
    /// Rounds a row to integers, cut into bytes (256 high + low), and gives their sum.
    fn round_to_bytes(row: &[f32], inverse: f32, high: &mut [i8], low: &mut [i8]) -> i32 {
        let mut sum = 0;
        for ((&x, high), low) in row.iter().zip(high).zip(low) {
            let v = rounded(x, inverse);
            // The low byte read with its sign is from -128 to 127; the high one has the rest.
            *low = v as i8;
            *high = ((v + 128) >> 8) as i8;
            sum += v;
        }
        sum
    }
}

multiversion! {
    /// Rounds a row to integers, and gives their sum.
    fn round_to_words(row: &[f32], inverse: f32, to: &mut [i16]) -> i32 {
        let mut sum = 0;
        for (&x, to) in row.iter().zip(to) {
            let v = rounded(x, inverse);
            *to = v as i16;
            sum += v;
        }
        sum
    }
}

#[cfg(test)]
mod tests;
