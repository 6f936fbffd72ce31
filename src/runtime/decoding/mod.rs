//! The decoding loop, from ids to ids, and its options.
//!
//! | file | what it holds |
//! |---|---|
//! | `options`, `yaml`, `settings` | what may be asked, as typed and as checked |
//! | `filters/` | rules on logits, one file a rule |
//! | `numerics` | argmax, log-sum-exp, exp |
//! | `sampler`, `beam` | which token comes next |
//! | `score`, `stopping` | what a hypothesis is worth, when to stop |

mod options;
pub mod score;
mod settings;
mod stopping;
mod yaml;

pub use options::{DecodingOptions, EarlyStopping, LengthPenaltyType, OutputOptions, Strings, SymbolRef, Truncate, UnknownPolicy};
pub use settings::{Settings, TargetSymbols};
pub use stopping::StopStrings;
