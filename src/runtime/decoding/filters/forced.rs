//! Tokens that must come.

/// Bans all but `ids`, which become certain.
///
/// - `certain`: the value that means log p = 0.
pub(super) fn apply(logits: &mut [f32], ids: &[u32], certain: f32) {
    logits.fill(super::banned::BANNED);
    for &id in ids {
        if let Some(x) = logits.get_mut(id as usize) {
            *x = certain;
        }
    }
}
