//! A small counter-based random generator, so that everything drawn depends on (seed, purpose, counter) alone
//! and a resumed training needs no state of a generator.

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// Makes a generator of its own for each `(seed, stream)`; a stream is, for example, an epoch.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(seed.wrapping_add(GOLDEN)) ^ mix(stream.wrapping_mul(GOLDEN).wrapping_add(1)) }
    }

    /// Draws 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Returns what [`bits`](Self::bits) will give after `n` more draws; nothing is drawn.
    #[inline(always)]
    pub fn bits_after(&self, n: u64) -> u64 {
        mix(self.state.wrapping_add(GOLDEN.wrapping_mul(n.wrapping_add(1))))
    }

    /// Draws a number below `n`, each equally likely (Lemire, arXiv 1805.10941); 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.bits()) * u128::from(n);
            if (wide as u64) >= threshold {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Draws a number in [0, 1), all 53 bits of the fraction.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws a number in [-limit, limit).
    pub fn symmetric(&mut self, limit: f64) -> f32 {
        ((2.0 * self.unit() - 1.0) * limit) as f32
    }

    /// Draws a standard normal number (Box and Muller 1958, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Tells yes once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Draws one of a non-empty slice.
    pub fn choose<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// Shuffles `items` (Fisher and Yates), each order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_n_are_all_drawn_about_equally_often() {
        let mut random = Random::new(1, 2);
        let mut counts = [0; 7];
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
        }
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");
    }

    #[test]
    fn neighbouring_seeds_and_streams_give_unlike_numbers() {
        let first = |seed, stream| Random::new(seed, stream).bits();
        let all: std::collections::BTreeSet<u64> =
            (0..100).flat_map(|s| (0..100).map(move |t| first(s, t))).collect();
        assert_eq!(all.len(), 10_000);
    }
}
