//! UTF-8 bytes as ids: ByT5's scheme, which has no file.

use std::borrow::Cow;
use std::ops::Range;

use super::spec::VocabularySpec;
use super::tokeniser::{Encoded, LanguageIds, REPLACEMENT, TextLimits, Tokeniser, UnknownPolicy, too_long};
use crate::contract::SpecialIds;
use crate::error::Result;

/// PAD, END and UNK stand before the bytes.
const OFFSET: u32 = 3;
const END: u32 = 1;

/// Each byte of a text is an id of its own, three more than its value; END stands behind a source.
#[derive(Debug)]
pub(super) struct Bytes {
    spec: VocabularySpec,
    special: SpecialIds,
    /// All bytes in order, so that a piece can be lent.
    bytes: Vec<u8>,
}

impl Bytes {
    pub(super) fn new(spec: VocabularySpec, special: SpecialIds) -> Self {
        Self { spec, special, bytes: (0..=u8::MAX).collect() }
    }
}

impl Tokeniser for Bytes {
    fn size(&self) -> usize {
        self.spec.size()
    }

    fn special_ids(&self) -> SpecialIds {
        self.special
    }

    fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    fn split<'a>(&self, normalised: &'a str) -> Vec<&'a str> {
        normalised.split_inclusive(|_| true).collect()
    }

    fn tokenise(&self, text: &str, _unknown: UnknownPolicy, limits: TextLimits) -> Result<Encoded> {
        if text.len() > limits.characters && text.chars().nth(limits.characters).is_some() {
            return Err(too_long(limits.characters, "characters"));
        }
        if text.len() > limits.symbols {
            return Err(too_long(limits.symbols, "tokens"));
        }
        let ids = text.bytes().map(|byte| u32::from(byte) + OFFSET).collect();
        // A symbol of one byte is shown as the character that has its number.
        let symbols = text.bytes().map(|byte| char::from(byte).to_string()).collect();
        Ok(Encoded { ids, symbols, unknown: Vec::new() })
    }

    fn frame(&self, source: &mut Encoded, _languages: LanguageIds) -> Range<usize> {
        let text = 0..source.ids.len();
        if !source.ids.is_empty() {
            source.ids.push(END);
            source.symbols.push("");
        }
        text
    }

    fn find(&self, symbol: &str) -> Option<u32> {
        match symbol.as_bytes() {
            [byte] => Some(u32::from(*byte) + OFFSET),
            _ => None,
        }
    }

    fn piece(&self, id: u32, _is_first: bool) -> &[u8] {
        match id.checked_sub(OFFSET) {
            None => b"",
            Some(byte) => self.bytes.get(byte as usize..=byte as usize).unwrap_or(REPLACEMENT.as_bytes()),
        }
    }

    fn separator(&self) -> &'static str {
        ""
    }
}
