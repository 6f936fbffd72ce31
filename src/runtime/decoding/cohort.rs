//! Requests whose rows run in one batch, step by step.

use std::ops::Range;
use std::time::Instant;

use super::group::{Buffers, Group, Scores, Slice};
use super::needs::Needs;
use super::request::{Event, FinishReason, Request};
use crate::contract::SpecialIds;
use crate::engine::{Encoded, Engine, StepOutput, SumOver, Wanted};
use crate::error::{Error, ErrorKind, Result};

/// What the cohorts of a loop have in common: what they know of the engine, buffers, and the events that they
/// add to.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) vocabulary: usize,
    pub(super) ids: SpecialIds,
    pub(super) events: Vec<Event>,
    /// Whether several requests have failed for the fault of one that is not known.
    pub(super) lost_together: bool,
    tokens: Vec<i64>,
    output: StepOutput,
    /// Whether the step gave the best few scores of each row, not all.
    few: bool,
    buffers: Buffers,
}

/// The requests of one batch.
#[derive(Debug)]
pub(super) struct Cohort {
    /// Its number at the engine.
    pub(super) number: usize,
    /// In the order of their rows in the batch.
    pub(super) groups: Vec<Group>,
    steps: usize,
}

impl Shared {
    pub(super) fn new(vocabulary: usize, ids: SpecialIds) -> Self {
        Self {
            vocabulary,
            ids,
            events: Vec::new(),
            lost_together: false,
            tokens: Vec::new(),
            output: StepOutput::default(),
            few: false,
            buffers: Buffers::default(),
        }
    }

    /// Ends a request that has not run.
    pub(super) fn end(&mut self, (request, since): (Request, Instant), reason: FinishReason) {
        let mut group = Group::new(request, self.ids, since);
        group.finish_all(reason);
        self.events.push(group.into_event());
    }

    /// Says of all requests of a batch that they failed.
    fn lose(&mut self, requests: impl IntoIterator<Item = Request>, error: &Error) {
        let before = self.events.len();
        self.fail(requests, error);
        self.lost_together |= self.events.len() > before + 1;
    }

    /// Says of every request that it failed.
    pub(super) fn fail(&mut self, requests: impl IntoIterator<Item = Request>, error: &Error) {
        let failed = requests.into_iter().map(|r| Event::Failed { request: r.id, error: copy(error) });
        self.events.extend(failed);
    }
}

impl Cohort {
    pub(super) fn new(number: usize) -> Self {
        Self { number, groups: Vec::new(), steps: 0 }
    }

    /// Source tokens of its first request; where an engine takes rows of one length alone, those of all.
    pub(super) fn length(&self) -> Option<usize> {
        self.groups.first().map(|group| group.request.source.len())
    }

    /// Whether its rows have made a step.
    pub(super) fn has_begun(&self) -> bool {
        self.steps > 0
    }

    /// Rows of the next step.
    pub(super) fn rows(&self) -> usize {
        self.groups.iter().map(|group| group.rows.len()).sum()
    }

    /// Lets requests run whose sources are `rows` of `encoded`.
    ///
    /// - `since`: when each of them began to wait for it.
    pub(super) fn join<T: Engine + ?Sized>(
        &mut self,
        engine: &mut T,
        requests: Vec<(Request, Instant)>,
        encoded: &Encoded,
        rows: Range<usize>,
        shared: &mut Shared,
    ) {
        engine.select(self.number);
        let before = engine.rows();
        if let Err(error) = engine.join(encoded, rows) {
            shared.lose(requests.into_iter().map(|(request, _)| request), &error);
            return;
        }
        let fresh = self.groups.len();
        let ids = shared.ids;
        self.groups.extend(requests.into_iter().map(|(request, since)| Group::new(request, ids, since)));
        // Hypotheses that are drawn have a row each from the beginning.
        let order = &mut shared.buffers.order;
        order.clear();
        order.extend(0..before);
        let fresh = self.groups[fresh..].iter().enumerate();
        order.extend(fresh.flat_map(|(at, group)| std::iter::repeat_n(before + at, group.rows.len())));
        engine.keep(order);
    }

    /// One step of every row; see [`DecodingLoop::step`](super::DecodingLoop::step).
    pub(super) fn step<T: Engine + ?Sized>(&mut self, engine: &mut T, shared: &mut Shared) {
        engine.select(self.number);
        self.leave_early(engine, shared);
        if self.groups.is_empty() {
            return;
        }
        self.steps += 1;
        match self.run(engine, shared) {
            Ok(()) => self.advance(engine, shared),
            Err(error) => {
                shared.lose(self.groups.drain(..).map(|group| group.request), &error);
                engine.keep(&[]);
            }
        }
    }

    /// Lets requests go that were cancelled or whose time is over.
    fn leave_early<T: Engine + ?Sized>(&mut self, engine: &mut T, shared: &mut Shared) {
        if self.groups.iter().all(|g| !g.cancelled && g.deadline.is_none()) {
            return;
        }
        let now = Instant::now();
        let order = &mut shared.buffers.order;
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
        self.gather(engine, shared, true);
    }

    /// What all requests together need of each row, if that is a few of its best scores.
    fn wanted(&self) -> Option<Wanted<'_>> {
        let mut wanted = Wanted { best: 1, banned: &[], sum: SumOver::Nothing, attention: false };
        let mut first = true;
        for group in &self.groups {
            wanted.attention |= group.wants_attention();
            match group.needs() {
                Needs::Nothing => {}
                Needs::All => return None,
                Needs::Best { best, sum } => {
                    let other_sum = wanted.sum != sum && wanted.sum.min(sum) != SumOver::Nothing;
                    if !first && (wanted.banned != group.banned() || other_sum) {
                        return None;
                    }
                    (wanted.banned, first) = (group.banned(), false);
                    (wanted.best, wanted.sum) = (wanted.best.max(best), wanted.sum.max(sum));
                }
            }
        }
        Some(wanted)
    }

    fn run<T: Engine + ?Sized>(&self, engine: &mut T, shared: &mut Shared) -> Result<()> {
        let Shared { tokens, output, few, vocabulary, .. } = shared;
        tokens.clear();
        tokens.extend(self.groups.iter().flat_map(Group::last_tokens));
        let rows = tokens.len();
        let wanted = self.wanted();
        *few = wanted.is_some();
        let fits = if let Some(wanted) = wanted {
            engine.step_best(tokens, &wanted, output)?;
            let best = &output.best;
            let width = wanted.best.min(*vocabulary);
            let values = [best.ids.len(), best.logits.len()];
            best.width == width && values == [rows * width; 2] && best.log_sum_exp.len() == rows
        } else {
            engine.step(tokens, output)?;
            output.logits.len() == rows * *vocabulary
        };
        if !fits || !output.attention.len().is_multiple_of(rows) {
            let problem = format!(
                "the decoder gave {} logits, {} of the best and {} attention weights for {rows} rows",
                output.logits.len(),
                output.best.logits.len(),
                output.attention.len()
            );
            return Err(Error::new(ErrorKind::Engine, problem));
        }
        Ok(())
    }

    fn advance<T: Engine + ?Sized>(&mut self, engine: &mut T, shared: &mut Shared) {
        let Shared { output, few, buffers, events, vocabulary, .. } = shared;
        let vocabulary = *vocabulary;
        let time = output.attention.len() / engine.rows().max(1);
        buffers.order.clear();
        let mut first = 0;
        let mut same_places = true;
        for group in &mut self.groups {
            let rows = group.rows.len();
            let step = Slice {
                first,
                scores: match few {
                    true => Scores::Best(&output.best),
                    false => Scores::All(&mut output.logits[first * vocabulary..(first + rows) * vocabulary]),
                },
                attention: &output.attention[first * time..(first + rows) * time],
                vocabulary,
                time,
            };
            let kept = buffers.order.len();
            if let Err(error) = group.advance(step, buffers, events) {
                buffers.order.truncate(kept);
                group.rows.clear();
                group.failure = Some(error);
            }
            first += rows;
            same_places &= group.rows.len() == rows;
        }
        self.gather(engine, shared, !same_places);
    }

    /// Moves the rows of the state as `order` says and lets requests without rows go.
    fn gather<T: Engine + ?Sized>(&mut self, engine: &mut T, shared: &mut Shared, rows_leave: bool) {
        engine.keep(&shared.buffers.order);
        if rows_leave {
            let gone = self.groups.extract_if(.., |group| group.rows.is_empty());
            shared.events.extend(gone.map(Group::into_event));
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
