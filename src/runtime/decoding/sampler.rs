//! Draws tokens; the numbers depend on the request's seed and the hypothesis alone, never on the batch.

use s2s_kernels::search::{exp_of_negative, maximum};

/// Random numbers of one hypothesis: `SplitMix64` (Steele, Lea, Flood 2014), whose state is a counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// The sequence of one hypothesis of a request.
    pub(super) fn new(seed: u64, hypothesis: usize) -> Self {
        let mut random = Self { state: seed };
        // Mixed first, so that seeds that differ by one do not give shifted copies of one sequence.
        random.state = random.next_u64() ^ (hypothesis as u64).wrapping_mul(0xd134_2543_de82_ef95);
        random
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The id at `u` (in [0, 1)) of the cumulative distribution in id order; `None` if every token is banned.
pub(super) fn draw(logits: &[f32], u: f64) -> Option<usize> {
    let best = maximum(logits).filter(|&best| best > f32::NEG_INFINITY)?;
    let weight = |x: &f32| f64::from(exp_of_negative(x - best));
    let target = u * logits.iter().map(weight).sum::<f64>();
    let mut mass = 0.0;
    let mut last = None;
    for (id, w) in logits.iter().map(weight).enumerate().filter(|(_, w)| *w > 0.0) {
        mass += w;
        last = Some(id);
        if mass > target {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [f32::NEG_INFINITY, 0.5f32.ln(), 0.2f32.ln(), 0.3f32.ln()];
        let mut random = Random::new(7, 0);
        let mut counts = [0u32; 4];
        for _ in 0..100_000 {
            if let Some(id) = draw(&logits, random.uniform()) {
                counts[id] += 1;
            }
        }
        assert_eq!(counts[0], 0);
        for (count, expected) in counts[1..].iter().zip([50_000f64, 20_000.0, 30_000.0]) {
            // Five standard deviations of a binomial count.
            assert!((f64::from(*count) - expected).abs() < 5.0 * (expected * 0.8).sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn seeds_and_hypotheses_have_sequences_of_their_own() {
        let first = |seed, hypothesis| Random::new(seed, hypothesis).next_u64();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }

    #[test]
    fn nothing_is_drawn_when_all_is_banned() {
        assert_eq!(draw(&[f32::NEG_INFINITY; 3], 0.5), None);
    }
}
