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
