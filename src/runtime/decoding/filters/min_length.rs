//! END cannot come too early.

/// Bans `ends` while fewer than `least` tokens are generated.
pub(super) fn apply(logits: &mut [f32], ends: &[u32], generated: usize, least: usize) {
    if generated < least {
        super::suppress::apply(logits, ends);
    }
}
