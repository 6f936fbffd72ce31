//! One text piece by piece, while it is decoded.

use std::collections::VecDeque;
use std::ops::DerefMut;
use std::sync::Arc;

use super::coder::Translation;
use super::source_text::SourceText;
use super::text_loop::{TextEvent, TextLoop, Token};
use crate::decoding::Settings;
use crate::engine::Engine;
use crate::error::Result;

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
///
/// - `E`: the engine, owned (`Box<dyn Engine>`) or lent (`&mut dyn Engine`).
#[derive(Debug)]
pub struct TranslationStream<E: DerefMut<Target: Engine> = Box<dyn Engine>> {
    texts: TextLoop<E>,
    /// Bytes of the text that were given.
    given: usize,
    waiting: VecDeque<Result<Piece>>,
}

impl<E: DerefMut<Target: Engine>> TranslationStream<E> {
    pub(super) fn new(mut texts: TextLoop<E>, source: SourceText, settings: Arc<Settings>) -> Self {
        texts.admit(0, source, settings, true);
        Self { texts, given: 0, waiting: VecDeque::new() }
    }

    /// Stops decoding: what there is comes as [`Piece::Done`], with
    /// [`FinishReason::Cancelled`](crate::decoding::FinishReason::Cancelled).
    pub fn cancel(&mut self) {
        self.texts.cancel(0);
    }

    fn give(&mut self, text: &str) {
        if !text.is_empty() {
            self.given += text.len();
            self.waiting.push_back(Ok(Piece::Text(text.to_owned())));
        }
    }
}

impl<E: DerefMut<Target: Engine>> Iterator for TranslationStream<E> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.waiting.pop_front() {
                return Some(piece);
            }
            if self.texts.is_idle() {
                return None;
            }
            for event in self.texts.step() {
                match event {
                    TextEvent::Token { token: Token { text, .. }, .. } => self.give(&text),
                    TextEvent::Done { translation, .. } => {
                        self.give(translation.text.get(self.given..).unwrap_or(""));
                        self.waiting.push_back(Ok(Piece::Done(translation)));
                    }
                    TextEvent::Failed { error, .. } => self.waiting.push_back(Err(error)),
                }
            }
        }
    }
}
