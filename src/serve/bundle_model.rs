//! A bundle as a [`Model`]: the runtime's text loop over an engine whose calls are timed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use s2s_runtime::Result;
use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::engine::{Engine, IdMatrix, Observed, Observer};
use s2s_runtime::translator::{SourceText, TextCoder, TextLoop};

use super::metrics::ModelMetrics;
use super::model::{Card, Model, Worker};

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
    pub fn new(
        card: Card,
        coder: TextCoder,
        engine: Box<dyn Engine>,
        options: DecodingOptions,
    ) -> Result<Self> {
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

    fn encode(&self, text: &str, settings: &Settings, most_characters: usize) -> Result<SourceText> {
        self.coder.encode_within(text, settings, most_characters)
    }

    fn worker(&self, metrics: &Arc<ModelMetrics>) -> Result<Box<dyn Worker>> {
        // Forking changes nothing, so that an engine whose fork panicked is as good as before.
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).fork()?;
        let engine: Box<dyn Engine> =
            Box::new(Observed::new(engine, Arc::new(Measured(Arc::clone(metrics)))));
        Ok(Box::new(TextLoop::new(self.coder.clone(), engine)))
    }
}

/// What the engine's calls take.
struct Measured(Arc<ModelMetrics>);

impl Observer for Measured {
    fn encoded(&self, _: &IdMatrix, took: Duration) {
        self.0.encoder.time(took);
    }

    fn stepped(&self, rows: usize, took: Duration) {
        self.0.step.time(took);
        self.0.batch.observe(rows as f64);
    }
}
