//! A bounded queue before worker threads; each admits what waits at every decoding step (continuous batching).
//!
//! A failure inside a session (an engine's error or a panic) takes every row of that session with it, so the rows are
//! decoded again, each alone: only the row that fails alone is answered with the failure. Rows decode the same alone
//! and in company, so a stream simply goes on after the tokens that it has already sent.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use s2s_runtime::decoding::{DecodingOptions, Settings, Truncate};
use s2s_runtime::translator::{SourceText, Translation};
use s2s_runtime::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::error::{ApiError, Fault};
use super::limits::Limits;
use super::metrics::{ModelMetrics, add};
use super::model::{Event, Model, Row, Session, Token, Worker};

/// Replies that a slow reader may leave unread before its row is dropped.
const UNREAD_REPLIES: usize = 4096;

/// What a worker sends about one text of a request.
#[derive(Debug)]
pub enum Reply {
    /// A new token of a text that is decoded without beams; only if the request streams.
    Token {
        /// Which text of the request.
        index: usize,
        /// Its token.
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

/// All texts of a request, decoded.
#[derive(Debug)]
pub struct Answer {
    /// In the order of the request.
    pub texts: Vec<Translation>,
    /// The longest wait of any text.
    pub queued: Duration,
    /// The longest decoding of any text.
    pub inference: Duration,
    /// Tokens of all hypotheses returned.
    pub generated_tokens: usize,
}

struct Entry {
    source: SourceText,
    settings: Arc<Settings>,
    index: usize,
    stream: bool,
    reply: mpsc::Sender<Reply>,
    enqueued: Instant,
    admitted: Option<Instant>,
    /// Tokens sent so far, and tokens seen since the row was last admitted.
    sent: usize,
    seen: usize,
    metrics: Arc<ModelMetrics>,
}

impl Entry {
    fn rows(&self) -> usize {
        rows(&self.settings)
    }

    fn finish(self, result: Result<Box<Translation>, ApiError>) {
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
        let reply = Reply::Finished { index: self.index, result, queued: admitted - self.enqueued, inference: now - admitted };
        // A client that has gone away is told nothing.
        let _ = self.reply.try_send(reply);
    }
}

/// Tokens of all hypotheses returned.
pub(super) fn generated_tokens(translation: &Translation) -> usize {
    translation.generated_tokens + translation.alternatives.iter().map(|a| a.generated_tokens).sum::<usize>()
}

/// Rows of the batch that one text takes.
fn rows(settings: &Settings) -> usize {
    if settings.do_sample { settings.num_beams.max(settings.num_return_sequences) } else { settings.num_beams }
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    closed: bool,
}

struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing inside the lock can leave the queue half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model behind its queue and its worker threads.
pub struct Scheduler {
    model: Arc<dyn Model>,
    queue: Arc<Queue>,
    max_queue: usize,
    max_batch_size: usize,
    max_client_batch: usize,
    max_input_tokens: usize,
    max_new_tokens: usize,
    metrics: Arc<ModelMetrics>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("model", &self.model.card().name).field("waiting", &self.depth()).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Starts `workers` threads, each with an engine of its own.
    ///
    /// # Errors
    /// What [`Model::worker`] gives.
    pub fn start(model: Arc<dyn Model>, workers: usize, limits: &Limits, metrics: &Arc<ModelMetrics>) -> Result<Self> {
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Condvar::new() });
        let scheduler = Self {
            queue: Arc::clone(&queue),
            max_queue: limits.max_queue,
            max_batch_size: limits.max_batch_size,
            max_client_batch: limits.max_client_batch,
            max_input_tokens: limits.max_input_tokens,
            max_new_tokens: limits.max_new_tokens,
            metrics: Arc::clone(metrics),
            threads: Mutex::default(),
            model,
        };
        for number in 0..workers.max(1) {
            let worker = scheduler.model.worker(metrics)?;
            let (model, queue, metrics) = (Arc::clone(&scheduler.model), Arc::clone(&queue), Arc::clone(metrics));
            let max_batch_size = limits.max_batch_size;
            let handle = thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || work(&*model, worker, &queue, max_batch_size, &metrics))
                .map_err(|cause| Error::new(ErrorKind::Io, "no thread for a worker").caused_by(cause))?;
            scheduler.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        }
        Ok(scheduler)
    }

    /// What is served.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }

    /// What it has done.
    pub fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// Texts that wait for a worker.
    pub fn depth(&self) -> usize {
        self.queue.lock().entries.len()
    }

    /// A request's options over the server's and the bundle's, checked and held within the server's limits.
    ///
    /// # Errors
    /// The option that is wrong or beyond a limit.
    pub fn settings(&self, request: &DecodingOptions) -> Result<Arc<Settings>, ApiError> {
        let mut settings = self.model.settings(request).map_err(|error| ApiError::from_runtime(&error))?;
        if rows(&settings) > self.max_batch_size {
            let message = format!("{} beams or samples a text, the limit is {}", rows(&settings), self.max_batch_size);
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
        if let Some(asked) = request.max_new_tokens.filter(|&asked| asked > self.max_new_tokens) {
            let message = format!("`max_new_tokens`: {asked} asked for, the limit is {}", self.max_new_tokens);
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
        if settings.max_new_tokens > self.max_new_tokens {
            let settings = Arc::make_mut(&mut settings);
            settings.max_new_tokens = self.max_new_tokens;
            settings.min_new_tokens = settings.min_new_tokens.min(self.max_new_tokens);
        }
        if settings.truncate != Truncate::Error && settings.max_input_length.is_none_or(|most| most > self.max_input_tokens) {
            Arc::make_mut(&mut settings).max_input_length = Some(self.max_input_tokens);
        }
        Ok(settings)
    }

    /// Checks texts and puts them into the queue, all or none. Dropping the receiver cancels them.
    ///
    /// # Errors
    /// What is wrong with a text, a full queue, or a server that is shutting down.
    pub fn submit(&self, texts: &[String], settings: &Arc<Settings>, stream: bool) -> Result<mpsc::Receiver<Reply>, ApiError> {
        if texts.len() > self.max_client_batch {
            let message = format!("{} texts in one request, the limit is {}", texts.len(), self.max_client_batch);
            return Err(ApiError::new(Fault::TooLong, message));
        }
        let (reply, receiver) = mpsc::channel(if stream { UNREAD_REPLIES } else { texts.len().max(1) });
        let enqueued = Instant::now();
        let mut entries = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let source = self.model.encode(text, settings).map_err(|error| ApiError::from_runtime(&error))?;
            if source.ids.len() > self.max_input_tokens {
                let message = format!("text {index} has {} tokens, the limit is {}", source.ids.len(), self.max_input_tokens);
                return Err(ApiError::new(Fault::TooLong, message));
            }
            entries.push(Entry {
                source,
                settings: Arc::clone(settings),
                index,
                stream,
                reply: reply.clone(),
                enqueued,
                admitted: None,
                sent: 0,
                seen: 0,
                metrics: Arc::clone(&self.metrics),
            });
        }
        let mut waiting = self.queue.lock();
        if waiting.closed {
            return Err(ApiError::new(Fault::Draining, "the server is shutting down"));
        }
        if waiting.entries.len() + entries.len() > self.max_queue {
            waiting.entries.retain(|entry| !entry.reply.is_closed());
        }
        // An empty queue takes any request, however the limits are set.
        if !waiting.entries.is_empty() && waiting.entries.len() + entries.len() > self.max_queue {
            return Err(ApiError::new(Fault::Overloaded, "the queue is full; try again later"));
        }
        waiting.entries.extend(entries);
        drop(waiting);
        self.queue.wake.notify_all();
        Ok(receiver)
    }

    /// Decodes all texts of a request.
    ///
    /// # Errors
    /// As [`Scheduler::submit`]; the first failure of any text; the deadline.
    pub async fn translate(&self, texts: &[String], settings: &Arc<Settings>, deadline: Instant) -> Result<Answer, ApiError> {
        let mut receiver = self.submit(texts, settings, false)?;
        let mut done: Vec<Option<Translation>> = vec![None; texts.len()];
        let (mut queued, mut inference) = (Duration::ZERO, Duration::ZERO);
        while done.iter().any(Option::is_none) {
            let reply = tokio::time::timeout_at(deadline.into(), receiver.recv())
                .await
                .map_err(|_| ApiError::new(Fault::Deadline, "no answer within the request timeout"))?;
            match reply {
                Some(Reply::Finished { index, result, queued: waited, inference: took }) => {
                    queued = queued.max(waited);
                    inference = inference.max(took);
                    done[index] = Some(*result?);
                }
                Some(Reply::Token { .. }) => {}
                None => return Err(ApiError::new(Fault::Internal, "the model failed on this request")),
            }
        }
        let texts: Vec<Translation> = done.into_iter().flatten().collect();
        let generated_tokens = texts.iter().map(generated_tokens).sum();
        Ok(Answer { texts, queued, inference, generated_tokens })
    }

    /// Takes no more requests; the workers end when the queue is empty.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_all();
    }

    /// Whether every worker has ended, after [`Scheduler::close`].
    pub fn is_finished(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().all(thread::JoinHandle::is_finished)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

/// A worker's thread: sessions one after another, a new one (and a new engine) only after a failure.
fn work(model: &dyn Model, first: Box<dyn Worker>, queue: &Queue, max_batch_size: usize, metrics: &Arc<ModelMetrics>) {
    let mut worker = Some(first);
    // Rows of a failed session, to be decoded alone.
    let mut suspects: VecDeque<Entry> = VecDeque::new();
    loop {
        let mut active: BTreeMap<u64, Entry> = BTreeMap::new();
        let alone = suspects.pop_front();
        if worker.is_none() && alone.is_none() && !wait_for_work(queue) {
            return;
        }
        let was_alone = alone.is_some();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let engine = match &mut worker {
                Some(engine) => engine,
                none => none.insert(model.worker(metrics)?),
            };
            run_session(&mut *engine.session(), queue, max_batch_size, alone, &mut active)
        }));
        let failure = match ended {
            Ok(Ok(Ended::Closed)) => return,
            Ok(Ok(Ended::Alone)) => continue,
            Ok(Err(error)) => error,
            Err(panic) => Error::new(ErrorKind::Internal, format!("a worker panicked: {}", panic_message(&*panic))),
        };
        tracing::error!(error = %failure, rows = active.len(), "a decoding session failed");
        worker = None;
        if active.is_empty() && !was_alone {
            // The engine itself cannot be had; whoever waits is told, and the next request tries again.
            let entry = queue.lock().entries.pop_front();
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

fn run_session(
    session: &mut dyn Session,
    queue: &Queue,
    max_batch_size: usize,
    mut alone: Option<Entry>,
    active: &mut BTreeMap<u64, Entry>,
) -> Result<Ended> {
    let isolated = alone.is_some();
    let mut next_id = 0;
    loop {
        let joining = match alone.take() {
            Some(entry) => vec![entry],
            None if isolated && active.is_empty() => return Ok(Ended::Alone),
            None if isolated => Vec::new(),
            None => match take(queue, active, max_batch_size) {
                Some(entries) => entries,
                None => return Ok(Ended::Closed),
            },
        };
        let mut rows = Vec::with_capacity(joining.len());
        for mut entry in joining {
            if entry.admitted.is_none() {
                entry.admitted = Some(Instant::now());
                add(&entry.metrics.input_tokens, entry.source.ids.len());
            }
            entry.seen = 0;
            rows.push(Row { id: next_id, source: entry.source.clone(), settings: Arc::clone(&entry.settings), stream: entry.stream });
            active.insert(next_id, entry);
            next_id += 1;
        }
        if !rows.is_empty() {
            session.admit(rows)?;
        }
        let gone: Vec<u64> = active.iter().filter(|(_, entry)| entry.reply.is_closed()).map(|(&id, _)| id).collect();
        for id in gone {
            session.cancel(id);
            if let Some(entry) = active.remove(&id) {
                add(&entry.metrics.cancelled, 1);
            }
        }
        if active.is_empty() {
            continue;
        }
        let mut events = Vec::new();
        let stepped = session.step(&mut events);
        for event in events {
            deliver(session, active, event);
        }
        stepped?;
    }
}

fn deliver(session: &mut dyn Session, active: &mut BTreeMap<u64, Entry>, event: Event) {
    match event {
        Event::Finished { row, translation } => {
            if let Some(entry) = active.remove(&row) {
                entry.finish(Ok(translation));
            }
        }
        Event::Failed { row, error } => {
            if let Some(entry) = active.remove(&row) {
                entry.finish(Err(ApiError::from_runtime(&error)));
            }
        }
        Event::Token { row, token } => {
            let Some(entry) = active.get_mut(&row) else { return };
            entry.seen += 1;
            if !entry.stream || entry.seen <= entry.sent {
                return;
            }
            if entry.sent == 0 {
                entry.metrics.first_token.time(entry.enqueued.elapsed());
            }
            entry.sent = entry.seen;
            if entry.reply.try_send(Reply::Token { index: entry.index, token }).is_err() {
                session.cancel(row);
                add(&entry.metrics.cancelled, 1);
                active.remove(&row);
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

/// What joins the batch now; waits while the batch is empty; `None` when the queue is closed and nothing is left to do.
fn take(queue: &Queue, active: &BTreeMap<u64, Entry>, max_batch_size: usize) -> Option<Vec<Entry>> {
    let mut rows: usize = active.values().map(Entry::rows).sum();
    let mut waiting = queue.lock();
    loop {
        let mut entries = Vec::new();
        while let Some(entry) = waiting.entries.front() {
            if entry.reply.is_closed() {
                add(&entry.metrics.cancelled, 1);
                waiting.entries.pop_front();
                continue;
            }
            if rows > 0 && rows + entry.rows() > max_batch_size {
                break;
            }
            rows += entry.rows();
            entries.extend(waiting.entries.pop_front());
        }
        if !entries.is_empty() || !active.is_empty() {
            return Some(entries);
        }
        if waiting.closed {
            return None;
        }
        waiting = queue.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "without a message",
    }
}
