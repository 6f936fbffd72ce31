//! Tokens that stand for themselves in texts.

use std::collections::BTreeMap;

use super::detokenise::is_space;
use super::hub_config::AddedToken;
use super::trie::Trie;

/// Added tokens, found as transformers' tokenizers in Python find them: before anything is normalised, the
/// leftmost and of those the longest.
#[derive(Clone, Debug, Default)]
pub(super) struct Added {
    tokens: BTreeMap<u32, AddedToken>,
    trie: Trie,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32, &'a str),
}

impl Added {
    pub(super) fn new(tokens: BTreeMap<u32, AddedToken>) -> Self {
        let trie = Trie::new(tokens.iter().map(|(id, token)| (token.content.as_str(), *id)));
        Self { tokens, trie }
    }

    /// The id of a token that is spelled like this.
    pub(super) fn find(&self, content: &str) -> Option<u32> {
        let (length, id) = self.trie.longest(content.as_bytes())?;
        (length == content.len()).then_some(id)
    }

    /// The parts of a text, none of them empty.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let (mut begin, mut at, mut strips) = (0, 0, false);
        let bytes = text.as_bytes();
        let close = |from: usize, to: usize, strips: bool, strips_end: bool, parts: &mut Vec<Part<'a>>| {
            let mut part = &text[from..to];
            if strips {
                part = part.trim_start_matches(is_space);
            }
            if strips_end {
                part = part.trim_end_matches(is_space);
            }
            if !part.is_empty() {
                parts.push(Part::Text(part));
            }
        };
        while at < bytes.len() {
            let Some((length, id)) = self.trie.longest(&bytes[at..]) else {
                at += 1;
                continue;
            };
            let token = self.tokens.get(&id);
            close(begin, at, strips, token.is_some_and(|token| token.lstrip), &mut parts);
            parts.push(Part::Token(id, &text[at..at + length]));
            strips = token.is_some_and(|token| token.rstrip);
            at += length;
            begin = at;
        }
        close(begin, text.len(), strips, false, &mut parts);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftmost_and_longest_token_is_found_and_takes_its_spaces_along() {
        let token =
            |content: &str, lstrip, rstrip| AddedToken { lstrip, rstrip, ..AddedToken::special(content) };
        let added = Added::new(BTreeMap::from([
            (7, token("<a>", true, true)),
            (8, token("<a>b", false, false)),
            (9, token("a>", false, false)),
        ]));
        let split = |text| added.split(text);
        assert_eq!(split("x <a> \u{3000}y"), [Part::Text("x"), Part::Token(7, "<a>"), Part::Text("y")]);
        assert_eq!(split("x <a>b y"), [Part::Text("x "), Part::Token(8, "<a>b"), Part::Text(" y")]);
        assert_eq!(split("a><a"), [Part::Token(9, "a>"), Part::Text("<a")]);
        assert_eq!(split(" "), [Part::Text(" ")]);
        assert_eq!(split(""), []);
        assert_eq!((added.find("<a>"), added.find("<a>c")), (Some(7), None));
    }
}
