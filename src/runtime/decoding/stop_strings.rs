//! Stop strings: texts at which a hypothesis ends besides END.

use std::sync::Arc;

use crate::vocabulary::Tokeniser;

/// The stop strings of a request, and what gives the text to find them in.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    longest: usize,
    tokeniser: Arc<dyn Tokeniser>,
}

impl StopStrings {
    /// `strings` are looked for in the text that `tokeniser` makes of ids.
    pub fn new(strings: &[String], tokeniser: Arc<dyn Tokeniser>) -> Self {
        Self {
            strings: strings.to_vec(),
            longest: strings.iter().map(String::len).max().unwrap_or(0),
            tokeniser,
        }
    }

    /// The strings.
    pub fn strings(&self) -> &[String] {
        &self.strings
    }

    /// Whether the last of `ids` completes a stop string; the first `prefix` of them are not looked at.
    pub fn completed_by_last(&self, ids: &[u32], prefix: usize) -> bool {
        let separator = self.tokeniser.separator().as_bytes();
        let piece = |at: usize| self.tokeniser.piece(ids[at], at == 0);
        let Some(last) = ids.len().checked_sub(1).filter(|&last| last >= prefix) else { return false };
        // Enough of the tail that a match which ends within the last piece begins within it.
        let mut from = last;
        let mut bytes = 0;
        while from > prefix && bytes < self.longest {
            from -= 1;
            bytes += piece(from).len() + separator.len();
        }
        let mut text = Vec::with_capacity(bytes + piece(last).len());
        for at in from..last {
            text.extend_from_slice(piece(at));
            text.extend_from_slice(separator);
        }
        // The separator came with the last piece.
        let fresh = if from < last { text.len() - separator.len() } else { 0 };
        text.extend_from_slice(piece(last));
        let ends_there = |string: &String| {
            let first = (fresh + 1).saturating_sub(string.len());
            text[first..].windows(string.len()).any(|part| part == string.as_bytes())
        };
        self.strings.iter().any(ends_there)
    }

    /// Where the first stop string in `text` begins.
    pub fn first_in(&self, text: &str) -> Option<usize> {
        self.strings.iter().filter_map(|s| text.find(s.as_str())).min()
    }

    /// How many bytes at the end of `text` may be the beginning of a stop string, so that a stream holds them
    /// back.
    pub fn held_back(&self, text: &str) -> usize {
        let held = |s: &String| {
            (1..s.len())
                .rev()
                .filter(|&n| s.is_char_boundary(n))
                .find(|&n| text.ends_with(&s[..n]))
                .unwrap_or(0)
        };
        self.strings.iter().map(held).max().unwrap_or(0)
    }
}
