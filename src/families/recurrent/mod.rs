//! Encoder-decoders of recurrent layers: pairs of texts in, bundles that translate out.

mod candidates;
mod dataset;
mod export;
mod family;
mod initial;
mod record;
#[cfg(test)]
mod tests;

pub use candidates::{Candidate, candidates};
pub use dataset::train;
pub use family::RecurrentFamily;
pub use record::{Checkpoint, Run, StoredTexts, Texts};
