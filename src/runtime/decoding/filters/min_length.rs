//! END cannot come too early.

/// Bans END while fewer than `least` tokens are generated.
pub(super) fn apply(logits: &mut [f32], end: u32, generated: usize, least: usize) {
    if generated < least {
        logits[end as usize] = super::banned::BANNED;
    }
}
