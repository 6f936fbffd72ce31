//! Operands of the matrix product laid out in the order in which the tile reads them.

use std::ops::Range;

use super::level::multiversion;
use super::matrix::MatRef;
use super::real::Real;
use super::tile::{SQUARE, Tile};

/// A matrix B (k, n) in the order in which the tile reads it: panels of a few columns, each (k, panel width),
/// the last two filled up with zeros.
#[derive(Clone, Debug)]
pub struct Packed<R> {
    k: usize,
    n: usize,
    data: Aligned<R>,
}

impl<R> Default for Packed<R> {
    fn default() -> Self {
        Self { k: 0, n: 0, data: Aligned::default() }
    }
}

impl<R: Real> Packed<R> {
    /// Packs `b` (k, n), reusing the memory.
    pub fn pack(&mut self, b: MatRef<'_, R>) {
        self.pack_for(R::tile(), b);
    }

    /// Returns `b` (k, n) packed into the memory of this one.
    #[must_use]
    pub fn repacked(mut self, b: MatRef<'_, R>) -> Self {
        self.pack(b);
        self
    }

    /// Returns its size as (k, n).
    pub fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// Counts the bytes of all panels.
    pub fn bytes(&self) -> usize {
        size_of_val(self.panels())
    }

    /// Returns the panels, each (k, panel width).
    pub(super) fn panels(&self) -> &[R] {
        self.data.as_slice()
    }

    pub(super) fn pack_for(&mut self, tile: Tile<R>, b: MatRef<'_, R>) {
        (self.k, self.n) = (b.rows, b.columns);
        let panels = Panels::of_tile(tile, self.n);
        lay_out(tile, self.data.of_length(panels.len(self.k)), panels, b);
    }
}

/// How the columns of a matrix are divided into panels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    columns: usize,
    width: usize,
    count: usize,
    /// The first column of the last panel.
    last: usize,
}

impl Panels {
    /// Divides `columns` into panels of `width`; the last one has what is left.
    pub(super) fn even(width: usize, columns: usize) -> Self {
        let count = columns.div_ceil(width);
        Self { columns, width, count, last: count.saturating_sub(1) * width }
    }

    /// Divides `columns` into panels of a tile's columns, the last two with about as many vectors each: a
    /// tile of one vector has too few sums to keep the processor busy.
    pub(super) fn of_tile<R>(tile: Tile<R>, columns: usize) -> Self {
        Self::balanced(tile.columns, tile.lanes, columns)
    }

    /// Divides `columns` into panels of `width`, the last two with about as many vectors of `lanes` each.
    pub(super) fn balanced(width: usize, lanes: usize, columns: usize) -> Self {
        let even = Self::even(width, columns);
        if even.count < 2 {
            return even;
        }
        let last_two = even.last - width;
        Self { last: last_two + (columns - last_two).div_ceil(lanes).div_ceil(2) * lanes, ..even }
    }

    /// Counts the values of all panels with `k` rows.
    pub(super) fn len(self, k: usize) -> usize {
        k * self.count * self.width
    }

    /// Lists the columns of each panel.
    pub(super) fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let start = move |panel| if panel + 1 == self.count { self.last } else { panel * self.width };
        (0..self.count).map(move |panel| {
            start(panel)..if panel + 1 == self.count { self.columns } else { start(panel + 1) }
        })
    }
}

/// Lays out `b` (k, n) as panels, each (k, width), filled up with zeros; so is A laid out, transposed, in
/// panels of the tile's rows.
pub(super) fn lay_out<R: Real>(tile: Tile<R>, to: &mut [R], panels: Panels, b: MatRef<'_, R>) {
    assert!(to.len() == panels.len(b.rows) && panels.columns == b.columns, "room for the panels");
    if to.is_empty() {
        return;
    }
    if b.column_stride == 1 {
        copy_panels(to, panels, b.data, b.rows, b.row_stride);
    } else {
        transpose_panels(tile, to, panels, b);
    }
}

multiversion! {
    /// Lays out a matrix of `k` rows that lie `row_stride` apart.
    fn copy_panels<R: Real>(to: &mut [R], panels: Panels, data: &[R], k: usize, row_stride: usize) {
        // A few rows of the source at a time, through all panels: its pages and lines are then near until
        // they are used up.
        for k0 in (0..k).step_by(PACKED_AT_ONCE) {
            let rows = k0..(k0 + PACKED_AT_ONCE).min(k);
            let width = panels.width;
            for (panel, columns) in to.chunks_exact_mut(k * width).zip(panels.ranges()) {
                let to = &mut panel[rows.start * width..rows.end * width];
                let from = &data[rows.start * row_stride + columns.start..];
                // The tiles' own sizes, whose copies are a few registers: a call costs more than so few
                // values.
                match (columns.len(), width) {
                    (48, 48) => copy_rows(to, 48, from, row_stride, 48),
                    (32, 48) => copy_rows(to, 48, from, row_stride, 32),
                    (16, 16) => copy_rows(to, 16, from, row_stride, 16),
                    (8, 8) => copy_rows(to, 8, from, row_stride, 8),
                    (6, 6) => copy_rows(to, 6, from, row_stride, 6),
                    (4, 4) => copy_rows(to, 4, from, row_stride, 4),
                    (used, _) => copy_rows(to, width, from, row_stride, used),
                }
            }
        }
    }
}

/// Copies the first `used` values of each row, and fills up with zeros to the width.
#[inline(always)]
fn copy_rows<R: Real>(to: &mut [R], width: usize, from: &[R], row_stride: usize, used: usize) {
    for (row, to) in to.chunks_exact_mut(width).enumerate() {
        to[..used].copy_from_slice(&from[row * row_stride..][..used]);
        to[used..].fill(R::ZERO);
    }
}

/// Lays out a matrix whose columns are contiguous.
fn transpose_panels<R: Real>(tile: Tile<R>, to: &mut [R], panels: Panels, b: MatRef<'_, R>) {
    let (k, width) = (b.rows, panels.width);
    // Of the two strides of a `MatRef` one is 1.
    assert_eq!(b.row_stride, 1);
    for k0 in (0..k).step_by(PACKED_AT_ONCE) {
        let k1 = (k0 + PACKED_AT_ONCE).min(k);
        for (panel, columns) in to.chunks_exact_mut(k * width).zip(panels.ranges()) {
            let (first, used) = (columns.start, columns.len());
            let rows = &mut panel[k0 * width..k1 * width];
            if used < width {
                rows.fill(R::ZERO);
            }
            for (j, k) in
                (0..used).step_by(SQUARE).flat_map(|j| (k0..k1).step_by(SQUARE).map(move |k| (j, k)))
            {
                let from = &b.data[(first + j) * b.column_stride + k..];
                let to = &mut rows[(k - k0) * width + j..];
                let (lines, values) = (SQUARE.min(used - j), SQUARE.min(k1 - k));
                if lines == SQUARE && values == SQUARE {
                    assert!(
                        from.len() >= (SQUARE - 1) * b.column_stride + SQUARE
                            && to.len() >= (SQUARE - 1) * width + SQUARE
                    );
                    // SAFETY: the assertion.
                    unsafe { (tile.transpose)(from.as_ptr(), b.column_stride, to.as_mut_ptr(), width) };
                } else {
                    for (line, value) in
                        (0..lines).flat_map(|line| (0..values).map(move |value| (line, value)))
                    {
                        to[value * width + line] = from[line * b.column_stride + value];
                    }
                }
            }
        }
    }
}

/// Steps of k that are packed before the next panel's turn: a cache line of a transposed source.
const PACKED_AT_ONCE: usize = 16;

/// Length of a cache line in bytes.
pub(super) const CACHE_LINE: usize = 64;

/// Memory that begins at a cache line: a vector load that straddles two lines costs twice as much, and a
/// large `Vec` always begins 16 bytes after one.
#[derive(Clone, Debug)]
pub(super) struct Aligned<R> {
    data: Vec<R>,
    start: usize,
    len: usize,
}

impl<R> Default for Aligned<R> {
    fn default() -> Self {
        Self { data: Vec::new(), start: 0, len: 0 }
    }
}

impl<R: Copy + Default> Aligned<R> {
    /// The memory with room for `len` values, whose contents are those of an earlier use.
    pub(super) fn of_length(&mut self, len: usize) -> &mut [R] {
        let slack = CACHE_LINE / size_of::<R>();
        if self.data.len() < len + slack {
            self.data.resize(len + slack, R::default());
            self.start = self.data.as_ptr().align_offset(CACHE_LINE).min(slack);
        }
        self.len = len;
        &mut self.data[self.start..][..len]
    }

    pub(super) fn as_slice(&self) -> &[R] {
        &self.data[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, tile};

    #[test]
    fn every_value_finds_its_place() {
        // The last two panels of every tile share what is left.
        let (k, n) = (37, 100);
        let values: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
        for tile in Level::supported().map(tile::f32_at) {
            let panels: Vec<_> = Panels::of_tile(tile, n).ranges().collect();
            for transposed in [false, true] {
                let b = if transposed {
                    MatRef::new(&values, n, k).transposed()
                } else {
                    MatRef::new(&values, k, n)
                };
                let mut packed = Packed::default();
                packed.pack_for(tile, b);
                for (at, &value) in packed.panels().iter().enumerate() {
                    let (panel, place) = (at / (k * tile.columns), at % (k * tile.columns));
                    let columns = panels[panel].clone();
                    let (row, column) = (place / tile.columns, columns.start + place % tile.columns);
                    let want = if column < columns.end {
                        values[if transposed { column * k + row } else { row * n + column }]
                    } else {
                        0.0
                    };
                    assert_eq!(value, want, "row {row}, column {column}, transposed: {transposed}");
                }
            }
        }
    }

    #[test]
    fn panels_are_all_columns_in_order_and_the_last_two_are_about_as_wide() {
        for tile in Level::supported().map(tile::f32_at) {
            for n in 0..4 * tile.columns {
                let vectors = |columns: &Range<usize>| columns.len().div_ceil(tile.lanes);
                for (panels, is_even) in
                    [(Panels::even(tile.columns, n), true), (Panels::of_tile(tile, n), false)]
                {
                    let ranges: Vec<_> = panels.ranges().collect();
                    assert_eq!(ranges.len(), n.div_ceil(tile.columns));
                    assert!(ranges.iter().cloned().flatten().eq(0..n), "{ranges:?}");
                    assert!(
                        ranges.iter().all(|columns| (1..=tile.columns).contains(&columns.len())),
                        "{ranges:?}"
                    );
                    match ranges.as_slice() {
                        [full @ .., _] if is_even => {
                            assert!(full.iter().all(|columns| columns.len() == tile.columns));
                        }
                        [.., a, b] => assert!(vectors(a) - vectors(b) <= 1, "{ranges:?}"),
                        _ => {}
                    }
                }
            }
        }
    }
}
