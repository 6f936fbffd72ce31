//! The optimiser's loop over all parameters: gradients of the shards summed, clipped, averaged into the
//! moments, applied.

use super::level::multiversion;
use super::real::Real;

/// The numbers of one Adam step (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1 with bias correction).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Step size, the learning rate alpha.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// 1 for the first step.
    pub time: u64,
    /// What gradients are multiplied by first: 1, or less where their norm is clipped.
    pub gradient_factor: f64,
}

/// The same in the element type, with the bias corrections worked out: what all stretches of a step share.
#[derive(Clone, Copy, Debug)]
pub struct AdamFactors<R> {
    factor: R,
    beta1: R,
    beta2: R,
    rate: R,
    root_bias: R,
    epsilon: R,
}

impl AdamStep {
    /// Works out the bias corrections.
    pub fn factors<R: Real>(&self) -> AdamFactors<R> {
        let bias1 = 1.0 - self.beta1.powf(self.time as f64);
        let bias2 = 1.0 - self.beta2.powf(self.time as f64);
        AdamFactors {
            factor: R::from_f64(self.gradient_factor),
            beta1: R::from_f64(self.beta1),
            beta2: R::from_f64(self.beta2),
            rate: R::from_f64(self.learning_rate / bias1),
            root_bias: R::from_f64(1.0 / bias2.sqrt()),
            epsilon: R::from_f64(self.epsilon),
        }
    }
}

multiversion! {
    /// Takes one Adam step on a stretch of the parameters: theta -= rate * m / (sqrt(v) * root_bias +
    /// epsilon).
    ///
    /// - `gradients`, `first`, `second`: of the same stretch.
    pub fn adam_step<R: Real>(
        step: &AdamFactors<R>,
        parameters: &mut [R],
        first: &mut [R],
        second: &mut [R],
        gradients: &[R],
    ) {
        let AdamFactors { factor, beta1, beta2, rate, root_bias, epsilon } = *step;
        let n = parameters.len();
        let (first, second, gradients) = (&mut first[..n], &mut second[..n], &gradients[..n]);
        for i in 0..n {
            let g = gradients[i] * factor;
            let m = beta1 * first[i] + (R::ONE - beta1) * g;
            let v = beta2 * second[i] + (R::ONE - beta2) * (g * g);
            first[i] = m;
            second[i] = v;
            parameters[i] = parameters[i] - rate * m / (v.sqrt() * root_bias + epsilon);
        }
    }
}

/// Adds up the squares, in f64 by stretches so that it does not lose small terms.
pub fn sum_of_squares<R: Real>(values: &[R]) -> f64 {
    values.chunks(4096).map(|chunk| partial_sum_of_squares(chunk).to_f64()).sum()
}

multiversion! {
    /// Adds up the squares of a short stretch.
    fn partial_sum_of_squares<R: Real>(values: &[R]) -> R {
        let mut lanes = [R::ZERO; 16];
        let (chunks, rest) = values.as_chunks::<16>();
        for chunk in chunks {
            for j in 0..16 {
                lanes[j] += chunk[j] * chunk[j];
            }
        }
        let mut sum = R::ZERO;
        for &x in rest {
            sum += x * x;
        }
        for lane in lanes {
            sum += lane;
        }
        sum
    }
}
