//! Additive scores of attention (Bahdanau et al., arXiv 1409.0473) for one query, and the way back.

use super::level::multiversion;
use super::real::Real;

/// Lanes that a sum runs in, so that it needs no reordering to be vectorised and is the same on every
/// processor.
const LANES: usize = 16;

multiversion! {
    /// Computes `scores` (n) = `score` . tanh(`query` + `keys`); `query` and `score` (width), `keys` (n,
    /// width).
    ///
    /// `tanhs` (n, width) is overwritten with the hyperbolic tangents, which the way back wants.
    pub fn additive_scores<R: Real>(query: &[R], keys: &[R], score: &[R], tanhs: &mut [R], scores: &mut [R]) {
        let width = query.len();
        for ((key, tanhs), out) in
            keys.chunks_exact(width).zip(tanhs.chunks_exact_mut(width)).zip(scores.iter_mut())
        {
            for ((t, &q), &k) in tanhs.iter_mut().zip(query).zip(key) {
                *t = (q + k).tanh::<FMA>();
            }
            let mut lanes = [R::ZERO; LANES];
            for (tanhs, score) in tanhs.chunks(LANES).zip(score.chunks(LANES)) {
                for ((lane, &t), &v) in lanes.iter_mut().zip(tanhs).zip(score) {
                    *lane += t * v;
                }
            }
            *out = R::ZERO;
            for lane in lanes {
                *out += lane;
            }
        }
    }
}

multiversion! {
    /// Goes back through [`additive_scores`], of which `tanhs` (n, width) is: adds to the gradients of the
    /// query (width), of the keys (n, width) and of the score (width).
    pub fn additive_scores_backward<R: Real>(
        d_scores: &[R],
        score: &[R],
        tanhs: &[R],
        d_query: &mut [R],
        d_keys: &mut [R],
        d_score: &mut [R],
    ) {
        let width = score.len();
        for ((&d, tanhs), d_key) in
            d_scores.iter().zip(tanhs.chunks_exact(width)).zip(d_keys.chunks_exact_mut(width))
        {
            for ((((&t, &v), d_query), d_key), d_score) in
                tanhs.iter().zip(score).zip(d_query.iter_mut()).zip(d_key).zip(d_score.iter_mut())
            {
                let inner = d * v * (R::ONE - t * t);
                *d_query += inner;
                *d_key += inner;
                *d_score += d * t;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tanh within four units in the last place, summed over as many terms as the widest has.
    const TOLERANCE: f64 = 1e-5;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let random = crate::random::Random::new(seed, 0);
        (0..n as u64).map(|i| (random.bits_after(i) >> 40) as f32 / 16_777_216.0 * 2.0 - 1.0).collect()
    }

    #[test]
    fn scores_and_their_gradients_are_those_of_the_definition_for_every_width() {
        for (keys, width) in [(1, 1), (3, 16), (5, 37), (2, 64)] {
            let [query, score, d_scores] =
                [(width, 1), (width, 2), (keys, 3)].map(|(n, seed)| numbers(n, seed));
            let all = numbers(keys * width, 4);
            let (mut tanhs, mut scores) = (vec![0.0; keys * width], vec![0.0; keys]);
            additive_scores(&query, &all, &score, &mut tanhs, &mut scores);
            let tanh = |k: usize, j: usize| (f64::from(query[j]) + f64::from(all[k * width + j])).tanh();
            for (k, &got) in scores.iter().enumerate() {
                let want: f64 = (0..width).map(|j| tanh(k, j) * f64::from(score[j])).sum();
                assert!((f64::from(got) - want).abs() < TOLERANCE, "{keys} {width}: {got} for {want}");
            }
            let (mut d_query, mut d_keys, mut d_score) =
                (vec![1.0; width], vec![1.0; keys * width], vec![1.0; width]);
            additive_scores_backward(&d_scores, &score, &tanhs, &mut d_query, &mut d_keys, &mut d_score);
            let inner = |k: usize, j: usize| {
                f64::from(d_scores[k]) * f64::from(score[j]) * (1.0 - tanh(k, j) * tanh(k, j))
            };
            for j in 0..width {
                // What was there stays: the gradients are added.
                let of_query = 1.0 + (0..keys).map(|k| inner(k, j)).sum::<f64>();
                let of_score = 1.0 + (0..keys).map(|k| f64::from(d_scores[k]) * tanh(k, j)).sum::<f64>();
                assert!((f64::from(d_query[j]) - of_query).abs() < TOLERANCE);
                assert!((f64::from(d_score[j]) - of_score).abs() < TOLERANCE);
                for k in 0..keys {
                    assert!((f64::from(d_keys[k * width + j]) - 1.0 - inner(k, j)).abs() < TOLERANCE);
                }
            }
        }
    }
}
