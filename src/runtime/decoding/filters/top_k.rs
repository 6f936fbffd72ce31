//! Keeps the k most probable tokens.

/// Bans all but the `k` highest logits; of equal ones the lower id stays.
pub(super) fn apply(logits: &mut [f32], k: usize, ranked: &mut Vec<(f32, u32)>) {
    super::banned::rank(logits, ranked);
    let kept = k.min(ranked.len());
    super::banned::ban_all(logits, &ranked[kept..]);
}

#[cfg(test)]
mod tests {
    #[test]
    fn ties_keep_the_lower_id() {
        let mut logits = [1.0, 2.0, 1.0, 2.0];
        super::apply(&mut logits, 3, &mut Vec::new());
        assert_eq!(logits, [1.0, 2.0, f32::NEG_INFINITY, 2.0]);
    }
}
