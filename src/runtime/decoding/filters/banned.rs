//! Tokens that cannot come, and the order of those that can.

/// A token that cannot come.
pub(super) const BANNED: f32 = f32::NEG_INFINITY;

/// Tokens that can come, the most probable first, ties by lower id.
pub(super) fn rank(logits: &[f32], ranked: &mut Vec<(f32, u32)>) {
    ranked.clear();
    ranked.extend(logits.iter().zip(0u32..).filter(|(x, _)| **x > BANNED).map(|(&x, id)| (x, id)));
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
}

/// Bans all of `rest`.
pub(super) fn ban_all(logits: &mut [f32], rest: &[(f32, u32)]) {
    for &(_, id) in rest {
        logits[id as usize] = BANNED;
    }
}
