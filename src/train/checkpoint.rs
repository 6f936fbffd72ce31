//! Checkpoints: parameters, the optimiser's moments and how far the training had come, in one safetensors
//! file.
//!
//! Tensors have the names and shapes of the exported graphs' initialisers, the moments `m.` and `v.` in
//! front. The metadata has one key, [`METADATA`], with a JSON object ([`Header`]), so that equal trainings
//! give equal files.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::callbacks::Callbacks;
use super::metrics::EpochMetrics;
use super::step::OptimiserState;
use super::tensors::TensorFile;
use crate::config::callbacks::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;
use crate::network::{Network, Parameters};

/// Key of the metadata.
pub const METADATA: &str = "s2s.checkpoint";

/// Where errors say that a network cannot be.
const ARCHITECTURE: &str = "s2s.checkpoint.architecture";
const DAMAGED: &str = "the file is damaged or from another program; train again, or use another checkpoint";

/// What the metadata of a checkpoint says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header<A> {
    /// The network.
    pub architecture: A,
    /// How far the training had come.
    pub progress: Progress,
    /// sha256 of the part of the config that decides the weights.
    pub config: String,
}

/// How far a training has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Whole epochs done.
    pub epoch: usize,
    /// Batches done of the epoch after these.
    pub batches: usize,
    /// Optimiser steps done.
    pub step: u64,
    /// Loss of those batches, in nats summed over tokens; the bits of an f64, because JSON may round.
    pub nats_bits: u64,
    /// Target tokens of those batches.
    pub tokens: usize,
    /// Those of them that were predicted right.
    pub correct: usize,
    /// Those of the batches that were left out because their loss was not finite.
    #[serde(default)]
    pub skipped: usize,
    /// Seconds spent on those batches, in milliseconds.
    pub milliseconds: u64,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// What the callbacks remember.
    #[serde(default)]
    pub callbacks: Callbacks,
}

/// The best epoch of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Counted from 1.
    pub epoch: usize,
    /// Its validation loss, the bits of an f64.
    pub validation_loss_bits: u64,
    /// What made it the best, where that is not the validation loss; the bits of an f64.
    #[serde(alias = "exact_match_bits")]
    pub monitored_bits: Option<u64>,
}

/// The key of the metadata in checkpoints of an older form, and what reads its JSON.
pub type OlderHeader<A> = (&'static str, fn(&str) -> serde_json::Result<Header<A>>);

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint<N: Network> {
    /// What the metadata says.
    pub header: Header<N::Architecture>,
    /// The weights.
    pub parameters: Parameters<f32>,
    /// The optimiser's state; `None` in a checkpoint that is only read for its weights.
    pub optimiser: Option<OptimiserState>,
}

impl Best {
    /// Mean nats a target token.
    pub fn validation_loss(&self) -> f64 {
        f64::from_bits(self.validation_loss_bits)
    }

    /// What is kept of an epoch.
    pub fn of(monitor: Monitor, metrics: &EpochMetrics) -> Self {
        let monitored = if monitor == Monitor::ValidationLoss { None } else { monitor.value(metrics) };
        Self {
            epoch: metrics.epoch,
            validation_loss_bits: metrics.validation_loss.to_bits(),
            monitored_bits: monitored.map(f64::to_bits),
        }
    }

    /// Whether it is better than `old`; the lower validation loss breaks a tie.
    pub fn is_better(&self, monitor: Monitor, old: Self) -> bool {
        if monitor != Monitor::ValidationLoss
            && let (Some(new), Some(old)) =
                (self.monitored_bits.map(f64::from_bits), old.monitored_bits.map(f64::from_bits))
            && new != old
        {
            return (new > old) == monitor.higher_is_better();
        }
        self.validation_loss() < old.validation_loss()
    }
}

/// Reads the JSON under a key of a checkpoint's metadata; `None` where the key is not there.
///
/// # Errors
/// [`ErrorKind::Data`] for a file that is no checkpoint, or where something else stands under the key.
pub(crate) fn metadata<H: DeserializeOwned>(path: &Path, key: &str) -> Result<Option<H>> {
    TensorFile::read(path, DAMAGED)?.header(key, |json| serde_json::from_str(json))
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl<N: Network> Checkpoint<N> {
    /// Writes the file whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let internal = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Internal, "the checkpoint cannot be laid out")
                .in_file(path)
                .caused_by(cause)
        };
        let network = N::new(self.header.architecture.clone())?;
        let moments = self.optimiser.iter().flat_map(|o| [("m.", &o.first), ("v.", &o.second)]);
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = [("", &self.parameters)]
            .into_iter()
            .chain(moments)
            .flat_map(|(prefix, p)| {
                network
                    .exported(p)
                    .into_iter()
                    .map(move |(name, shape, values)| (format!("{prefix}{name}"), shape, bytes_of(&values)))
            })
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| internal(e.into()))?;
        let header = serde_json::to_string(&self.header).map_err(|e| internal(e.into()))?;
        let metadata = HashMap::from([(METADATA.to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| internal(e.into()))?;
        write_atomically(path, &bytes)
    }

    /// Reads a checkpoint and holds it against the architecture that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for a file that is no checkpoint, is cut off, lacks a tensor, has one of another
    /// type or a weight that is not finite, or says that it is of a network that cannot be or that it is too
    /// short for.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_form(path, None)
    }

    /// [`load`](Self::load), also of a file whose header stands under another key and in an older form.
    pub(super) fn load_form(path: &Path, older: Option<OlderHeader<N::Architecture>>) -> Result<Self> {
        let file = TensorFile::read(path, DAMAGED)?;
        let (header, tensors) = file.parse(METADATA, older)?;
        let wrong = |e: Error| {
            Error::new(ErrorKind::Data, e.message()).at_line(path, None, Some(ARCHITECTURE)).help(DAMAGED)
        };
        let network = N::new(header.architecture.clone()).map_err(wrong)?;
        tensors.check(network.layout())?;
        let parameters = tensors.weights(|find| network.import(find))?;
        let optimiser = if tensors.has_moments() {
            let [first, second] =
                ["m.", "v."].map(|prefix| tensors.gather(prefix, |find| network.import(find)));
            Some(OptimiserState { first: first?, second: second?, time: header.progress.step })
        } else {
            None
        };
        Ok(Self { header, parameters, optimiser })
    }
}
