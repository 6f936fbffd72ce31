//! exp, sigmoid and tanh in f32 that the compiler can vectorise: no branch, no table, no call.
//!
//! All three reduce x = n ln 2 + r with |r| <= ln 2 / 2 and use the Taylor series of e^r - 1, whose eighth
//! term is below 6e-9 there, under the rounding of f32. NaN stays NaN, so that a diverged training is seen.

/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which then sits in the low bits of the
/// sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts (Cody and Waite): the first has trailing zeros, so that n * LN2_HIGH is exact for |n| <
/// 2^9.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Computes a b + c: in one instruction, rounded once, where the processor has it (`FMA`).
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Gives (2^n, e^r - 1) of x = n ln 2 + r, for x in [-87, 88].
#[inline(always)]
fn reduce<const FMA: bool>(x: f32) -> (f32, f32) {
    let shifted = multiply_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FMA>(n, -LN2_LOW, multiply_add::<FMA>(n, -LN2_HIGH, x));
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    // In pairs (Estrin), because a chain of eight dependent steps leaves the processor waiting.
    let r2 = r * r;
    let high = multiply_add::<FMA>(1.0 / 5040.0, r, 1.0 / 720.0);
    let middle = multiply_add::<FMA>(1.0 / 120.0, r, 1.0 / 24.0);
    let low = multiply_add::<FMA>(1.0 / 6.0, r, 0.5);
    let p = multiply_add::<FMA>(multiply_add::<FMA>(high, r2, middle), r2, low);
    (scale, multiply_add::<FMA>(p, r2, r))
}

/// Computes e^x; saturates at e^-87 and e^88.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Written as comparisons, not `clamp`, so that NaN passes through as NaN in the polynomial.
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let (scale, m) = reduce::<FMA>(x);
    multiply_add::<FMA>(scale, m, scale)
}

/// Computes 1 / (1 + e^-x).
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Computes tanh x = (e^2x - 1) / (e^2x + 1), through e^2x - 1 so that small x keep their relative precision.
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    // Beyond 9.1 tanh is 1 in f32; without the bound e^2x would grow past it for nothing.
    let x = if x > 10.0 { 10.0 } else { x };
    let x = if x < -10.0 { -10.0 } else { x };
    let (scale, m) = reduce::<FMA>(2.0 * x);
    let minus_one = multiply_add::<FMA>(scale, m, scale - 1.0);
    minus_one / (minus_one + 2.0)
}

/// Coefficients of erf(x) / x in x^2, for |x| <= 1: the largest error is 1.2e-9, by least squares weighted
/// until no error stood out.
const ERF_SMALL: [f32; 7] = [
    std::f32::consts::FRAC_2_SQRT_PI,
    -0.376_126_26,
    0.112_836,
    -0.026_854_446,
    5.189_536_6e-3,
    -8.020_852_7e-4,
    7.889_154e-5,
];
/// Coefficients of -ln(1 - erf(x)) in x, for x in [1, 3.95]: the error of erf is at most 1.1e-9, found in the
/// same way.
const ERF_LARGE: [f32; 7] =
    [3.537_161_7e-4, 1.127_04, 0.638_225_7, 0.103_037_39, -0.021_805_327, 2.939_609_3e-3, -1.855_742_2e-4];

/// The error function, 2 / sqrt(pi) times the integral of e^-t^2 from 0 to x.
#[inline(always)]
pub(super) fn erf<const FMA: bool>(x: f32) -> f32 {
    // Both forms, and the right one of them: no branch. Beyond 3.95 erf is 1 in f32.
    let size = x.abs();
    let size = if size > 3.95 { 3.95 } else { size };
    let series = |coefficients: [f32; 7], x: f32| {
        coefficients.iter().rev().fold(0.0, |sum, &coefficient| multiply_add::<FMA>(sum, x, coefficient))
    };
    let small = x * series(ERF_SMALL, x * x);
    let large = (1.0 - exp::<FMA>(-series(ERF_LARGE, size))).copysign(x);
    if size > 1.0 { large } else { small }
}

#[cfg(test)]
mod tests {
    /// Four units in the last place: two roundings of the polynomial, one of the scale, one of the division.
    const RELATIVE: f64 = 4.0 * 6e-8;

    fn worst(f: impl Fn(f32) -> f32, reference: impl Fn(f64) -> f64, range: f32) -> f64 {
        (-200_000..=200_000)
            .map(|i| i as f32 / 200_000.0 * range)
            .map(|x| {
                let want = reference(f64::from(x));
                (f64::from(f(x)) - want).abs() / want.abs().max(1e-37)
            })
            .fold(0.0, f64::max)
    }

    fn agree_with_f64<const FMA: bool>() {
        assert!(worst(super::exp::<FMA>, f64::exp, 80.0) < RELATIVE);
        assert!(worst(super::sigmoid::<FMA>, |x| 1.0 / (1.0 + (-x).exp()), 80.0) < RELATIVE);
        assert!(worst(super::tanh::<FMA>, f64::tanh, 12.0) < RELATIVE);
        assert!(worst(super::tanh::<FMA>, f64::tanh, 1e-3) < RELATIVE);
    }

    #[test]
    fn exp_sigmoid_and_tanh_agree_with_f64() {
        agree_with_f64::<false>();
        agree_with_f64::<true>();
    }

    /// The error function in f64: its Taylor series up to 3, beyond it the continued fraction of the rest.
    fn erf_by_definition(x: f64) -> f64 {
        let size = x.abs();
        if size < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..120 {
                let n = f64::from(n);
                term *= -x * x / n;
                sum += term / (2.0 * n + 1.0);
            }
            return sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let fraction = (1..200).rev().fold(size, |below, n| size + f64::from(n) / 2.0 / below);
        (1.0 - (-size * size).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
    }

    fn erf_agrees<const FMA: bool>() {
        for i in -60_000..=60_000 {
            let x = i as f32 / 10_000.0;
            let (got, want) = (f64::from(super::erf::<FMA>(x)), erf_by_definition(f64::from(x)));
            // Four units in the last place, as above.
            assert!((got - want).abs() <= RELATIVE * want.abs(), "erf {x}: {got} for {want}");
        }
        assert!(super::erf::<FMA>(f32::NAN).is_nan());
        assert_eq!((super::erf::<FMA>(1e30), super::erf::<FMA>(f32::NEG_INFINITY)), (1.0, -1.0));
    }

    #[test]
    fn erf_agrees_with_f64() {
        erf_agrees::<false>();
        erf_agrees::<true>();
    }

    fn saturate<const FMA: bool>() {
        use super::{exp, sigmoid, tanh};
        assert!(
            exp::<FMA>(f32::NAN).is_nan()
                && sigmoid::<FMA>(f32::NAN).is_nan()
                && tanh::<FMA>(f32::NAN).is_nan()
        );
        assert_eq!(tanh::<FMA>(1e30), 1.0);
        assert_eq!(tanh::<FMA>(-1e30), -1.0);
        assert_eq!(sigmoid::<FMA>(1e30), 1.0);
        assert!(sigmoid::<FMA>(-1e30) < 1e-37);
        assert_eq!(tanh::<FMA>(0.0), 0.0);
    }

    #[test]
    fn nan_stays_nan_and_extremes_saturate() {
        saturate::<false>();
        saturate::<true>();
    }
}
