#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::contract::{SPECIAL_SYMBOLS, SpecialIds, UNK};
use crate::error::{ErrorKind, Result};

fn characters(texts: &[&str]) -> Vocabulary {
    Vocabulary::build(Unit::Character, [Normalisation::Nfc], texts)
}

#[test]
fn ids_follow_code_points_after_the_four_special_symbols() {
    let vocabulary = characters(&["ba", "é "]);
    assert_eq!(vocabulary.spec().symbols, ["<pad>", "<start>", "<end>", "<unk>", " ", "a", "b", "é"]);
    assert_eq!((vocabulary.len(), vocabulary.spec().longest), (8, 2));
    assert_eq!(vocabulary.encode("abé"), [5, 6, 7]);
}

#[test]
fn extending_keeps_old_ids_and_appends_new_symbols_in_order() {
    let mut vocabulary = characters(&["mn"]);
    let before = vocabulary.encode("mn");
    vocabulary.extend(["zanb"]);
    assert_eq!(vocabulary.encode("mn"), before);
    assert_eq!(vocabulary.encode("abz"), [6, 7, 8]);
    assert_eq!(vocabulary.spec().longest, 4);
}

#[test]
fn normalisation_runs_in_the_listed_order_and_is_stored() {
    let steps = [
        Normalisation::Nfkc,
        Normalisation::Lowercase,
        Normalisation::CollapseWhitespace,
        Normalisation::Trim,
    ];
    let vocabulary = Vocabulary::build(Unit::Character, steps, ["Ａ  b\t\u{3000}C "]);
    assert_eq!(vocabulary.normalise("Ａ  b\t\u{3000}C "), "a b c");
    let written = serde_json::to_string(vocabulary.spec()).unwrap();
    assert!(written.contains(r#"["nfkc","lowercase","collapse_whitespace","trim"]"#), "{written}");
    assert_eq!(Vocabulary::from_spec(&serde_json::from_str(&written).unwrap()).unwrap(), vocabulary);
}

#[test]
fn decomposed_and_composed_accents_meet_in_one_symbol() {
    let vocabulary = characters(&["é"]);
    assert_eq!(vocabulary.encode("e\u{301}"), vocabulary.encode("é"));
}

#[test]
fn tokens_are_split_at_whitespace_and_joined_by_one_space() {
    let vocabulary = Vocabulary::build(Unit::Token, [], ["AH0 B  IY1"]);
    assert_eq!(vocabulary.decode(vocabulary.encode(" B\tAH0 ")), "B AH0");
}

#[test]
fn a_token_spelled_like_a_special_symbol_is_an_ordinary_one() {
    let vocabulary = Vocabulary::build(Unit::Token, [], ["<end> a <pad>"]);
    assert_eq!(vocabulary.len(), 7);
    assert_eq!(vocabulary.encode("<end> a <pad> <unk>"), [4, 6, 5, UNK]);
    assert_eq!(vocabulary.decode([4, 6, 5, 2]), "<end> a <pad>");
    let written = Vocabulary::from_spec(vocabulary.spec()).unwrap();
    assert_eq!(written.encode("<end> a <pad> <unk>"), [4, 6, 5, UNK]);
    let mut twice = vocabulary.spec().clone();
    twice.symbols.push("<end>".to_owned());
    assert!(Vocabulary::from_spec(&twice).unwrap_err().to_string().contains("appears twice, as ids 4 and 7"));
}

#[test]
fn unknown_symbols_follow_the_policy() {
    let vocabulary = characters(&["abc"]);
    let unk = vocabulary.tokenise("aXbX!", UnknownPolicy::Unk, TextLimits::NONE).unwrap();
    assert_eq!(unk.ids, [4, UNK, 5, UNK, UNK]);
    assert_eq!(unk.unknown, ["X", "!"]);
    let copy = vocabulary.tokenise("aX", UnknownPolicy::Copy, TextLimits::NONE).unwrap();
    assert_eq!((copy.ids, copy.symbols), (vec![4, UNK], SymbolList::from_iter(["a", "X"])));
    assert_eq!(vocabulary.tokenise("aXb", UnknownPolicy::Skip, TextLimits::NONE).unwrap().ids, [4, 5]);
    let error = vocabulary.tokenise("aX!", UnknownPolicy::Error, TextLimits::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains(r#""X", "!""#), "{error}");
    let tokens = Vocabulary::build(Unit::Token, [], ["a"]);
    let error = tokens.tokenise(&"x".repeat(10_000), UnknownPolicy::Error, TextLimits::NONE).unwrap_err();
    assert!(error.message().len() < 100, "{error}");
    assert!(vocabulary.tokenise("abc", UnknownPolicy::Error, TextLimits::NONE).unwrap().unknown.is_empty());
}

#[test]
fn a_text_is_read_no_further_than_its_limits() {
    let limits = |characters, symbols| TextLimits { characters, symbols };
    let with = |steps: &[Normalisation], text: &str, limits: TextLimits| {
        let encoded =
            Vocabulary::build(Unit::Character, steps, ["ab"]).tokenise(text, UnknownPolicy::Skip, limits);
        encoded.map(|encoded| encoded.ids.len()).map_err(|error| (error.kind(), error.message().to_owned()))
    };
    let refused = |most: &str| Err((ErrorKind::TooLong, format!("the text has more than {most}")));
    assert_eq!(with(&[], "abab", limits(4, 4)), Ok(4));
    assert_eq!(with(&[], "ababa", limits(5, 4)), refused("4 tokens"));
    assert_eq!(with(&[], "abxyz", limits(4, 4)), refused("4 characters"));
    assert_eq!(with(&[], "abxyz", limits(5, 2)), Ok(2), "what a policy leaves out is no token");
    // One character that becomes 18, twice: the first step is too long, whatever later ones leave.
    let expanded = "\u{fdfa}\u{fdfa}";
    assert_eq!(with(&[Normalisation::Nfkc, Normalisation::Trim], expanded, limits(36, 0)), Ok(0));
    assert_eq!(
        with(&[Normalisation::Nfkc, Normalisation::Trim], expanded, limits(35, 0)),
        refused("35 characters")
    );
    // Three characters for one, then white space that goes again.
    assert_eq!(
        with(&[Normalisation::Lowercase, Normalisation::Trim], "\u{130}   ", limits(4, 9)),
        refused("4 characters")
    );
    assert_eq!(with(&[Normalisation::Trim], "  ab  ", limits(5, 9)), refused("5 characters"));
    assert_eq!(with(&[Normalisation::CollapseWhitespace], "a \t b", limits(5, 9)), Ok(2));
}

#[test]
fn the_work_for_unknown_symbols_grows_with_the_text_and_not_with_its_square() {
    // Every code point that is assigned or not, unknown each: a list of them searched for each would take
    // 10^12 steps.
    let all: String = ('\u{80}'..=char::MAX).collect();
    let vocabulary = Vocabulary::build(Unit::Character, [], ["ab"]);
    let encoded = vocabulary.tokenise(&all, UnknownPolicy::Unk, TextLimits::NONE).unwrap();
    assert_eq!((encoded.unknown.len(), encoded.ids.len()), (all.chars().count(), all.chars().count()));
}

#[test]
fn decoding_leaves_special_ids_out_and_marks_unknown_ones() {
    let vocabulary = characters(&["ab"]);
    assert_eq!(vocabulary.decode([1, 4, 0, UNK, 5, 99, 2]), "a\u{fffd}b\u{fffd}");
}

#[test]
fn a_written_vocabulary_with_a_fault_is_refused_with_the_id() {
    let with = |unit, extra: &[&str]| {
        let symbols = SPECIAL_SYMBOLS.iter().chain(extra).map(|&symbol| symbol.to_owned()).collect();
        Vocabulary::from_spec(&VocabularySpec { unit, symbols, ..VocabularySpec::default() })
    };
    assert!(with(Unit::Character, &["a", "b", "a"]).unwrap_err().to_string().contains("ids 4 and 6"));
    assert!(with(Unit::Character, &["ab"]).unwrap_err().to_string().contains("not one character"));
    assert!(with(Unit::Character, &[""]).is_err());
    assert!(with(Unit::Token, &["a b"]).is_err());
    assert!(with(Unit::Token, &["ab"]).is_ok());
    let bare = VocabularySpec { symbols: vec!["a".to_owned()], ..VocabularySpec::default() };
    assert!(Vocabulary::from_spec(&bare).unwrap_err().to_string().contains("<pad>"));
}

#[test]
fn the_metadata_of_a_vocabulary_is_unit_normalisation_and_symbols() {
    let metadata = characters(&["a\""]).metadata_json();
    assert_eq!(
        metadata,
        r#"{"unit":"character","normalisation":["nfc"],"symbols":["<pad>","<start>","<end>","<unk>","\"","a"]}"#
    );
}

fn normalisations() -> impl Strategy<Value = Vec<Normalisation>> {
    use Normalisation::{CollapseWhitespace, Lowercase, Nfc, Nfd, Nfkc, Nfkd, Trim};
    prop::collection::vec(
        prop::sample::select(vec![Nfc, Nfd, Nfkc, Nfkd, Lowercase, Trim, CollapseWhitespace]),
        0..4,
    )
}

proptest! {
    #[test]
    fn known_texts_come_back_normalised(texts in prop::collection::vec("\\PC*", 1..6), steps in normalisations()) {
        let vocabulary = Vocabulary::build(Unit::Character, steps, &texts);
        for text in &texts {
            prop_assert_eq!(vocabulary.decode(vocabulary.encode(text)), vocabulary.normalise(text));
            prop_assert!(vocabulary.tokenise(text, UnknownPolicy::Error, TextLimits::NONE).is_ok());
        }
        prop_assert_eq!(&Vocabulary::from_spec(vocabulary.spec()).unwrap(), &vocabulary);
    }

    #[test]
    fn known_tokens_come_back_joined_by_one_space(texts in prop::collection::vec("[ a-c<>\\t\u{3000}]{0,12}", 1..6)) {
        let vocabulary = Vocabulary::build(Unit::Token, [], &texts);
        for text in &texts {
            let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(vocabulary.decode(vocabulary.encode(text)), joined);
        }
    }

    #[test]
    fn unknown_symbols_of_any_text_become_unk_and_lengths_stay(known in "[a-e]*", text in any::<String>()) {
        let vocabulary = characters(&[&known]);
        let ids = vocabulary.encode(&text);
        prop_assert_eq!(ids.len(), vocabulary.normalise(&text).chars().count());
        prop_assert!(ids.iter().all(|&id| (id as usize) < vocabulary.len() && id >= UNK));
    }
}

/// A scheme of bytes, and of words that begin with a space unless they begin the text.
#[derive(Debug)]
pub(crate) struct Bytes {
    spec: VocabularySpec,
    pieces: Vec<Vec<u8>>,
}

impl Bytes {
    /// Ids from 4 on for these pieces.
    pub(crate) fn new(pieces: &[&[u8]]) -> Self {
        let special: [&[u8]; 4] = [b"", b"", b"", REPLACEMENT.as_bytes()];
        let pieces = special.iter().chain(pieces).map(|piece| piece.to_vec()).collect();
        Self { spec: VocabularySpec::default(), pieces }
    }
}

impl Tokeniser for Bytes {
    fn size(&self) -> usize {
        self.pieces.len()
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds::default()
    }

    fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    fn split<'a>(&self, normalised: &'a str) -> Vec<&'a str> {
        normalised.split_inclusive(' ').collect()
    }

    /// The longest piece that comes next.
    fn tokenise(&self, text: &str, _unknown: UnknownPolicy, _limits: TextLimits) -> Result<Encoded> {
        let (mut encoded, mut rest) = (Encoded::default(), text.as_bytes());
        while !rest.is_empty() {
            let fits = |id: &u32| *id > UNK && rest.starts_with(&self.pieces[*id as usize]);
            let longest =
                (0..).take(self.size()).filter(fits).max_by_key(|&id| self.pieces[id as usize].len());
            encoded.ids.push(longest.unwrap_or(UNK));
            rest = &rest[longest.map_or(1, |id| self.pieces[id as usize].len())..];
        }
        Ok(encoded)
    }

    fn find(&self, symbol: &str) -> Option<u32> {
        (0..).zip(&self.pieces).find_map(|(id, piece)| (piece == symbol.as_bytes()).then_some(id))
    }

    fn piece(&self, id: u32, is_first: bool) -> &[u8] {
        let piece = self.pieces.get(id as usize).map_or(REPLACEMENT.as_bytes(), Vec::as_slice);
        if is_first { piece.strip_prefix(b" ").unwrap_or(piece) } else { piece }
    }

    fn separator(&self) -> &str {
        ""
    }
}

#[test]
fn what_an_id_says_may_be_part_of_a_character_and_depend_on_its_neighbours() {
    let scheme = Bytes::new(&[b"\xe2", b"\x82", b"\xac", b" word"]);
    let unk = UnknownPolicy::Unk;
    assert_eq!(scheme.tokenise("\u{20ac} word", unk, TextLimits::NONE).unwrap().ids, [4, 5, 6, 7]);
    for (ids, text) in [
        (&[4, 5, 6, 7, 7][..], "\u{20ac} word word"),
        (&[7, 4, 5, 6], "word\u{20ac}"),
        (&[4, 5, 7], "\u{fffd} word"),
        (&[7, 4, 5], "word\u{fffd}"),
        (&[UNK, 99, 7], "\u{fffd}\u{fffd} word"),
        (&[], ""),
    ] {
        assert_eq!(scheme.detokenise(ids), text, "{ids:?}");
    }
}

#[test]
fn a_vocabulary_says_the_same_of_ids_one_by_one_as_of_all_of_them() {
    for (unit, text) in [(Unit::Character, "a\u{e9}b"), (Unit::Token, "AH0 B IY1")] {
        let vocabulary = Vocabulary::build(unit, [], [text]);
        let ids = [vocabulary.encode(text), vec![UNK, 99]].concat();
        assert_eq!(vocabulary.detokenise(&ids), vocabulary.decode(ids));
    }
}

proptest! {
    #[test]
    fn characters_of_bytes_that_come_in_any_parts_are_those_of_all_together(
        parts in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..4),
            "[a\u{e9}\u{20ac}\u{1f600}]{1,2}".prop_map(String::into_bytes),
            prop::sample::select(vec![vec![0xe2], vec![0x82], vec![0xac], vec![0xf0, 0x9f], vec![0x98, 0x80]]),
        ], 0..12)
    ) {
        let mut characters = Characters::default();
        let mut text: String = parts.iter().map(|part| characters.push(part).into_owned()).collect();
        text.push_str(characters.finish());
        let all = parts.concat();
        prop_assert_eq!(text, String::from_utf8_lossy(&all));
    }

    #[test]
    fn a_list_of_symbols_gives_them_back(symbols in prop::collection::vec("\\PC{0,3}", 0..9)) {
        let list: SymbolList = symbols.iter().collect();
        prop_assert_eq!((list.len(), list.is_empty()), (symbols.len(), symbols.is_empty()));
        prop_assert!(list.iter().eq(symbols.iter().map(String::as_str)));
        prop_assert_eq!(list.join(0..symbols.len(), "-"), symbols.join("-"));
        prop_assert_eq!(serde_json::to_string(&list).unwrap(), serde_json::to_string(&symbols).unwrap());
        prop_assert_eq!(list.get(symbols.len()), None);
    }
}

fn filled(side: PaddingSide, length: usize) -> Vocabulary {
    let spec = characters(&["ab_"]).spec().clone();
    Vocabulary::from_spec(&VocabularySpec {
        padding: Some(Padding { symbol: "_".to_owned(), length, least: 0, side }),
        ..spec
    })
    .unwrap()
}

#[test]
fn sources_are_filled_up_with_an_ordinary_symbol_where_the_model_learnt_so() {
    let (fill, a, b) = (4, 5, 6);
    assert_eq!(filled(PaddingSide::Right, 4).encode("ab"), [a, b, fill, fill]);
    assert_eq!(filled(PaddingSide::Left, 4).encode("ab"), [fill, fill, a, b]);
    assert_eq!(filled(PaddingSide::Right, 4).encode("aX"), [a, UNK, fill, fill]);
    assert_eq!(filled(PaddingSide::Right, 1).encode("ab"), [a, b], "longer texts stay as they are");
    assert!(filled(PaddingSide::Right, 4).encode("").is_empty(), "an empty text is not decoded");
    assert_eq!(
        filled(PaddingSide::Left, 4).tokenise("ab", UnknownPolicy::Unk, TextLimits::NONE).unwrap().ids,
        [a, b]
    );
}

#[test]
fn filling_is_written_down_and_checked() {
    let vocabulary = filled(PaddingSide::Left, 4);
    let written = serde_json::to_string(vocabulary.spec()).unwrap();
    assert_eq!(Vocabulary::from_spec(&serde_json::from_str(&written).unwrap()).unwrap(), vocabulary);
    assert!(vocabulary.metadata_json().contains(r#""padding":{"symbol":"_","length":4,"side":"left"}"#));
    assert!(!characters(&["a"]).metadata_json().contains("padding"), "models without it keep their metadata");
    for (symbol, length, said) in
        [("z", 4, "no ordinary symbol"), ("<unk>", 4, "no ordinary symbol"), ("_", 0, "filled up to 0")]
    {
        let padding = Padding { symbol: symbol.to_owned(), length, least: 0, side: PaddingSide::Right };
        let error =
            Vocabulary::from_spec(&VocabularySpec { padding: Some(padding), ..vocabulary.spec().clone() })
                .unwrap_err();
        assert!(error.message().contains(said), "{error}");
    }
}
