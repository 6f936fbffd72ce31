//! Several translators side by side, for files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{TextCoder, Translation, Translator};
use crate::decoding::{DecodingOptions, Settings};
use crate::error::{Error, ErrorKind, Result};

/// As many workers as the process may use processors: the affinity mask and the cgroup's CPU quota are respected.
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
        self.workers.iter().map(|w| w.max_batch).sum()
    }

    /// Text to ids and back.
    pub fn coder(&self) -> &TextCoder {
        self.workers[0].coder()
    }

    /// Translates texts on all workers; the order is kept, and the result does not depend on the number of workers.
    ///
    /// # Errors
    /// Of the options.
    pub fn translate_each(&mut self, texts: &[&str], options: &DecodingOptions) -> Result<Vec<Result<Translation>>> {
        let settings = self.coder().settings(options)?;
        Ok(self.translate_with(texts, &settings))
    }

    /// The same with settings of [`TextCoder::settings`].
    pub fn translate_with(&mut self, texts: &[&str], settings: &Arc<Settings>) -> Vec<Result<Translation>> {
        if self.workers.len() == 1 {
            return self.workers[0].translate_with(texts, settings);
        }
        // Shares of similar length, the longest first, so that the workers finish together.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(texts[i].len()));
        let share = texts.len().div_ceil(self.workers.len() * 4).max(self.workers[0].max_batch);
        let shares: Vec<&[usize]> = order.chunks(share).collect();
        let next = AtomicUsize::new(0);
        let lost = || Err(Error::new(ErrorKind::Internal, "a worker ended without a result"));
        let results = Mutex::new((0..texts.len()).map(|_| None).collect::<Vec<Option<Result<Translation>>>>());
        std::thread::scope(|scope| {
            for worker in &mut self.workers {
                scope.spawn(|| {
                    let worker = worker;
                    while let Some(&share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let batch: Vec<&str> = share.iter().map(|&i| texts[i]).collect();
                        let translations = worker.translate_with(&batch, settings);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        for (&index, translation) in share.iter().zip(translations) {
                            results[index] = Some(translation);
                        }
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().map(|r| r.unwrap_or_else(lost)).collect()
    }
}
