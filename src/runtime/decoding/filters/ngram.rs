//! No n-gram comes twice, or none that the source has.

/// Bans every token that follows, somewhere in `text`, the last n - 1 tokens of `earlier`; with n = 1 every
/// token of `text`.
pub(super) fn apply(logits: &mut [f32], text: &[u32], earlier: &[u32], n: usize) {
    let Some(from) = (earlier.len() + 1).checked_sub(n) else { return };
    let suffix = &earlier[from..];
    for gram in text.windows(n) {
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
        banned_by(earlier, earlier, n)
    }

    fn banned_by(text: &[u32], earlier: &[u32], n: usize) -> Vec<usize> {
        let mut logits = [0.0; 6];
        super::apply(&mut logits, text, earlier, n);
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
        assert!(banned_by(&[1, 2, 3], &[1], 3).is_empty());
    }

    #[test]
    fn what_follows_the_suffix_in_the_source_is_banned() {
        assert_eq!(banned_by(&[1, 2, 3, 2, 4], &[0, 2], 2), [3, 4]);
        assert_eq!(banned_by(&[1, 2], &[0], 1), [1, 2]);
    }
}
