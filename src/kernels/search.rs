//! What a search reads from a row of logits: its maximum, the log of its sum of exp, its best few.
//!
//! A vocabulary of 60,000 symbols makes these rows long enough to count beside the model, so that each is one
//! pass without a branch for most values. All of it gives the same bits on every [`Level`](crate::Level):
//! sums run in a fixed number of lanes, and no product is fused with a sum.

use super::activations;
use super::level::multiversion;
use super::real::Real;

/// Values handled side by side: enough independent chains to keep every vector unit busy.
const LANES: usize = 64;

multiversion! {
    /// Finds the highest value of `row`: -inf if it is empty or all -inf, nothing if a value is NaN or +inf,
    /// because then there is no distribution.
    pub fn maximum<R: Real>(row: &[R]) -> Option<R> {
        let infinity = R::from_f64(f64::INFINITY);
        let mut lanes = [-infinity; LANES];
        // NaN and +inf as +inf, all else as 0: masks of vectors are dearer than vectors.
        let mut bad = [R::ZERO; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for j in 0..LANES {
                let x = chunk[j];
                lanes[j] = if x > lanes[j] { x } else { lanes[j] };
                bad[j] = if x < infinity { bad[j] } else { infinity };
            }
        }
        for (j, &x) in rest.iter().enumerate() {
            lanes[j] = if x > lanes[j] { x } else { lanes[j] };
            bad[j] = if x < infinity { bad[j] } else { infinity };
        }
        let mut highest = -infinity;
        for lane in lanes {
            highest = if lane > highest { lane } else { highest };
        }
        bad.iter().all(|&b| b < infinity).then_some(highest)
    }
}

multiversion! {
    /// Finds where the first value from `from` on stands that is above `least`.
    pub fn first_above<R: Real>(row: &[R], from: usize, least: R) -> Option<usize> {
        let (chunks, rest) = row.get(from..)?.as_chunks::<LANES>();
        for (at, chunk) in chunks.iter().enumerate() {
            let mut any = false;
            for &x in chunk {
                any |= x > least;
            }
            if any {
                let within = chunk.iter().position(|&x| x > least)?;
                return Some(from + at * LANES + within);
            }
        }
        let within = rest.iter().position(|&x| x > least)?;
        Some(from + chunks.len() * LANES + within)
    }
}

multiversion! {
    /// Finds where `value` first stands in `row`.
    pub fn position<R: Real>(row: &[R], value: R) -> Option<usize> {
        let (chunks, rest) = row.as_chunks::<LANES>();
        for (at, chunk) in chunks.iter().enumerate() {
            let mut any = false;
            for &x in chunk {
                any |= x == value;
            }
            if any {
                return chunk.iter().position(|&x| x == value).map(|within| at * LANES + within);
            }
        }
        rest.iter().position(|&x| x == value).map(|within| chunks.len() * LANES + within)
    }
}

multiversion! {
    /// Sums e^(x - `maximum`) over `row`; `maximum` is that of the row, and finite.
    fn sum_of_exp<R: Real>(row: &[R], maximum: R) -> R {
        // Fewer lanes than elsewhere, because each value takes several registers.
        const LANES: usize = 16;
        let mut lanes = [R::ZERO; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                // Below e^-87 it saturates: a sum to which the maximum has given 1 does not notice.
                *lane += (x - maximum).exp::<false>();
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += (x - maximum).exp::<false>();
        }
        let mut sum = R::ZERO;
        for lane in lanes {
            sum += lane;
        }
        sum
    }
}

/// Computes the log of the sum of e^x over `row`; `maximum` is that of the row, and finite.
pub fn log_sum_exp<R: Real>(row: &[R], maximum: R) -> R {
    maximum + sum_of_exp(row, maximum).ln()
}

/// Computes e^x for x <= 0, within 2 units in the last place; 0 below -86.
#[inline]
pub fn exp_of_negative(x: f32) -> f32 {
    if x < -86.0 { 0.0 } else { activations::exp::<false>(x) }
}

/// Finds the `k` highest values of `row` and where they stand, highest first, of equal ones the first; -inf
/// and NaN are left out.
///
/// Takes one pass over the row, and time in proportion to k² log(length) for what is found.
pub fn k_best<R: Real>(row: &[R], k: usize, best: &mut Vec<(usize, R)>) {
    best.clear();
    if k == 0 {
        return;
    }
    let mut least = R::from_f64(f64::NEG_INFINITY);
    let mut from = 0;
    while let Some(at) = first_above(row, from, least) {
        let x = row[at];
        if best.len() == k {
            best.pop();
        }
        best.insert(best.partition_point(|&(_, y)| y >= x), (at, x));
        if let Some(&(_, lowest)) = best.get(k - 1) {
            least = lowest;
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_is_within_two_units_in_the_last_place(x in -86f32..=0.0) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(exp_of_negative(x)) - exact).abs() <= exact * 2.5e-7, "{x}");
        }

        #[test]
        fn log_sum_exp_agrees_with_f64(row in prop::collection::vec(-50f32..50.0, 1..300)) {
            let max = maximum(&row).unwrap_or(f32::NAN);
            let exact = row.iter().map(|&x| f64::from(x - max).exp()).sum::<f64>().ln() + f64::from(max);
            prop_assert!((f64::from(log_sum_exp(&row, max)) - exact).abs() <= 1e-5);
        }

        #[test]
        fn maximum_and_positions_are_those_of_a_plain_scan(
            row in prop::collection::vec(-3i8..3, 1..300),
            from in 0usize..310,
            least in -4i8..4,
        ) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(maximum(&row), Some(max));
            prop_assert_eq!(position(&row, max), row.iter().position(|&x| x == max));
            let least = f32::from(least);
            let above = row.iter().enumerate().skip(from).find(|(_, x)| **x > least).map(|(at, _)| at);
            prop_assert_eq!(first_above(&row, from, least), above);
        }

        #[test]
        fn the_best_few_are_those_of_a_full_stable_sort(
            row in prop::collection::vec(prop::option::weighted(0.9, -40i8..40), 0..300),
            k in 0usize..12,
        ) {
            let row: Vec<f32> = row.into_iter().map(|x| x.map_or(f32::NEG_INFINITY, f32::from)).collect();
            let mut best = Vec::new();
            k_best(&row, k, &mut best);
            let mut all: Vec<_> =
                row.iter().copied().enumerate().filter(|(_, x)| *x > f32::NEG_INFINITY).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            all.truncate(k);
            prop_assert_eq!(best, all);
        }
    }

    #[test]
    fn the_sum_has_the_same_bits_as_one_without_vectors() {
        let row: Vec<f32> = (0..1000u16).map(|i| f32::from(i.wrapping_mul(7919) % 997) * -0.03).collect();
        // One lane at a time; the order of a sum is a part of its result.
        let mut sum = 0f32;
        for lane in 0..16 {
            let mut of_lane = 0f32;
            for &x in row.iter().skip(lane).step_by(16) {
                of_lane += activations::exp::<false>(x);
            }
            sum += of_lane;
        }
        assert_eq!(log_sum_exp(&row, 0.0).to_bits(), sum.ln().to_bits());
    }

    #[test]
    fn wide_logits_do_not_overflow_and_banned_ones_count_nothing() {
        assert!((log_sum_exp(&[3e38f32, f32::NEG_INFINITY, 0.0], 3e38) - 3e38).abs() < 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_of_negative(0.0), 1.0);
    }

    #[test]
    fn nan_and_positive_infinity_are_no_distribution() {
        for at in [0, 70, 99] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut row = [1f32; 100];
                row[at] = bad;
                assert_eq!(maximum(&row), None, "{bad} at {at}");
            }
        }
        assert_eq!(maximum(&[f32::NEG_INFINITY]), Some(f32::NEG_INFINITY));
        assert_eq!(maximum::<f32>(&[]), Some(f32::NEG_INFINITY));
    }
}
