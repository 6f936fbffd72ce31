//! Several translators side by side, for files.

use std::sync::Arc;

use super::bulk;
use super::coder::{TextCoder, Translation};
use super::single::Translator;
use crate::decoding::{DecodingOptions, Settings};
use crate::error::Result;

/// As many workers as the process may use processors: the affinity mask and the cgroup's CPU quota are
/// respected.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Workers with an engine each, sharing the weights where the engine can.
#[derive(Debug)]
pub struct TranslatorPool {
    workers: Vec<Translator>,
}

impl TranslatorPool {
    /// `workers` copies of `first` (at least one: itself).
    ///
    /// # Errors
    /// If the engine cannot be forked.
    pub fn new(first: Translator, workers: usize) -> Result<Self> {
        let mut all = Vec::with_capacity(workers.max(1));
        for _ in 1..workers {
            all.push(first.fork()?);
        }
        all.push(first);
        Ok(Self { workers: all })
    }

    /// Workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Rows that all workers decode together.
    pub fn rows(&self) -> usize {
        self.workers.iter().map(Translator::max_batch).sum()
    }

    /// Text to ids and back.
    pub fn coder(&self) -> &TextCoder {
        self.workers[0].coder()
    }

    /// Translates texts on all workers; the order is kept, and the result does not depend on the number of
    /// workers.
    ///
    /// # Errors
    /// Of the options.
    pub fn translate_each(
        &mut self,
        texts: &[&str],
        options: &DecodingOptions,
    ) -> Result<Vec<Result<Translation>>> {
        let settings = self.coder().settings(options)?;
        Ok(self.translate_with(texts, &settings))
    }

    /// The same with settings of [`TextCoder::settings`].
    pub fn translate_with(&mut self, texts: &[&str], settings: &Arc<Settings>) -> Vec<Result<Translation>> {
        bulk::translate(self.workers.iter_mut().map(Translator::worker).collect(), texts, settings)
    }
}
