//! A bundle as a [`Model`]: the runtime's text coder and decoding loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use s2s_runtime::Result;
use s2s_runtime::decoding::{self, DecodingLoop, DecodingOptions, Request, Settings};
use s2s_runtime::engine::Engine;
use s2s_runtime::translator::{SourceText, TextCoder, TextStream};

use super::model::{Card, Event, Model, Row, Session, Token, Worker};

/// A bundle with an engine that workers are forked from.
pub struct BundleModel {
    card: Card,
    coder: TextCoder,
    options: DecodingOptions,
    engine: Mutex<Box<dyn Engine>>,
}

impl BundleModel {
    /// - `options`: the server's own, over the bundle's and under each request's.
    ///
    /// # Errors
    /// Of the options.
    pub fn new(card: Card, coder: TextCoder, engine: Box<dyn Engine>, options: DecodingOptions) -> Result<Self> {
        coder.settings(&options)?;
        Ok(Self { card, coder, options, engine: Mutex::new(engine) })
    }
}

impl Model for BundleModel {
    fn card(&self) -> &Card {
        &self.card
    }

    fn settings(&self, request: &DecodingOptions) -> Result<Arc<Settings>> {
        self.coder.settings(&DecodingOptions::layered([&self.options, request]))
    }

    fn encode(&self, text: &str, settings: &Settings) -> Result<SourceText> {
        self.coder.encode(text, settings)
    }

    fn worker(&self) -> Result<Box<dyn Worker>> {
        // Forking changes nothing, so that an engine whose fork panicked is as good as before.
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).fork()?;
        Ok(Box::new(EngineWorker { coder: self.coder.clone(), engine }))
    }
}

struct EngineWorker {
    coder: TextCoder,
    engine: Box<dyn Engine>,
}

impl Worker for EngineWorker {
    fn session(&mut self) -> Box<dyn Session + '_> {
        Box::new(LoopSession { coder: &self.coder, decoding: DecodingLoop::new(&mut *self.engine), rows: HashMap::new() })
    }
}

struct LoopSession<'w> {
    coder: &'w TextCoder,
    decoding: DecodingLoop<'w>,
    rows: HashMap<u64, Running>,
}

struct Running {
    source: SourceText,
    settings: Arc<Settings>,
    text: Option<TextStream>,
}

impl LoopSession<'_> {
    fn finish(&mut self, row: u64, hypotheses: Vec<decoding::Hypothesis>, events: &mut Vec<Event>) {
        // A row that was cancelled is not reported.
        let Some(running) = self.rows.remove(&row) else { return };
        let translation = Box::new(self.coder.translation(&running.source, hypotheses, &running.settings));
        events.push(Event::Finished { row, translation });
    }
}

impl Session for LoopSession<'_> {
    fn admit(&mut self, rows: Vec<Row>) -> Result<()> {
        let mut requests = Vec::with_capacity(rows.len());
        for Row { id, source, settings, stream } in rows {
            if !source.ids.is_empty() {
                requests.push(Request { id, source: source.ids.clone(), settings: Arc::clone(&settings), stream });
            }
            let text = stream.then(|| TextStream::new(self.coder.clone(), Arc::clone(&settings)));
            self.rows.insert(id, Running { source, settings, text });
        }
        self.decoding.admit(requests);
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let empty: Vec<u64> = self.rows.iter().filter(|(_, running)| running.source.ids.is_empty()).map(|(&row, _)| row).collect();
        for row in empty {
            self.finish(row, Vec::new(), events);
        }
        let stepped: Vec<decoding::Event> = self.decoding.step().collect();
        let mut failed = Vec::new();
        for event in stepped {
            match event {
                decoding::Event::Token { request: row, hypothesis: 0, id, log_p } => {
                    if let Some(text) = self.rows.get_mut(&row).and_then(|running| running.text.as_mut()) {
                        let token = Token { id, text: text.push(id).to_owned(), log_p };
                        events.push(Event::Token { row, token });
                    }
                }
                decoding::Event::Finished { request, hypotheses } => self.finish(request, hypotheses, events),
                decoding::Event::Failed { request, error } => failed.push((request, error)),
                _ => {}
            }
        }
        // The engine failed on the batch as a whole: which row it was, the scheduler finds out.
        if failed.len() > 1 && self.decoding.is_idle() {
            return failed.pop().map_or(Ok(()), |(_, error)| Err(error));
        }
        for (row, error) in failed {
            if self.rows.remove(&row).is_some() {
                events.push(Event::Failed { row, error });
            }
        }
        Ok(())
    }

    fn cancel(&mut self, row: u64) {
        self.rows.remove(&row);
        self.decoding.cancel(row);
    }
}
