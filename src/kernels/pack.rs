//! Operands of the matrix product laid out in the order in which the tile reads them.

use super::matmul::MatRef;
use super::real::Real;
use super::tile::{SQUARE, Tile};

/// A matrix B (k, n) in the order in which the tile reads it: panels of a few columns, each (k, panel width), the last
/// one filled with zeros.
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

    /// `b` (k, n) packed into the memory of this one.
    #[must_use]
    pub fn repacked(mut self, b: MatRef<'_, R>) -> Self {
        self.pack(b);
        self
    }

    /// (k, n).
    pub fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// The panels, each (k, panel width).
    pub(super) fn panels(&self) -> &[R] {
        self.data.as_slice()
    }

    pub(super) fn pack_for(&mut self, tile: Tile<R>, b: MatRef<'_, R>) {
        let width = tile.columns;
        (self.k, self.n) = (b.rows, b.columns);
        // Every value is overwritten below, but for the zeros after the last column.
        let data = self.data.of_length(self.k * self.n.div_ceil(width) * width);
        let panels = self.k * width;
        if panels == 0 {
            return;
        }
        // A few rows of the source at a time, through all panels: its pages and lines are then near until they are used up.
        for k0 in (0..self.k).step_by(PACKED_AT_ONCE) {
            let k1 = (k0 + PACKED_AT_ONCE).min(self.k);
            for (p, panel) in data.chunks_exact_mut(panels).enumerate() {
                let first = p * width;
                let used = width.min(self.n - first);
                let rows = &mut panel[k0 * width..k1 * width];
                if b.column_stride == 1 {
                    for (row, k) in rows.chunks_exact_mut(width).zip(k0..) {
                        let from = k * b.row_stride + first;
                        copy_padded(row, &b.data[from..from + used]);
                    }
                } else {
                    if used < width {
                        rows.fill(R::ZERO);
                    }
                    let squares = b.row_stride == 1;
                    for (j, k) in (0..used).step_by(SQUARE).flat_map(|j| (k0..k1).step_by(SQUARE).map(move |k| (j, k))) {
                        let from = &b.data[(first + j) * b.column_stride + k * b.row_stride..];
                        let to = &mut rows[(k - k0) * width + j..];
                        let (lines, values) = (SQUARE.min(used - j), SQUARE.min(k1 - k));
                        if lines == SQUARE && values == SQUARE && squares {
                            assert!(from.len() >= 7 * b.column_stride + SQUARE && to.len() >= 7 * width + SQUARE);
                            // SAFETY: the assertion.
                            unsafe { (tile.transpose)(from.as_ptr(), b.column_stride, to.as_mut_ptr(), width) };
                        } else {
                            for (line, value) in (0..lines).flat_map(|line| (0..values).map(move |value| (line, value))) {
                                to[value * width + line] = from[line * b.column_stride + value * b.row_stride];
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Steps of k that are packed before the next panel's turn: a cache line of a transposed source.
const PACKED_AT_ONCE: usize = 16;

/// Memory that begins at a cache line: a vector load that straddles two lines costs twice as much, and a large `Vec`
/// always begins 16 bytes after one.
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

impl<R: Real> Aligned<R> {
    /// The memory with room for `len` values, whose contents are those of an earlier use.
    pub(super) fn of_length(&mut self, len: usize) -> &mut [R] {
        const LINE: usize = 64;
        let slack = LINE / size_of::<R>();
        if self.data.len() < len + slack {
            self.data.resize(len + slack, R::ZERO);
            self.start = self.data.as_ptr().align_offset(LINE).min(slack);
        }
        self.len = len;
        &mut self.data[self.start..][..len]
    }

    pub(super) fn as_slice(&self) -> &[R] {
        &self.data[self.start..][..self.len]
    }
}

/// Copies `from` and fills what is left of `to` with zeros.
///
/// In eights: a call of memmove costs more than the few values of a tile.
#[inline(always)]
fn copy_padded<R: Real>(to: &mut [R], from: &[R]) {
    if to.len() == from.len() {
        let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<8>(), from.as_chunks::<8>());
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        to_rest.iter_mut().zip(from_rest).for_each(|(to, &from)| *to = from);
    } else {
        to[..from.len()].copy_from_slice(from);
        to[from.len()..].fill(R::ZERO);
    }
}

/// Packs A (m, k) as panels of `height` rows, each (k, height), the last one filled with zeros.
pub(super) fn pack_rows<R: Real>(packed: &mut Aligned<R>, a: MatRef<'_, R>, height: usize) {
    let k = a.columns;
    let packed = packed.of_length(a.rows.div_ceil(height) * height * k);
    if k == 0 {
        return;
    }
    for k0 in (0..k).step_by(PACKED_AT_ONCE) {
        let k1 = (k0 + PACKED_AT_ONCE).min(k);
        for (p, panel) in packed.chunks_exact_mut(k * height).enumerate() {
            let first = p * height;
            let used = height.min(a.rows - first);
            for (column, k) in panel[k0 * height..k1 * height].chunks_exact_mut(height).zip(k0..) {
                let from = k * a.column_stride + first * a.row_stride;
                if a.row_stride == 1 {
                    copy_padded(column, &a.data[from..from + used]);
                } else {
                    for (r, x) in column[..used].iter_mut().enumerate() {
                        *x = a.data[from + r * a.row_stride];
                    }
                    column[used..].fill(R::ZERO);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Level, tile};

    #[test]
    fn every_value_finds_its_place() {
        let (k, n) = (37, 75);
        let values: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
        for tile in Level::supported().map(tile::f32_at) {
            for transposed in [false, true] {
                let b = if transposed { MatRef::new(&values, n, k).transposed() } else { MatRef::new(&values, k, n) };
                let mut packed = Packed::default();
                packed.pack_for(tile, b);
                for (at, &value) in packed.panels().iter().enumerate() {
                    let (panel, place) = (at / (k * tile.columns), at % (k * tile.columns));
                    let (row, column) = (place / tile.columns, panel * tile.columns + place % tile.columns);
                    let want = if column < n { values[if transposed { column * k + row } else { row * n + column }] } else { 0.0 };
                    assert_eq!(value, want, "row {row}, column {column}, transposed: {transposed}");
                }
            }
        }
    }
}
