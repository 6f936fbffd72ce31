//! A text as the decoding loop reads it.

use std::ops::Range;

use crate::vocabulary::SymbolList;

/// A source as the loop reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText {
    /// Source ids; empty for an empty text, which is not decoded: its translation is empty.
    pub ids: Vec<u32>,
    /// The symbol behind each id; empty unless
    /// [`Settings::keeps_attention`](crate::decoding::Settings::keeps_attention): nobody else asks for them.
    pub symbols: SymbolList,
    /// Symbols outside the vocabulary, each once, in order of appearance.
    pub unknown: Vec<String>,
    /// Which of the ids are the text; the others are what its encoder wants around it.
    pub text: Range<usize>,
}
