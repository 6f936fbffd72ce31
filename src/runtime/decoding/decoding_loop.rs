//! Continuous batching: requests join and leave the running batch between any two steps.

use std::collections::VecDeque;
use std::ops::{DerefMut, Range};
use std::time::Instant;

use super::company::{by_length, split_off_others};
use super::group::{Buffers, Group, Slice};
use super::request::{Event, FinishReason, Request};
use crate::contract::SpecialIds;
use crate::engine::{Encoded, Engine, IdMatrix, Joins, Lengths, StepOutput};
use crate::error::{Error, ErrorKind, Result};

/// Decodes any number of requests side by side.
///
/// A request's result depends on its source and settings alone: not on what else runs, nor on when it joined.
/// (An engine may round a row differently in batches of different sizes; the exporter's verification checks
/// that no token changes.)
///
/// - `E`: the engine, owned (`Box<dyn Engine>`) or lent (`&mut dyn Engine`).
pub struct DecodingLoop<E = Box<dyn Engine>> {
    engine: E,
    vocabulary: usize,
    /// In the order of their rows in the batch.
    groups: Vec<Group>,
    ids: SpecialIds,
    tokens: Vec<i64>,
    output: StepOutput,
    buffers: Buffers,
    events: Vec<Event>,
    prepared: VecDeque<Prepared>,
    /// Requests that wait until all that runs has finished, where rows of different ages cannot run together.
    waiting: Vec<Request>,
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
            vocabulary: engine.target_vocabulary(),
            ids: engine.special_ids(),
            engine,
            groups: Vec::new(),
            tokens: Vec::new(),
            output: StepOutput::default(),
            buffers: Buffers::default(),
            events: Vec::new(),
            prepared: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// Requests that are running, or wait for those to finish because they cannot run beside them.
    pub fn requests(&self) -> usize {
        self.groups.len() + self.waiting.len()
    }

    /// Rows of the next step: one for a greedy request, up to `num_beams` or `num_return_sequences` for
    /// others.
    pub fn rows(&self) -> usize {
        self.engine.rows()
    }

    /// Whether a step would bring nothing; requests that are only [prepared](Self::prepare) do not count.
    pub fn is_idle(&self) -> bool {
        self.requests() == 0 && self.events.is_empty()
    }

    /// Requests that are encoded and wait for [`Self::fill`].
    pub fn prepared(&self) -> usize {
        self.prepared.iter().map(|prepared| prepared.requests.len()).sum()
    }

    /// Encodes `requests` as one batch without running them yet: for bulk work, where the encoder is given
    /// full batches and the decoder gets a row for each one that leaves. What cannot be encoded comes as
    /// [`Event::Failed`].
    pub fn prepare(&mut self, requests: impl IntoIterator<Item = Request>) {
        for (requests, encoded) in self.encode_all(requests) {
            self.prepared.push_back(Prepared { requests: requests.into(), encoded, taken: 0 });
        }
    }

    /// Lets prepared requests join the next step until `most` requests run.
    pub fn fill(&mut self, most: usize) {
        if self.must_wait() {
            return;
        }
        while let Some(mut first) = self.prepared.pop_front() {
            let fits = first.requests.front().is_some_and(|request| self.may_run_beside(request));
            let free = if fits { most.saturating_sub(self.requests()).min(first.requests.len()) } else { 0 };
            if free > 0 {
                let joining = first.requests.drain(..free).collect();
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

    /// Encodes `requests` as one batch; their rows join the next step. What cannot be encoded comes as
    /// [`Event::Failed`].
    ///
    /// Sources of similar length waste the least on padding.
    pub fn admit(&mut self, requests: impl IntoIterator<Item = Request>) {
        if self.must_wait() {
            self.waiting.extend(requests);
            return;
        }
        let length = self.running_length();
        let (now, later) = split_off_others(requests, self.engine.lengths(), length);
        self.waiting.extend(later);
        for (requests, encoded) in self.encode_all(now) {
            self.join(requests, &encoded, 0..encoded.rows);
        }
    }

    /// Whether rows that join now could not run beside those that are running, or would let others wait for
    /// ever.
    fn must_wait(&self) -> bool {
        let others_wait = self.engine.lengths() == Lengths::One && !self.waiting.is_empty();
        !self.groups.is_empty() && (self.engine.joins() == Joins::SameAge || others_wait)
    }

    /// Source tokens of what is running, where all of it has as many.
    fn running_length(&self) -> Option<usize> {
        self.groups.first().map(|group| group.request.source.len())
    }

    fn may_run_beside(&self, request: &Request) -> bool {
        let same = |length| length == request.source.len();
        self.engine.lengths() != Lengths::One || self.running_length().is_none_or(same)
    }

    /// Encodes requests, as one batch unless the engine refuses it or wants sources of one length.
    fn encode_all(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<(Vec<Request>, Encoded)> {
        let mut fit = Vec::new();
        for request in requests {
            match request.settings.check_ids(self.vocabulary) {
                Ok(()) => fit.push(request),
                Err(error) => self.events.push(Event::Failed { request: request.id, error }),
            }
        }
        let batches = by_length(fit, self.engine.lengths());
        batches.into_iter().flat_map(|batch| self.encode_batch(batch)).collect()
    }

    fn encode_batch(&mut self, fit: Vec<Request>) -> Vec<(Vec<Request>, Encoded)> {
        match self.encode(&fit) {
            Ok(encoded) => vec![(fit, encoded)],
            // One source that the engine refuses must not fail the others.
            Err(_) if fit.len() > 1 => {
                fit.into_iter().flat_map(|request| self.encode_batch(vec![request])).collect()
            }
            Err(error) => {
                self.events
                    .extend(fit.into_iter().map(|r| Event::Failed { request: r.id, error: copy(&error) }));
                Vec::new()
            }
        }
    }

    /// One encoder run over left-padded sources.
    fn encode(&mut self, requests: &[Request]) -> Result<Encoded> {
        let sources = requests.iter().map(|request| request.source.as_slice());
        let encoded = self.engine.encode(&IdMatrix::left_padded(sources, self.ids.pad))?;
        if encoded.rows != requests.len() {
            return Err(Error::new(
                ErrorKind::Engine,
                format!("the encoder gave {} rows for {} sources", encoded.rows, requests.len()),
            ));
        }
        Ok(encoded)
    }

    fn join(&mut self, requests: Vec<Request>, encoded: &Encoded, rows: Range<usize>) {
        let now = Instant::now();
        let before = self.engine.rows();
        if let Err(error) = self.engine.join(encoded, rows) {
            self.events
                .extend(requests.into_iter().map(|r| Event::Failed { request: r.id, error: copy(&error) }));
            return;
        }
        let fresh = self.groups.len();
        self.groups.extend(requests.into_iter().map(|request| Group::new(request, self.ids, now)));
        // Hypotheses that are drawn have a row each from the beginning.
        let rows = &mut self.buffers.order;
        rows.clear();
        rows.extend(0..before);
        rows.extend(
            self.groups[fresh..]
                .iter()
                .enumerate()
                .flat_map(|(at, group)| std::iter::repeat_n(before + at, group.rows.len())),
        );
        self.engine.keep(rows);
    }

    /// Cancels a request: the next step reports what it has as [`FinishReason::Cancelled`]. False if it is
    /// not running.
    pub fn cancel(&mut self, request: u64) -> bool {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == request) {
            let mut group = Group::new(self.waiting.remove(at), self.ids, Instant::now());
            group.finish_all(FinishReason::Cancelled);
            self.events.push(group.into_event());
            return true;
        }
        let found = self.groups.iter_mut().find(|g| g.request.id == request);
        found.map(|group| group.cancelled = true).is_some()
    }

    /// One step of every running row, and what it brought.
    ///
    /// 1. Requests that were cancelled or whose time is over leave.
    /// 2. The engine runs once over the last token of every row.
    /// 3. Each request applies its rules and continues, branches or finishes its rows.
    /// 4. The state is gathered: finished rows are gone, beams are in their new order.
    pub fn step(&mut self) -> std::vec::Drain<'_, Event> {
        self.leave_early();
        if self.groups.is_empty() && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.admit(waiting);
        }
        if !self.groups.is_empty() {
            match self.run() {
                Ok(()) => self.advance(),
                Err(error) => self.fail_all(&error),
            }
        }
        self.events.drain(..)
    }

    /// Runs until everything has finished, giving the events in the order in which they come.
    pub fn events(&mut self) -> Events<'_, E> {
        Events { decoding: self, waiting: VecDeque::new() }
    }

    fn leave_early(&mut self) {
        if self.groups.iter().all(|g| !g.cancelled && g.deadline.is_none()) {
            return;
        }
        let now = Instant::now();
        let order = &mut self.buffers.order;
        order.clear();
        let mut first = 0;
        for group in &mut self.groups {
            let rows = group.rows.len();
            if group.cancelled {
                group.finish_all(FinishReason::Cancelled);
            } else if group.deadline.is_some_and(|deadline| now >= deadline) {
                group.finish_all(FinishReason::Timeout);
            } else {
                order.extend(first..first + rows);
            }
            first += rows;
        }
        self.gather(true);
    }

    fn run(&mut self) -> Result<()> {
        self.tokens.clear();
        self.tokens.extend(self.groups.iter().flat_map(Group::last_tokens));
        let rows = self.tokens.len();
        self.engine.step(&self.tokens, &mut self.output)?;
        let (logits, attention) = (self.output.logits.len(), self.output.attention.len());
        if logits != rows * self.vocabulary || !attention.is_multiple_of(rows) {
            let problem =
                format!("the decoder gave {logits} logits and {attention} attention weights for {rows} rows");
            return Err(Error::new(ErrorKind::Engine, problem));
        }
        Ok(())
    }

    fn advance(&mut self) {
        let time = self.output.attention.len() / self.engine.rows().max(1);
        self.buffers.order.clear();
        let mut first = 0;
        let mut same_places = true;
        for group in &mut self.groups {
            let rows = group.rows.len();
            let step = Slice {
                first,
                logits: &mut self.output.logits[first * self.vocabulary..(first + rows) * self.vocabulary],
                attention: &self.output.attention[first * time..(first + rows) * time],
                vocabulary: self.vocabulary,
                time,
            };
            let kept = self.buffers.order.len();
            if let Err(error) = group.advance(step, &mut self.buffers, &mut self.events) {
                self.buffers.order.truncate(kept);
                group.rows.clear();
                group.failure = Some(error);
            }
            first += rows;
            same_places &= group.rows.len() == rows;
        }
        self.gather(!same_places);
    }

    /// Moves the rows of the state as `order` says and lets requests without rows go.
    fn gather(&mut self, rows_leave: bool) {
        self.engine.keep(&self.buffers.order);
        if !rows_leave {
            return;
        }
        let events = &mut self.events;
        for group in self.groups.extract_if(.., |g| g.rows.is_empty()) {
            events.push(group.into_event());
        }
    }

    fn fail_all(&mut self, error: &Error) {
        self.events.extend(
            self.groups.drain(..).map(|g| Event::Failed { request: g.request.id, error: copy(error) }),
        );
        self.engine.clear();
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

/// An error for each request that one failure concerns.
fn copy(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.message());
    if let Some(place) = error.place() {
        copy = copy.at(place.clone());
    }
    match error.help_text() {
        Some(help) => copy.help(help),
        None => copy,
    }
}
