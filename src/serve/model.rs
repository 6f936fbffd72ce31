//! What the server needs from a model: [`Model`] prepares texts and makes [`Worker`]s, each of which decodes in
//! [`Session`]s that rows enter and leave at any step. Small, so that tests drive the server with a scripted one.

use std::sync::Arc;

use s2s_runtime::Result;
pub use s2s_runtime::decoding::{DecodingOptions, FinishReason};

/// What clients are told about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The bundle's name.
    pub name: String,
    /// BCP 47 code of the source language; without it any is accepted.
    pub source_language: Option<String>,
    /// BCP 47 code of the target language; without it any is accepted.
    pub target_language: Option<String>,
}

/// One text as ids, ready to be queued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Source ids without START and END.
    pub ids: Vec<u32>,
    /// The source symbol at each id, where the options put them in place of unknown target symbols.
    pub symbols: Vec<String>,
}

/// One text to decode.
#[derive(Clone, Debug)]
pub struct Row {
    /// Chosen by the scheduler; unique in a session.
    pub id: u64,
    /// The text.
    pub source: Source,
    /// How to decode it.
    pub options: Arc<DecodingOptions>,
}

/// One finished hypothesis as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The text.
    pub text: String,
    /// Its score, as the length penalty makes it.
    pub score: f32,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens, END counted where it was produced.
    pub tokens: usize,
}

/// A token that a row has just produced.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Target id.
    pub id: u32,
    /// Its symbol.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What one step brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A row that is decoded without beams has a new token.
    Token {
        /// The row.
        row: u64,
        /// Its token.
        token: Token,
    },
    /// A row has left the session.
    Finished {
        /// The row.
        row: u64,
        /// Best first; never empty.
        hypotheses: Vec<Hypothesis>,
    },
}

/// A model that can be served.
pub trait Model: Send + Sync {
    /// What clients are told.
    fn card(&self) -> &Card;

    /// How requests are decoded that do not say otherwise.
    fn defaults(&self) -> &DecodingOptions;

    /// Text to ids. What is wrong with a text is found here, before it waits in the queue.
    ///
    /// # Errors
    /// `Input` where the text cannot be handled as `options` say.
    fn prepare(&self, text: &str, options: &DecodingOptions) -> Result<Source>;

    /// An engine of its own for one thread.
    fn worker(&self) -> Result<Box<dyn Worker>>;
}

/// One thread's engine.
pub trait Worker: Send {
    /// An empty batch.
    fn session(&mut self) -> Box<dyn Session + '_>;
}

/// A batch that rows enter and leave at any step. What a row produces never depends on its company.
pub trait Session {
    /// Encodes `rows` and adds them to the batch.
    fn admit(&mut self, rows: Vec<Row>) -> Result<()>;

    /// One step of every row.
    fn step(&mut self) -> Result<Vec<Event>>;

    /// Drops a row that nobody waits for any more.
    fn cancel(&mut self, row: u64);
}
