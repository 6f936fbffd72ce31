//! Texts that are decoded side by side.

use std::collections::HashMap;
use std::ops::DerefMut;
use std::sync::Arc;

use super::certain::Certain;
use super::coder::{TextCoder, Translation};
use super::source_text::SourceText;
use crate::decoding::{DecodingLoop, Event, Request, Settings};
use crate::engine::Engine;
use crate::error::Error;

/// A token that a text has just got.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its target id.
    pub id: u32,
    /// The part of the translation that has become certain with it: whole characters, maybe none. All of them
    /// together are the beginning of the translation.
    pub text: String,
    /// The natural logarithm of its probability, if scores were asked for.
    pub log_p: Option<f32>,
}

/// What a step brought to one of the texts, which is named by the number that it was admitted with.
#[derive(Debug)]
pub enum TextEvent {
    /// A text that streams and is decoded without beams has a new token.
    Token {
        /// Which text.
        id: u64,
        /// Its token.
        token: Token,
    },
    /// A text has been translated, or cancelled.
    Done {
        /// Which text.
        id: u64,
        /// What became of it.
        translation: Box<Translation>,
    },
    /// A text cannot be translated; the others go on.
    Failed {
        /// Which text.
        id: u64,
        /// Why.
        error: Error,
    },
}

/// Translates any number of texts side by side: they come and go between any two steps.
///
/// What becomes of a text depends on its source and settings alone, never on its company.
///
/// - `E`: the engine, owned (`Box<dyn Engine>`) or lent (`&mut dyn Engine`).
pub struct TextLoop<E = Box<dyn Engine>> {
    coder: TextCoder,
    decoding: DecodingLoop<E>,
    texts: HashMap<u64, Text>,
    /// To be encoded before the next step, together.
    joining: Vec<Request>,
    /// Without anything to decode.
    empty: Vec<u64>,
    /// To be cancelled as soon as they run.
    cancelled: Vec<u64>,
    /// Texts that may run at once.
    room: usize,
}

/// A text that has not ended.
struct Text {
    source: SourceText,
    settings: Arc<Settings>,
    streamed: Option<Certain>,
}

impl<E: DerefMut<Target: Engine>> std::fmt::Debug for TextLoop<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextLoop").field("decoding", &self.decoding).finish_non_exhaustive()
    }
}

impl<E: DerefMut<Target: Engine>> TextLoop<E> {
    /// A loop without texts, which takes any number of them at once.
    pub fn new(coder: TextCoder, engine: E) -> Self {
        Self {
            coder,
            decoding: DecodingLoop::new(engine),
            texts: HashMap::new(),
            joining: Vec::new(),
            empty: Vec::new(),
            cancelled: Vec::new(),
            room: usize::MAX,
        }
    }

    /// Lets no more than `texts` run at once, at least one. Those that are admitted beyond are encoded
    /// together all the same, and wait for the places of others.
    #[must_use]
    pub fn with_room(mut self, texts: usize) -> Self {
        self.room = texts.max(1);
        self
    }

    /// Whether no text waits for a place, and there is one.
    pub fn has_room(&self) -> bool {
        self.joining.is_empty() && self.decoding.prepared() == 0 && self.decoding.requests() < self.room
    }

    /// Whether every text has ended.
    pub fn is_idle(&self) -> bool {
        self.texts.is_empty()
    }

    /// Takes a text, which joins the others at the next step. All that come between two steps are encoded as
    /// one batch; such of similar length waste the least on padding.
    ///
    /// - `id`: names it in the events; no text under way may have the same.
    /// - `stream`: whether [`TextEvent::Token`] is wanted.
    pub fn admit(&mut self, id: u64, source: SourceText, settings: Arc<Settings>, stream: bool) {
        if source.ids.is_empty() {
            self.empty.push(id);
        } else {
            let (source, settings) = (source.ids.clone(), Arc::clone(&settings));
            self.joining.push(Request { id, source, settings, stream });
        }
        let streamed = stream.then(|| Certain::new(self.coder.clone(), &source, Arc::clone(&settings)));
        self.texts.insert(id, Text { source, settings, streamed });
    }

    /// Ends a text: the next step in which it has a place gives what there is of it, with
    /// [`FinishReason::Cancelled`](crate::decoding::FinishReason::Cancelled).
    pub fn cancel(&mut self, id: u64) {
        if self.texts.contains_key(&id) {
            self.cancelled.push(id);
        }
    }

    /// Whether, since this was asked last, several texts failed together because the engine failed on their
    /// batch: one of them may be at fault, and the others not.
    pub fn lost_together(&mut self) -> bool {
        self.decoding.lost_together()
    }

    /// One decoder step of every text, and what it brought.
    pub fn step(&mut self) -> Vec<TextEvent> {
        let joining = self.joining.drain(..);
        if self.room == usize::MAX {
            self.decoding.admit(joining);
        } else {
            self.decoding.prepare(joining);
            self.decoding.fill(self.room);
        }
        self.cancelled.retain(|&id| self.texts.contains_key(&id) && !self.decoding.cancel(id));
        let mut events = Vec::new();
        let done = |id: u64, hypotheses, texts: &mut HashMap<u64, Text>| {
            texts.remove(&id).map(|text| {
                let translation = self.coder.translation(&text.source, hypotheses, &text.settings);
                TextEvent::Done { id, translation: Box::new(translation) }
            })
        };
        for id in self.empty.drain(..) {
            events.extend(done(id, Vec::new(), &mut self.texts));
        }
        for event in self.decoding.step() {
            match event {
                Event::Token { request, hypothesis: 0, id, log_p } => {
                    let streamed = self.texts.get_mut(&request).and_then(|text| text.streamed.as_mut());
                    events.extend(streamed.map(|streamed| {
                        let token = Token { id, text: streamed.push(id).to_owned(), log_p };
                        TextEvent::Token { id: request, token }
                    }));
                }
                Event::Token { .. } => {}
                Event::Finished { request, hypotheses } => {
                    events.extend(done(request, hypotheses, &mut self.texts));
                }
                Event::Failed { request, error } => {
                    self.texts.remove(&request);
                    events.push(TextEvent::Failed { id: request, error });
                }
            }
        }
        events
    }
}
