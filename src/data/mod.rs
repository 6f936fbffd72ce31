//! Pairs of text, from files or self-made, and their order in training.

pub mod batches;
pub mod corpus;
pub mod dates;
pub mod pairs;
#[cfg(test)]
mod tests;

pub use corpus::Corpus;
pub use pairs::Pair;
