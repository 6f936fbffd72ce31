//! What a model's texts go through before pieces are chosen.

use super::super::trie::Trie;
use super::charsmap::Charsmap;

/// How a space is written in pieces.
pub(in super::super) const SPACE: &str = "\u{2581}";

/// A model's normaliser.
#[derive(Clone, Debug, Default)]
pub(super) struct Normaliser {
    pub(super) rules: Option<Charsmap>,
    /// Symbols that no rule touches.
    pub(super) user_defined: Option<Trie>,
    /// A space before each text.
    pub(super) add_dummy_prefix: bool,
    /// No spaces at the ends, one between two words.
    pub(super) remove_extra_whitespaces: bool,
    /// Spaces become [`SPACE`].
    pub(super) escape_whitespaces: bool,
}

impl Normaliser {
    /// `text` after the rules; `None` if that has more than `most` characters.
    pub(super) fn apply(&self, text: &str, most: usize) -> Option<String> {
        let mut rest = text;
        if self.remove_extra_whitespaces {
            while !rest.is_empty() {
                let (length, part) = self.first(rest);
                if part != " " {
                    break;
                }
                rest = &rest[length..];
            }
        }
        let mut normalised = String::with_capacity(text.len().min(most.saturating_mul(4)) + SPACE.len());
        if rest.is_empty() {
            return Some(normalised);
        }
        let space = if self.escape_whitespaces { SPACE } else { " " };
        let mut count = 0;
        if self.add_dummy_prefix {
            normalised.push_str(space);
            // The text itself is what is limited.
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (length, mut part) = self.first(rest);
            rest = &rest[length..];
            if after_space {
                part = part.trim_start_matches(' ');
            }
            if !part.is_empty() {
                count += part.chars().count();
                if count > most {
                    return None;
                }
                let mut words = part.split(' ');
                normalised.push_str(words.next().unwrap_or_default());
                for word in words {
                    normalised.push_str(space);
                    normalised.push_str(word);
                }
                after_space = self.remove_extra_whitespaces && part.ends_with(' ');
            }
        }
        if self.remove_extra_whitespaces {
            normalised.truncate(normalised.trim_end_matches(space).len());
        }
        Some(normalised)
    }

    /// What the beginning of a text becomes, and the bytes that it takes.
    fn first<'a>(&'a self, text: &'a str) -> (usize, &'a str) {
        if let Some((length, _)) = self.user_defined.as_ref().and_then(|trie| trie.longest(text.as_bytes())) {
            return (length, &text[..length]);
        }
        match self.rules.as_ref().and_then(|rules| rules.longest(text.as_bytes())) {
            // A rule of a damaged file may end within a character.
            Some((length, part)) if text.is_char_boundary(length) => (length, part),
            _ => {
                let length = text.chars().next().map_or(0, char::len_utf8);
                (length, &text[..length])
            }
        }
    }
}
