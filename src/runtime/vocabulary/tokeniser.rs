//! What decoding and serving need of any scheme that makes ids of texts and texts of ids.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Index, Range};

use serde::{Deserialize, Serialize, Serializer};

use super::spec::VocabularySpec;
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};

/// What the output has for an unknown symbol, for an id outside the vocabulary, and for bytes that are no
/// UTF-8: U+FFFD.
pub const REPLACEMENT: &str = "\u{fffd}";

/// What becomes of a symbol outside the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPolicy {
    /// It becomes [`UNK`](crate::contract::UNK).
    #[default]
    Unk,
    /// It becomes [`UNK`](crate::contract::UNK), and is copied into the output: where attention, or its
    /// place in the source, says that it belongs.
    Copy,
    /// It is left out.
    Skip,
    /// The text is refused.
    Error,
}

/// How much of a text is read; one that goes on is refused there, before what follows is stored.
///
/// Normalisation may make a text longer (one U+FDFA becomes 18 characters under NFKC), so that its bytes
/// bound nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimits {
    /// Characters after any step of the normalisation.
    pub characters: usize,
    /// Symbols that become ids.
    pub symbols: usize,
}

impl TextLimits {
    /// Whole texts, whatever their length.
    pub const NONE: Self = Self { characters: usize::MAX, symbols: usize::MAX };
}

/// The refusal of a text that goes on beyond a limit.
pub(super) fn too_long(most: usize, what: &str) -> Error {
    Error::new(ErrorKind::TooLong, format!("the text has more than {most} {what}"))
}

/// Characters of an unknown symbol that an error shows: a token may be as long as its text.
const LONGEST_SHOWN: usize = 40;

/// The refusal of a text with symbols that the model does not know.
pub(super) fn unknown_symbols(unknown: &[String]) -> Error {
    let cut = |symbol: &String| format!("{:?}", symbol.chars().take(LONGEST_SHOWN).collect::<String>());
    let shown: Vec<String> = unknown.iter().take(8).map(cut).collect();
    let more = unknown.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("symbols that the model does not know: {}{more}", shown.join(", "));
    Error::new(ErrorKind::Input, message)
        .help("leave them out, or choose another policy for unknown symbols: unk, copy or skip")
}

/// A text as ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Ids without START and END.
    pub ids: Vec<u32>,
    /// The symbol behind each id, so that unknown ones can be copied.
    pub symbols: SymbolList,
    /// Symbols outside the vocabulary, each once, in order of appearance.
    pub unknown: Vec<String>,
}

/// A language that a model is told by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// As the model calls it: `en`, `fra_Latn`, `en_XX`.
    pub code: String,
    /// The id of its token.
    pub id: u32,
}

/// The tokens of the languages that a text is of and is to become; none where nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LanguageIds {
    /// Of the source.
    pub source: Option<u32>,
    /// Of the output.
    pub target: Option<u32>,
}

/// A scheme that makes ids of texts and texts of ids: a list of symbols, or a model of subwords.
///
/// An id stands for bytes, its piece. A text is the pieces of its ids one after the other, with
/// [`separator`](Self::separator) between them; a piece may be part of a character, so that text comes out of
/// [`Characters`].
pub trait Tokeniser: fmt::Debug + Send + Sync {
    /// Ids, special ones counted.
    fn size(&self) -> usize;

    /// The ids that are no text.
    fn special_ids(&self) -> SpecialIds;

    /// What manifests and the metadata of graphs carry.
    fn spec(&self) -> &VocabularySpec;

    /// `text` as [`tokenise`](Self::tokenise) reads it.
    fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str>;

    /// The symbols of a text that is normalised already, known or not; what scores count.
    fn split<'a>(&self, normalised: &'a str) -> Vec<&'a str>;

    /// Ids and symbols of a text, neither framed nor between START and END. Time and memory grow with the
    /// text, and stop growing at `limits`.
    ///
    /// - `unknown`: what becomes of symbols without an id.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`](crate::ErrorKind::TooLong) beyond the limits;
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) under [`UnknownPolicy::Error`], naming the unknown
    /// symbols.
    fn tokenise(&self, text: &str, unknown: UnknownPolicy, limits: TextLimits) -> Result<Encoded>;

    /// Puts around a source, cut to its length already, what its encoder wants there, and says which of its
    /// ids are the text. An empty text stays empty: it is not decoded.
    ///
    /// - `languages`: for models that are told them.
    fn frame(&self, source: &mut Encoded, languages: LanguageIds) -> Range<usize> {
        let _ = languages;
        0..source.ids.len()
    }

    /// Tokens that [`frame`](Self::frame) adds; those of a text that is cut are cut before them.
    fn frame_size(&self) -> usize {
        0
    }

    /// Tokens that the model reads at most, the frame counted, if its makers said so.
    fn longest_source(&self) -> Option<usize> {
        None
    }

    /// The ids of a text as its encoder reads them, whatever its length, unknown symbols as UNK.
    fn framed(&self, text: &str) -> Vec<u32> {
        // With these limits and this policy, nothing is refused.
        let mut source = self.tokenise(text, UnknownPolicy::Unk, TextLimits::NONE).unwrap_or_default();
        self.frame(&mut source, LanguageIds::default());
        source.ids
    }

    /// The id of what the scheme has no other for; `None` where there is no such text.
    fn unknown(&self) -> Option<u32> {
        Some(self.special_ids().unk)
    }

    /// The languages that the model can be told.
    fn languages(&self) -> &[Language] {
        &[]
    }

    /// The token of a language.
    fn language(&self, code: &str) -> Option<u32> {
        self.languages().iter().find(|language| language.code == code).map(|language| language.id)
    }

    /// The token that an output has to begin with to be in the language of the token `language`; none where
    /// the source says it.
    fn forced_first(&self, language: u32) -> Option<u32> {
        Some(language)
    }

    /// Ids that are never an output's, whatever their scores.
    fn never_generated(&self) -> Vec<u32> {
        Vec::new()
    }

    /// The id of a symbol.
    fn find(&self, symbol: &str) -> Option<u32>;

    /// What `id` stands for in an output: UTF-8 or, without a separator, any bytes of it. Empty for PAD,
    /// START and END; [`REPLACEMENT`] for an unknown symbol and for an id that there is not.
    ///
    /// - `is_first`: nothing stands before it.
    fn piece(&self, id: u32, is_first: bool) -> &[u8];

    /// What stands between two pieces.
    fn separator(&self) -> &str;

    /// Adds to `text` what has become certain with the next id of an output: whole characters that no later
    /// id changes.
    ///
    /// - `rest`: what was not certain before; a new one for each text.
    fn write(&self, id: u32, rest: &mut Unwritten, text: &mut String) {
        if std::mem::replace(&mut rest.begun, true) {
            text.push_str(self.separator());
            text.push_str(&rest.characters.push(self.piece(id, false)));
        } else {
            text.push_str(&rest.characters.push(self.piece(id, true)));
        }
    }

    /// Adds to `text` what was held back until its last id.
    fn finish(&self, rest: &mut Unwritten, text: &mut String) {
        text.push_str(rest.characters.finish());
    }

    /// The text of an output.
    fn detokenise(&self, ids: &[u32]) -> String {
        let (mut text, mut rest) = (String::new(), Unwritten::default());
        ids.iter().for_each(|&id| self.write(id, &mut rest, &mut text));
        self.finish(&mut rest, &mut text);
        text
    }
}

/// What of an output may still change with its next ids.
#[derive(Clone, Debug, Default)]
pub struct Unwritten {
    /// Whether an id came that stands for text.
    pub(super) begun: bool,
    /// The beginning of a character.
    pub(super) characters: Characters,
    /// Bytes that are text only if all of them together are.
    pub(super) run: Vec<u8>,
    /// Whether the text has begun, spaces before it not counted.
    pub(super) has_text: bool,
    /// Spaces that were taken off its beginning.
    pub(super) stripped: usize,
    /// Spaces that are part of the text unless it ends with them.
    pub(super) spaces: String,
    /// Text that may lose a space, and where in it such a space may be first.
    pub(super) held: String,
    pub(super) doubtful: Option<usize>,
}

/// Whole characters of bytes that come a few at a time: those of one that is not complete wait for the rest.
///
/// Bytes that are no UTF-8 become [`REPLACEMENT`], as [`String::from_utf8_lossy`] has it for all of them
/// together.
#[derive(Clone, Debug, Default)]
pub struct Characters {
    /// The beginning of a character, at most three bytes.
    waiting: Vec<u8>,
}

/// What becomes of bytes that are no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// One [`REPLACEMENT`] stands for as many as could have begun a character.
    Replaced,
    /// One [`REPLACEMENT`] stands for each.
    EachReplaced,
    /// They are left out.
    Dropped,
}

impl Invalid {
    fn push(self, count: usize, text: &mut String) {
        let times = match self {
            Self::Replaced => 1,
            Self::EachReplaced => count,
            Self::Dropped => 0,
        };
        text.extend(std::iter::repeat_n(REPLACEMENT, times));
    }
}

impl Characters {
    /// Takes the next bytes and gives the characters that are complete with them.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, str> {
        self.push_with(bytes, Invalid::Replaced)
    }

    /// The same for a scheme that treats invalid bytes otherwise.
    pub(super) fn push_with<'a>(&mut self, bytes: &'a [u8], invalid: Invalid) -> Cow<'a, str> {
        if self.waiting.is_empty()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return Cow::Borrowed(text);
        }
        self.waiting.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.waiting);
        let (mut text, mut rest) = (String::new(), &all[..]);
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => text.push_str(valid),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    if let Some(broken) = error.error_len() {
                        invalid.push(broken, &mut text);
                        rest = &after[broken..];
                        continue;
                    }
                    self.waiting = after.to_vec();
                }
            }
            return Cow::Owned(text);
        }
    }

    /// The end: a character that was not completed is replaced.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.waiting).is_empty() { "" } else { REPLACEMENT }
    }

    /// The same for a scheme that treats invalid bytes otherwise.
    pub(super) fn finish_with(&mut self, invalid: Invalid, text: &mut String) {
        let waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() {
            invalid.push(waiting.len(), text);
        }
    }
}

/// The symbols of a text one after the other, in one allocation however many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SymbolList {
    text: String,
    /// Where in `text` each symbol ends.
    ends: Vec<usize>,
}

impl SymbolList {
    /// Symbols.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a symbol.
    pub fn push(&mut self, symbol: &str) {
        self.text.push_str(symbol);
        self.ends.push(self.text.len());
    }

    /// Adds a symbol that is written in parts.
    pub(super) fn push_joined<'a>(&mut self, mut parts: impl Iterator<Item = &'a str>, joint: &str) {
        self.text.push_str(parts.next().unwrap_or_default());
        parts.for_each(|part| {
            self.text.push_str(joint);
            self.text.push_str(part);
        });
        self.ends.push(self.text.len());
    }

    /// A symbol.
    pub fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// All symbols in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|at| &self[at])
    }

    /// The symbols of `part` with `separator` between them.
    ///
    /// # Panics
    /// Where there is no such symbol.
    pub fn join(&self, part: Range<usize>, separator: &str) -> String {
        part.map(|at| &self[at]).collect::<Vec<_>>().join(separator)
    }
}

impl Index<usize> for SymbolList {
    type Output = str;

    fn index(&self, at: usize) -> &str {
        self.get(at).expect("a position below the number of symbols")
    }
}

impl<S: AsRef<str>> Extend<S> for SymbolList {
    fn extend<I: IntoIterator<Item = S>>(&mut self, symbols: I) {
        symbols.into_iter().for_each(|symbol| self.push(symbol.as_ref()));
    }
}

impl<S: AsRef<str>> FromIterator<S> for SymbolList {
    fn from_iter<I: IntoIterator<Item = S>>(symbols: I) -> Self {
        let mut list = Self::default();
        list.extend(symbols);
        list
    }
}

impl fmt::Debug for SymbolList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for SymbolList {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
