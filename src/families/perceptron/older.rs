//! Runs of perceptrons that the first versions wrote: their checkpoints have a header of their own, which
//! also names the data file.

use std::path::Path;

use s2s_runtime::manifest::DataFile;
use serde::Deserialize;

use crate::error::Result;
use crate::families::features::{Classifier, StoredSamples};
use crate::network::perceptron::{Mlp, MlpArchitecture};
use crate::train::callbacks::Callbacks;
use crate::train::checkpoint::{Best, Header, OlderHeader, Progress, metadata};

const KEY: &str = "s2s.mlp_checkpoint";

impl Classifier for Mlp {
    const OLDER_HEADER: Option<OlderHeader<MlpArchitecture>> =
        Some((KEY, |json| Ok(serde_json::from_str::<Older>(json)?.into())));

    fn record_of_older(folder: &Path) -> Result<Option<StoredSamples>> {
        record(folder).map(Some)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Older {
    architecture: MlpArchitecture,
    config: String,
    data: DataFile,
    epoch: usize,
    step: u64,
    best: Option<(usize, f64)>,
    #[serde(default)]
    callbacks: Callbacks,
}

impl From<Older> for Header<MlpArchitecture> {
    fn from(older: Older) -> Self {
        let Older { architecture, config, data: _, epoch, step, best, callbacks } = older;
        let best = best.map(|(epoch, loss)| Best {
            epoch,
            validation_loss_bits: loss.to_bits(),
            monitored_bits: None,
        });
        let progress = Progress { epoch, step, best, callbacks, ..Progress::default() };
        Self { architecture, progress, config }
    }
}

/// Reads what the folder of such a run knows of its data: its checkpoints name the file.
///
/// # Errors
/// A checkpoint that is there and cannot be read.
fn record(folder: &Path) -> Result<StoredSamples> {
    let mut data = Vec::new();
    for file in ["last.safetensors", "best.safetensors"] {
        let path = folder.join("checkpoints").join(file);
        if path.exists()
            && data.is_empty()
            && let Some(older) = metadata::<Older>(&path, KEY)?
        {
            data.push(older.data);
        }
    }
    Ok(StoredSamples { data })
}
