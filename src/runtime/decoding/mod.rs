//! The decoding loop, from ids to ids, and its options.
//!
//! | file | what it holds |
//! |---|---|
//! | `options`, `lists`, `settings` | what may be asked, as typed and as checked |
//! | `decoding_loop`, `cohort`, `group` | what runs; requests that are one batch; a request's rows in it |
//! | `needs` | whether the best few scores of a row are enough for a request |
//! | `company` | which requests go together where padding must not be |
//! | `request`, `batch` | what goes in and comes out; many sources at once |
//! | `filters/` | rules on logits, one file a rule |
//! | `sampler`, `beam` | which token comes next |
//! | `score`, `stop_strings` | what a hypothesis is worth and when beams are done; texts that end it |

mod batch;
mod beam;
mod cohort;
mod company;
mod decoding_loop;
mod filters;
mod group;
mod lists;
mod needs;
mod options;
mod request;
mod sampler;
pub mod score;
mod settings;
mod stop_strings;

pub use crate::vocabulary::UnknownPolicy;
pub use batch::{DEFAULT_BATCH, decode_batch, decode_each};
pub use decoding_loop::{DecodingLoop, Events};
pub use lists::{Ids, Sequences, Strings, SymbolRef, Symbols};
pub use options::{DecodingOptions, EarlyStopping, LengthPenaltyType, OutputOptions, Truncate};
pub use request::{Event, FinishReason, Hypothesis, Request};
pub use settings::Settings;
pub(crate) use settings::TOO_LONG_HELP;
pub use stop_strings::StopStrings;

#[cfg(test)]
pub(crate) mod tests;
