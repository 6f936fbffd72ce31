//! Flattens (above 1) or sharpens (below 1) the distribution.

/// Divides every logit by `t`.
pub(super) fn apply(logits: &mut [f32], t: f32) {
    if t != 1.0 {
        // Relative to the best, so that a tiny temperature gives -inf at worst, never +inf.
        let best = logits.iter().copied().fold(super::banned::BANNED, f32::max);
        for x in logits.iter_mut().filter(|x| **x > super::banned::BANNED) {
            *x = (*x - best) / t;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn differences_are_divided_and_tiny_temperatures_stay_finite_at_the_best() {
        let mut logits = [1.0, 3.0, f32::NEG_INFINITY];
        super::apply(&mut logits, 2.0);
        assert_eq!(logits, [-1.0, 0.0, f32::NEG_INFINITY]);
        let mut logits = [1e10, 3e10];
        super::apply(&mut logits, 1e-38);
        assert_eq!(logits, [f32::NEG_INFINITY, 0.0]);
    }
}
