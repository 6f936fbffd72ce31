//! What goes into the loop and what comes out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::error::Error;

/// Why a hypothesis ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// END came.
    Eos,
    /// `max_new_tokens` were generated.
    Length,
    /// A stop string was completed, or the rules left no token that could come.
    Stop,
    /// The request was cancelled.
    Cancelled,
    /// `time_limit` passed.
    Timeout,
}

/// One output of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Target ids without START and END; they begin with the prefix.
    pub ids: Vec<u32>,
    /// How many of them are `target_prefix`.
    pub prefix: usize,
    /// The score by `length_penalty_type` and `coverage_penalty`; 0 unless it was asked for or beams needed
    /// it.
    pub score: f32,
    /// log p of each generated token, that of END last if it came; empty unless asked for.
    pub token_scores: Vec<f32>,
    /// Attention weights, f32 (source_time) without padding, for each of `ids`; empty unless asked for.
    pub attention: Vec<Vec<f32>>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Hypothesis {
    /// Generated tokens, END counted.
    pub fn generated(&self) -> usize {
        self.ids.len() - self.prefix + usize::from(self.finish == FinishReason::Eos)
    }
}

/// A source to decode.
#[derive(Clone, Debug)]
pub struct Request {
    /// Named in the events; the caller keeps them apart.
    pub id: u64,
    /// Source ids, without padding; `max_input_length` is not applied here but by [`Settings::fit`].
    pub source: Vec<u32>,
    /// How to decode it.
    pub settings: Arc<Settings>,
    /// Whether [`Event::Token`] is wanted; beams give none, because a beam may still lose.
    pub stream: bool,
}

/// What a step brought.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A token, in order, END and prefix left out; only for requests that stream.
    Token {
        /// Of which request.
        request: u64,
        /// Of which of its hypotheses: 0 unless several are drawn.
        hypothesis: usize,
        /// The token.
        id: u32,
        /// log p, if scores were asked for.
        log_p: Option<f32>,
    },
    /// All hypotheses of a request, the best first; drawn ones in the order of their numbers.
    Finished {
        /// Which request.
        request: u64,
        /// At least one, at most `num_return_sequences`.
        hypotheses: Vec<Hypothesis>,
    },
    /// A request cannot be decoded; the others go on.
    Failed {
        /// Which request.
        request: u64,
        /// Why.
        error: Error,
    },
}
