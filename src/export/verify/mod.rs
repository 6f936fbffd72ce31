//! Holds a bundle against the network that it was cut from, in every engine that is there.
//!
//! 1. Files: [`Bundle::open`](s2s_runtime::bundle::Bundle::open) has checked hashes, roles, vocabularies and
//!    wiring. The network is rebuilt from the manifest's architecture and the training graph's initialisers;
//!    their hash must be the manifest's, the other graphs must carry the same bytes under the same names, and
//!    what else they carry must follow from the weights.
//! 2. Each graph in each engine against the rebuilt network's own pass, over ragged batches of {1, 2, 7}
//!    texts of up to {1, 5, 33} tokens; the encoder and the folded decoder steps against the training graph.
//! 3. Whole texts, greedily and if asked for with beams: one by one against batches, engine against engine,
//!    and (greedily) against the network. The graph that decodes by itself, if there is one, against the loop
//!    of the same engine.
//!
//! Models of others have no training graph (folders that Optimum wrote, or bundles from another exporter).
//! Their texts are decoded alone and in batches of unequal lengths, in every engine, greedily and by a
//! search with one beam, with a state and from all tokens again, and as `expected.json` has them where a
//! folder has one.

mod decoding;
mod encoder_step;
mod engines;
mod error;
mod expected;
mod features;
mod foreign;
mod fused;
mod graphs;
mod inputs;
mod options;
mod report;
pub mod runtimes;
mod sequence;
mod subject;
mod texts;
mod weights;
mod whole;

pub use super::tolerances::{Rounding, Tolerances};
pub use features::verify_features;
pub use options::VerifyOptions;
pub use report::{Check, EngineEntry, Outcome, Report};
pub use sequence::{verify, verify_path};
