//! What the folder of a perceptron's run keeps beside the weights.

use std::path::Path;

use s2s_runtime::manifest::DataFile;
use serde::{Deserialize, Serialize};

use super::older;
use crate::config::mlp::MlpConfig;
use crate::error::Result;
use crate::network::Network;
use crate::network::perceptron::{Mlp, MlpArchitecture};
use crate::train::checkpoint::OlderHeader;
use crate::train::{self, Trainable};

/// A run of a perceptron.
pub type Run = train::Run<Mlp>;

/// What `samples.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSamples {
    /// The data file; none where an older run was stopped before its first epoch was done.
    pub data: Vec<DataFile>,
}

impl Trainable for Mlp {
    type Config = MlpConfig;
    type Stored = StoredSamples;
    type Record = StoredSamples;
    const RECORD: &'static str = "samples.json";
    const OLDER_HEADER: Option<OlderHeader<MlpArchitecture>> = Some(older::HEADER);

    fn open(stored: StoredSamples) -> Result<StoredSamples> {
        Ok(stored)
    }

    fn of(config: &MlpConfig, _: &StoredSamples) -> Result<Self> {
        Self::new(config.architecture.clone())
    }

    fn data(record: &StoredSamples) -> &[DataFile] {
        &record.data
    }

    fn record_of_older(folder: &Path) -> Result<Option<StoredSamples>> {
        older::record(folder).map(Some)
    }
}
