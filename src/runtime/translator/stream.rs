//! Text piece by piece, while it is decoded.

use std::sync::Arc;

use super::coder::{SourceText, TextCoder, Translation};
use crate::decoding::{DecodingLoop, Event, Settings, UnknownPolicy};
use crate::engine::Engine;
use crate::error::Result;
use crate::vocabulary::Characters;

/// Collects the tokens of one hypothesis and gives text as soon as it is certain.
///
/// Pieces are whole characters. Text that may be the beginning of a stop string is
/// held back, and so is everything from an UNK on that is still to be replaced, and everything where unknown
/// symbols are copied. All pieces together are the text of the translation.
#[derive(Debug)]
pub struct TextStream {
    coder: TextCoder,
    settings: Arc<Settings>,
    characters: Characters,
    text: String,
    /// Bytes of `text` already given.
    given: usize,
    /// Where in `text` the generated tokens begin: after `target_prefix` and what separates it from them.
    prefix: usize,
    tokens: usize,
    waits: bool,
}

impl TextStream {
    /// For a source with these settings.
    pub fn new(coder: TextCoder, source: &SourceText, settings: Arc<Settings>) -> Self {
        // Where unknown symbols are put into the text is known at its end.
        let waits =
            settings.unknown == UnknownPolicy::Copy && source.ids.contains(&coder.source().special_ids().unk);
        let mut stream = Self {
            coder,
            settings,
            characters: Characters::default(),
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
        if self.tokens > 0 {
            self.text.push_str(target.separator());
        }
        self.text.push_str(&self.characters.push(target.piece(id, self.tokens == 0)));
        self.tokens += 1;
        self.waits |= id == target.special_ids().unk && self.settings.replace_unknowns;
    }

    /// Takes the next token and gives the text that has become certain; may be empty.
    pub fn push(&mut self, id: u32) -> &str {
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

    /// What is left once the translation is known.
    pub fn finish<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.given..).unwrap_or("")
    }
}

/// A part of a streamed translation.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// More text; all of it together is the text of the translation.
    Text(String),
    /// The end.
    Done(Box<Translation>),
}

/// Gives a translation piece by piece, see [`Translator::stream`](super::Translator::stream). Beams give all
/// text at once.
///
/// Each `next`: gives a waiting piece; else makes one decoder step and looks again; ends after
/// [`Piece::Done`] or an error.
#[derive(Debug)]
pub struct TranslationStream<'t> {
    decoding: DecodingLoop<&'t mut dyn Engine>,
    coder: &'t TextCoder,
    source: SourceText,
    settings: Arc<Settings>,
    text: TextStream,
    waiting: std::collections::VecDeque<Result<Piece>>,
    done: bool,
}

impl<'t> TranslationStream<'t> {
    pub(super) fn new(
        decoding: DecodingLoop<&'t mut dyn Engine>,
        coder: &'t TextCoder,
        source: SourceText,
        settings: Arc<Settings>,
    ) -> Self {
        let text = TextStream::new(coder.clone(), &source, Arc::clone(&settings));
        let mut stream = Self {
            decoding,
            coder,
            source,
            settings,
            text,
            waiting: std::collections::VecDeque::new(),
            done: false,
        };
        if stream.source.ids.is_empty() {
            stream.end(Vec::new());
        }
        stream
    }

    /// Stops decoding: what there is comes as [`Piece::Done`], with
    /// [`FinishReason::Cancelled`](crate::decoding::FinishReason::Cancelled).
    pub fn cancel(&mut self) {
        self.decoding.cancel(0);
    }

    fn end(&mut self, hypotheses: Vec<crate::decoding::Hypothesis>) {
        let translation = self.coder.translation(&self.source, hypotheses, &self.settings);
        let rest = self.text.finish(&translation.text);
        if !rest.is_empty() {
            self.waiting.push_back(Ok(Piece::Text(rest.to_owned())));
        }
        self.waiting.push_back(Ok(Piece::Done(Box::new(translation))));
        self.done = true;
    }
}

impl Iterator for TranslationStream<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.waiting.pop_front() {
                return Some(piece);
            }
            if self.done {
                return None;
            }
            let events: Vec<Event> = self.decoding.step().collect();
            for event in events {
                match event {
                    Event::Token { hypothesis: 0, id, .. } => {
                        let piece = self.text.push(id);
                        if !piece.is_empty() {
                            self.waiting.push_back(Ok(Piece::Text(piece.to_owned())));
                        }
                    }
                    Event::Token { .. } => {}
                    Event::Finished { hypotheses, .. } => self.end(hypotheses),
                    Event::Failed { error, .. } => {
                        self.waiting.push_back(Err(error));
                        self.done = true;
                    }
                }
            }
        }
    }
}
