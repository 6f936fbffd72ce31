//! Several translators side by side, for files.

use std::sync::Arc;

use super::bulk::{self, Worker};
use super::coder::{TextCoder, Translation};
use super::single::Translator;
use crate::decoding::{DecodingOptions, Settings};
use crate::error::{Error, ErrorKind, Result};

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
        bulk::translate(self.all(), texts, &|_| Ok(Arc::clone(settings)), settings.most_rows())
    }

    /// How probable the model holds given translations: each comes back with log p of its tokens, END's
    /// last, and their sum as `score`. The order is kept.
    ///
    /// - `pairs`: source and translation of each.
    /// - `options`: of these and of the bundle's count those that concern reading: `unknown`,
    ///   `max_input_length`, `truncate`, the languages and what is forced first, `eos_token_id`, and
    ///   `output.attention`. Rules that shape outputs do not.
    ///
    /// # Errors
    /// Of the options.
    pub fn score_each(
        &mut self,
        pairs: &[(&str, &str)],
        options: &DecodingOptions,
    ) -> Result<Vec<Result<Translation>>> {
        let coder = self.coder().clone();
        let settings = coder.scoring_settings(options)?;
        let sources: Vec<&str> = pairs.iter().map(|(source, _)| *source).collect();
        let scored = bulk::translate(self.all(), &sources, &|at| coder.forced(pairs[at].1, &settings), 1);
        let is_read = |translation: Translation| match translation.source_tokens {
            0 => {
                Err(Error::new(ErrorKind::Input, "an empty text is not given to the model, and has no score"))
            }
            _ => Ok(translation),
        };
        Ok(scored.into_iter().map(|scored| scored.and_then(is_read)).collect())
    }

    /// What translates many texts.
    fn all(&mut self) -> Vec<Worker<'_>> {
        self.workers.iter_mut().map(Translator::worker).collect()
    }
}

/// Translators that come from elsewhere, with the same weights; at least one.
impl From<Vec<Translator>> for TranslatorPool {
    fn from(workers: Vec<Translator>) -> Self {
        assert!(!workers.is_empty(), "a pool has a worker");
        Self { workers }
    }
}

impl IntoIterator for TranslatorPool {
    type Item = Translator;
    type IntoIter = std::vec::IntoIter<Translator>;

    fn into_iter(self) -> Self::IntoIter {
        self.workers.into_iter()
    }
}
