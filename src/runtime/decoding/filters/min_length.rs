//! END cannot come too early.

use crate::contract::END;

/// Bans END while fewer than `least` tokens are generated.
pub(super) fn apply(logits: &mut [f32], generated: usize, least: usize) {
    if generated < least {
        logits[END as usize] = super::BANNED;
    }
}
