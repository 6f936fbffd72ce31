//! Element-wise arithmetic of whole slices.

use super::level::multiversion;
use super::random::Random;
use super::real::Real;

multiversion! {
    /// Computes `y += x`, element by element.
    pub fn add_assign<R: Real>(y: &mut [R], x: &[R]) {
        debug_assert_eq!(y.len(), x.len());
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

multiversion! {
    /// Computes `y += factor * x`, element by element.
    pub fn add_scaled<R: Real>(y: &mut [R], x: &[R], factor: R) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x * factor;
        }
    }
}

multiversion! {
    /// Computes `y = factor * x + bias`, element by element.
    pub fn scale_and_add<R: Real>(y: &mut [R], x: &[R], factor: R, bias: &[R]) {
        for ((y, &x), &b) in y.iter_mut().zip(x).zip(bias) {
            *y = x * factor + b;
        }
    }
}

multiversion! {
    /// Fills `factors` with 0 where 16 bits of a draw are below `threshold`, `keep` elsewhere; a draw is for
    /// four values.
    pub fn drop_values<R: Real>(random: &Random, threshold: u64, keep: R, factors: &mut [R]) {
        const DRAWS: usize = 16;
        for (part, first) in factors.chunks_mut(4 * DRAWS).zip((0..).step_by(DRAWS)) {
            let mut draws = [0; DRAWS];
            for (draw, n) in draws.iter_mut().zip(first..) {
                *draw = random.bits_after(n);
            }
            for (four, draw) in part.chunks_mut(4).zip(draws) {
                for (factor, shift) in four.iter_mut().zip([0, 16, 32, 48]) {
                    *factor = if draw >> shift & 0xffff < threshold { R::ZERO } else { keep };
                }
            }
        }
    }
}

multiversion! {
    /// Replaces each value by its hyperbolic tangent.
    pub fn tanh_each<R: Real>(values: &mut [R]) {
        for x in values {
            *x = x.tanh::<FMA>();
        }
    }
}

multiversion! {
    /// Computes `vector -= (vector . unit) unit`: what is left is orthogonal to the unit vector.
    pub fn subtract_projection<R: Real>(vector: &mut [R], unit: &[R]) {
        // In lanes, so that the sum needs no reordering to be vectorised and is the same on every processor.
        let mut lanes = [R::ZERO; 16];
        for (vector, unit) in vector.chunks(16).zip(unit.chunks(16)) {
            for ((lane, &x), &u) in lanes.iter_mut().zip(vector).zip(unit) {
                *lane += x * u;
            }
        }
        let mut dot = R::ZERO;
        for lane in lanes {
            dot += lane;
        }
        for (x, &u) in vector.iter_mut().zip(unit) {
            *x = *x - dot * u;
        }
    }
}

/// Adds the sum over the rows of `x` (rows, `width`) to `sums` (`width`).
pub fn add_column_sums<R: Real>(sums: &mut [R], x: &[R]) {
    for row in x.chunks_exact(sums.len()) {
        add_assign(sums, row);
    }
}
