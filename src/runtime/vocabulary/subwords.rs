//! What all schemes of subwords and bytes share: the frame of a source, languages, outputs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use super::detokenise::{Pieces, Style};
use super::sentencepiece::SPACE;
use super::spec::VocabularySpec;
use super::tokeniser::{
    Encoded, Language, LanguageIds, SymbolList, TextLimits, Tokeniser, UnknownPolicy, Unwritten, too_long,
    unknown_symbols,
};
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};

/// How a text becomes ids.
pub(super) trait Scheme: fmt::Debug + Send + Sync {
    /// Gives the tokens of a text one after the other, until `each` returns false.
    ///
    /// - `most`: characters of the text, before and after its normalisation.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`] for a text of more characters.
    fn split(&self, text: &str, most: usize, each: &mut dyn FnMut(Token<'_>) -> bool) -> Result<()>;

    /// The id of a piece.
    fn find(&self, piece: &str) -> Option<u32>;
}

/// A token of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) id: u32,
    /// What it stands for, spaces as pieces write them.
    pub(super) text: &'a str,
    pub(super) is_unknown: bool,
}

/// A token of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Id(u32),
    /// The source's language, this one if nobody says another.
    Source(Option<u32>),
    /// The output's language, if somebody says it.
    Target,
}

/// What stands around each source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) before: Vec<Slot>,
    pub(super) behind: Vec<Slot>,
    /// Whether a source that ends with the frame's end already gets no other.
    pub(super) ends_once: bool,
}

impl Frame {
    fn ids(slots: &[Slot], languages: LanguageIds) -> impl Iterator<Item = u32> {
        slots.iter().filter_map(move |slot| match *slot {
            Slot::Id(id) => Some(id),
            Slot::Source(default) => languages.source.or(default),
            Slot::Target => languages.target,
        })
    }
}

/// A scheme with all that its model wants of it.
#[derive(Debug)]
pub(super) struct Subwords {
    pub(super) spec: VocabularySpec,
    pub(super) special: SpecialIds,
    /// The scheme's own id of what it has no other for.
    pub(super) unk: Option<u32>,
    pub(super) scheme: Box<dyn Scheme>,
    pub(super) pieces: Pieces,
    pub(super) style: Style,
    pub(super) frame: Frame,
    pub(super) languages: Vec<Language>,
    pub(super) longest: Option<usize>,
}

impl Tokeniser for Subwords {
    fn size(&self) -> usize {
        self.spec.size()
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds { unk: self.unk.unwrap_or(self.special.unk), ..self.special }
    }

    fn unknown(&self) -> Option<u32> {
        self.unk
    }

    fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    /// Characters: models are compared by their texts, not by their pieces.
    fn split<'a>(&self, normalised: &'a str) -> Vec<&'a str> {
        normalised.split_inclusive(|_| true).collect()
    }

    fn tokenise(&self, text: &str, unknown: UnknownPolicy, limits: TextLimits) -> Result<Encoded> {
        if text.len() > limits.characters && text.chars().nth(limits.characters).is_some() {
            return Err(too_long(limits.characters, "characters"));
        }
        let (mut encoded, mut seen) = (Encoded::default(), HashSet::new());
        let (mut is_long, mut outside) = (false, None);
        self.scheme.split(text, limits.characters, &mut |token| {
            if token.is_unknown && seen.insert(token.text.to_owned()) {
                encoded.unknown.push(token.text.replace(SPACE, " "));
            }
            if token.is_unknown && unknown == UnknownPolicy::Skip {
                return true;
            }
            is_long = encoded.ids.len() == limits.symbols;
            if token.id as usize >= self.size() {
                outside = Some(token.id);
            }
            encoded.ids.push(token.id);
            encoded.symbols.push_joined(token.text.split(SPACE), " ");
            !is_long && outside.is_none()
        })?;
        if is_long {
            return Err(too_long(limits.symbols, "tokens"));
        }
        if let Some(id) = outside {
            let message =
                format!("the text has a token with the id {id}, and the model has {} ids", self.size());
            return Err(Error::new(ErrorKind::Input, message).help(
                "the token was added to the tokenizer and not to the model: leave it out of the text",
            ));
        }
        if unknown == UnknownPolicy::Error && !encoded.unknown.is_empty() {
            return Err(unknown_symbols(&encoded.unknown));
        }
        Ok(encoded)
    }

    fn frame(&self, source: &mut Encoded, languages: LanguageIds) -> Range<usize> {
        if source.ids.is_empty() {
            return 0..0;
        }
        let behind: Vec<u32> = Frame::ids(&self.frame.behind, languages).collect();
        let ends = self.frame.ends_once && source.ids.ends_with(&behind);
        let before: Vec<u32> = Frame::ids(&self.frame.before, languages).collect();
        let text = before.len()..before.len() + source.ids.len();
        if !before.is_empty() {
            let symbols = std::mem::take(&mut source.symbols);
            source.symbols = before.iter().map(|_| "").chain(symbols.iter()).collect::<SymbolList>();
            source.ids.splice(0..0, before);
        }
        for id in behind.into_iter().filter(|_| !ends) {
            source.ids.push(id);
            source.symbols.push("");
        }
        text
    }

    fn frame_size(&self) -> usize {
        self.frame.before.len() + self.frame.behind.len()
    }

    fn longest_source(&self) -> Option<usize> {
        self.longest
    }

    fn languages(&self) -> &[Language] {
        &self.languages
    }

    fn forced_first(&self, language: u32) -> Option<u32> {
        (!self.frame.before.contains(&Slot::Target)).then_some(language)
    }

    fn find(&self, symbol: &str) -> Option<u32> {
        self.scheme.find(symbol)
    }

    fn piece(&self, id: u32, is_first: bool) -> &[u8] {
        self.pieces.get(id, is_first).1
    }

    fn separator(&self) -> &'static str {
        ""
    }

    fn write(&self, id: u32, rest: &mut Unwritten, text: &mut String) {
        let said = self.pieces.get(id, !rest.begun);
        rest.begun |= said.0 != super::detokenise::Said::Nothing;
        self.style.write(said, rest, text);
    }

    fn finish(&self, rest: &mut Unwritten, text: &mut String) {
        self.style.finish(rest, text);
    }
}
