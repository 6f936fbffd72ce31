//! Several translators side by side, for files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{TextCoder, Translation, Translator};
use crate::decoding::{DecodingOptions, Hypothesis, Settings, decode_from};
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
        self.workers.iter().map(|w| w.max_batch).sum()
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
        translate(&mut self.workers, texts, settings)
    }
}

/// Texts on their way through the workers: each takes the next longest ones when it has room.
struct Queue<'a> {
    texts: &'a [&'a str],
    /// The longest first: texts of similar length go together, and the last ones to finish are short.
    order: Vec<usize>,
    next: AtomicUsize,
    /// Texts that a worker takes at a time, so that a few texts are shared out too.
    most: usize,
}

impl Queue<'_> {
    fn take(&self, most: usize) -> &[usize] {
        let most = most.min(self.most);
        let from = self.next.fetch_add(most, Ordering::Relaxed).min(self.order.len());
        &self.order[from..(from + most).min(self.order.len())]
    }
}

/// Translates texts on `workers`, in their order.
pub(super) fn translate(
    workers: &mut [Translator],
    texts: &[&str],
    settings: &Arc<Settings>,
) -> Vec<Result<Translation>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(texts[i].len()));
    let most = texts.len().div_ceil(workers.len().max(1)).max(1);
    let queue = Queue { texts, order, next: AtomicUsize::new(0), most };
    let mut results: Vec<Option<Result<Translation>>> = Vec::new();
    results.resize_with(texts.len(), || None);
    let mut store = |part: Vec<(usize, Result<Translation>)>| {
        part.into_iter().for_each(|(index, result)| results[index] = Some(result))
    };
    match workers {
        [worker] => store(drain(worker, &queue, settings)),
        workers => std::thread::scope(|scope| {
            let handles: Vec<_> =
                workers.iter_mut().map(|worker| scope.spawn(|| drain(worker, &queue, settings))).collect();
            // A worker that panicked has lost its texts, which get an error below.
            handles.into_iter().filter_map(|handle| handle.join().ok()).for_each(&mut store);
        }),
    }
    let lost = || Err(Error::new(ErrorKind::Internal, "a text has no result"));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

/// Translates texts of the queue until it is empty.
fn drain(
    worker: &mut Translator,
    queue: &Queue<'_>,
    settings: &Arc<Settings>,
) -> Vec<(usize, Result<Translation>)> {
    let Translator { coder, engine, max_batch } = worker;
    let finished = RefCell::new(Vec::new());
    let sources = RefCell::new(HashMap::new());
    let next = |most: usize| loop {
        let taken = queue.take(most);
        if taken.is_empty() {
            return Vec::new();
        }
        let mut requests = Vec::with_capacity(taken.len());
        for &index in taken {
            match coder.encode(queue.texts[index], settings) {
                Ok(source) if source.ids.is_empty() => {
                    finished.borrow_mut().push((index, Ok(coder.translation(&source, Vec::new(), settings))));
                }
                Ok(source) => {
                    requests.push((index, source.ids.clone()));
                    sources.borrow_mut().insert(index, source);
                }
                Err(error) => finished.borrow_mut().push((index, Err(error))),
            }
        }
        if !requests.is_empty() {
            return requests;
        }
    };
    let done = |index: usize, result: Result<Vec<Hypothesis>>| {
        let source = sources.borrow_mut().remove(&index).unwrap_or_default();
        finished
            .borrow_mut()
            .push((index, result.map(|hypotheses| coder.translation(&source, hypotheses, settings))));
    };
    decode_from(&mut **engine, next, done, settings, *max_batch);
    finished.into_inner()
}
