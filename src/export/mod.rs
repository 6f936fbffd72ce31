//! From a network to a bundle: the graphs, the manifest, a self test, a README; and the proof that they
//! agree.
//!
//! | file | what it holds |
//! |---|---|
//! | `input` | what is exported, and how |
//! | `bundle` | the files of a bundle, in memory |
//! | `verified` | a bundle that comes to its place only after every check has passed |
//! | `feature_bundle`, `features` | the bundle of a network from features to scores, and its export |
//! | `compression` | weights in f16 and int8 |
//! | `folder`, `staging` | the folder: written beside its place, then put there in one step |
//! | `self_test` | vectors that are run whenever the bundle is opened |
//! | `target` | what each runtime can take |
//! | `front_matter` | what model hubs read at the head of the README |
//! | `pytorch` | the same network as a module of PyTorch |
//! | `readme` | the text for the reader of the folder |
//! | `reference` | greedy decoding by the trainer's own pass |
//! | `rounding`, `tolerances` | what the network makes of rounding, and the bounds that are made of it |
//! | `triton` | the same graphs as a model repository of Triton and KServe |
//! | [`verify`](mod@verify) | every graph in every engine against the trainer's own pass |

mod bundle;
mod compression;
mod feature_bundle;
mod features;
mod folder;
mod front_matter;
mod input;
mod pytorch;
mod readme;
mod reference;
mod rounding;
mod self_test;
mod staging;
mod target;
mod tolerances;
mod triton;
mod verified;
pub mod verify;

pub use crate::network::sequence::Need;
pub use bundle::{bundle_files, weights_sha256};
pub use compression::{Dtype, with_smaller_weights};
pub use feature_bundle::{FeatureBundle, FeatureManifest, best, feature_kind, read_features};
pub use features::{FeatureInput, export_features, feature_files};
pub use folder::{Replace, Staged, stage, write_bundle};
pub(crate) use front_matter::front_matter;
pub use input::{EncoderForm, ExportInput, ExportOptions};
pub use pytorch::{pytorch_files, write_pytorch};
pub use target::{TARGETS, Target};
pub use tolerances::{Rounding, Tolerances};
pub use triton::write_repository;
pub use verified::export;
pub(crate) use verified::write_verified;
pub use verify::{Report, VerifyOptions, verify, verify_features, verify_path};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::bag;
