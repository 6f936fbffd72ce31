//! Counts of what passes through an engine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use s2s_runtime::engine::{IdMatrix, Observer};

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

impl Observer for Counter {
    fn encoded(&self, sources: &IdMatrix, took: Duration) {
        let pad = i64::from(s2s_runtime::contract::PAD);
        let tokens = sources.data.iter().filter(|&&id| id != pad).count() as u64;
        self.add(|counts| {
            counts.encoding += took;
            counts.source_tokens += tokens;
        });
    }

    fn stepped(&self, rows: usize, took: Duration) {
        self.add(|counts| {
            counts.steps += 1;
            counts.rows += rows as u64;
            counts.stepping += took;
        });
    }
}
