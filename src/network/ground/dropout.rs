//! Inverted dropout (Srivastava et al. 2014): values are zeroed with probability `rate` and the rest scaled
//! up, so that exported graphs need nothing.

use s2s_kernels::random::Random;
use s2s_kernels::{Real, drop_values};

/// Which values one layer drops in one step: the same for the same seed, step, shard and layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping a value, in (0, 1).
    pub rate: f64,
    /// Seed of the pattern.
    pub seed: u64,
    /// Which layer of which step it is.
    pub stream: u64,
}

impl Dropout {
    /// The same rate with a pattern of its own.
    #[must_use]
    pub fn of_layer(self, layer: u64) -> Self {
        Self { stream: self.stream.wrapping_mul(64).wrapping_add(layer), ..self }
    }

    /// The same rate with a pattern of its own for a step of the decoder.
    #[must_use]
    pub fn of_step(self, step: u64) -> Self {
        // An odd factor: no two steps have the same seed.
        Self { seed: self.seed.wrapping_add((step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)), ..self }
    }

    /// Fills `factors` with 0 or 1 / (1 - rate).
    pub fn factors<R: Real>(&self, length: usize, factors: &mut Vec<R>) {
        let random = Random::new(self.seed, self.stream);
        let keep = R::from_f64(1.0 / (1.0 - self.rate));
        // 16 bits are enough for a rate.
        let threshold = (self.rate * 65_536.0) as u64;
        factors.resize(length, R::ZERO);
        drop_values(&random, threshold, keep, factors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_stays_and_the_rate_is_kept() {
        let mut factors: Vec<f64> = Vec::new();
        Dropout { rate: 0.3, seed: 1, stream: 2 }.factors(200_000, &mut factors);
        let zeros = factors.iter().filter(|f| **f == 0.0).count() as f64 / 200_000.0;
        assert!((zeros - 0.3).abs() < 0.005, "{zeros}");
        assert!((factors.iter().sum::<f64>() / 200_000.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn the_pattern_is_that_of_the_draws_one_by_one() {
        for length in [0, 3, 64, 203] {
            let mut factors: Vec<f32> = Vec::new();
            Dropout { rate: 0.5, seed: 1, stream: 2 }.factors(length, &mut factors);
            let mut random = Random::new(1, 2);
            let draws: Vec<u64> = (0..length.div_ceil(4)).map(|_| random.bits()).collect();
            let drawn = |i: usize| if draws[i / 4] >> (16 * (i % 4)) & 0xffff < 0x8000 { 0.0 } else { 2.0 };
            assert_eq!(factors, (0..length).map(drawn).collect::<Vec<f32>>());
        }
    }
}
