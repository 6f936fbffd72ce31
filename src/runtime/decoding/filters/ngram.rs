//! No n-gram comes twice.

/// Bans every token that already followed the last n - 1 tokens; with n = 1 every earlier token.
pub(super) fn apply(logits: &mut [f32], earlier: &[u32], n: usize) {
    if earlier.len() < n {
        return;
    }
    let suffix = &earlier[earlier.len() + 1 - n..];
    for gram in earlier.windows(n) {
        if gram[..n - 1] == *suffix
            && let Some(x) = logits.get_mut(gram[n - 1] as usize)
        {
            *x = super::banned::BANNED;
        }
    }
}

#[cfg(test)]
mod tests {
    fn banned(earlier: &[u32], n: usize) -> Vec<usize> {
        let mut logits = [0.0; 6];
        super::apply(&mut logits, earlier, n);
        (0..6).filter(|&i| logits[i] == f32::NEG_INFINITY).collect()
    }

    #[test]
    fn what_followed_the_suffix_is_banned() {
        assert_eq!(banned(&[4, 5, 4], 2), [5]);
        assert_eq!(banned(&[4, 5, 3, 4, 5], 3), [3]);
        assert_eq!(banned(&[4, 4], 2), [4]);
        assert_eq!(banned(&[4, 5], 1), [4, 5]);
    }

    #[test]
    fn a_history_shorter_than_the_gram_bans_nothing() {
        assert!(banned(&[4, 5], 3).is_empty());
        assert!(banned(&[], 1).is_empty());
    }
}
