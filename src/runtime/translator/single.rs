//! Text in, text out, with one engine.

use std::ops::DerefMut;
use std::path::Path;
use std::sync::Arc;

use super::bulk::{self, Worker};
use super::coder::{TextCoder, Translation};
use super::stream::TranslationStream;
use super::text_loop::TextLoop;
use crate::bundle::Bundle;
use crate::decoding::{DEFAULT_BATCH, DecodingOptions, Settings};
use crate::engine::{self, Device, Engine, EngineKind};
use crate::error::Result;

/// Translates text with one engine.
pub struct Translator {
    coder: TextCoder,
    engine: Box<dyn Engine>,
    max_batch: usize,
}

impl std::fmt::Debug for Translator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Translator")
            .field("engine", &self.engine.name())
            .field("max_batch", &self.max_batch)
            .finish_non_exhaustive()
    }
}

impl Translator {
    /// Over an engine that runs the graphs of `bundle`.
    pub fn new(bundle: impl std::borrow::Borrow<Bundle>, engine: Box<dyn Engine>) -> Self {
        Self::from_parts(TextCoder::new(bundle.borrow()), engine)
    }

    /// Opens a bundle (folder or zip) and loads its graphs.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`engine::open`].
    pub fn open(path: impl AsRef<Path>, kind: EngineKind) -> Result<Self> {
        Self::open_on(path, kind, Device::Cpu)
    }

    /// The same on a device of choice.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`engine::open_on`].
    pub fn open_on(path: impl AsRef<Path>, kind: EngineKind, device: Device) -> Result<Self> {
        let bundle = Bundle::open(path)?;
        let engine = engine::open_on(&bundle, kind, device)?;
        Ok(Self::new(bundle, engine))
    }

    /// Over any engine and vocabularies.
    pub fn from_parts(coder: TextCoder, engine: Box<dyn Engine>) -> Self {
        Self { coder, engine, max_batch: DEFAULT_BATCH }
    }

    /// How many rows are decoded together.
    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// Sets how many rows are decoded together (beams counted); at least 1.
    #[must_use]
    pub fn with_max_batch(mut self, rows: usize) -> Self {
        self.max_batch = rows.max(1);
        self
    }

    /// Text to ids and back.
    pub fn coder(&self) -> &TextCoder {
        &self.coder
    }

    /// What runs the graphs.
    pub fn engine(&mut self) -> &mut dyn Engine {
        &mut *self.engine
    }

    /// Another translator over the same weights, for another thread.
    pub fn fork(&self) -> Result<Self> {
        Ok(Self { coder: self.coder.clone(), engine: self.engine.fork()?, max_batch: self.max_batch })
    }

    /// Translates texts; the order is kept, inside they are sorted by length and batched.
    ///
    /// # Errors
    /// Of the options, or of the first text that cannot be translated.
    pub fn translate(&mut self, texts: &[&str], options: &DecodingOptions) -> Result<Vec<Translation>> {
        self.translate_each(texts, options)?.into_iter().collect()
    }

    /// The same with a result for each text: one that cannot be translated does not fail the others.
    ///
    /// # Errors
    /// Of the options.
    pub fn translate_each(
        &mut self,
        texts: &[&str],
        options: &DecodingOptions,
    ) -> Result<Vec<Result<Translation>>> {
        let settings = self.coder.settings(options)?;
        Ok(self.translate_with(texts, &settings))
    }

    /// The same with settings of [`TextCoder::settings`].
    pub fn translate_with(&mut self, texts: &[&str], settings: &Arc<Settings>) -> Vec<Result<Translation>> {
        bulk::translate(vec![self.worker()], texts, &|_| Ok(Arc::clone(settings)), settings.most_rows())
    }

    /// What translates many texts.
    pub(super) fn worker(&mut self) -> Worker<'_> {
        Worker { coder: &self.coder, engine: &mut *self.engine, max_batch: self.max_batch }
    }

    /// Translates one text and gives it piece by piece.
    ///
    /// # Errors
    /// Of the options, and if the text cannot be read as `unknown` and `truncate` say.
    pub fn stream(
        &mut self,
        text: &str,
        options: &DecodingOptions,
    ) -> Result<TranslationStream<&mut (dyn Engine + 'static)>> {
        stream(&self.coder, &mut *self.engine, text, options)
    }

    /// The same with an engine of the stream's own.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub fn into_stream(self, text: &str, options: &DecodingOptions) -> Result<TranslationStream> {
        stream(&self.coder, self.engine, text, options)
    }
}

fn stream<E: DerefMut<Target: Engine>>(
    coder: &TextCoder,
    engine: E,
    text: &str,
    options: &DecodingOptions,
) -> Result<TranslationStream<E>> {
    let settings = coder.settings(options)?;
    let source = coder.encode(text, &settings)?;
    Ok(TranslationStream::new(TextLoop::new(coder.clone(), engine), source, settings))
}
