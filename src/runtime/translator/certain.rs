//! Which part of a text that grows will not change any more.

use std::sync::Arc;

use super::coder::TextCoder;
use super::source_text::SourceText;
use crate::decoding::{Settings, UnknownPolicy};
use crate::vocabulary::Unwritten;

/// Collects the tokens of one hypothesis and gives text as soon as it is certain.
///
/// Pieces are whole characters. Text that a later token may change is held back by the tokeniser: bytes that are
/// no character yet, spaces that an end or punctuation takes away. Text that may be the beginning of a stop
/// string is held back here, and so is everything from an UNK on that is still to be replaced, and everything
/// where unknown symbols are copied. All pieces together are the beginning of the translation.
#[derive(Debug)]
pub(super) struct Certain {
    coder: TextCoder,
    settings: Arc<Settings>,
    rest: Unwritten,
    text: String,
    /// Bytes of `text` already given.
    given: usize,
    /// Where in `text` the generated tokens begin: after `target_prefix` and what separates it from them.
    prefix: usize,
    tokens: usize,
    waits: bool,
}

impl Certain {
    /// For a source with these settings.
    pub(super) fn new(coder: TextCoder, source: &SourceText, settings: Arc<Settings>) -> Self {
        // Where unknown symbols are put into the text is known at its end.
        let waits =
            settings.unknown == UnknownPolicy::Copy && source.ids.contains(&coder.source().special_ids().unk);
        let mut stream = Self {
            coder,
            settings,
            rest: Unwritten::default(),
            text: String::new(),
            given: 0,
            prefix: 0,
            tokens: 0,
            waits,
        };
        for id in stream.settings.prefix.clone() {
            stream.append(id);
        }
        stream.prefix =
            stream.text.len() + if stream.tokens > 0 { stream.coder.target().separator().len() } else { 0 };
        stream
    }

    fn append(&mut self, id: u32) {
        let target = self.coder.target();
        target.write(id, &mut self.rest, &mut self.text);
        self.tokens += 1;
        self.waits |= id == target.special_ids().unk && self.settings.replace_unknowns;
    }

    /// Takes the next token and gives the text that has become certain; may be empty.
    pub(super) fn push(&mut self, id: u32) -> &str {
        self.append(id);
        if self.waits {
            return "";
        }
        let mut held = 0;
        if let Some(stop) = &self.settings.stop {
            if self.text.get(self.prefix..).is_some_and(|generated| stop.first_in(generated).is_some()) {
                self.waits = true;
                return "";
            }
            held = stop.held_back(&self.text);
            // What separates a held symbol from the text before it goes with it if the stop string is
            // completed.
            let separator = self.coder.target().separator();
            if held > 0 && self.text[..self.text.len() - held].ends_with(separator) {
                held += separator.len();
            }
        }
        let until = self.text.len().saturating_sub(held).max(self.given);
        let from = std::mem::replace(&mut self.given, until);
        &self.text[from..until]
    }
}
