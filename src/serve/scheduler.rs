//! The front door of a model: what is asked is checked, encoded and put into a bounded queue, before the
//! threads of `work`, which join requests of many clients into batches.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::translator::{SourceText, Translation};
use s2s_runtime::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::client::{Caller, Client};
use super::error::{ApiError, Fault};
use super::graphs::Graphs;
use super::limits::Limits;
use super::metrics::{ModelMetrics, add};
use super::model::Model;
use super::offload;
use super::work::{Entry, Queue, Reply, Waiting, generated_tokens, work};

/// Replies on one text that a slow reader may leave unread before its row is dropped.
const UNREAD_REPLIES: usize = 4096;
/// Bytes of a request's texts that are encoded at once, under a millisecond's work; more is encoded beside
/// the event loop.
const ENCODED_AT_ONCE: usize = 4096;
/// Characters of a text, before, between and after the steps of its normalisation, for each token that it may
/// have: white space that goes again and the letters of long words count.
const CHARACTERS_A_TOKEN: usize = 128;
/// What a token takes as an id and in the text of its hypothesis.
const TEXT_BYTES: usize = 12;
/// What a token takes as a text of its own, in memory and in JSON.
const STRING_BYTES: usize = 64;
/// What a number takes, in memory and in JSON.
const NUMBER_BYTES: usize = 18;

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

/// A model behind its queue and its worker threads.
pub struct Scheduler {
    model: Arc<dyn Model>,
    graphs: Graphs,
    queue: Arc<Queue>,
    max_queue: usize,
    max_batch_size: usize,
    max_client_batch: usize,
    max_input_tokens: usize,
    max_new_tokens: usize,
    max_answer: usize,
    metrics: Arc<ModelMetrics>,
    workers: usize,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler")
            .field("model", &self.model.card().name)
            .field("waiting", &self.depth())
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Starts `workers` threads, each with an engine of its own.
    ///
    /// # Errors
    /// What [`Model::worker`] gives.
    pub fn start(
        model: Arc<dyn Model>,
        workers: usize,
        limits: &Limits,
        metrics: &Arc<ModelMetrics>,
    ) -> Result<Self> {
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Condvar::new() });
        let scheduler = Self {
            graphs: Graphs::default(),
            queue: Arc::clone(&queue),
            max_queue: limits.max_queue,
            max_batch_size: limits.max_batch_size,
            max_client_batch: limits.max_client_batch,
            max_input_tokens: limits.max_input_tokens,
            max_new_tokens: limits.max_new_tokens,
            max_answer: limits.max_answer,
            metrics: Arc::clone(metrics),
            workers: workers.max(1),
            threads: Mutex::default(),
            model,
        };
        for number in 0..scheduler.workers {
            let worker = scheduler.model.worker(metrics)?;
            let (model, queue, metrics) =
                (Arc::clone(&scheduler.model), Arc::clone(&queue), Arc::clone(metrics));
            let max_batch_size = limits.max_batch_size;
            let handle = thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || work(&*model, worker, &queue, max_batch_size, &metrics))
                .map_err(|cause| Error::new(ErrorKind::Io, "no thread for a worker").caused_by(cause))?;
            scheduler.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        }
        Ok(scheduler)
    }

    /// Serves the graphs of the model as they are, too.
    #[must_use]
    pub fn with_graphs(mut self, graphs: Graphs) -> Self {
        self.graphs = graphs;
        self
    }

    /// The graphs that are served as they are.
    pub fn graphs(&self) -> &Graphs {
        &self.graphs
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
        let rows = settings.most_rows();
        if rows > self.max_batch_size {
            let message = format!("{rows} beams or samples a text, the limit is {}", self.max_batch_size);
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
        if let Some(asked) = request.max_new_tokens.filter(|&asked| asked > self.max_new_tokens) {
            let message =
                format!("`max_new_tokens`: {asked} asked for, the limit is {}", self.max_new_tokens);
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
        if settings.max_new_tokens > self.max_new_tokens {
            let settings = Arc::make_mut(&mut settings);
            settings.max_new_tokens = self.max_new_tokens;
            settings.min_new_tokens = settings.min_new_tokens.min(self.max_new_tokens);
        }
        if settings.max_input_length.is_none_or(|most| most > self.max_input_tokens) {
            Arc::make_mut(&mut settings).max_input_length = Some(self.max_input_tokens);
        }
        if settings.prefix.len() > self.max_input_tokens {
            let message = format!(
                "`target_prefix`: {} tokens, the limit is {}",
                settings.prefix.len(),
                self.max_input_tokens
            );
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
        Ok(settings)
    }

    /// Texts of a request that may wait at once.
    pub(super) fn most_together(&self) -> usize {
        self.max_client_batch
    }

    /// Whether one request may have so many texts.
    pub(super) fn check_texts(&self, texts: usize) -> Result<(), ApiError> {
        if texts <= self.max_client_batch {
            return Ok(());
        }
        Err(ApiError::new(
            Fault::TooLong,
            format!("{texts} texts in one request, the limit is {}", self.max_client_batch),
        ))
    }

    /// Texts as the model reads them. Long ones are encoded beside the event loop.
    ///
    /// # Errors
    /// What is wrong with the first of them that is wrong.
    pub(super) async fn encode_each(
        &self,
        texts: Vec<String>,
        settings: &Arc<Settings>,
    ) -> Result<Vec<SourceText>, Misread> {
        let most_characters = self.max_input_tokens.saturating_mul(CHARACTERS_A_TOKEN);
        if texts.iter().map(String::len).sum::<usize>() <= ENCODED_AT_ONCE {
            return encode_all(&*self.model, &texts, settings, most_characters);
        }
        let (model, settings) = (Arc::clone(&self.model), Arc::clone(settings));
        let encoded = offload::run(move || encode_all(&*model, &texts, &settings, most_characters)).await;
        encoded.map_err(|error| Misread { index: 0, error })?
    }

    /// Whether all that the hypotheses of a request may take is within the limit.
    ///
    /// - `lengths`: source tokens of each text.
    pub(super) fn check_answer(&self, lengths: &[usize], settings: &Settings) -> Result<(), ApiError> {
        let attends = settings.keeps_attention() && self.model.card().has_attention;
        let bytes_of = |&tokens: &usize| {
            let text =
                TEXT_BYTES + if settings.token_scores || settings.attention { STRING_BYTES } else { 0 };
            let numbers = usize::from(settings.token_scores) + if attends { tokens } else { 0 };
            settings.most_tokens().saturating_mul(text + numbers * NUMBER_BYTES)
        };
        let bytes = lengths.iter().map(bytes_of).fold(0, usize::saturating_add);
        if bytes <= self.max_answer {
            return Ok(());
        }
        let longest = lengths.iter().max().unwrap_or(&0);
        let attention =
            if attends { format!(" with attention on up to {longest} source tokens") } else { String::new() };
        let message = format!(
            "{} texts, {} hypotheses each, up to {} tokens{attention}: the answer may take {bytes} bytes, \
             the limit is {}; \
             ask for fewer beams or samples, fewer tokens (max_new_tokens), fewer texts, or no attention",
            lengths.len(),
            settings.most_hypotheses(),
            settings.max_new_tokens,
            self.max_answer
        );
        Err(ApiError::new(Fault::TooLong, message))
    }

    /// Puts the texts of a request into the queue, all or none. Dropping the receiver cancels them.
    ///
    /// - `sources`: token ids of each text, in the order of the answers.
    ///
    /// # Errors
    /// A full queue, or a server that is shutting down.
    pub fn submit(
        &self,
        sources: Vec<SourceText>,
        settings: &Arc<Settings>,
        stream: bool,
        client: Client,
    ) -> Result<mpsc::Receiver<Reply>, ApiError> {
        let (reply, receiver) = mpsc::channel(if stream { UNREAD_REPLIES } else { 1 } * sources.len().max(1));
        let enqueued = Instant::now();
        let mut waiting = self.queue.lock();
        if waiting.closed {
            return Err(ApiError::new(Fault::Draining, "the server is shutting down"));
        }
        waiting.requests += 1;
        let request = waiting.requests;
        let entries: Vec<Entry> = (0..)
            .zip(sources)
            .map(|(index, source)| Entry {
                source,
                settings: Arc::clone(settings),
                index,
                stream,
                reply: reply.clone(),
                enqueued,
                admitted: None,
                sent: 0,
                seen: 0,
                client,
                request,
                metrics: Arc::clone(&self.metrics),
            })
            .collect();
        let full = |waiting: &Waiting| waiting.entries.len() + entries.len() > self.max_queue;
        if full(&waiting) {
            let gone = waiting.entries.take_abandoned();
            add(&self.metrics.cancelled, gone.len());
        }
        let mut shed = Vec::new();
        if full(&waiting) {
            shed = waiting.entries.shed(client, entries.len(), self.max_queue);
        }
        let texts = entries.len();
        // An empty queue takes any request, however the limits are set.
        let refused = !waiting.entries.is_empty() && full(&waiting);
        if !refused {
            waiting.entries.push(entries);
        }
        drop(waiting);
        let overloaded = || ApiError::new(Fault::Overloaded, "the queue is full; try again later");
        for entry in shed {
            entry.finish(Err(overloaded()));
        }
        if refused {
            return Err(overloaded());
        }
        // Whoever waits has no text under way, so that one worker a text is enough; all of them would wake to
        // find nothing.
        (0..texts.min(self.workers)).for_each(|_| self.queue.wake.notify_one());
        Ok(receiver)
    }

    /// Decodes texts of a request.
    ///
    /// # Errors
    /// As [`Self::submit`]; the first failure of any text; the deadline.
    pub async fn decode(
        &self,
        sources: Vec<SourceText>,
        settings: &Arc<Settings>,
        caller: Caller,
    ) -> Result<Answer, ApiError> {
        let mut done: Vec<Option<Translation>> = vec![None; sources.len()];
        let mut receiver = self.submit(sources, settings, false, caller.client)?;
        let (mut queued, mut inference) = (Duration::ZERO, Duration::ZERO);
        while done.iter().any(Option::is_none) {
            let reply = tokio::time::timeout_at(caller.deadline.into(), receiver.recv())
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
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .all(thread::JoinHandle::is_finished)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

/// A text that cannot be read.
#[derive(Debug)]
pub(super) struct Misread {
    /// Which text of the request.
    pub(super) index: usize,
    /// Why it cannot be decoded.
    pub(super) error: ApiError,
}

fn encode_all(
    model: &dyn Model,
    texts: &[String],
    settings: &Settings,
    most_characters: usize,
) -> Result<Vec<SourceText>, Misread> {
    let encode = |(index, text): (usize, &String)| {
        let encoded = model.encode(text, settings, most_characters);
        encoded.map_err(|error| Misread { index, error: ApiError::from_runtime(&error) })
    };
    texts.iter().enumerate().map(encode).collect()
}
