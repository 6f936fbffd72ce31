//! An engine whose calls are watched, for measurements.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::best::Wanted;
use super::interface::{Encoded, Engine, IdMatrix, Joins, Lengths, StateTensor, StepOutput};
use crate::contract::SpecialIds;
use crate::error::Result;

/// Who is told what an engine and its forks did, and how long it took.
pub trait Observer: Send + Sync {
    /// Sources were encoded.
    fn encoded(&self, sources: &IdMatrix, took: Duration);
    /// So many rows made a step.
    fn stepped(&self, rows: usize, took: Duration);
}

/// An engine and whoever watches it; calls that fail are not told.
pub struct Observed {
    engine: Box<dyn Engine>,
    observer: Arc<dyn Observer>,
}

impl Observed {
    /// `engine`, watched by `observer`.
    pub fn new(engine: Box<dyn Engine>, observer: Arc<dyn Observer>) -> Self {
        Self { engine, observer }
    }
}

impl Engine for Observed {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn target_vocabulary(&self) -> usize {
        self.engine.target_vocabulary()
    }

    fn special_ids(&self) -> SpecialIds {
        self.engine.special_ids()
    }

    fn joins(&self) -> Joins {
        self.engine.joins()
    }

    fn lengths(&self) -> Lengths {
        self.engine.lengths()
    }

    fn remark(&self) -> Option<&str> {
        self.engine.remark()
    }

    fn select(&mut self, cohort: usize) {
        self.engine.select(cohort);
    }

    fn encode(&mut self, sources: &IdMatrix) -> Result<Encoded> {
        let begin = Instant::now();
        let encoded = self.engine.encode(sources)?;
        self.observer.encoded(sources, begin.elapsed());
        Ok(encoded)
    }

    fn join(&mut self, encoded: &Encoded, rows: Range<usize>) -> Result<()> {
        self.engine.join(encoded, rows)
    }

    fn keep(&mut self, rows: &[usize]) {
        self.engine.keep(rows);
    }

    fn step(&mut self, tokens: &[i64], output: &mut StepOutput) -> Result<()> {
        let begin = Instant::now();
        self.engine.step(tokens, output)?;
        self.observer.stepped(tokens.len(), begin.elapsed());
        Ok(())
    }

    fn step_best(&mut self, tokens: &[i64], wanted: &Wanted<'_>, output: &mut StepOutput) -> Result<()> {
        let begin = Instant::now();
        self.engine.step_best(tokens, wanted, output)?;
        self.observer.stepped(tokens.len(), begin.elapsed());
        Ok(())
    }

    fn rows(&self) -> usize {
        self.engine.rows()
    }

    fn clear(&mut self) {
        self.engine.clear();
    }

    fn states(&mut self) -> Result<Vec<StateTensor>> {
        self.engine.states()
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self { engine: self.engine.fork()?, observer: Arc::clone(&self.observer) }))
    }
}
