//! Many texts on one or several engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::coder::{TextCoder, Translation};
use super::text_loop::{TextEvent, TextLoop};
use crate::decoding::Settings;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// What one thread translates with.
pub(super) struct Worker<'a> {
    pub(super) coder: &'a TextCoder,
    pub(super) engine: &'a mut dyn Engine,
    /// Rows that are decoded together.
    pub(super) max_batch: usize,
}

/// How the text at a place is decoded.
pub(super) type SettingsOf<'a> = dyn Fn(usize) -> Result<Arc<Settings>> + Sync + 'a;

/// Texts on their way through the workers: each takes the next longest ones when it has room.
struct Queue<'a> {
    texts: &'a [&'a str],
    settings: &'a SettingsOf<'a>,
    /// Rows that a text may take at most.
    most_rows: usize,
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
///
/// - `settings`: of each text, by its place.
/// - `most_rows`: the most rows that one of them asks for.
pub(super) fn translate<'a>(
    workers: Vec<Worker<'_>>,
    texts: &'a [&'a str],
    settings: &'a SettingsOf<'a>,
    most_rows: usize,
) -> Vec<Result<Translation>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(texts[i].len()));
    let most = texts.len().div_ceil(workers.len().max(1)).max(1);
    let queue = Queue { texts, settings, most_rows, order, next: AtomicUsize::new(0), most };
    let mut results: Vec<Option<Result<Translation>>> = Vec::new();
    results.resize_with(texts.len(), || None);
    let mut store = |part: Vec<(usize, Result<Translation>)>| {
        part.into_iter().for_each(|(index, result)| results[index] = Some(result));
    };
    match <[_; 1]>::try_from(workers) {
        Ok([worker]) => store(drain(worker, &queue)),
        Err(workers) => std::thread::scope(|scope| {
            let queue = &queue;
            let handles: Vec<_> =
                workers.into_iter().map(|worker| scope.spawn(move || drain(worker, queue))).collect();
            // A worker that panicked has lost its texts, which get an error below.
            handles.into_iter().filter_map(|handle| handle.join().ok()).for_each(&mut store);
        }),
    }
    let lost = || Err(Error::new(ErrorKind::Internal, "a text has no result"));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

/// Translates texts of the queue until it is empty.
fn drain(worker: Worker<'_>, queue: &Queue<'_>) -> Vec<(usize, Result<Translation>)> {
    let at_once = (worker.max_batch / queue.most_rows.max(1)).max(1);
    let mut texts = TextLoop::new(worker.coder.clone(), worker.engine).with_room(at_once);
    let mut finished = Vec::new();
    loop {
        while texts.has_room() {
            let taken = queue.take(at_once);
            if taken.is_empty() {
                break;
            }
            for &index in taken {
                let read = (queue.settings)(index)
                    .and_then(|settings| Ok((worker.coder.encode(queue.texts[index], &settings)?, settings)));
                match read {
                    Ok((source, settings)) => texts.admit(index as u64, source, settings, false),
                    Err(error) => finished.push((index, Err(error))),
                }
            }
        }
        if texts.is_idle() {
            return finished;
        }
        for event in texts.step() {
            #[expect(clippy::cast_possible_truncation, reason = "it was an index")]
            match event {
                TextEvent::Token { .. } => {}
                TextEvent::Done { id, translation } => finished.push((id as usize, Ok(*translation))),
                TextEvent::Failed { id, error } => finished.push((id as usize, Err(error))),
            }
        }
    }
}
