//! A bundle as a [`Model`]: the runtime's text coder and decoding loop.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::{self, DecodingLoop, DecodingOptions, Request, Settings};
use s2s_runtime::engine::{DecoderState, Engine, EngineKind, IdMatrix, StepOutput};
use s2s_runtime::manifest::Role;
use s2s_runtime::translator::{SourceText, TextCoder, TextStream};
use s2s_runtime::{Error, ErrorKind, Result};

use crate::inspect::{Subject, View};

use super::metrics::ModelMetrics;
use super::model::{Card, Event, Model, Row, Session, Token, Worker};
use super::raw::RawGraph;

/// A bundle with an engine that workers are forked from.
pub struct BundleModel {
    card: Card,
    coder: TextCoder,
    options: DecodingOptions,
    engine: Mutex<Box<dyn Engine>>,
    raw: Vec<RawGraph>,
    bundle: Option<Arc<Bundle>>,
    pictures: Pictures,
}

/// Drawings by role, each made once, one at a time; where it failed the reason is kept, and nothing is drawn
/// again.
#[derive(Default)]
struct Pictures(Mutex<HashMap<Option<Role>, Drawn>>);

/// An SVG, or the kind and message of the error.
type Drawn = std::result::Result<Bytes, (ErrorKind, String)>;

impl Pictures {
    fn get(&self, role: Option<Role>, draw: impl FnOnce() -> Result<String>) -> Result<Bytes> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = drawn.entry(role).or_insert_with(|| {
            let drawn = catch_unwind(AssertUnwindSafe(draw));
            let drawn = drawn
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the picture could not be drawn")));
            drawn.map(Bytes::from).map_err(|error| (error.kind(), error.to_string()))
        });
        picture.clone().map_err(|(kind, message)| Error::new(kind, message))
    }
}

impl BundleModel {
    /// - `options`: the server's own, over the bundle's and under each request's.
    ///
    /// # Errors
    /// Of the options.
    pub fn new(
        card: Card,
        coder: TextCoder,
        engine: Box<dyn Engine>,
        options: DecodingOptions,
    ) -> Result<Self> {
        coder.settings(&options)?;
        Ok(Self {
            card,
            coder,
            options,
            engine: Mutex::new(engine),
            raw: Vec::new(),
            bundle: None,
            pictures: Pictures::default(),
        })
    }

    /// Serves the graphs as they are, too; each is loaded when it is first asked for.
    #[must_use]
    pub fn with_graphs(mut self, bundle: &Arc<Bundle>, kind: EngineKind, workers: usize) -> Self {
        self.bundle = Some(Arc::clone(bundle));
        // A graph may be given a whole batch of the longest texts; half of the processors are left to texts.
        let at_once = (workers / 2).max(1);
        self.raw = bundle
            .manifest()
            .graphs
            .keys()
            .filter_map(|&role| RawGraph::new(Arc::clone(bundle), role, kind, at_once).ok())
            .collect();
        self
    }
}

impl Model for BundleModel {
    fn card(&self) -> &Card {
        &self.card
    }

    fn settings(&self, request: &DecodingOptions) -> Result<Arc<Settings>> {
        self.coder.settings(&DecodingOptions::layered([&self.options, request]))
    }

    fn encode(&self, text: &str, settings: &Settings, most_characters: usize) -> Result<SourceText> {
        self.coder.encode_within(text, settings, most_characters)
    }

    fn worker(&self, metrics: &Arc<ModelMetrics>) -> Result<Box<dyn Worker>> {
        // Forking changes nothing, so that an engine whose fork panicked is as good as before.
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).fork()?;
        let engine = Box::new(Measured { engine, metrics: Arc::clone(metrics) });
        Ok(Box::new(EngineWorker { coder: self.coder.clone(), engine }))
    }

    fn picture(&self, role: Option<Role>) -> Option<Result<Bytes>> {
        let bundle = self.bundle.as_ref()?;
        // A role that the bundle does not have is not worth remembering.
        role.is_none_or(|role| bundle.manifest().graphs.contains_key(&role)).then(|| {
            let draw = || {
                Subject::of_bundle(bundle)
                    .and_then(|subject| subject.svg(role.map_or(View::Overview, View::Graph)))
            };
            self.pictures.get(role, draw)
        })
    }

    fn raw(&self, role: Role) -> Option<&RawGraph> {
        self.raw.iter().find(|graph| graph.role() == role)
    }
}

/// An engine whose calls are timed.
struct Measured {
    engine: Box<dyn Engine>,
    metrics: Arc<ModelMetrics>,
}

impl Engine for Measured {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn target_vocabulary(&self) -> usize {
        self.engine.target_vocabulary()
    }

    fn encode(&mut self, source: &IdMatrix) -> Result<DecoderState> {
        let started = Instant::now();
        let state = self.engine.encode(source)?;
        self.metrics.encoder.time(started.elapsed());
        Ok(state)
    }

    fn step(&mut self, tokens: &[i64], state: &mut DecoderState, output: &mut StepOutput) -> Result<()> {
        let started = Instant::now();
        self.engine.step(tokens, state, output)?;
        self.metrics.step.time(started.elapsed());
        self.metrics.batch.observe(tokens.len() as f64);
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self { engine: self.engine.fork()?, metrics: Arc::clone(&self.metrics) }))
    }
}

struct EngineWorker {
    coder: TextCoder,
    engine: Box<dyn Engine>,
}

impl Worker for EngineWorker {
    fn session(&mut self) -> Box<dyn Session + '_> {
        let engine: &mut dyn Engine = &mut *self.engine;
        Box::new(LoopSession {
            coder: &self.coder,
            decoding: DecodingLoop::new(engine),
            rows: HashMap::new(),
        })
    }
}

struct LoopSession<'w> {
    coder: &'w TextCoder,
    decoding: DecodingLoop<&'w mut dyn Engine>,
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
                requests.push(Request {
                    id,
                    source: source.ids.clone(),
                    settings: Arc::clone(&settings),
                    stream,
                });
            }
            let text = stream.then(|| TextStream::new(self.coder.clone(), &source, Arc::clone(&settings)));
            self.rows.insert(id, Running { source, settings, text });
        }
        self.decoding.admit(requests);
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let empty: Vec<u64> = self
            .rows
            .iter()
            .filter(|(_, running)| running.source.ids.is_empty())
            .map(|(&row, _)| row)
            .collect();
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_picture_is_drawn_once_and_a_failed_one_is_not_tried_again() {
        let (pictures, draws) = (Pictures::default(), Cell::new(0));
        let get = |role: Role, drawn: &dyn Fn() -> Result<String>| {
            pictures.get(Some(role), || {
                draws.set(draws.get() + 1);
                drawn()
            })
        };
        for _ in 0..3 {
            let svg = get(Role::Encoder, &|| Ok("<svg/>".to_owned())).unwrap();
            let error = get(Role::Decoder, &|| Err(Error::new(ErrorKind::Bundle, "a cycle"))).unwrap_err();
            let panic = get(Role::Training, &|| panic!("a defect")).unwrap_err();
            assert_eq!(
                (&svg[..], error.kind(), error.message()),
                (&b"<svg/>"[..], ErrorKind::Bundle, "a cycle")
            );
            assert_eq!(panic.kind(), ErrorKind::Internal);
        }
        assert_eq!(draws.get(), 3);
    }
}
