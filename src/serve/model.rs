//! What the server needs from a model: [`Model`] prepares texts and makes [`Worker`]s, which texts enter and
//! leave at any step. Small, so that tests drive the server with a scripted one.

use std::sync::Arc;

use s2s_runtime::Result;
use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::translator::{SourceText, TextEvent, TextLoop};

use super::languages::Spoken;
use super::metrics::ModelMetrics;

/// What clients are told about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The bundle's name.
    pub name: String,
    /// BCP 47 code of the source language; without it any is accepted.
    pub source_language: Option<String>,
    /// BCP 47 code of the target language; without it any is accepted.
    pub target_language: Option<String>,
    /// Languages of a model that translates between any two of several; empty for others.
    pub languages: Vec<Spoken>,
    /// Whether attention weights can be asked for.
    pub has_attention: bool,
    /// What else the manifest says, as JSON: architecture, vocabularies, scores, licence and so on.
    pub details: serde_json::Value,
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
}

/// One thread's engine, and the texts that it decodes side by side; what becomes of a text never depends on
/// its company.
pub trait Worker: Send {
    /// Takes a text, which joins the others at the next step.
    ///
    /// - `id`: names it in the events; unique in a worker.
    /// - `stream`: whether [`TextEvent::Token`] is wanted.
    fn admit(&mut self, id: u64, source: SourceText, settings: Arc<Settings>, stream: bool);

    /// Drops a text that nobody waits for any more.
    fn cancel(&mut self, id: u64);

    /// One step of every text; what it brought is added to `events`.
    ///
    /// # Errors
    /// Of the whole worker, which is then useless; `events` still hold.
    fn step(&mut self, events: &mut Vec<TextEvent>) -> Result<()>;
}

impl Worker for TextLoop {
    fn admit(&mut self, id: u64, source: SourceText, settings: Arc<Settings>, stream: bool) {
        Self::admit(self, id, source, settings, stream);
    }

    fn cancel(&mut self, id: u64) {
        Self::cancel(self, id);
    }

    fn step(&mut self, events: &mut Vec<TextEvent>) -> Result<()> {
        let mut failed = Vec::new();
        for event in Self::step(self) {
            match event {
                TextEvent::Failed { id, error } => failed.push((id, error)),
                event => events.push(event),
            }
        }
        // The engine failed on a batch as a whole: which text it was, the scheduler finds out.
        if self.lost_together() {
            return failed.pop().map_or(Ok(()), |(_, error)| Err(error));
        }
        events.extend(failed.into_iter().map(|(id, error)| TextEvent::Failed { id, error }));
        Ok(())
    }
}
