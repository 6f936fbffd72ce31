//! The texts of pieces: spaces, bytes and the marks of subwords become characters, one id at a time.

use std::borrow::Cow;

use super::tokeniser::{Invalid, REPLACEMENT, Unwritten};

/// What an id says in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// Its piece.
    Text,
    /// One byte, its piece's only one.
    Byte,
    /// Its piece, with a space on each side.
    Apart,
}

/// Bytes of every id's piece, one after the other.
#[derive(Clone, Debug, Default)]
struct Table {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Table {
    fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    fn get(&self, id: usize) -> &[u8] {
        let Some(&end) = self.ends.get(id) else { return b"" };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// What every id says, within a text and at its beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    said: Vec<Said>,
    within: Table,
    first: Table,
}

impl Pieces {
    /// Adds the next id.
    pub(super) fn push(&mut self, said: Said, within: &[u8], first: &[u8]) {
        self.said.push(said);
        self.within.push(within);
        self.first.push(first);
    }

    pub(super) fn len(&self) -> usize {
        self.said.len()
    }

    /// What `id` says; nothing, for one that there is not.
    pub(super) fn get(&self, id: u32, is_first: bool) -> (Said, &[u8]) {
        let said = self.said.get(id as usize).copied().unwrap_or(Said::Nothing);
        let piece = if is_first { &self.first } else { &self.within };
        (said, if said == Said::Nothing { b"" } else { piece.get(id as usize) })
    }
}

/// How pieces become a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// What becomes of bytes that are no UTF-8.
    pub(super) invalid: Invalid,
    /// Whether bytes in a row are text only if all of them together are; else each becomes [`REPLACEMENT`].
    pub(super) whole_runs: bool,
    /// Spaces that are taken off the beginning of the text.
    pub(super) leading_spaces: usize,
    /// Whether the text neither begins nor ends with white space.
    pub(super) strip: bool,
    /// Whether English punctuation loses the space before it, as `clean_up_tokenization_spaces` has it.
    pub(super) clean_up: bool,
}

impl Style {
    /// Takes what an id says and adds to `text` what has become certain.
    pub(super) fn write(&self, (said, piece): (Said, &[u8]), rest: &mut Unwritten, text: &mut String) {
        match said {
            Said::Nothing => {}
            Said::Byte if self.whole_runs => rest.run.extend_from_slice(piece),
            Said::Text | Said::Byte => {
                self.end_run(rest, text);
                let characters = rest.characters.push_with(piece, self.invalid);
                self.trim(&characters, rest, text);
            }
            Said::Apart => {
                self.end_run(rest, text);
                self.end_character(rest, text);
                if rest.has_text {
                    rest.spaces.clear();
                    self.clean(" ", rest, text);
                }
                rest.has_text = true;
                self.clean(&String::from_utf8_lossy(piece), rest, text);
                rest.spaces.push(' ');
            }
        }
    }

    /// Adds what is left.
    pub(super) fn finish(&self, rest: &mut Unwritten, text: &mut String) {
        self.end_run(rest, text);
        self.end_character(rest, text);
        text.push_str(&clean_up(&std::mem::take(&mut rest.held)));
    }

    fn end_run(&self, rest: &mut Unwritten, text: &mut String) {
        if rest.run.is_empty() {
            return;
        }
        let run = std::mem::take(&mut rest.run);
        match std::str::from_utf8(&run) {
            Ok(characters) => self.trim(characters, rest, text),
            Err(_) => self.trim(&REPLACEMENT.repeat(run.len()), rest, text),
        }
    }

    fn end_character(&self, rest: &mut Unwritten, text: &mut String) {
        let mut end = String::new();
        rest.characters.finish_with(self.invalid, &mut end);
        self.trim(&end, rest, text);
    }

    /// Takes spaces off the ends: what may be the end waits.
    fn trim(&self, characters: &str, rest: &mut Unwritten, text: &mut String) {
        if characters.is_empty() {
            return;
        }
        if !self.strip {
            let mut characters = characters;
            while !rest.has_text && !characters.is_empty() {
                match characters.strip_prefix(' ').filter(|_| rest.stripped < self.leading_spaces) {
                    Some(behind) => (rest.stripped, characters) = (rest.stripped + 1, behind),
                    None => rest.has_text = true,
                }
            }
            return self.clean(characters, rest, text);
        }
        let begun = if rest.has_text { characters } else { characters.trim_start_matches(is_space) };
        let kept = begun.trim_end_matches(is_space);
        if !kept.is_empty() {
            rest.has_text = true;
            let spaces = std::mem::take(&mut rest.spaces);
            self.clean(&spaces, rest, text);
            self.clean(kept, rest, text);
        }
        if rest.has_text {
            rest.spaces.push_str(&begun[kept.len()..]);
        }
    }

    /// Takes spaces before punctuation away: one that may still go waits with all after it.
    fn clean(&self, characters: &str, rest: &mut Unwritten, text: &mut String) {
        if !self.clean_up {
            text.push_str(characters);
            return;
        }
        let before = rest.held.len();
        rest.held.push_str(characters);
        if let Some((at, other)) = characters.char_indices().rfind(|(_, c)| !CLEANED.contains(*c)) {
            // Nothing that is cleaned up has such a character.
            rest.doubtful = None;
            let after = before + at + other.len_utf8();
            rest.doubtful = rest.held[after..].find(' ').map(|space| after + space);
        } else if rest.doubtful.is_none() {
            rest.doubtful = characters.find(' ').map(|space| before + space);
        }
        let certain = rest.doubtful.unwrap_or(rest.held.len());
        text.push_str(&clean_up(&rest.held[..certain]));
        rest.held.drain(..certain);
        rest.doubtful = rest.doubtful.map(|_| 0);
    }
}

/// The characters of all that is cleaned up.
const CLEANED: &str = " .?!,'ntmsver";

/// `clean_up_tokenization` of transformers, replacement by replacement.
fn clean_up(text: &str) -> Cow<'_, str> {
    const REPLACED: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    let mut cleaned = Cow::Borrowed(text);
    for (from, to) in REPLACED {
        if cleaned.contains(from) {
            cleaned = Cow::Owned(cleaned.replace(from, to));
        }
    }
    cleaned
}

/// What Python takes for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(style: Style, pieces: &[(Said, &[u8])]) -> (String, String) {
        let (mut text, mut rest) = (String::new(), Unwritten::default());
        pieces.iter().for_each(|piece| style.write(*piece, &mut rest, &mut text));
        let streamed = text.clone();
        style.finish(&mut rest, &mut text);
        (streamed, text)
    }

    const PLAIN: Style = Style {
        invalid: Invalid::Replaced,
        whole_runs: false,
        leading_spaces: 0,
        strip: false,
        clean_up: false,
    };

    #[test]
    fn bytes_that_are_no_text_become_what_each_scheme_makes_of_them() {
        let bytes: Vec<(Said, &[u8])> = vec![
            (Said::Text, b"a"),
            (Said::Byte, b"\xe2"),
            (Said::Byte, b"\x82"),
            (Said::Text, b"b"),
            (Said::Byte, b"\xc3"),
            (Said::Byte, b"\xa9"),
        ];
        let with = |invalid, whole_runs| written(Style { invalid, whole_runs, ..PLAIN }, &bytes);
        assert_eq!(with(Invalid::Replaced, false), ("a\u{fffd}b\u{e9}".into(), "a\u{fffd}b\u{e9}".into()));
        assert_eq!(with(Invalid::EachReplaced, false).1, "a\u{fffd}\u{fffd}b\u{e9}");
        assert_eq!(with(Invalid::Dropped, false).1, "ab\u{e9}");
        assert_eq!(
            with(Invalid::Replaced, true),
            ("a\u{fffd}\u{fffd}b".into(), "a\u{fffd}\u{fffd}b\u{e9}".into())
        );
    }

    #[test]
    fn spaces_at_the_ends_go_where_the_scheme_strips_them() {
        let strip = Style { strip: true, ..PLAIN };
        let pieces: Vec<(Said, &[u8])> = vec![
            (Said::Text, b"  "),
            (Said::Text, b" a "),
            (Said::Text, b" "),
            (Said::Text, b"b "),
            (Said::Text, b"\x1c"),
        ];
        assert_eq!(written(strip, &pieces), ("a  b".into(), "a  b".into()));
        let one = Style { leading_spaces: 1, ..PLAIN };
        assert_eq!(written(one, &[(Said::Text, b"  a ")]).1, " a ");
        let two = Style { leading_spaces: 2, ..PLAIN };
        assert_eq!(written(two, &[(Said::Text, b" "), (Said::Text, b"  a")]).1, " a");
        let apart: Vec<(Said, &[u8])> = vec![(Said::Text, b"a"), (Said::Apart, b"<x>"), (Said::Text, b"b")];
        assert_eq!(written(strip, &apart).1, "a <x> b");
    }

    #[test]
    fn a_space_that_may_go_is_held_back_and_no_more_than_that() {
        let clean = Style { clean_up: true, ..PLAIN };
        for (pieces, streamed, text) in [
            (&["It", " is", " n", "'t"][..], "It is", "It isn't"),
            (&["a", " "], "a", "a "),
            (&["a", " ", "."], "a", "a."),
            (&["a ' ", "b"], "a'b", "a'b"),
            (&["never", " ever"], "never", "never ever"),
        ] {
            let said: Vec<_> = pieces.iter().map(|piece| (Said::Text, piece.as_bytes())).collect();
            let found = written(clean, &said);
            assert_eq!((found.0.as_str(), found.1.as_str()), (streamed, text), "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_up_piece_by_piece_is_cleaning_up_the_whole(
            pieces in prop::collection::vec("[ .?!,'ntmsverab]{0,5}", 0..12), strip in any::<bool>()
        ) {
            let said: Vec<_> = pieces.iter().map(|piece| (Said::Text, piece.as_bytes())).collect();
            let all = pieces.concat();
            let all = if strip { all.trim_matches(is_space) } else { &all };
            let (streamed, text) = written(Style { clean_up: true, strip, ..PLAIN }, &said);
            prop_assert_eq!(&text, &clean_up(all));
            prop_assert!(text.starts_with(&streamed));
        }
    }
}
