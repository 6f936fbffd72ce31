//! From a network to a bundle: the graphs, the manifest, a self test, a README; and the proof that they
//! agree.
//!
//! | file | what it holds |
//! |---|---|
//! | `bundle` | the files of a bundle, in memory |
//! | `compression` | weights in f16 and int8 |
//! | `folder`, `staging` | the folder: written beside its place, then put there in one step |
//! | `self_test` | vectors that are run whenever the bundle is opened |
//! | `target` | what each runtime can take |
//! | `front_matter` | what model hubs read at the head of the README |
//! | `readme` | the text for the reader of the folder |
//! | `reference` | greedy decoding by the trainer's own pass |
//! | `rounding` | what the network makes of rounding, from which bounds are made |
//! | `triton` | the same graphs as a model repository of Triton and KServe |
//! | [`verify`](mod@verify) | every graph in every engine against the trainer's own pass |

use std::path::Path;

use s2s_runtime::contract::file;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::manifest::{Io, Provenance};
use s2s_runtime::vocabulary::Vocabulary;

use crate::error::Result;
use crate::network::{Parameters, Seq2Seq};
use crate::onnx::DEFAULT_OPSET;

mod bundle;
mod compression;
mod folder;
mod front_matter;
pub mod mlp;
mod readme;
mod reference;
mod rounding;
mod self_test;
mod staging;
mod target;
#[cfg(test)]
mod tests;
mod triton;
pub mod verify;

pub use bundle::{bundle_files, weights_sha256};
pub use compression::Dtype;
pub use folder::{Replace, Staged, stage, write_bundle};
pub use target::{Need, TARGETS, Target};
pub use triton::write_repository;
pub use verify::{Report, Rounding, Tolerances, VerifyOptions, verify, verify_path};

/// What is exported.
#[derive(Clone, Debug)]
pub struct ExportInput<'a> {
    /// The network.
    pub network: &'a Seq2Seq,
    /// Its weights.
    pub parameters: &'a Parameters<f32>,
    /// Source text to ids; as many symbols as the network's source vocabulary.
    pub source: &'a Vocabulary,
    /// Ids to target text; as many symbols as the network's target vocabulary.
    pub target: &'a Vocabulary,
    /// The model's name, as servers show it.
    pub name: &'a str,
    /// Decoding defaults of the bundle.
    pub decoding: DecodingOptions,
    /// Where the weights come from.
    pub provenance: Option<Provenance>,
}

/// How it is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportOptions {
    /// The tensors that stand for tokens; ids by default.
    pub io: Io,
    /// Version of the standard operators, within [`OPSETS`](crate::onnx::OPSETS); 17 by default.
    pub opset: i64,
    /// How weights are stored.
    pub dtype: Dtype,
    /// A fourth graph with the whole of greedy decoding, for runtimes that have Loop.
    pub fused: bool,
    /// Encoder, decoder and manifest only: enough to decode, for scores during training.
    pub graphs_only: bool,
    /// Source texts for whoever tries the model; at most
    /// [`MOST_EXAMPLES`](s2s_runtime::manifest::MOST_EXAMPLES).
    pub examples: Vec<String>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            io: Io::Ids,
            opset: DEFAULT_OPSET,
            dtype: Dtype::F32,
            fused: false,
            graphs_only: false,
            examples: Vec::new(),
        }
    }
}

/// Exports to the folder `target`: written beside it, verified there, and moved to its place only if every
/// check passed.
///
/// # Errors
/// [`ErrorKind::Parity`](crate::error::ErrorKind::Parity) if a check failed; as [`bundle_files`], [`stage`],
/// [`verify()`]. In each case `target` is as it was and nothing is left beside it.
pub fn export(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    verification: &VerifyOptions,
    target: &Path,
    replace: &Replace,
) -> Result<Report> {
    let staged = stage(target, &bundle_files(input, options)?, replace)?;
    let report = verify_path(staged.path(), verification, true)?;
    report.check()?;
    debug_assert!(staged.path().join(file::CONFORMANCE).exists(), "the record travels with the bundle");
    staged.commit()?;
    Ok(report)
}
