//! Pieces that are merged from characters, two at a time, the pair with the best score first (Sennrich et al.
//! 2016, "Neural Machine Translation of Rare Words with Subword Units").

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::super::trie::Trie;

/// Pieces and their scores.
#[derive(Clone, Debug)]
pub(super) struct Bpe {
    pub(super) pieces: HashMap<String, u32>,
    /// By id.
    pub(super) scores: Vec<f32>,
    /// Pieces that are merged through and taken apart again, by id.
    pub(super) unused: Vec<bool>,
    /// Symbols that are no part of a pair.
    pub(super) user_defined: Option<Trie>,
    pub(super) unk: u32,
    /// Bytes of the longest piece: longer pairs are not looked up.
    pub(super) longest: usize,
}

/// A part of the text.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// Equal to `start` once it has become part of the one before.
    end: usize,
    previous: usize,
    next: usize,
    is_frozen: bool,
}

/// Neighbours that may become one.
struct Pair {
    left: usize,
    right: usize,
    score: f32,
    length: usize,
}

/// No neighbour.
const END: usize = usize::MAX;

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl Bpe {
    /// The pieces of `text`: where each ends, and its id. Time grows with the text as n log n.
    pub(super) fn split(&self, text: &str) -> Vec<(usize, u32)> {
        let mut symbols = self.symbols(text);
        let mut agenda = BinaryHeap::new();
        // Which two parts an unused piece was made of.
        let mut parts: HashMap<&str, usize> = HashMap::new();
        let mut meet = |symbols: &[Symbol], left: usize, right: usize, agenda: &mut BinaryHeap<Pair>| {
            if left == END || right == END || symbols[left].is_frozen || symbols[right].is_frozen {
                return;
            }
            let (start, end) = (symbols[left].start, symbols[right].end);
            if end - start > self.longest {
                return;
            }
            if let Some(&id) = self.pieces.get(&text[start..end]) {
                agenda.push(Pair { left, right, score: self.scores[id as usize], length: end - start });
                if self.unused[id as usize] {
                    parts.insert(&text[start..end], symbols[left].end - start);
                }
            }
        };
        for right in 1..symbols.len() {
            meet(&symbols, right - 1, right, &mut agenda);
        }
        while let Some(Pair { left, right, length, .. }) = agenda.pop() {
            let [a, b] = [symbols[left], symbols[right]];
            if a.start == a.end || b.start == b.end || b.end - a.start != length {
                continue;
            }
            symbols[left].end = b.end;
            symbols[left].next = b.next;
            if b.next != END {
                symbols[b.next].previous = left;
            }
            symbols[right].end = b.start;
            meet(&symbols, a.previous, left, &mut agenda);
            meet(&symbols, left, b.next, &mut agenda);
        }
        let mut pieces = Vec::new();
        let mut at = if symbols.is_empty() { END } else { 0 };
        while at != END {
            self.resegment(text, symbols[at].start..symbols[at].end, &parts, &mut pieces);
            at = symbols[at].next;
        }
        pieces
    }

    /// The characters of `text`, and the symbols that users defined.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut start = 0;
        while let Some(first) = text[start..].chars().next() {
            let defined = self.user_defined.as_ref().and_then(|trie| trie.longest(&text.as_bytes()[start..]));
            let end = start + defined.map_or(first.len_utf8(), |(length, _)| length);
            let at = symbols.len();
            symbols.push(Symbol {
                start,
                end,
                previous: at.checked_sub(1).unwrap_or(END),
                next: if end == text.len() { END } else { at + 1 },
                is_frozen: defined.is_some(),
            });
            start = end;
        }
        symbols
    }

    /// Takes unused pieces apart into what they were made of.
    fn resegment(
        &self,
        text: &str,
        whole: std::ops::Range<usize>,
        parts: &HashMap<&str, usize>,
        pieces: &mut Vec<(usize, u32)>,
    ) {
        let mut waiting = vec![whole];
        while let Some(range) = waiting.pop() {
            let piece = &text[range.clone()];
            let id = self.pieces.get(piece).copied();
            match (id, parts.get(piece)) {
                (Some(id), Some(&left)) if self.unused[id as usize] && left > 0 && left < piece.len() => {
                    waiting.push(range.start + left..range.end);
                    waiting.push(range.start..range.start + left);
                }
                _ => pieces.push((range.end, id.unwrap_or(self.unk))),
            }
        }
    }
}
