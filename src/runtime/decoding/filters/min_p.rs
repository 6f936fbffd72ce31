//! Bans tokens much less probable than the best (Nguyen et al. 2024, arXiv 2407.01082).

/// Keeps tokens whose probability is at least `p` times that of the best: logit >= best + ln p.
pub(super) fn apply(logits: &mut [f32], p: f32) {
    let best = logits.iter().copied().fold(super::banned::BANNED, f32::max);
    let lowest = best + p.ln();
    for x in logits.iter_mut().filter(|x| **x < lowest) {
        *x = super::banned::BANNED;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_relative_to_the_best() {
        let mut logits = [0.0, -0.6, -0.8];
        super::apply(&mut logits, 0.5);
        assert_eq!(logits, [0.0, -0.6, f32::NEG_INFINITY]);
        super::apply(&mut logits, 1.0);
        assert_eq!(logits, [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
