//! What the server needs from a model: [`Model`] prepares texts and makes [`Worker`]s, each of which decodes
//! in [`Session`]s that rows enter and leave at any step. Small, so that tests drive the server with a
//! scripted one.

use std::sync::Arc;

use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::manifest::Role;
use s2s_runtime::translator::{SourceText, Translation};
use s2s_runtime::{Error, Result};

use super::metrics::ModelMetrics;
use super::raw::RawGraph;

/// What clients are told about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The bundle's name.
    pub name: String,
    /// BCP 47 code of the source language; without it any is accepted.
    pub source_language: Option<String>,
    /// BCP 47 code of the target language; without it any is accepted.
    pub target_language: Option<String>,
    /// Whether attention weights can be asked for.
    pub has_attention: bool,
    /// What else the manifest says, as JSON: architecture, vocabularies, scores, licence and so on.
    pub details: serde_json::Value,
}

/// One text to decode.
#[derive(Clone, Debug)]
pub struct Row {
    /// Chosen by the scheduler; unique in a session.
    pub id: u64,
    /// The text as ids.
    pub source: SourceText,
    /// How to decode it.
    pub settings: Arc<Settings>,
    /// Whether [`Event::Token`] is wanted.
    pub stream: bool,
}

/// A token that a row has just produced.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Target id.
    pub id: u32,
    /// The text that has become certain with it: whole symbols, maybe none.
    pub text: String,
    /// Natural logarithm of its probability, if scores were asked for.
    pub log_p: Option<f32>,
}

/// What one step brought.
#[derive(Debug)]
pub enum Event {
    /// A streaming row that is decoded without beams has a new token.
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
        /// What became of it.
        translation: Box<Translation>,
    },
    /// A row has left the session without a result; the others go on.
    Failed {
        /// The row.
        row: u64,
        /// Why.
        error: Error,
    },
}

/// A model that can be served.
pub trait Model: Send + Sync {
    /// What clients are told.
    fn card(&self) -> &Card;

    /// A request's options over the server's and the bundle's, checked.
    ///
    /// # Errors
    /// `Config`, naming the key.
    fn settings(&self, request: &DecodingOptions) -> Result<Arc<Settings>>;

    /// Text to ids. What is wrong with a text is found here, before it waits in the queue.
    ///
    /// - `most_characters`: a text that has more, before, between or after the steps of its normalisation, is
    ///   refused.
    ///
    /// # Errors
    /// `Input` where the text cannot be handled as `settings` say, `TooLong` where there is too much of it.
    fn encode(&self, text: &str, settings: &Settings, most_characters: usize) -> Result<SourceText>;

    /// An engine of its own for one thread, which counts its calls in `metrics`.
    fn worker(&self, metrics: &Arc<ModelMetrics>) -> Result<Box<dyn Worker>>;

    /// The network or one of its graphs, drawn as SVG once and then kept; `None` where there is nothing to
    /// draw.
    fn picture(&self, _role: Option<Role>) -> Option<Result<axum::body::Bytes>> {
        None
    }

    /// A graph as it is, without text and without the loop.
    fn raw(&self, _role: Role) -> Option<&RawGraph> {
        None
    }
}

/// One thread's engine.
pub trait Worker: Send {
    /// An empty batch.
    fn session(&mut self) -> Box<dyn Session + '_>;
}

/// A batch that rows enter and leave at any step. What a row produces never depends on its company.
pub trait Session {
    /// Encodes `rows` and adds them to the batch.
    ///
    /// # Errors
    /// Of the whole session, which is then useless.
    fn admit(&mut self, rows: Vec<Row>) -> Result<()>;

    /// One step of every row; what it brought is added to `events`.
    ///
    /// # Errors
    /// Of the whole session, which is then useless; `events` still hold.
    fn step(&mut self, events: &mut Vec<Event>) -> Result<()>;

    /// Drops a row that nobody waits for any more.
    fn cancel(&mut self, row: u64);
}
