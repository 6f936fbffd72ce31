use super::*;
use proptest::prelude::*;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let random = crate::random::Random::new(seed, 0);
    (0..n as u64).map(|i| (random.bits_after(i) >> 40) as f32 / 8_388_608.0 - 1.0).collect()
}

/// Integers from -127 to 127, and the matrix that they are with a scale for each column.
fn on_a_grid(k: usize, n: usize, scale: impl Fn(usize) -> f32) -> (Vec<i32>, Vec<f32>) {
    let mut integers: Vec<i32> = numbers(k * n, 1).iter().map(|x| (x * 127.0) as i32).collect();
    (0..n).for_each(|j| integers[j % k * n + j] = 127);
    let values = integers.iter().enumerate().map(|(at, &q)| q as f32 * scale(at % n)).collect();
    (integers, values)
}

fn scale_of(j: usize) -> f32 {
    0.003 + j as f32 * 1.7e-4
}

/// The product by definition: the rounded row, the integers, a sum for each block of k.
fn by_definition(row: &[f32], integers: &[i32], n: usize, j: usize, scale: f32, start: f32) -> f32 {
    let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let factor = largest / LARGEST as f32;
    let mut c = start;
    for (part, integers) in row.chunks(MOST_K).zip(integers.chunks(MOST_K * n)) {
        let product = |(p, &x): (usize, &f32)| {
            let v = (x * (LARGEST as f32 / largest)).round_ties_even() as i64;
            v * i64::from(integers[p * n + j])
        };
        let sum: i64 = part.iter().enumerate().map(product).sum();
        let sum = i32::try_from(sum).expect("a sum of 32 bits");
        c += sum as f32 * (factor * scale);
    }
    c
}

proptest! {
    #[test]
    fn every_tile_computes_the_same_exact_sums(
        m in 1usize..11, k in LEAST_K..90, n in 260usize..400, transposed: (bool, bool), store in 0u8..3,
    ) {
        check(m, k, n, transposed, store)?;
    }
}

#[test]
fn products_of_several_blocks_are_the_same_exact_sums() {
    for k in [MOST_K, MOST_K + 1, 3 * MOST_K - 5] {
        for store in 0..3 {
            check(BLOCK_ROWS / 100 + 2, k, 50, (false, false), store).expect("the same sums");
        }
    }
    check(BLOCK_ROWS + 3, 100, 50, (true, true), 0).expect("the same sums");
}

fn check(
    m: usize,
    k: usize,
    n: usize,
    transposed: (bool, bool),
    store: u8,
) -> std::result::Result<(), TestCaseError> {
    let (integers, b) = on_a_grid(k, n, scale_of);
    let (a, bias, c_row) = (numbers(m * k, 2), numbers(n, 3), n + 3);
    let before = numbers(m * c_row, 4);
    let turned = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
        (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
    };
    let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
    let a_ref = if transposed.0 { MatRef::new(&a_turned, k, m).transposed() } else { MatRef::new(&a, m, k) };
    let b_ref = if transposed.1 { MatRef::new(&b_turned, n, k).transposed() } else { MatRef::new(&b, k, n) };
    let store = [Store::Overwrite, Store::Add, Store::Bias(&bias)][usize::from(store)];
    for tile in tile_int8::supported() {
        let packed = PackedInt8::for_tile(tile, b_ref).expect("a grid of 8 bits");
        let mut c = before.clone();
        let to = MatMut::new(&mut c, m, n, c_row);
        matmul_int8(to, store, a_ref, &packed, &mut ScratchInt8::default());
        for (at, (&got, &was)) in c.iter().zip(&before).enumerate() {
            let (i, j) = (at / c_row, at % c_row);
            let want = if j < n {
                let start = match store {
                    Store::Overwrite => 0.0,
                    Store::Add => was,
                    Store::Bias(bias) => bias[j],
                };
                by_definition(&a[i * k..][..k], &integers, n, j, packed.scales[j], start)
            } else {
                was
            };
            prop_assert_eq!(got, want, "{:?} {}x{}x{} at {},{}", tile, m, k, n, i, j);
        }
    }
    Ok(())
}

#[test]
fn the_largest_sums_fit_their_32_bits() {
    // All weights 127 and all activations the largest, of either sign.
    let (k, n) = (MOST_K, 40);
    // 32 integers are asked for; they stand in a column of their own.
    let mut b = vec![127.0f32; k * n];
    (0..64).for_each(|p| b[p * n] = p as f32);
    for sign in [1.0f32, -1.0] {
        let a = vec![sign; k];
        for tile in tile_int8::supported() {
            let packed = PackedInt8::for_tile(tile, MatRef::new(&b, k, n)).expect("a grid of 8 bits");
            let mut c = vec![0.0; n];
            let to = MatMut::new(&mut c, 1, n, n);
            matmul_int8(to, Store::Overwrite, MatRef::new(&a, 1, k), &packed, &mut ScratchInt8::default());
            let want = sign * 127.0 * k as f32;
            assert!(c[1..].iter().all(|&x| (x - want).abs() < 1e-6 * want.abs()), "{tile:?}: {c:?}");
        }
    }
}

#[test]
fn a_row_of_zeros_gives_exactly_the_bias_and_one_that_is_not_finite_is_seen() {
    let (k, n) = (64, 100);
    let (_, b) = on_a_grid(k, n, scale_of);
    let bias = numbers(n, 3);
    for tile in tile_int8::supported() {
        let packed = PackedInt8::for_tile(tile, MatRef::new(&b, k, n)).expect("a grid of 8 bits");
        let mut a = numbers(5 * k, 2);
        a[..k].fill(0.0);
        a[k..2 * k].fill(f32::from_bits(3));
        a[2 * k + 7] = f32::NAN;
        a[3 * k + 8] = f32::NEG_INFINITY;
        let mut c = vec![0.0; 5 * n];
        let to = MatMut::new(&mut c, 5, n, n);
        matmul_int8(to, Store::Bias(&bias), MatRef::new(&a, 5, k), &packed, &mut ScratchInt8::default());
        assert!(c[..n] == bias[..] && c[n..2 * n] == bias[..], "{tile:?}");
        assert!(c[2 * n..4 * n].iter().all(|x| x.is_nan()), "{tile:?}");
        assert!(c[4 * n..].iter().all(|x| x.is_finite()), "{tile:?}");
    }
}

#[test]
fn only_matrices_on_a_grid_of_8_bits_are_packed() {
    let (k, n) = (100, 60);
    let (_, own) = on_a_grid(k, n, scale_of);
    // One scale for all, and a column without its largest integer.
    let (mut integers, mut same) = on_a_grid(k, n, |_| 0.01);
    integers.iter_mut().zip(&mut same).skip(5).step_by(n).for_each(|(q, x)| {
        *q /= 3;
        *x = *q as f32 * 0.01;
    });
    let (_, with_zeros) = on_a_grid(k, n, |j| if j == 9 { 0.0 } else { scale_of(j) });
    for b in [&own, &same, &with_zeros] {
        assert!(PackedInt8::of(MatRef::new(b, k, n)).is_some());
    }
    // Off the grid by 4e-6 of itself, not a number, infinite.
    for other in [own[777] * (1.0 + 4e-6), f32::NAN, f32::INFINITY] {
        let mut b = own.clone();
        b[777] = other;
        assert!(PackedInt8::of(MatRef::new(&b, k, n)).is_none(), "{other}");
        let turned = MatRef::new(&b, n, k).transposed();
        assert!(PackedInt8::of(turned).is_none(), "{other}");
    }
    assert!(PackedInt8::of(MatRef::new(&numbers(k * n, 7), k, n)).is_none(), "weights as trained");
    // A permutation lies on a grid, of two integers.
    let mut permutation = vec![0.0; 100 * 100];
    (0..100).for_each(|p| permutation[p * 100 + (p * 7) % 100] = 1.0);
    assert!(PackedInt8::of(MatRef::new(&permutation, 100, 100)).is_none());
    assert!(PackedInt8::of(MatRef::new(&own[..40 * n], 40, n)).is_none(), "too small");
}

#[test]
fn a_last_row_beside_the_grid_is_multiplied_in_f32() {
    let (m, k, n) = (3, 130, 75);
    let (_, on_grid) = on_a_grid(k, n, scale_of);
    let (a, bias) = (numbers(m * (k + 1), 2), numbers(n, 3));
    let last = numbers(n, 9);
    let with_last = [on_grid.as_slice(), &last].concat();
    let product = |packed: &PackedInt8, columns: usize| {
        let mut c = vec![0.0; m * n];
        let to = MatMut::new(&mut c, m, n, n);
        let a = MatRef::new(&a, m, k + 1).block(0..m, 0..columns);
        matmul_int8(to, Store::Bias(&bias), a, packed, &mut ScratchInt8::default());
        c
    };
    let turned: Vec<f32> =
        (0..n).flat_map(|j| (0..=k).map(move |p| (p, j))).map(|(p, j)| with_last[p * n + j]).collect();
    let without = product(&PackedInt8::of(MatRef::new(&on_grid, k, n)).expect("a grid"), k);
    for b in [MatRef::new(&with_last, k + 1, n), MatRef::new(&turned, n, k + 1).transposed()] {
        let packed = PackedInt8::of(b).expect("a grid but for one row");
        assert_eq!(packed.shape(), (k + 1, n));
        for (at, (got, without)) in product(&packed, k + 1).into_iter().zip(&without).enumerate() {
            let want = without + a[at / n * (k + 1) + k] * last[at % n];
            assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{got} for {want}");
        }
    }
}
