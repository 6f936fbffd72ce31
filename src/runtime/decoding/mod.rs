//! The decoding loop, from ids to ids, and its options.
//!
//! | file | what it holds |
//! |---|---|
//! | `options`, `settings` | what may be asked, as typed and as checked |
//! | `decoding_loop`, `group` | the running batch; one request's rows in it |
//! | `request`, `batch` | what goes in and comes out; many sources at once |
//! | `filters/` | rules on logits, one file a rule |
//! | `numerics` | maximum, log-sum-exp, exp |
//! | `sampler`, `beam` | which token comes next |
//! | `score`, `stopping` | what a hypothesis is worth, when to stop |
//! | `state` | states of rows that join, leave and change places |

mod batch;
mod beam;
mod decoding_loop;
mod filters;
mod group;
mod numerics;
mod options;
mod request;
mod sampler;
pub mod score;
mod settings;
mod state;
mod stopping;

pub use crate::vocabulary::UnknownPolicy;
pub use batch::{DEFAULT_BATCH, decode_batch, decode_each};
pub(crate) use batch::{TOO_LONG_HELP, decode_from};
pub use decoding_loop::{DecodingLoop, Events};
pub use options::{
    DecodingOptions, EarlyStopping, LengthPenaltyType, OutputOptions, Strings, SymbolRef, Symbols, Truncate,
};
pub use request::{Event, FinishReason, Hypothesis, Request};
pub use settings::{Settings, TargetSymbols};
pub use stopping::StopStrings;

#[cfg(test)]
pub(crate) mod tests;
