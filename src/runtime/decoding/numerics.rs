//! Maximum, log-sum-exp and exp over a row of logits, written so that they vectorise, with the same result on
//! every machine.

/// Values handled side by side.
const LANES: usize = 16;

/// The highest of `row`; -inf if it is empty or all -inf.
///
/// `None` if a value is NaN or +inf: then there is no distribution.
pub(super) fn maximum(row: &[f32]) -> Option<f32> {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut bad = [0u32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            best[lane] = if x > best[lane] { x } else { best[lane] };
            bad[lane] |= u32::from(x.is_nan()) | u32::from(x == f32::INFINITY);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        best[lane] = if x > best[lane] { x } else { best[lane] };
        bad[lane] |= u32::from(x.is_nan()) | u32::from(x == f32::INFINITY);
    }
    let sane = bad.iter().all(|&b| b == 0);
    sane.then(|| best.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

/// Where `value` first stands in `row`.
pub(super) fn position(row: &[f32], value: f32) -> Option<usize> {
    for (at, chunk) in row.chunks(LANES).enumerate() {
        let mut found = false;
        for &x in chunk {
            found |= x == value;
        }
        if found {
            return chunk.iter().position(|&x| x == value).map(|lane| at * LANES + lane);
        }
    }
    None
}

/// log of the sum of exp over `row`, given its maximum (finite).
pub(super) fn log_sum_exp(row: &[f32], maximum: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += exp_of_near(chunk[lane] - maximum);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        sums[lane] += exp_of_near(x - maximum);
    }
    maximum + sums.iter().sum::<f32>().ln()
}

/// e^x for x <= 0, within 2 units in the last place; 0 below -86.
#[inline]
pub(super) fn exp_of_negative(x: f32) -> f32 {
    if x < -86.0 { 0.0 } else { exp_of_near(x) }
}

/// The same but for x < -86, where it is e^-86: a sum to which the maximum has given 1 does not notice.
///
/// x = n ln 2 + r with n an integer and |r| <= ln 2 / 2; e^r by its series, 2^n by adding n to the exponent.
#[inline]
fn exp_of_near(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -86.0 { -86.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let series = 1.0
        + r * (1.0
            + r * (1.0 / 2.0
                + r * (1.0 / 6.0
                    + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
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
        fn log_sum_exp_agrees_with_f64(row in prop::collection::vec(-50f32..50.0, 1..100)) {
            let max = maximum(&row).unwrap_or(f32::NAN);
            let exact = row.iter().map(|&x| f64::from(x - max).exp()).sum::<f64>().ln() + f64::from(max);
            prop_assert!((f64::from(log_sum_exp(&row, max)) - exact).abs() <= 1e-5);
        }

        #[test]
        fn the_maximum_and_its_first_position_are_those_of_a_plain_scan(row in prop::collection::vec(-3i8..3, 1..70)) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(maximum(&row), Some(max));
            prop_assert_eq!(position(&row, max), row.iter().position(|&x| x == max));
        }
    }

    #[test]
    fn wide_logits_do_not_overflow_and_banned_ones_count_nothing() {
        assert!((log_sum_exp(&[3e38, f32::NEG_INFINITY, 0.0], 3e38) - 3e38).abs() < 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_of_negative(0.0), 1.0);
    }

    #[test]
    fn nan_and_positive_infinity_are_no_distribution() {
        assert_eq!(maximum(&[1.0, f32::NAN]), None);
        assert_eq!(maximum(&[f32::INFINITY; 40]), None);
        assert_eq!(maximum(&[f32::NEG_INFINITY]), Some(f32::NEG_INFINITY));
    }
}
