//! The pieces of a text with the largest sum of scores: Viterbi's algorithm (Kudo 2018, "Subword
//! Regularization").

use super::super::trie::{ROOT, Trie};

/// Pieces and their scores.
#[derive(Clone, Debug)]
pub(super) struct Unigram {
    pub(super) trie: Trie,
    /// The score of each piece, by its id.
    pub(super) scores: Vec<f64>,
    pub(super) unk: u32,
    pub(super) unk_score: f32,
}

/// The best way to a place in the text.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    from: u32,
    id: u32,
}

/// No way leads there yet.
const NOWHERE: u32 = u32::MAX;

impl Unigram {
    /// The best pieces of `text`: where each ends, and its id. Scores are added as SentencePiece adds them:
    /// sums are f32, candidates f64.
    pub(super) fn split(&self, text: &str) -> Vec<(usize, u32)> {
        let bytes = text.as_bytes();
        let mut best = vec![Best { score: 0.0, from: NOWHERE, id: 0 }; bytes.len() + 1];
        let mut from = 0;
        while from < bytes.len() {
            let score = f64::from(best[from].score);
            let width = text[from..].chars().next().map_or(1, char::len_utf8);
            let mut reach = |to: usize, id: u32, candidate: f64| {
                let there = &mut best[to];
                if there.from == NOWHERE || candidate > f64::from(there.score) {
                    #[expect(clippy::cast_possible_truncation, reason = "as SentencePiece stores it")]
                    let score = candidate as f32;
                    *there = Best { score, from: from as u32, id };
                }
            };
            let (mut node, mut has_single) = (ROOT, false);
            for (at, &byte) in bytes.iter().enumerate().skip(from) {
                let Some(below) = self.trie.step(node, byte) else { break };
                node = below;
                if let Some(id) = self.trie.value(node) {
                    reach(at + 1, id, self.scores[id as usize] + score);
                    has_single |= at + 1 - from == width;
                }
            }
            if !has_single {
                reach(from + width, self.unk, f64::from(self.unk_score) + score);
            }
            from += width;
        }
        let mut pieces = Vec::new();
        let mut end = bytes.len();
        while end > 0 {
            pieces.push((end, best[end].id));
            end = best[end].from as usize;
        }
        pieces.reverse();
        pieces
    }
}
