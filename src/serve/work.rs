//! The threads that decode: each admits what waits at every decoding step (continuous batching).
//!
//! A failure inside a worker (an engine's error or a panic) takes every text in it with it, so these are
//! decoded again, each alone: only the text that fails alone is answered with the failure. Texts decode the
//! same alone and in company, so a stream simply goes on after the tokens that it has already sent.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s2s_runtime::decoding::Settings;
use s2s_runtime::panics;
use s2s_runtime::translator::{SourceText, TextEvent, Token, Translation};
use s2s_runtime::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::client::Client;
use super::error::ApiError;
use super::metrics::{ModelMetrics, add};
use super::model::{Model, Worker};
use super::queue::{FairQueue, Queued, Room};

/// Source tokens, padding counted, that may join a batch at once: while the encoder reads them, no row goes
/// on. So many are a full batch of ordinary texts.
const ENCODED_TOGETHER: isize = 1024;
/// Source tokens that may join for each step that the batch has made meanwhile: as many as leave with 32 rows
/// of texts whose translations are a quarter as long.
const ENCODED_A_STEP: isize = 128;
/// Source tokens of a text that joins whatever has been encoded just before.
const SHORT: usize = 64;

/// What a worker sends about one text of a request.
#[derive(Debug)]
pub enum Reply {
    /// A new token of a text that is decoded without beams; only if the request streams.
    Token {
        /// Which text of the request.
        index: usize,
        /// The token that was just decoded.
        token: Token,
    },
    /// The text is done.
    Finished {
        /// Which text of the request.
        index: usize,
        /// What became of it.
        result: Result<Box<Translation>, ApiError>,
        /// From the queue's door to the batch.
        queued: Duration,
        /// From the batch's door to the end.
        inference: Duration,
    },
}

/// A text on its way.
pub(super) struct Entry {
    pub(super) source: SourceText,
    pub(super) settings: Arc<Settings>,
    pub(super) index: usize,
    pub(super) stream: bool,
    pub(super) reply: mpsc::Sender<Reply>,
    pub(super) enqueued: Instant,
    pub(super) admitted: Option<Instant>,
    /// Tokens sent so far, and tokens seen since the row was last admitted.
    pub(super) sent: usize,
    pub(super) seen: usize,
    pub(super) client: Client,
    pub(super) request: u64,
    pub(super) metrics: Arc<ModelMetrics>,
}

impl Queued for Entry {
    fn client(&self) -> Client {
        self.client
    }

    fn request(&self) -> u64 {
        self.request
    }

    fn cost(&self) -> u64 {
        (self.rows() * (self.source.ids.len() + self.settings.prefix.len() + self.settings.max_new_tokens))
            as u64
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Entry {
    pub(super) fn rows(&self) -> usize {
        self.settings.most_rows()
    }

    pub(super) fn finish(self, result: Result<Box<Translation>, ApiError>) {
        let now = Instant::now();
        let admitted = self.admitted.unwrap_or(now);
        let metrics = &self.metrics;
        metrics.queue.time(admitted - self.enqueued);
        metrics.inference.time(now - admitted);
        match &result {
            Ok(translation) => {
                add(&metrics.inferences, 1);
                add(&metrics.generated_tokens, generated_tokens(translation));
            }
            Err(_) => add(&metrics.failures, 1),
        }
        metrics.ended();
        let reply = Reply::Finished {
            index: self.index,
            result,
            queued: admitted - self.enqueued,
            inference: now - admitted,
        };
        // A client that has gone away is told nothing.
        let _ = self.reply.try_send(reply);
    }
}

/// Tokens of all hypotheses returned.
pub(super) fn generated_tokens(translation: &Translation) -> usize {
    translation.generated_tokens + translation.alternatives.iter().map(|a| a.generated_tokens).sum::<usize>()
}

/// What waits, and whether more may come.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) entries: FairQueue<Entry>,
    pub(super) requests: u64,
    pub(super) closed: bool,
}

/// What the handlers put in and the workers take out.
pub(super) struct Queue {
    pub(super) waiting: Mutex<Waiting>,
    pub(super) wake: Condvar,
}

impl Queue {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing inside the lock can leave the queue half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread: it has one worker after another, a new one (with a new engine) only after a failure.
pub(super) fn work(
    model: &dyn Model,
    first: Box<dyn Worker>,
    queue: &Queue,
    max_batch_size: usize,
    metrics: &Arc<ModelMetrics>,
) {
    let mut worker = Some(first);
    let mut next_id = 0;
    // Texts of a worker that failed, to be decoded alone.
    let mut suspects: VecDeque<Entry> = VecDeque::new();
    loop {
        let mut active: BTreeMap<u64, Entry> = BTreeMap::new();
        let alone = suspects.pop_front();
        if worker.is_none() && alone.is_none() && !wait_for_work(queue) {
            return;
        }
        let was_alone = alone.is_some();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let worker = match &mut worker {
                Some(worker) => worker,
                none => none.insert(model.worker(metrics)?),
            };
            decode(&mut **worker, queue, max_batch_size, alone, &mut active, &mut next_id)
        }));
        let failure = match ended {
            Ok(Ok(Ended::Closed)) => return,
            Ok(Ok(Ended::Alone)) => continue,
            Ok(Err(error)) => error,
            Err(panic) => {
                let said = panics::message(&*panic);
                Error::new(ErrorKind::Internal, format!("a worker panicked: {said}"))
            }
        };
        tracing::error!(error = %failure, rows = active.len(), "a decoding session failed");
        worker = None;
        if active.is_empty() && !was_alone {
            // The engine itself cannot be had; whoever waits is told, and the next request tries again.
            let entry = queue.lock().entries.pop(|_| Room::Free);
            active.extend(entry.map(|entry| (0, entry)));
        }
        if was_alone || active.len() == 1 {
            for (_, entry) in active {
                entry.finish(Err(ApiError::from_runtime(&failure)));
            }
        } else {
            suspects.extend(active.into_values());
        }
    }
}

enum Ended {
    /// The queue is closed and empty.
    Closed,
    /// The one row that was to be decoded alone has left.
    Alone,
}

/// Decodes until the queue is closed, or the one text that is to be decoded alone has left.
fn decode(
    worker: &mut dyn Worker,
    queue: &Queue,
    max_batch_size: usize,
    mut alone: Option<Entry>,
    active: &mut BTreeMap<u64, Entry>,
    next_id: &mut u64,
) -> Result<Ended> {
    let isolated = alone.is_some();
    let mut credit = ENCODED_TOGETHER;
    loop {
        let joining = match alone.take() {
            Some(entry) => vec![entry],
            None if isolated && active.is_empty() => return Ok(Ended::Alone),
            None if isolated => Vec::new(),
            None => match take(queue, active, max_batch_size, &mut credit) {
                Some(entries) => entries,
                None => return Ok(Ended::Closed),
            },
        };
        for mut entry in joining {
            if entry.admitted.is_none() {
                entry.admitted = Some(Instant::now());
                add(&entry.metrics.input_tokens, entry.source.ids.len());
            }
            entry.seen = 0;
            worker.admit(*next_id, entry.source.clone(), Arc::clone(&entry.settings), entry.stream);
            active.insert(*next_id, entry);
            *next_id += 1;
        }
        let gone: Vec<u64> =
            active.iter().filter(|(_, entry)| entry.reply.is_closed()).map(|(&id, _)| id).collect();
        for id in gone {
            worker.cancel(id);
            if let Some(entry) = active.remove(&id) {
                add(&entry.metrics.cancelled, 1);
            }
        }
        if active.is_empty() {
            continue;
        }
        let mut events = Vec::new();
        let stepped = worker.step(&mut events);
        for event in events {
            deliver(worker, active, event);
        }
        stepped?;
    }
}

fn deliver(worker: &mut dyn Worker, active: &mut BTreeMap<u64, Entry>, event: TextEvent) {
    match event {
        TextEvent::Done { id, translation } => {
            if let Some(entry) = active.remove(&id) {
                entry.finish(Ok(translation));
            }
        }
        TextEvent::Failed { id, error } => {
            if let Some(entry) = active.remove(&id) {
                entry.finish(Err(ApiError::from_runtime(&error)));
            }
        }
        TextEvent::Token { id, token } => {
            let Some(entry) = active.get_mut(&id) else { return };
            entry.seen += 1;
            if !entry.stream || entry.seen <= entry.sent {
                return;
            }
            if entry.sent == 0 {
                entry.metrics.first_token.time(entry.enqueued.elapsed());
            }
            entry.sent = entry.seen;
            if entry.reply.try_send(Reply::Token { index: entry.index, token }).is_err() {
                worker.cancel(id);
                add(&entry.metrics.cancelled, 1);
                active.remove(&id);
            }
        }
    }
}

/// Waits until there is something to do; false when the queue is closed and empty.
fn wait_for_work(queue: &Queue) -> bool {
    let mut waiting = queue.lock();
    while waiting.entries.is_empty() && !waiting.closed {
        waiting = queue.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
    }
    !waiting.entries.is_empty()
}

/// What joins the batch now; waits while the batch is empty; `None` when the queue is closed and nothing is
/// left to do.
///
/// A quarter more than the batch is kept for clients without any text in it, so that one who sends a word
/// does not wait for the pages of others to end.
///
/// - `credit`: source tokens that may still join; long texts are spread over the steps of a batch, so that it
///   never stands still for long.
fn take(
    queue: &Queue,
    active: &BTreeMap<u64, Entry>,
    max_batch_size: usize,
    credit: &mut isize,
) -> Option<Vec<Entry>> {
    *credit =
        if active.is_empty() { ENCODED_TOGETHER } else { (*credit + ENCODED_A_STEP).min(ENCODED_TOGETHER) };
    let mut rows: usize = active.values().map(Entry::rows).sum();
    let mut known: HashSet<Client> = active.values().map(|entry| entry.client).collect();
    let mut waiting = queue.lock();
    loop {
        let mut entries: Vec<Entry> = Vec::new();
        let mut longest = 0;
        let room = |rows: usize, spent: isize, known: &HashSet<Client>, entry: &Entry| {
            let together = rows + entry.rows();
            // Who is alone in the batch holds up nobody but itself, and whoever comes while the encoder runs.
            let is_alone = known.iter().all(|client| *client == entry.client);
            let is_spent = spent >= if is_alone { ENCODED_TOGETHER } else { *credit };
            match () {
                // Nobody waits for it: out it goes.
                () if entry.is_abandoned() => Room::Kept,
                () if is_spent && entry.source.ids.len() > SHORT => Room::Full,
                () if rows == 0 || together <= max_batch_size => {
                    if is_spent {
                        Room::Kept
                    } else {
                        Room::Free
                    }
                }
                () if together <= max_batch_size + max_batch_size / 4 && !known.contains(&entry.client) => {
                    Room::Kept
                }
                () => Room::Full,
            }
        };
        let padded = |entries: &[Entry], longest: usize| {
            isize::try_from(entries.len() * longest).unwrap_or(isize::MAX)
        };
        while let Some(entry) =
            waiting.entries.pop(|entry| room(rows, padded(&entries, longest), &known, entry))
        {
            if entry.is_abandoned() {
                add(&entry.metrics.cancelled, 1);
                continue;
            }
            rows += entry.rows();
            known.insert(entry.client);
            longest = longest.max(entry.source.ids.len());
            entries.push(entry);
        }
        *credit = (*credit - padded(&entries, longest)).max(-ENCODED_TOGETHER);
        if !entries.is_empty() || !active.is_empty() {
            return Some(entries);
        }
        if waiting.closed {
            return None;
        }
        waiting = queue.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
    }
}
