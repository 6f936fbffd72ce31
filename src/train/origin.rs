//! Which weights of a run are meant, and where a run's first weights come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The best epoch, as the config's `training.best` says.
    #[default]
    Best,
    /// Where the training stopped.
    Last,
}

/// Where a new run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitFrom {
    /// A run folder, whose best checkpoint is taken, or a checkpoint in one.
    pub path: PathBuf,
    /// Whether symbols that the vocabularies lack get ids, after those that are there; else they are unknown.
    pub extend_vocabulary: bool,
}

/// What a run remembers of where it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Name of the other run.
    pub run: String,
    /// Whole epochs of the checkpoint.
    pub epoch: usize,
    /// sha256 of the checkpoint, lower-case hexadecimal.
    pub checkpoint: String,
    /// Symbols of the new pairs, of both sides, that the other run did not know.
    pub new_symbols: [usize; 2],
    /// Whether they have got ids.
    pub extended: bool,
}

impl Which {
    /// Returns the file's name in the folder of checkpoints.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Best => "best.safetensors",
            Self::Last => "last.safetensors",
        }
    }
}
