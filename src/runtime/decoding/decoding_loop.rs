//! Continuous batching: requests join and leave between any two steps.
//!
//! Where rows of any age run side by side, there is one batch, which all of them join. Where rows must be
//! of one age ([`Joins::SameAge`]), what comes between two steps is a batch of its own, a cohort, and
//! cohorts take turns. A decoder step costs a pass over all weights whatever its rows, so that few large
//! cohorts are quick and many small ones are not: requests that find [`FEW_COHORTS`] running wait,
//! together, until one ends, or until they have waited for [`PATIENCE`] turns. The few may then be long,
//! and who waits shall not wait for the end of the longest: a further cohort begins, up to
//! [`MOST_COHORTS`].

use std::collections::VecDeque;
use std::ops::{DerefMut, Range};
use std::time::Instant;

use super::cohort::{Cohort, Shared};
use super::company::by_length;
use super::request::{Event, FinishReason, Request};
use crate::engine::{Encoded, Engine, IdMatrix, Joins, Lengths};
use crate::error::{Error, ErrorKind, Result};

/// Cohorts that begin as soon as there is something to run.
pub(super) const FEW_COHORTS: usize = 2;
/// Cohorts that run at most.
pub(super) const MOST_COHORTS: usize = 8;
/// Turns that requests wait for one of a few cohorts to end.
pub(super) const PATIENCE: usize = 16;

/// Decodes any number of requests side by side.
///
/// A request's result depends on its source and settings alone: not on what else runs, nor on when it joined.
/// (An engine may round a row differently in batches of different sizes; the exporter's verification checks
/// that no token changes.)
///
/// - `E`: the engine, owned (`Box<dyn Engine>`) or lent (`&mut dyn Engine`).
pub struct DecodingLoop<E = Box<dyn Engine>> {
    engine: E,
    /// None is without a request.
    cohorts: Vec<Cohort>,
    shared: Shared,
    prepared: VecDeque<Prepared>,
    /// Requests that cannot run beside those that are running, and when they came.
    waiting: Vec<(Request, Instant)>,
    /// Turns that they have waited.
    waited: usize,
}

/// Requests that are encoded and wait for a place, the first `taken` of them gone already.
struct Prepared {
    requests: VecDeque<Request>,
    encoded: Encoded,
    taken: usize,
}

impl<E: DerefMut<Target: Engine>> std::fmt::Debug for DecodingLoop<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecodingLoop")
            .field("engine", &self.engine.name())
            .field("requests", &self.requests())
            .field("rows", &self.rows())
            .finish()
    }
}

impl<E: DerefMut<Target: Engine>> DecodingLoop<E> {
    /// An empty loop.
    pub fn new(mut engine: E) -> Self {
        // Rows of a loop before.
        engine.clear();
        Self {
            shared: Shared::new(engine.target_vocabulary(), engine.special_ids()),
            engine,
            cohorts: Vec::new(),
            prepared: VecDeque::new(),
            waiting: Vec::new(),
            waited: 0,
        }
    }

    /// Requests that are running, or wait because they cannot run beside those that are.
    pub fn requests(&self) -> usize {
        self.cohorts.iter().map(|cohort| cohort.groups.len()).sum::<usize>() + self.waiting.len()
    }

    /// Rows of the next step: one for a greedy request, up to `num_beams` or `num_return_sequences` for
    /// others.
    pub fn rows(&self) -> usize {
        self.cohorts.iter().map(Cohort::rows).sum()
    }

    /// Batches that take turns.
    #[cfg(test)]
    pub(super) fn cohorts(&self) -> usize {
        self.cohorts.len()
    }

    /// Whether a step would bring nothing; requests that are only [prepared](Self::prepare) do not count.
    pub fn is_idle(&self) -> bool {
        self.requests() == 0 && self.shared.events.is_empty()
    }

    /// Requests that are encoded and wait for [`Self::fill`].
    pub fn prepared(&self) -> usize {
        self.prepared.iter().map(|prepared| prepared.requests.len()).sum()
    }

    /// Encodes `requests` as one batch without running them yet: for bulk work, where the encoder is given
    /// full batches and the decoder gets a row for each one that leaves. What cannot be encoded comes as
    /// [`Event::Failed`].
    pub fn prepare(&mut self, requests: impl IntoIterator<Item = Request>) {
        // Their time begins when they run.
        let now = Instant::now();
        for (requests, encoded) in self.encode_all(requests.into_iter().map(|r| (r, now)).collect()) {
            let requests: VecDeque<Request> = requests.into_iter().map(|(request, _)| request).collect();
            self.prepared.push_back(Prepared { requests, encoded, taken: 0 });
        }
    }

    /// Lets prepared requests join the next step until `most` requests run.
    ///
    /// Where rows must be of one age, they wait until all that runs has ended: in bulk a few large batches
    /// are the quickest, and nobody waits for a single text.
    pub fn fill(&mut self, most: usize) {
        while let Some(mut first) = self.prepared.pop_front() {
            let length = first.requests.front().map_or(0, |request| request.source.len());
            if !self.cohorts.is_empty() && self.open(length).is_none() {
                self.prepared.push_front(first);
                return;
            }
            let free = most.saturating_sub(self.requests()).min(first.requests.len());
            if free > 0 {
                let now = Instant::now();
                let joining = first.requests.drain(..free).map(|request| (request, now)).collect();
                let rows = first.taken..first.taken + free;
                first.taken += free;
                self.join(joining, &first.encoded, rows);
            }
            if !first.requests.is_empty() {
                self.prepared.push_front(first);
                return;
            }
        }
    }

    /// Encodes `requests` as one batch; their rows join the next step, or a later one where rows must be of
    /// one age. What cannot be encoded comes as [`Event::Failed`].
    ///
    /// Sources of similar length waste the least on padding.
    pub fn admit(&mut self, requests: impl IntoIterator<Item = Request>) {
        let now = Instant::now();
        self.waiting.extend(requests.into_iter().map(|request| (request, now)));
        self.begin();
    }

    /// Lets requests that wait run, if they may.
    fn begin(&mut self) {
        let most = if self.waited < PATIENCE { FEW_COHORTS } else { MOST_COHORTS };
        let length = |(request, _): &(Request, Instant)| request.source.len();
        let waiting = std::mem::take(&mut self.waiting);
        // Who runs together waits together; those that came first are first.
        let mut parts = match self.engine.lengths() {
            lengths @ (Lengths::One | Lengths::Apart) => by_length(waiting, lengths, length),
            _ => by_length(waiting, Lengths::Any, length),
        };
        parts.sort_by_key(|part| part.first().map(|(_, since)| *since));
        let late = self.waited >= PATIENCE;
        for (at, part) in parts.into_iter().enumerate() {
            let must_wait = self.open(part.first().map_or(0, length)).is_none() && self.cohorts.len() >= most;
            // What joins a cohort lets it run longer, and others wait for it to end.
            if must_wait || late && !self.waiting.is_empty() {
                self.waiting.extend(part);
                continue;
            }
            self.waited = if at == 0 { 0 } else { self.waited };
            for (requests, encoded) in self.encode_all(part) {
                let rows = 0..encoded.rows;
                self.join(requests, &encoded, rows);
            }
        }
    }

    /// The cohort that rows can join now.
    ///
    /// - `length`: their source tokens.
    fn open(&self, length: usize) -> Option<usize> {
        let (joins, lengths) = (self.engine.joins(), self.engine.lengths());
        self.cohorts.iter().position(|cohort| {
            (joins == Joins::AnyAge || !cohort.has_begun())
                && lengths != Lengths::Apart
                && (lengths != Lengths::One || cohort.length() == Some(length))
        })
    }

    /// Lets requests join the cohort that is open, or one that begins with them.
    fn join(&mut self, requests: Vec<(Request, Instant)>, encoded: &Encoded, rows: Range<usize>) {
        let length = requests.first().map_or(0, |(request, _)| request.source.len());
        let at = self.open(length).unwrap_or_else(|| {
            let taken = |number: &usize| self.cohorts.iter().any(|cohort| cohort.number == *number);
            let number = (0..).find(|number| !taken(number)).unwrap_or_default();
            self.cohorts.push(Cohort::new(number));
            self.cohorts.len() - 1
        });
        let cohort = &mut self.cohorts[at];
        cohort.join(&mut *self.engine, requests, encoded, rows, &mut self.shared);
        if cohort.groups.is_empty() {
            self.cohorts.remove(at);
        }
    }

    /// Encodes requests, as one batch unless the engine refuses it or wants sources of one length.
    fn encode_all(&mut self, requests: Vec<(Request, Instant)>) -> Vec<(Vec<(Request, Instant)>, Encoded)> {
        let mut fit = Vec::new();
        for (request, since) in requests {
            match request.settings.check_ids(self.shared.vocabulary) {
                Ok(()) => fit.push((request, since)),
                Err(error) => self.shared.fail([request], &error),
            }
        }
        let batches = by_length(fit, self.engine.lengths(), |(request, _)| request.source.len());
        batches.into_iter().flat_map(|batch| self.encode_batch(batch)).collect()
    }

    fn encode_batch(&mut self, fit: Vec<(Request, Instant)>) -> Vec<(Vec<(Request, Instant)>, Encoded)> {
        match self.encode(&fit) {
            Ok(encoded) => vec![(fit, encoded)],
            // One source that the engine refuses must not fail the others.
            Err(_) if fit.len() > 1 => {
                fit.into_iter().flat_map(|request| self.encode_batch(vec![request])).collect()
            }
            Err(error) => {
                self.shared.fail(fit.into_iter().map(|(request, _)| request), &error);
                Vec::new()
            }
        }
    }

    /// One encoder run over left-padded sources.
    fn encode(&mut self, requests: &[(Request, Instant)]) -> Result<Encoded> {
        let sources = requests.iter().map(|(request, _)| request.source.as_slice());
        let encoded = self.engine.encode(&IdMatrix::left_padded(sources, self.shared.ids.pad))?;
        if encoded.rows != requests.len() {
            return Err(Error::new(
                ErrorKind::Engine,
                format!("the encoder gave {} rows for {} sources", encoded.rows, requests.len()),
            ));
        }
        Ok(encoded)
    }

    /// Cancels a request: the next step reports what it has as [`FinishReason::Cancelled`]. False if it is
    /// not running.
    pub fn cancel(&mut self, request: u64) -> bool {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| waiting.id == request) {
            let waiting = self.waiting.remove(at);
            self.shared.end(waiting, FinishReason::Cancelled);
            return true;
        }
        let mut groups = self.cohorts.iter_mut().flat_map(|cohort| &mut cohort.groups);
        groups.find(|group| group.request.id == request).map(|group| group.cancelled = true).is_some()
    }

    /// One step of every running row, and what it brought.
    ///
    /// 1. Requests that were cancelled or whose time is over leave.
    /// 2. The engine runs once over the last token of every row (once for each cohort, see [`Joins`]).
    /// 3. Each request applies its rules and continues, branches or finishes its rows.
    /// 4. The state is gathered: finished rows are gone, beams are in their new order.
    pub fn step(&mut self) -> std::vec::Drain<'_, Event> {
        if !self.waiting.is_empty() {
            let now = Instant::now();
            let late = |(request, since): &mut (Request, Instant)| {
                let limit = request.settings.time_limit;
                limit.and_then(|limit| since.checked_add(limit)).is_some_and(|deadline| now >= deadline)
            };
            for waiting in self.waiting.extract_if(.., late) {
                self.shared.end(waiting, FinishReason::Timeout);
            }
            self.begin();
            self.waited += usize::from(!self.waiting.is_empty());
        }
        for cohort in &mut self.cohorts {
            cohort.step(&mut *self.engine, &mut self.shared);
        }
        self.cohorts.retain(|cohort| !cohort.groups.is_empty());
        self.shared.events.drain(..)
    }

    /// Whether, since this was asked last, several requests failed together because the engine failed on
    /// their batch: one of them may be at fault, and the others not.
    pub fn lost_together(&mut self) -> bool {
        std::mem::take(&mut self.shared.lost_together)
    }

    /// Runs until everything has finished, giving the events in the order in which they come.
    pub fn events(&mut self) -> Events<'_, E> {
        Events { decoding: self, waiting: VecDeque::new() }
    }
}

/// The events of a loop, see [`DecodingLoop::events`]. Dropping it leaves the requests running.
///
/// Each `next`: gives a waiting event; else makes a step and looks again; ends when the loop is idle.
#[derive(Debug)]
pub struct Events<'l, E: DerefMut<Target: Engine>> {
    decoding: &'l mut DecodingLoop<E>,
    waiting: VecDeque<Event>,
}

impl<E: DerefMut<Target: Engine>> Events<'_, E> {
    /// Cancels a request, see [`DecodingLoop::cancel`].
    pub fn cancel(&mut self, request: u64) -> bool {
        self.decoding.cancel(request)
    }
}

impl<E: DerefMut<Target: Engine>> Iterator for Events<'_, E> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.decoding.is_idle() {
                return None;
            }
            self.waiting.extend(self.decoding.step());
        }
    }
}
