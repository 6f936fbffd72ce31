//! What a run folder asks of the network that it holds.

use std::fmt::Debug;
use std::path::Path;

use s2s_runtime::manifest::DataFile;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::OlderHeader;
use super::origin::{Origin, Which};
use super::step::OptimiserState;
use crate::config::experiment::Experiment;
use crate::error::Result;
use crate::network::{Network, Parameters};

/// A network that is trained by a config and lives in a run folder.
pub trait Trainable: Network {
    /// The config of its experiments.
    type Config: Experiment;
    /// What the folder keeps of the data beside the config, as [`RECORD`](Self::RECORD) holds it.
    type Stored: Serialize + DeserializeOwned;
    /// The same, ready for use.
    type Record: Clone + Debug + Send + Sync;
    /// The file of it.
    const RECORD: &'static str;

    /// Makes what was stored ready for use.
    ///
    /// # Errors
    /// What is stored cannot be.
    fn open(stored: Self::Stored) -> Result<Self::Record>;
    /// Lays out the network that a config asks for.
    ///
    /// # Errors
    /// As [`Network::new`].
    fn of(config: &Self::Config, record: &Self::Record) -> Result<Self>;
    /// Lists the data files that a run was trained on.
    fn data(record: &Self::Record) -> &[DataFile];
    /// Returns the run whose weights a run began with.
    fn origin(_record: &Self::Record) -> Option<&Origin> {
        None
    }

    /// Reads what a folder of an older version keeps, where that had no such file.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    fn record_of_older(_folder: &Path) -> Result<Option<Self::Stored>> {
        Ok(None)
    }
    /// How checkpoints of older versions name and write their header, where that was otherwise.
    const OLDER_HEADER: Option<OlderHeader<Self::Architecture>> = None;
}

/// Weights that a new run begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Which checkpoint they become.
    pub which: Which,
    /// The weights.
    pub parameters: Parameters<f32>,
    /// The optimiser's state; without it the run is only read for its weights.
    pub optimiser: Option<OptimiserState>,
}
