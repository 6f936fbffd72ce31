//! The innermost block of a product whose weights are 8-bit integers: a few rows of C times one packed panel,
//! all sums exact integers in registers.
//!
//! Weights are stored as w = q + 128, without a sign, in groups of four steps of k; activations are signed
//! integers v of 16 bits. Where the processor multiplies bytes (VNNI: unsigned by signed, four at a time), v
//! is cut into two signed bytes, v = 256 high + low, which costs two instructions for 64 weights and is still
//! twice as fast as f32. Elsewhere weights are widened to 16 bits in registers and multiplied with v itself.
//! 128 times the sum of v, which the offset of w brings in, is subtracted at the end; sums may wrap around on
//! the way, since the result fits 32 bits.

/// Steps of k in a group, the bytes of a 32-bit lane.
pub(super) const GROUP: usize = 4;
/// What is added to a weight so that it has no sign.
pub(super) const OFFSET: i32 = 128;
/// The largest activation: 127 * 256 + 127, so that both of its bytes have a sign.
pub(super) const LARGEST: i32 = 32_639;
/// Most steps of k in a sum: 512 * 32,639 * 127 is below 2^31.
pub(super) const MOST_K: usize = 512;

/// One way to compute a block of C; chosen once per processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileInt8 {
    /// Most rows of C at once.
    pub(super) rows: usize,
    /// Columns of a packed panel.
    pub(super) columns: usize,
    /// Columns of one vector.
    pub(super) lanes: usize,
    /// Whether activations lie as a row of high bytes and a row of low bytes, instead of as 16 bits.
    pub(super) in_bytes: bool,
    /// Whether the steps of a group lie side by side for each column, instead of the columns for each step.
    pub(super) grouped: bool,
    pub(super) run: unsafe fn(&BlockInt8),
}

/// What a tile reads and writes: C (rows, columns) = start + factor scale (V (rows, k) Q (k, columns)).
///
/// A tile may read `rows` rows of `groups * GROUP` activations, `groups * GROUP * TileInt8::columns` weights,
/// `columns` scales and `rows` factors and sums, and of C and `start` what a tile of f32 does; the caller
/// guarantees that these lie within its slices.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockInt8 {
    /// Groups of steps of k.
    pub(super) groups: usize,
    /// Activations; in bytes, the high ones.
    pub(super) a: *const u8,
    /// Distance between two rows of activations, in bytes.
    pub(super) a_row: usize,
    /// Distance from a row's high bytes to its low ones.
    pub(super) low: usize,
    /// A panel packed as (groups, `TileInt8::columns`, `GROUP`), or as (groups, `GROUP`, `TileInt8::columns`).
    pub(super) b: *const u8,
    /// The value of one unit of each column's weights.
    pub(super) scales: *const f32,
    /// The value of one unit of each row's activations.
    pub(super) factors: *const f32,
    /// The sum of each row's activations over these steps of k.
    pub(super) sums: *const i32,
    /// Distance between two rows' sums.
    pub(super) sums_row: usize,
    pub(super) c: *mut f32,
    /// Distance between rows of C.
    pub(super) c_row: usize,
    /// Rows of C, 1 to `TileInt8::rows`.
    pub(super) rows: usize,
    /// Columns of C, 1 to `TileInt8::columns`.
    pub(super) columns: usize,
    /// What the products are added to: C itself, another matrix, or null for nothing.
    pub(super) start: *const f32,
    /// Distance between rows of `start`; 0 for one row that is added to all rows of C.
    pub(super) start_row: usize,
}

/// The tile without intrinsics.
pub(super) const PORTABLE: TileInt8 = TileInt8 {
    rows: PORTABLE_ROWS,
    columns: PORTABLE_COLUMNS,
    lanes: PORTABLE_COLUMNS,
    in_bytes: false,
    grouped: false,
    run: portable,
};

const PORTABLE_ROWS: usize = 4;
const PORTABLE_COLUMNS: usize = 16;

/// # Safety
/// See [`BlockInt8`].
unsafe fn portable(block: &BlockInt8) {
    // SAFETY: the caller guarantees the extents.
    unsafe {
        for r in 0..block.rows {
            let a = block.a.add(r * block.a_row).cast::<i16>();
            let mut sums = [0i32; PORTABLE_COLUMNS];
            for p in 0..block.groups * GROUP {
                let a = a.add(p).read_unaligned();
                let b = &*block.b.cast::<[u8; PORTABLE_COLUMNS]>().add(p);
                for (sum, &b) in sums.iter_mut().zip(b) {
                    // The difference as 16 bits, so that the compiler finds the product of 16 bits.
                    *sum += i32::from(a) * i32::from(i16::from(b) - OFFSET as i16);
                }
            }
            let factor = *block.factors.add(r);
            for (j, &sum) in sums.iter().enumerate().take(block.columns) {
                let start =
                    if block.start.is_null() { 0.0 } else { *block.start.add(r * block.start_row + j) };
                *block.c.add(r * block.c_row + j) = start + sum as f32 * (factor * *block.scales.add(j));
            }
        }
    }
}

/// The fastest tile of this processor.
pub(super) fn best() -> TileInt8 {
    match super::Level::detect() {
        #[cfg(target_arch = "x86_64")]
        super::Level::Avx512 if x86::has_vnni() => x86::VNNI,
        #[cfg(target_arch = "x86_64")]
        super::Level::Avx512 | super::Level::Avx2 => x86::AVX2,
        _ => PORTABLE,
    }
}

/// Every tile that this processor can run.
#[cfg(test)]
pub(super) fn supported() -> Vec<TileInt8> {
    let mut tiles = vec![PORTABLE];
    #[cfg(target_arch = "x86_64")]
    {
        let best = super::Level::supported().max();
        if best >= Some(super::Level::Avx2) {
            tiles.push(x86::AVX2);
        }
        if best >= Some(super::Level::Avx512) && x86::has_vnni() {
            tiles.push(x86::VNNI);
        }
    }
    tiles
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BlockInt8, GROUP, OFFSET, TileInt8};
    use std::arch::x86_64::{
        __m256i, __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps,
        _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_hadd_epi32, _mm256_madd_epi16,
        _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_mul_ps, _mm256_permute4x64_epi64, _mm256_set1_epi32,
        _mm256_set1_epi64x, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256, _mm256_sub_epi32,
        _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
        _mm512_setzero_si512, _mm512_slli_epi32, _mm512_sub_epi32,
    };

    /// 4 rows, in two bytes each, by 3 vectors: 24 sums, 3 vectors of weights and one broadcast fill 28 of
    /// the 32 registers.
    pub(super) const VNNI: TileInt8 =
        TileInt8 { rows: 4, columns: 48, lanes: 16, in_bytes: true, grouped: true, run: vnni };
    /// 2 rows by 16 columns, whose sums of two steps each stand apart until the end: 8 sums, 2 broadcasts, a
    /// vector of weights and of products fill 12 of the 16 registers.
    pub(super) const AVX2: TileInt8 =
        TileInt8 { rows: 2, columns: 16, lanes: 8, in_bytes: false, grouped: true, run: avx2 };

    pub(super) fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512vnni")
    }

    /// Bytes of weights that are asked for ahead of their use.
    const AHEAD: usize = 4096;

    /// # Safety
    /// AVX-512 F and VNNI must exist; see [`BlockInt8`].
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni(block: &BlockInt8) {
        macro_rules! instances {
            ($(($rows:literal, $vectors:literal))*) => {
                match (block.rows, block.columns.div_ceil(16)) {
                    // SAFETY: the caller's promise.
                    $(($rows, $vectors) => unsafe { vnni_tile::<$rows, $vectors>(block) },)*
                    (rows, vectors) => debug_assert!(false, "no tile of {rows} rows and {vectors} vectors"),
                }
            };
        }
        instances!((4, 3)(4, 2)(4, 1)(3, 3)(3, 2)(3, 1)(2, 3)(2, 2)(2, 1)(1, 3)(1, 2)(1, 1));
    }

    /// # Safety
    /// As [`vnni`].
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    unsafe fn vnni_tile<const ROWS: usize, const VECTORS: usize>(block: &BlockInt8) {
        // SAFETY: the panel holds `groups` rows of 48 times 4 bytes, the rest its stated extents; the mask
        // keeps loads and stores within `columns`.
        unsafe {
            let mut high = [[_mm512_setzero_si512(); VECTORS]; ROWS];
            let mut low = high;
            let mut b = block.b;
            let mut a = block.a;
            for _ in 0..block.groups {
                let mut vectors = [_mm512_setzero_si512(); VECTORS];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD + 64 * v).cast());
                    *vector = _mm512_loadu_si512(b.add(64 * v).cast());
                }
                for (r, (high, low)) in high.iter_mut().zip(&mut low).enumerate() {
                    let a = a.add(r * block.a_row);
                    let (a_high, a_low) = (four_bytes(a), four_bytes(a.add(block.low)));
                    for ((high, low), vector) in high.iter_mut().zip(low).zip(vectors) {
                        *high = _mm512_dpbusd_epi32(*high, vector, a_high);
                        *low = _mm512_dpbusd_epi32(*low, vector, a_low);
                    }
                }
                b = b.add(VNNI.columns * GROUP);
                a = a.add(GROUP);
            }
            let last = u16::MAX >> (16 * VECTORS - block.columns);
            for (r, (high, low)) in high.into_iter().zip(low).enumerate() {
                let factor = _mm512_set1_ps(*block.factors.add(r));
                let offset = _mm512_set1_epi32((*block.sums.add(r * block.sums_row)).wrapping_mul(OFFSET));
                for (v, (high, low)) in high.into_iter().zip(low).enumerate() {
                    let mask = if v + 1 == VECTORS { last } else { u16::MAX };
                    let sum = _mm512_sub_epi32(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low), offset);
                    let scale = _mm512_maskz_loadu_ps(mask, block.scales.add(16 * v));
                    let mut value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(factor, scale));
                    if !block.start.is_null() {
                        let start = block.start.add(r * block.start_row + 16 * v);
                        value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, start), value);
                    }
                    _mm512_mask_storeu_ps(block.c.add(r * block.c_row + 16 * v), mask, value);
                }
            }
        }
    }

    /// Four activations in every lane.
    ///
    /// # Safety
    /// AVX-512 F must exist; four bytes can be read.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn four_bytes(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        _mm512_set1_epi32(unsafe { from.cast::<i32>().read_unaligned() })
    }

    /// # Safety
    /// AVX2 must exist; see [`BlockInt8`].
    #[target_feature(enable = "avx2")]
    unsafe fn avx2(block: &BlockInt8) {
        // SAFETY: the caller's promise.
        unsafe {
            match block.rows {
                1 => avx2_tile::<1>(block),
                2 => avx2_tile::<2>(block),
                rows => debug_assert!(false, "no tile of {rows} rows"),
            }
        }
    }

    /// # Safety
    /// As [`avx2`].
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn avx2_tile<const ROWS: usize>(block: &BlockInt8) {
        // SAFETY: the panel holds `groups` rows of 16 times 4 bytes, the rest its stated extents; the masks
        // keep loads and stores within `columns`.
        unsafe {
            // Each vector of sums has those of four columns, of two steps of k apart.
            let mut sums = [[_mm256_setzero_si256(); 4]; ROWS];
            let mut b = block.b;
            let mut a = block.a;
            for _ in 0..block.groups {
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD).cast());
                let mut rows = [_mm256_setzero_si256(); ROWS];
                for (r, row) in rows.iter_mut().enumerate() {
                    *row = _mm256_set1_epi64x(a.add(r * block.a_row).cast::<i64>().read_unaligned());
                }
                for four in 0..4 {
                    let weights = _mm256_cvtepu8_epi16(_mm_loadu_si128(b.add(16 * four).cast()));
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        sums[four] = _mm256_add_epi32(sums[four], _mm256_madd_epi16(weights, row));
                    }
                }
                b = b.add(AVX2.columns * GROUP);
                a = a.add(2 * GROUP);
            }
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            for (r, sums) in sums.into_iter().enumerate() {
                let factor = _mm256_set1_ps(*block.factors.add(r));
                let offset = _mm256_set1_epi32((*block.sums.add(r * block.sums_row)).wrapping_mul(OFFSET));
                for v in 0..block.columns.div_ceil(8) {
                    let width = (block.columns - 8 * v).min(8) as i32;
                    let mask: __m256i = _mm256_cmpgt_epi32(_mm256_set1_epi32(width), lanes);
                    // Neighbours are added within halves of the vectors, which then change places.
                    let sum = _mm256_hadd_epi32(sums[2 * v], sums[2 * v + 1]);
                    let sum = _mm256_sub_epi32(_mm256_permute4x64_epi64::<0b11_01_10_00>(sum), offset);
                    let scale = _mm256_maskload_ps(block.scales.add(8 * v), mask);
                    let mut value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(factor, scale));
                    if !block.start.is_null() {
                        let start = block.start.add(r * block.start_row + 8 * v);
                        value = _mm256_add_ps(_mm256_maskload_ps(start, mask), value);
                    }
                    _mm256_maskstore_ps(block.c.add(r * block.c_row + 8 * v), mask, value);
                }
            }
        }
    }
}
