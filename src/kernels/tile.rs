//! The innermost block of the matrix product: a few rows of C times one packed panel of B, all sums in
//! registers.

use std::ops::{Add, AddAssign, Mul};

/// One way to compute a block of C; chosen once per processor and element type.
#[derive(Clone, Copy, Debug)]
pub struct Tile<R> {
    /// Most rows of C at once.
    pub(super) rows: usize,
    /// Columns of a packed panel of B.
    pub(super) columns: usize,
    /// Columns of one vector.
    pub(super) lanes: usize,
    pub(super) run: unsafe fn(&Block<R>),
    /// Transposes a square of [`SQUARE`] rows whose rows lie so far apart: from, its row, to, its row.
    pub(super) transpose: unsafe fn(*const R, usize, *mut R, usize),
}

/// Side of the square that is transposed in registers.
pub(super) const SQUARE: usize = 8;

/// What a tile reads and writes: C (rows, columns) = start + A (rows, k) B (k, columns).
///
/// A tile may read `rows` by `k` values of `a` with the given strides, `k * Tile::columns` values of `b` and
/// `rows` by `columns` values of `start`, and writes `rows` by `columns` values of `c`; the caller guarantees
/// that these lie within its slices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<R> {
    pub(super) k: usize,
    pub(super) a: *const R,
    /// Distance between rows of A.
    pub(super) a_row: usize,
    /// Distance between columns of A.
    pub(super) a_column: usize,
    /// A panel packed as (k, Tile::columns).
    pub(super) b: *const R,
    pub(super) c: *mut R,
    /// Distance between rows of C.
    pub(super) c_row: usize,
    /// Rows of C, 1 to `Tile::rows`.
    pub(super) rows: usize,
    /// Columns of C, 1 to `Tile::columns`.
    pub(super) columns: usize,
    /// What the sums are added to, `rows` by `columns` values: C itself, another matrix, or null for nothing.
    pub(super) start: *const R,
    /// Distance between rows of `start`; 0 for one row that is added to all rows of C.
    pub(super) start_row: usize,
    /// Values that a later block will read and that are asked for ahead, one for each step of k; any address
    /// will do.
    pub(super) later: *const R,
    /// Distance between those values.
    pub(super) later_step: usize,
}

/// What a product adds up; the default is zero.
pub(super) trait Summand:
    Copy + Default + Add<Output = Self> + Mul<Output = Self> + AddAssign
{
}

impl<R: Copy + Default + Add<Output = R> + Mul<Output = R> + AddAssign> Summand for R {}

/// The tile without intrinsics, for every element type and processor.
pub(super) fn portable<R: Summand>() -> Tile<R> {
    Tile {
        rows: PORTABLE_ROWS,
        columns: PORTABLE_COLUMNS,
        lanes: PORTABLE_COLUMNS,
        run: portable_tile::<R>,
        transpose: portable_transpose::<R>,
    }
}

const PORTABLE_ROWS: usize = 4;
const PORTABLE_COLUMNS: usize = 8;

/// # Safety
/// See [`Block`].
unsafe fn portable_tile<R: Summand>(block: &Block<R>) {
    // SAFETY: the caller's promise.
    unsafe {
        match block.rows {
            1 => portable_rows::<R, 1>(block),
            2 => portable_rows::<R, 2>(block),
            3 => portable_rows::<R, 3>(block),
            _ => portable_rows::<R, PORTABLE_ROWS>(block),
        }
    }
}

/// # Safety
/// See [`Block`], whose rows are `ROWS`.
#[inline(always)]
unsafe fn portable_rows<R: Summand, const ROWS: usize>(block: &Block<R>) {
    let mut sums = [[R::default(); PORTABLE_COLUMNS]; ROWS];
    // SAFETY: the caller guarantees the extents.
    unsafe {
        let rows: [*const R; ROWS] = std::array::from_fn(|r| block.a.add(r * block.a_row));
        for p in 0..block.k {
            let b = &*block.b.add(p * PORTABLE_COLUMNS).cast::<[R; PORTABLE_COLUMNS]>();
            for (sums, row) in sums.iter_mut().zip(rows) {
                let a = *row.add(p * block.a_column);
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let c = block.c.add(r * block.c_row);
            for (j, &sum) in sums.iter().enumerate().take(block.columns) {
                let start = if block.start.is_null() {
                    R::default()
                } else {
                    *block.start.add(r * block.start_row + j)
                };
                *c.add(j) = start + sum;
            }
        }
    }
}

/// # Safety
/// Both squares lie within their slices.
unsafe fn portable_transpose<R: Copy>(from: *const R, from_row: usize, to: *mut R, to_row: usize) {
    for (r, c) in (0..SQUARE).flat_map(|r| (0..SQUARE).map(move |c| (r, c))) {
        // SAFETY: the caller's promise.
        unsafe { *to.add(c * to_row + r) = *from.add(r * from_row + c) };
    }
}

/// The fastest f32 tile of this processor.
pub(super) fn best_f32() -> Tile<f32> {
    f32_at(super::Level::detect())
}

/// The f32 tile of a level that this processor supports.
pub(super) fn f32_at(level: super::Level) -> Tile<f32> {
    match level {
        #[cfg(target_arch = "x86_64")]
        super::Level::Avx512 => x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        super::Level::Avx2 => x86::AVX2,
        _ => portable(),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, SQUARE, Tile};
    use std::arch::x86_64::{
        __m256i, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_permute2f128_ps, _mm256_set1_epi32,
        _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    /// 8 rows by 3 vectors: 24 sums, 3 vectors of B and one broadcast of A fill 28 of the 32 registers.
    pub(super) const AVX512: Tile<f32> = Tile { rows: 8, columns: 48, lanes: 16, run: avx512, transpose };
    /// 6 rows by 2 vectors: 12 sums, 2 vectors of B and one broadcast of A fill 15 of the 16 registers.
    pub(super) const AVX2: Tile<f32> = Tile { rows: 6, columns: 16, lanes: 8, run: avx2, transpose };

    /// Calls the instance of a const-generic tile for the rows and vectors of this block.
    macro_rules! instances {
        ($tile:ident, $block:ident, $lanes:literal: $(($rows:literal, $vectors:literal))*) => {
            match ($block.rows, $block.columns.div_ceil($lanes)) {
                $(($rows, $vectors) => $tile::<$rows, $vectors>($block),)*
                (rows, vectors) => debug_assert!(false, "no tile of {rows} rows and {vectors} vectors"),
            }
        };
    }

    /// Steps of k that a panel of B is asked for ahead of its use: the processor's own prefetching comes too
    /// late where the panel lies in an outer cache.
    const AHEAD: usize = 24;

    /// Asks for the lines of C, so that they are there when the sums are done: a matrix too large for the
    /// inner caches would otherwise stop every tile at its end. Where the panel of B is larger than the
    /// first-level cache it drives these lines out of it again, so that the AVX-512 tile asks a second time,
    /// [`AHEAD`] steps before the end.
    #[inline(always)]
    fn fetch_c(block: &Block<f32>, rows: usize, vectors: usize, lanes: usize) {
        for r in 0..rows {
            for v in 0..vectors {
                // SAFETY: a hint, which reads nothing and may name any address.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(block.c.wrapping_add(r * block.c_row + lanes * v).cast());
                };
            }
        }
    }

    /// # Safety
    /// AVX-512 F must exist; see [`Block`].
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512(block: &Block<f32>) {
        // SAFETY: the caller's promise.
        unsafe {
            instances!(avx512_tile, block, 16:
                (8, 3) (8, 2) (8, 1) (7, 3) (7, 2) (7, 1) (6, 3) (6, 2) (6, 1) (5, 3) (5, 2) (5, 1)
                (4, 3) (4, 2) (4, 1) (3, 3) (3, 2) (3, 1) (2, 3) (2, 2) (2, 1) (1, 3) (1, 2) (1, 1));
        }
    }

    /// # Safety
    /// As [`avx512`].
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn avx512_tile<const ROWS: usize, const VECTORS: usize>(block: &Block<f32>) {
        // SAFETY: the panel holds k rows of 48 values, A and C the stated extents; the mask keeps stores
        // within `columns`.
        unsafe {
            fetch_c(block, ROWS, VECTORS, 16);
            let near_end = block.k.saturating_sub(AHEAD);
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
            let mut b = block.b;
            let mut a = block.a;
            let mut later = block.later;
            for p in 0..block.k {
                if p == near_end {
                    fetch_c(block, ROWS, VECTORS, 16);
                }
                let mut vectors = [_mm512_setzero_ps(); VECTORS];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * AVX512.columns + 16 * v).cast());
                    *vector = _mm512_loadu_ps(b.add(16 * v));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*a.add(r * block.a_row));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = _mm512_fmadd_ps(a, vector, *sum);
                    }
                }
                _mm_prefetch::<_MM_HINT_T1>(later.cast());
                b = b.add(AVX512.columns);
                a = a.add(block.a_column);
                later = later.wrapping_add(block.later_step);
            }
            let last = u16::MAX >> (16 * VECTORS - block.columns);
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = block.c.add(r * block.c_row + 16 * v);
                    let mask = if v + 1 == VECTORS { last } else { u16::MAX };
                    let sum = if block.start.is_null() {
                        sum
                    } else {
                        _mm512_add_ps(
                            sum,
                            _mm512_maskz_loadu_ps(mask, block.start.add(r * block.start_row + 16 * v)),
                        )
                    };
                    _mm512_mask_storeu_ps(c, mask, sum);
                }
            }
        }
    }

    /// # Safety
    /// AVX2 and FMA must exist; see [`Block`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(block: &Block<f32>) {
        // SAFETY: the caller's promise.
        unsafe {
            instances!(avx2_tile, block, 8:
                (6, 2) (6, 1) (5, 2) (5, 1) (4, 2) (4, 1) (3, 2) (3, 1) (2, 2) (2, 1) (1, 2) (1, 1));
        }
    }

    /// # Safety
    /// As [`avx2`].
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn avx2_tile<const ROWS: usize, const VECTORS: usize>(block: &Block<f32>) {
        // SAFETY: the panel holds k rows of 16 values, A and C the stated extents; the mask keeps stores
        // within `columns`.
        unsafe {
            fetch_c(block, ROWS, VECTORS, 8);
            let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
            let mut b = block.b;
            let mut a = block.a;
            let mut later = block.later;
            for _ in 0..block.k {
                let mut vectors = [_mm256_setzero_ps(); VECTORS];
                // The two vectors of a step are one cache line.
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * AVX2.columns).cast());
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = _mm256_loadu_ps(b.add(8 * v));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_set1_ps(*a.add(r * block.a_row));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = _mm256_fmadd_ps(a, vector, *sum);
                    }
                }
                _mm_prefetch::<_MM_HINT_T1>(later.cast());
                b = b.add(AVX2.columns);
                a = a.add(block.a_column);
                later = later.wrapping_add(block.later_step);
            }
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = block.c.add(r * block.c_row + 8 * v);
                    let width = (block.columns - 8 * v).min(8) as i32;
                    let mask: __m256i = _mm256_cmpgt_epi32(_mm256_set1_epi32(width), lanes);
                    let sum = if block.start.is_null() {
                        sum
                    } else {
                        _mm256_add_ps(
                            sum,
                            _mm256_maskload_ps(block.start.add(r * block.start_row + 8 * v), mask),
                        )
                    };
                    _mm256_maskstore_ps(c, mask, sum);
                }
            }
        }
    }

    /// Pairs, then fours, then halves of eight rows are exchanged.
    ///
    /// # Safety
    /// AVX2 must exist; both squares lie within their slices.
    #[target_feature(enable = "avx2")]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut rows, mut pairs, mut fours) =
                ([_mm256_setzero_ps(); SQUARE], [_mm256_setzero_ps(); SQUARE], [_mm256_setzero_ps(); SQUARE]);
            for (r, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.add(r * from_row));
            }
            for i in (0..SQUARE).step_by(2) {
                pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
            }
            for i in [0, 4] {
                for half in [0, 1] {
                    let (a, b) = (pairs[i + half], pairs[i + half + 2]);
                    fours[i + 2 * half] = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
                    fours[i + 2 * half + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, b);
                }
            }
            for i in 0..SQUARE / 2 {
                _mm256_storeu_ps(to.add(i * to_row), _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]));
                _mm256_storeu_ps(
                    to.add((i + 4) * to_row),
                    _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]),
                );
            }
        }
    }
}
