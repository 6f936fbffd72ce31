//! Matrix products for the shapes of recurrent training: few rows at a time against weights that stay for a whole
//! optimiser step. So B is packed once ([`Packed`]) and read as it lies by every time step.

use super::real::Real;
use super::tile::{Block, Tile};

/// A borrowed matrix (rows, columns) with any strides.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    data: &'a [R],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, R: Real> MatRef<'a, R> {
    /// A row-major matrix (rows, columns) whose rows lie `columns` apart.
    pub fn new(data: &'a [R], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix (rows, columns) whose rows lie `row_stride` apart.
    pub fn strided(data: &'a [R], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1);
        assert!(rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(), "a matrix within its slice");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, without a copy.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// What happens to C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// C = A B.
    Overwrite,
    /// C += A B.
    Add,
}

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

    fn pack_for(&mut self, tile: Tile<R>, b: MatRef<'_, R>) {
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
                let rows = panel[k0 * width..k1 * width].chunks_exact_mut(width);
                if b.column_stride == 1 {
                    for (row, k) in rows.zip(k0..) {
                        let from = k * b.row_stride + first;
                        copy_padded(row, &b.data[from..from + used]);
                    }
                } else {
                    rows.for_each(|row| row[used..].fill(R::ZERO));
                    for j in 0..used {
                        let column = &b.data[(first + j) * b.column_stride..];
                        for k in k0..k1 {
                            panel[k * width + j] = column[k * b.row_stride];
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
struct Aligned<R> {
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
    fn of_length(&mut self, len: usize) -> &mut [R] {
        const LINE: usize = 64;
        let slack = LINE / size_of::<R>();
        if self.data.len() < len + slack {
            self.data.resize(len + slack, R::ZERO);
            self.start = self.data.as_ptr().align_offset(LINE).min(slack);
        }
        self.len = len;
        &mut self.data[self.start..][..len]
    }

    fn as_slice(&self) -> &[R] {
        &self.data[self.start..][..self.len]
    }
}

/// Reused memory for operands that are packed for one product.
#[derive(Clone, Debug, Default)]
pub struct Scratch<R> {
    a: Aligned<R>,
    b: Packed<R>,
}

/// C (m, n) (+)= A (m, k) B (k, n), B packed before; the rows of C lie `c_row` apart.
pub fn matmul_packed<R: Real>(c: &mut [R], c_row: usize, store: Store, a: MatRef<'_, R>, b: &Packed<R>, scratch: &mut Scratch<R>) {
    run(R::tile(), c, c_row, store, a, b, &mut scratch.a);
}

/// C (m, n) (+)= A (m, k) B (k, n), packing B for this product alone; the rows of C lie `c_row` apart.
pub fn matmul<R: Real>(c: &mut [R], c_row: usize, store: Store, a: MatRef<'_, R>, b: MatRef<'_, R>, scratch: &mut Scratch<R>) {
    scratch.b.pack(b);
    run(R::tile(), c, c_row, store, a, &scratch.b, &mut scratch.a);
}

fn run<R: Real>(tile: Tile<R>, c: &mut [R], c_row: usize, store: Store, a: MatRef<'_, R>, b: &Packed<R>, scratch: &mut Aligned<R>) {
    let (m, k, n) = (a.rows, b.k, b.n);
    assert_eq!(a.columns, k, "inner sizes agree");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= c_row || m == 1);
    assert!((m - 1) * c_row + n <= c.len(), "C holds m rows");
    assert_eq!(b.data.as_slice().len(), k * n.div_ceil(tile.columns) * tile.columns);

    // A row-major A is read where it lies; a transposed one would touch a new page for each k, so it is packed into
    // panels of the tile's rows.
    let transposed = a.column_stride != 1;
    let (a_data, a_row, a_column, a_block) = if transposed {
        pack_rows(scratch, a, tile.rows);
        (scratch.as_slice(), 1, tile.rows, k * tile.rows)
    } else {
        (a.data, a.row_stride, 1, tile.rows * a.row_stride)
    };
    for (p, panel) in b.data.as_slice().chunks_exact((k * tile.columns).max(1)).enumerate() {
        let column = p * tile.columns;
        for (i, row) in (0..m).step_by(tile.rows).enumerate() {
            let block = Block {
                k,
                a: a_data[(i * a_block).min(a_data.len())..].as_ptr(),
                a_row,
                a_column,
                b: panel.as_ptr(),
                c: c[row * c_row + column..].as_mut_ptr(),
                c_row,
                rows: tile.rows.min(m - row),
                columns: tile.columns.min(n - column),
                add: store == Store::Add,
            };
            // SAFETY: the asserts above hold A, the packed B and C to the extents that `Block` promises.
            unsafe { (tile.run)(&block) };
        }
    }
    if k == 0 && store == Store::Overwrite {
        c.chunks_mut(c_row).take(m).for_each(|row| row[..n].fill(R::ZERO));
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
fn pack_rows<R: Real>(packed: &mut Aligned<R>, a: MatRef<'_, R>, height: usize) {
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
    use proptest::prelude::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97)) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
    }

    fn check(level: Level, m: usize, k: usize, n: usize, flags: (bool, bool, bool)) {
        let (a_transposed, b_transposed, add) = flags;
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let c_row = n + 3;
        let before = numbers(m * c_row, 3);
        let a_ref = if a_transposed { MatRef::new(&a, k, m).transposed() } else { MatRef::new(&a, m, k) };
        let b_ref = if b_transposed { MatRef::new(&b, n, k).transposed() } else { MatRef::new(&b, k, n) };
        let mut packed = Packed::default();
        packed.pack_for(tile::f32_at(level), b_ref);
        let mut c = before.clone();
        let store = if add { Store::Add } else { Store::Overwrite };
        run(tile::f32_at(level), &mut c, c_row, store, a_ref, &packed, &mut Aligned::default());
        for i in 0..m {
            for j in 0..c_row {
                let was = before[i * c_row + j];
                let want = if j >= n {
                    was
                } else {
                    let dot: f64 = (0..k)
                        .map(|p| {
                            let x = if a_transposed { a[p * m + i] } else { a[i * k + p] };
                            let y = if b_transposed { b[j * k + p] } else { b[p * n + j] };
                            f64::from(x) * f64::from(y)
                        })
                        .sum();
                    (dot + if add { f64::from(was) } else { 0.0 }) as f32
                };
                let got = c[i * c_row + j];
                assert!((got - want).abs() <= 1e-6 * (1.0 + k as f32).sqrt(), "{level:?} {m}x{k}x{n} at {i},{j}: {got} for {want}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_tile_agrees_with_the_definition(m in 0usize..20, k in 0usize..70, n in 0usize..110, flags: (bool, bool, bool)) {
            for level in Level::supported() {
                check(level, m, k, n, flags);
            }
        }
    }
}
