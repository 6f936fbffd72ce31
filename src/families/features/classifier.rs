//! A network that learns classes from samples, and what the folder of its run keeps beside the weights.

use std::path::Path;

use s2s_runtime::manifest::DataFile;
use serde::{Deserialize, Serialize};

use crate::config::samples::{SampleConfig, SampleModel};
use crate::error::Result;
use crate::network::Network;
use crate::network::features::FeatureNetwork;
use crate::network::perceptron::Sample;
use crate::train::Trainable;
use crate::train::checkpoint::OlderHeader;

/// A network from features to classes. Whatever implements this has configs, runs, bundles and commands.
pub trait Classifier:
    FeatureNetwork + Network<Architecture: SampleModel> + for<'a> Network<Example<'a> = Sample<'a>>
{
    /// How checkpoints of older versions name and write their header, where that was otherwise.
    const OLDER_HEADER: Option<OlderHeader<Self::Architecture>> = None;

    /// Reads what a folder of an older version, which has no `samples.json`, knows of its data.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    fn record_of_older(_folder: &Path) -> Result<Option<StoredSamples>> {
        Ok(None)
    }
}

/// What `samples.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSamples {
    /// The data file; none where an older run was stopped before its first epoch was done.
    pub data: Vec<DataFile>,
}

impl<N: Classifier> Trainable for N {
    type Config = SampleConfig<N::Architecture>;
    type Stored = StoredSamples;
    type Record = StoredSamples;
    const RECORD: &'static str = "samples.json";
    const OLDER_HEADER: Option<OlderHeader<N::Architecture>> = <N as Classifier>::OLDER_HEADER;

    fn open(stored: StoredSamples) -> Result<StoredSamples> {
        Ok(stored)
    }

    fn of(config: &Self::Config, _: &StoredSamples) -> Result<Self> {
        Self::new(config.architecture.clone())
    }

    fn data(record: &StoredSamples) -> &[DataFile] {
        &record.data
    }

    fn record_of_older(folder: &Path) -> Result<Option<StoredSamples>> {
        <N as Classifier>::record_of_older(folder)
    }
}
