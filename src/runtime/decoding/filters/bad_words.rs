//! Sequences that never come.

use super::banned::BANNED;

/// Bans the last id of every sequence whose other ids are the last of `history`; END alone is no such
/// sequence.
pub(super) fn apply(logits: &mut [f32], sequences: &[Vec<u32>], history: &[u32], ends: &[u32]) {
    for sequence in sequences {
        let Some((last, before)) = sequence.split_last() else { continue };
        // A sequence must fit into the history whole, the token that it bans counted: transformers has it so.
        let comes = if before.is_empty() {
            !ends.contains(last)
        } else {
            sequence.len() <= history.len() && history.ends_with(before)
        };
        if let Some(x) = logits.get_mut(*last as usize).filter(|_| comes) {
            *x = BANNED;
        }
    }
}

#[cfg(test)]
mod tests {
    fn banned(sequences: &[&[u32]], history: &[u32]) -> Vec<usize> {
        let mut logits = [0.0; 6];
        let sequences: Vec<Vec<u32>> = sequences.iter().map(|s| s.to_vec()).collect();
        super::apply(&mut logits, &sequences, history, &[2]);
        (0..6).filter(|&i| logits[i] == f32::NEG_INFINITY).collect()
    }

    #[test]
    fn a_sequence_bans_its_last_id_where_the_others_stand_and_end_alone_is_not_banned() {
        let sequences: &[&[u32]] = &[&[3], &[2], &[4, 5], &[1, 4, 0]];
        assert_eq!(banned(sequences, &[1]), [3]);
        assert_eq!(banned(sequences, &[1, 4]), [3, 5]);
        assert_eq!(banned(sequences, &[3, 1, 4]), [0, 3, 5]);
        assert_eq!(banned(sequences, &[3, 4, 1]), [3]);
    }
}
