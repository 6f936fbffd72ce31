//! An engine that keeps count of what passes through it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use s2s_runtime::engine::{DecoderState, Engine, IdMatrix, StepOutput};

use crate::error::Result;

/// What an engine and its forks did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) steps: u64,
    /// Rows of all steps.
    pub(super) rows: u64,
    pub(super) stepping: Duration,
    pub(super) encoding: Duration,
    pub(super) source_tokens: u64,
}

/// Counts, shared by forks.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    /// What there is since the last call.
    pub(super) fn take(&self) -> Counts {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, with: impl FnOnce(&mut Counts)) {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// An engine that counts.
pub(super) struct Counted {
    inner: Box<dyn Engine>,
    counter: Counter,
}

impl Counted {
    pub(super) fn new(inner: Box<dyn Engine>, counter: Counter) -> Self {
        Self { inner, counter }
    }
}

impl Engine for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn target_vocabulary(&self) -> usize {
        self.inner.target_vocabulary()
    }

    fn encode(&mut self, source: &IdMatrix) -> Result<DecoderState> {
        let begin = Instant::now();
        let state = self.inner.encode(source);
        let elapsed = begin.elapsed();
        let tokens =
            source.data.iter().filter(|&&id| id != i64::from(s2s_runtime::contract::PAD)).count() as u64;
        self.counter.add(|counts| {
            counts.encoding += elapsed;
            counts.source_tokens += tokens;
        });
        state
    }

    fn step(&mut self, tokens: &[i64], state: &mut DecoderState, output: &mut StepOutput) -> Result<()> {
        let begin = Instant::now();
        let result = self.inner.step(tokens, state, output);
        let elapsed = begin.elapsed();
        self.counter.add(|counts| {
            counts.steps += 1;
            counts.rows += tokens.len() as u64;
            counts.stepping += elapsed;
        });
        result
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self::new(self.inner.fork()?, self.counter.clone())))
    }
}
