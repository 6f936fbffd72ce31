//! How good translations are: decoded through the exported graphs with the shipped loop, held against
//! references, so that what is measured is what is shipped.

pub mod comparison;
mod evaluation;
pub mod ngrams;

pub use evaluation::{Decoded, Evaluation, Measures, Score, decode, evaluate};
