//! Tokens that never come.

/// Bans `ids`.
pub(super) fn apply(logits: &mut [f32], ids: &[u32]) {
    for &id in ids {
        if let Some(x) = logits.get_mut(id as usize) {
            *x = super::banned::BANNED;
        }
    }
}
