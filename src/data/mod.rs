//! Pairs of text, from files or self-made: read, looked at, counted, encoded, and their order in training;
//! and samples of numbers.

pub mod batches;
pub mod corpus;
mod counting;
pub mod dates;
pub mod encoded;
pub mod formats;
pub mod groups;
mod jsonl;
pub mod lengths;
pub mod pairs;
pub mod reading;
pub mod report;
pub mod samples;
mod separated;

pub use corpus::Corpus;
pub use pairs::{Pair, Pairs, Part};

/// Hears how far the work on data has come: what is done, how much of it, out of how much.
pub type Progress<'a> = dyn FnMut(&'static str, usize, usize) + 'a;

#[cfg(test)]
mod tests;
