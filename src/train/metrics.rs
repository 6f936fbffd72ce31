//! `metrics.jsonl`: one JSON object an epoch.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use s2s_runtime::files;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;

/// What one epoch gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Optimiser steps since the beginning.
    pub step: u64,
    /// Mean nats a target token, or a sample of a perceptron (END counted, padding left out), averaged while
    /// the weights move.
    pub train_loss: f64,
    /// Fraction of target tokens predicted right, likewise.
    pub train_accuracy: f64,
    /// Mean nats a target token on the validation pairs, after the epoch.
    pub validation_loss: f64,
    /// Fraction of target tokens predicted right on the validation pairs.
    pub validation_accuracy: f64,
    /// The same nats divided by samples times the longest target's steps, as Keras averages over padded
    /// steps; absent for samples that are no texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss_padded: Option<f64>,
    /// Fraction of the sample whose decoded text equals a reference; absent where not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<f64>,
    /// Token edits to the closest reference, over the references' tokens; absent where not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_error_rate: Option<f64>,
    /// chrF2 of the decoded sample, from 0 to 100; absent where not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chrf: Option<f64>,
    /// BLEU of the decoded sample, from 0 to 100; absent where not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bleu: Option<f64>,
    /// The learning rate of its last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Batches that were left out because their loss was not finite, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_batches: Option<usize>,
    /// Whether this epoch is the best so far.
    pub best: bool,
    /// Seconds of the training steps.
    pub train_seconds: f64,
    /// Seconds of all, validation and decoding included.
    pub seconds: f64,
    /// Optimiser steps a second of training.
    pub steps_per_second: f64,
    /// Target tokens a second of training, END counted; absent for samples that are no texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_tokens_per_second: Option<f64>,
    /// Samples a second of training, of a perceptron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
}

/// Adds a line and syncs it.
pub fn append(path: &Path, metrics: &EpochMetrics) -> Result<()> {
    let mut line = serde_json::to_string(metrics).map_err(|e| {
        Error::new(ErrorKind::Internal, "the metrics cannot be written as JSON").in_file(path).caused_by(e)
    })?;
    line.push('\n');
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|e| Error::io(path, e))
}

/// Reads all lines; a last line that a crash cut off is left out.
pub fn read(path: &Path) -> Result<Vec<EpochMetrics>> {
    let Some(bytes) = files::read_if_there(path, files::LOG)? else { return Ok(Vec::new()) };
    let text = files::to_text(bytes, path, files::LOG)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    (1u64..)
        .zip(whole.lines())
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|e| {
                Error::new(ErrorKind::Data, format!("not a line of metrics: {e}")).at_line(
                    path,
                    Some(number),
                    None,
                )
            })
        })
        .collect()
}

/// Keeps the lines of the first `epochs` epochs, as they stand.
pub fn truncate(path: &Path, epochs: usize) -> Result<()> {
    let kept = read(path)?.iter().filter(|m| m.epoch <= epochs).count();
    let text = files::to_text(files::read_if_there(path, files::LOG)?.unwrap_or_default(), path, files::LOG)?;
    let lines: String = text.split_inclusive('\n').take(kept).collect();
    write_atomically(path, lines.as_bytes())
}

impl EpochMetrics {
    /// The figures that do not depend on the machine's speed, as JSON; equal trainings give equal ones.
    pub fn scores(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = json.as_object_mut() {
            for key in [
                "best",
                "train_seconds",
                "seconds",
                "steps_per_second",
                "target_tokens_per_second",
                "samples_per_second",
            ] {
                map.shift_remove(key);
            }
        }
        json
    }
}
