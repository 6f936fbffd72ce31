//! One running request: its rows, and what a step makes of them.

use std::time::Instant;

use s2s_kernels::search::{log_sum_exp, maximum};

use super::beam::{Best, Candidate};
use super::filters::{self, Context, Scratch};
use super::needs::{self, Needs};
use super::options::key_error;
use super::request::{Event, FinishReason, Hypothesis, Request};
use super::sampler::{Random, draw};
use super::score::{beams_done, score};
use crate::contract::SpecialIds;
use crate::engine::{BestFew, SumOver, Wanted};
use crate::error::{Error, ErrorKind, Result};

/// Buffers shared by all requests of a loop.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    scratch: Scratch,
    best: Best,
    /// The best few of a row that came with all its logits.
    few: BestFew,
    drawn: Vec<f32>,
    live: Vec<Candidate>,
    /// For each row after this step, the row of this step whose state it takes.
    pub(super) order: Vec<usize>,
}

/// The rows of a step that belong to one request.
pub(super) struct Slice<'a> {
    /// Index of the first row in the batch.
    pub(super) first: usize,
    pub(super) scores: Scores<'a>,
    /// f32 (rows, source_time); empty without attention.
    pub(super) attention: &'a [f32],
    /// Target symbols.
    pub(super) vocabulary: usize,
    /// Columns of `attention`.
    pub(super) time: usize,
}

/// The scores of a step.
pub(super) enum Scores<'a> {
    /// Logits, f32 (rows, target_vocabulary), of the request's rows; the rules are applied in place.
    All(&'a mut [f32]),
    /// The best few, of all rows of the batch.
    Best(&'a BestFew),
}

/// One row of the batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Number of the hypothesis, for drawn ones.
    number: usize,
    ids: Vec<u32>,
    sum: f32,
    token_scores: Vec<f32>,
    attention: Vec<Vec<f32>>,
    coverage: Vec<f32>,
    random: Random,
}

/// A running request.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) request: Request,
    special: SpecialIds,
    pub(super) rows: Vec<Row>,
    pub(super) deadline: Option<Instant>,
    pub(super) cancelled: bool,
    /// Why it cannot go on.
    pub(super) failure: Option<Error>,
    /// With the number of the hypothesis.
    finished: Vec<(usize, Hypothesis)>,
    /// The ids that end an output.
    ends: Vec<u32>,
    /// Ids that are never generated.
    never: Vec<u32>,
    /// Ids that no rule ever lets through, and those that none lets through while outputs are too short.
    banned: [Vec<u32>; 2],
    /// Cached: no rule changes the logits.
    no_rules: bool,
    /// Cached: what it needs of most steps.
    needs: Needs,
    wants_log_p: bool,
    keeps_attention: bool,
    needs_attention: Option<&'static str>,
}

impl Row {
    /// A copy for another beam, or itself if this is the last that is needed.
    fn branch(&mut self, last: bool) -> Self {
        if last { std::mem::take(self) } else { self.clone() }
    }
}

impl Group {
    pub(super) fn new(request: Request, special: SpecialIds, now: Instant) -> Self {
        let s = &*request.settings;
        let rows = if s.do_sample { s.num_return_sequences } else { 1 };
        let row = |number| Row { number, random: Random::new(s.seed, number), ..Row::default() };
        let ends = if s.eos.is_empty() { vec![special.end] } else { s.eos.clone() };
        let never = s.never_generated.clone().unwrap_or_else(|| vec![special.pad, special.start]);
        let wants_log_p = s.scores || s.token_scores;
        Self {
            rows: (0..rows).map(row).collect(),
            deadline: s.time_limit.and_then(|limit| now.checked_add(limit)),
            cancelled: false,
            failure: None,
            finished: Vec::new(),
            banned: [&[], &*ends].map(|early| needs::banned(s, &never, special.unk, &ends, early)),
            needs: Needs::of(s, filters::changes_values(s), ends.len(), wants_log_p),
            ends,
            never,
            no_rules: filters::no_rules(s),
            wants_log_p,
            keeps_attention: s.keeps_attention(),
            needs_attention: s.attention_key(),
            special,
            request,
        }
    }

    /// What the next step reads, row by row.
    pub(super) fn last_tokens(&self) -> impl Iterator<Item = i64> {
        self.rows.iter().map(|row| i64::from(row.ids.last().copied().unwrap_or(self.special.start)))
    }

    /// Tokens of a row without the prefix; rows of a request are equally long.
    fn generated(&self, row: &Row) -> usize {
        row.ids.len().saturating_sub(self.request.settings.prefix.len())
    }

    /// What it needs of the scores of the next step.
    pub(super) fn needs(&self) -> Needs {
        let (said, generated) = self.rows.first().map_or((0, 0), |row| (row.ids.len(), self.generated(row)));
        self.needs.at(&self.request.settings, said, generated)
    }

    /// The ids that no rule lets through in the next step.
    pub(super) fn banned(&self) -> &[u32] {
        let generated = self.rows.first().map_or(0, |row| self.generated(row));
        &self.banned[usize::from(generated < self.request.settings.min_new_tokens)]
    }

    /// Whether it looks at the attention weights of its rows.
    pub(super) fn wants_attention(&self) -> bool {
        self.needs_attention.is_some() || self.keeps_attention || self.request.settings.coverage_penalty > 0.0
    }

    /// What the rules know of a row.
    fn context<'a>(&'a self, row: &'a Row) -> Context<'a> {
        Context {
            settings: &self.request.settings,
            special: self.special,
            never: &self.never,
            ends: &self.ends,
            source: &self.request.source,
            ids: &row.ids,
            generated: self.generated(row),
        }
    }

    /// Reads one step of its rows: continues, branches and finishes them, and names the rows to keep in
    /// `buffers.order`.
    pub(super) fn advance(
        &mut self,
        mut step: Slice<'_>,
        buffers: &mut Buffers,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        self.attend(&step)?;
        let prefix = &self.request.settings.prefix;
        if let Some(&forced) = self.rows.first().and_then(|row| prefix.get(row.ids.len())) {
            for (at, row) in self.rows.iter_mut().enumerate() {
                row.ids.push(forced);
                buffers.order.push(step.first + at);
            }
            return Ok(());
        }
        if let Some(forced) = &self.request.settings.forced {
            let next = self.rows.first().and_then(|row| forced.get(row.ids.len())).copied();
            self.force(next, &mut step, buffers)
        } else if self.request.settings.search {
            self.search(&mut step, buffers)
        } else {
            self.follow(&mut step, buffers, events)
        }
    }

    /// Keeps the attention weights of this step where they are wanted.
    fn attend(&mut self, step: &Slice<'_>) -> Result<()> {
        if step.attention.is_empty() {
            return match self.needs_attention {
                Some(key) => Err(key_error(key, "the model has no attention")),
                None => Ok(()),
            };
        }
        let covers = self.request.settings.coverage_penalty > 0.0;
        if !self.keeps_attention && !covers {
            return Ok(());
        }
        // Left-padded: the last columns are the request's own.
        let own = self.request.source.len().min(step.time);
        for (row, weights) in self.rows.iter_mut().zip(step.attention.chunks_exact(step.time)) {
            let weights = &weights[step.time - own..];
            if self.keeps_attention {
                row.attention.push(weights.to_vec());
            }
            if covers {
                row.coverage.resize(own, 0.0);
                for (sum, weight) in row.coverage.iter_mut().zip(weights) {
                    *sum += weight;
                }
            }
        }
        Ok(())
    }

    /// Greedy and sampling: every row goes its own way.
    fn follow(&mut self, step: &mut Slice<'_>, buffers: &mut Buffers, events: &mut Vec<Event>) -> Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut at = 0;
        let mut failure = None;
        rows.retain_mut(|row| {
            let (place, vocabulary) = (step.first + at, step.vocabulary);
            let chosen = match &mut step.scores {
                Scores::All(logits) => {
                    self.choose(row, &mut logits[at * vocabulary..(at + 1) * vocabulary], buffers)
                }
                Scores::Best(few) => Self::first_of(few, place),
            };
            at += 1;
            match chosen.map(|chosen| self.follow_row(row, chosen, events)) {
                Ok(None) => {
                    buffers.order.push(place);
                    true
                }
                Ok(Some(finish)) => {
                    self.finish(std::mem::take(row), finish);
                    false
                }
                Err(error) => {
                    failure.get_or_insert(error);
                    false
                }
            }
        });
        self.rows = rows;
        failure.map_or(Ok(()), Err)
    }

    /// Lets its only row go on with a given token, or end where there is none, and counts log p of it.
    fn force(&mut self, next: Option<u32>, step: &mut Slice<'_>, buffers: &mut Buffers) -> Result<()> {
        let Scores::All(logits) = &mut step.scores else {
            return Err(Error::new(ErrorKind::Internal, "a given output is scored without all logits"));
        };
        let Some(mut row) = self.rows.pop() else { return Ok(()) };
        let logits = &mut logits[..step.vocabulary];
        let id = next.unwrap_or(self.ends[0]);
        // As decoding has it: over what may come here at all.
        let log_p = match self.choose(&mut row, logits, buffers)? {
            Some(_) => logits[id as usize] - buffers.few.log_sum_exp[0],
            None => f32::NEG_INFINITY,
        };
        row.sum += log_p;
        row.token_scores.push(log_p);
        match next {
            Some(id) => {
                row.ids.push(id);
                self.rows.push(row);
                buffers.order.push(step.first);
            }
            None => self.finish(row, FinishReason::Eos),
        }
        Ok(())
    }

    /// The next token of a row, and log p of it; nothing where none is left.
    fn choose(&self, row: &mut Row, logits: &mut [f32], buffers: &mut Buffers) -> Result<Option<(u32, f32)>> {
        let settings = &*self.request.settings;
        if !self.no_rules {
            filters::apply_rules(logits, self.context(row), 0.0, &mut buffers.scratch);
        }
        let sum = if self.wants_log_p { SumOver::Open } else { SumOver::Nothing };
        let wanted = Wanted { best: 1, banned: &self.never, sum, attention: false };
        buffers.few.take(logits, logits.len(), &wanted)?;
        let first = Self::first_of(&buffers.few, 0)?;
        if !settings.do_sample || first.is_none() {
            return Ok(first);
        }
        buffers.drawn.clear();
        buffers.drawn.extend_from_slice(logits);
        filters::apply_sampling(&mut buffers.drawn, settings, &mut buffers.scratch);
        let drawn = draw(&buffers.drawn, row.random.uniform());
        #[expect(clippy::cast_possible_truncation, reason = "ids are u32")]
        let chosen = drawn.map(|id| (id as u32, logits[id] - buffers.few.log_sum_exp[0]));
        Ok(chosen)
    }

    /// The best token of a row of the batch, and log p of it; nothing where none is left.
    fn first_of(few: &BestFew, row: usize) -> Result<Option<(u32, f32)>> {
        let (id, logit) = (few.ids[row * few.width], few.logits[row * few.width]);
        if logit.is_nan() {
            return Err(not_a_distribution());
        }
        Ok((logit > f32::NEG_INFINITY).then(|| (id, logit - few.log_sum_exp[row])))
    }

    /// Lets a row go on with a token; gives the reason if it ends here.
    fn follow_row(
        &self,
        row: &mut Row,
        chosen: Option<(u32, f32)>,
        events: &mut Vec<Event>,
    ) -> Option<FinishReason> {
        let settings = &*self.request.settings;
        let Some((id, log_p)) = chosen else {
            return Some(FinishReason::Stop);
        };
        let log_p = self.wants_log_p.then_some(log_p);
        if let Some(log_p) = log_p {
            row.sum += log_p;
            if settings.token_scores {
                row.token_scores.push(log_p);
            }
        }
        if self.ends.contains(&id) {
            return Some(FinishReason::Eos);
        }
        row.ids.push(id);
        if self.request.stream {
            events.push(Event::Token { request: self.request.id, hypothesis: row.number, id, log_p });
        }
        self.ends(row)
    }

    /// Whether the last token of a row ends it.
    fn ends(&self, row: &Row) -> Option<FinishReason> {
        let settings = &*self.request.settings;
        if settings.stop.as_ref().is_some_and(|stop| stop.completed_by_last(&row.ids, settings.prefix.len()))
        {
            Some(FinishReason::Stop)
        } else if self.generated(row) >= settings.max_new_tokens {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// Beam search with B beams, as transformers does it: the 2B best of all continuations (of n ids that
    /// end an output, (1 + n)B), among which END completes a hypothesis if it is one of the first B.
    ///
    /// Where transformers takes tokens that the rules ban, because too few others are left, these beams end.
    /// Of equal sums the earlier beam comes first, then the higher logit, then the lower id.
    fn search(&mut self, step: &mut Slice<'_>, buffers: &mut Buffers) -> Result<()> {
        let Buffers { scratch, best, few, live, order, .. } = buffers;
        let settings = self.request.settings.clone();
        let beams = settings.num_beams;
        let most = needs::candidates(&settings, self.ends.len());
        best.reset(most);
        for (beam, row) in self.rows.iter().enumerate() {
            let (few, at, log_sum_exp) = match &mut step.scores {
                Scores::Best(few) => (*few, step.first + beam, few.log_sum_exp[step.first + beam]),
                Scores::All(logits) => {
                    let logits = &mut logits[beam * step.vocabulary..(beam + 1) * step.vocabulary];
                    let Some(sum) = self.log_probabilities(row, logits, scratch)? else { continue };
                    let wanted = Wanted { best: most, banned: &[], sum: SumOver::Nothing, attention: false };
                    few.take(logits, logits.len(), &wanted)?;
                    (&*few, 0, sum)
                }
            };
            let places = at * few.width..at * few.width + most.min(few.width);
            let logits = &few.logits[places.clone()];
            if logits[0].is_nan() {
                return Err(not_a_distribution());
            }
            best.offer(beam, row.sum, &few.ids[places], logits, log_sum_exp);
        }
        live.clear();
        let mut parents = std::mem::take(&mut self.rows);
        for (rank, candidate) in best.ranked().iter().enumerate() {
            if live.len() == beams {
                break;
            }
            let parent = &mut parents[candidate.beam];
            let finish = if self.ends.contains(&candidate.id) {
                Some(FinishReason::Eos)
            } else {
                parent.ids.push(candidate.id);
                let stops = settings
                    .stop
                    .as_ref()
                    .is_some_and(|stop| stop.completed_by_last(&parent.ids, settings.prefix.len()));
                parent.ids.pop();
                stops.then_some(FinishReason::Stop)
            };
            match finish {
                None => live.push(*candidate),
                Some(finish) if rank < beams => {
                    let ends = finish == FinishReason::Eos;
                    let row = extend(parent.clone(), *candidate, ends, settings.token_scores);
                    self.finish(row, finish);
                }
                Some(_) => {}
            }
        }
        if best.ranked().is_empty() {
            let own = self.request.source.len().min(step.time);
            for (at, mut row) in parents.into_iter().enumerate() {
                // This step gave no token: its weights do not count.
                let weights =
                    step.attention.get((at + 1) * step.time - own..(at + 1) * step.time).unwrap_or(&[]);
                for (sum, weight) in row.coverage.iter_mut().zip(weights) {
                    *sum -= weight;
                }
                self.finish(row, FinishReason::Stop);
            }
            return Ok(());
        }
        for (at, candidate) in live.iter().enumerate() {
            let last = live[at + 1..].iter().all(|later| later.beam != candidate.beam);
            let row = parents[candidate.beam].branch(last);
            self.rows.push(extend(row, *candidate, false, settings.token_scores));
            order.push(step.first + candidate.beam);
        }
        let generated = self.rows.first().map_or(0, |row| self.generated(row));
        if generated >= settings.max_new_tokens {
            self.finish_all(FinishReason::Length);
        } else {
            let scores: Vec<f32> = self.finished.iter().map(|(_, h)| h.score).collect();
            if beams_done(&settings, &scores, self.rows.first().map(|row| row.sum), generated) {
                self.rows.clear();
            }
        }
        if self.rows.is_empty() {
            order.truncate(order.len() - live.len());
        }
        Ok(())
    }

    /// Applies the rules to a row of a beam search. Gives what to subtract for log p; nothing where no
    /// token is left.
    fn log_probabilities(&self, row: &Row, logits: &mut [f32], scratch: &mut Scratch) -> Result<Option<f32>> {
        let sum_of = |logits: &[f32]| {
            let highest = maximum(logits).ok_or_else(not_a_distribution)?;
            Ok((highest > f32::NEG_INFINITY).then(|| log_sum_exp(logits, highest)))
        };
        let settings = &*self.request.settings;
        let changes_values = filters::changes_values(settings);
        let Some(again) = settings.renormalize_logits.filter(|&again| changes_values || !again) else {
            // What is left after rules that only ban is normalised once, whether or not it was before.
            filters::apply_rules(logits, self.context(row), 0.0, scratch);
            return sum_of(logits);
        };
        let Some(mut before) = sum_of(logits)? else { return Ok(None) };
        if changes_values {
            logits.iter_mut().for_each(|x| *x -= before);
            before = 0.0;
        }
        if !(self.no_rules && self.never.is_empty()) {
            filters::apply_rules(logits, self.context(row), before, scratch);
        }
        if again { sum_of(logits) } else { Ok(Some(before)) }
    }

    /// Ends every running row, as on cancellation.
    pub(super) fn finish_all(&mut self, reason: FinishReason) {
        for row in std::mem::take(&mut self.rows) {
            self.finish(row, reason);
        }
    }

    fn finish(&mut self, mut row: Row, finish: FinishReason) {
        let settings = &*self.request.settings;
        let beams = settings.search;
        // A request that is cancelled early may not even have its prefix.
        let prefix = settings.prefix.len().min(row.ids.len());
        // The weights of the step that gave END belong to no symbol.
        row.attention.truncate(row.ids.len());
        let n = row.ids.len() - prefix + usize::from(finish == FinishReason::Eos);
        let score = if beams || self.wants_log_p { score(settings, row.sum, n, &row.coverage) } else { 0.0 };
        let hypothesis = Hypothesis {
            prefix,
            ids: row.ids,
            score,
            token_scores: row.token_scores,
            attention: row.attention,
            finish,
        };
        let at = if beams {
            self.finished.partition_point(|(_, h)| h.score >= hypothesis.score)
        } else {
            self.finished.partition_point(|(number, _)| *number < row.number)
        };
        self.finished.insert(at, (row.number, hypothesis));
        if beams {
            self.finished.truncate(settings.enough);
        }
    }

    /// The event that says it is over.
    pub(super) fn into_event(mut self) -> Event {
        let request = self.request.id;
        if let Some(error) = self.failure {
            return Event::Failed { request, error };
        }
        self.finished.truncate(self.request.settings.num_return_sequences);
        Event::Finished { request, hypotheses: self.finished.into_iter().map(|(_, h)| h).collect() }
    }
}

/// A beam with one more token; END enters the score alone.
fn extend(mut row: Row, candidate: Candidate, ends: bool, token_scores: bool) -> Row {
    if !ends {
        row.ids.push(candidate.id);
    }
    row.sum = candidate.sum;
    if token_scores {
        row.token_scores.push(candidate.log_p);
    }
    row
}

fn not_a_distribution() -> Error {
    Error::new(ErrorKind::Engine, "the decoder gave logits that are not numbers")
        .help("the weights may have diverged in training, or the engine failed: `s2s verify` tells")
}
