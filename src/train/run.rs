//! The run folder: all that a training leaves behind, and all that an export needs.
//!
//! | file | what |
//! |---|---|
//! | `config.yaml` | the config, overrides laid over, data folder and threads fixed |
//! | `vocabulary.json` | vocabularies of both sides, counts and hashes of the data; `samples.json` of a perceptron |
//! | `metrics.jsonl` | one JSON object an epoch |
//! | `metrics.csv` | the same as a table, with `training.csv_logger` |
//! | `tensorboard/` | the same as event files, with `training.tensorboard` |
//! | `curves.svg` | the same as a picture |
//! | `checkpoints/last.safetensors` | weights, the optimiser's state, how far it came: `--resume` goes on here |
//! | `checkpoints/best.safetensors` | weights of the best epoch: `s2s export` takes these |
//! | `.lock` | locked while a process writes to the folder (`lock.rs`) |

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use s2s_runtime::manifest::Provenance;
use serde::Serialize;

use super::checkpoint::{Checkpoint, Header, Progress};
use super::logs;
use super::metrics::{self, EpochMetrics};
use super::origin::Which;
use super::step::OptimiserState;
use super::trainable::{Start, Trainable};
use crate::config::LoadOptions;
use crate::config::experiment::Experiment;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;
use crate::network::Parameters;

const CONFIG: &str = "config.yaml";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";

/// An opened run folder.
#[derive(Clone, Debug)]
pub struct Run<N: Trainable> {
    /// Where it lies.
    pub folder: PathBuf,
    /// The config that it was trained by.
    pub config: N::Config,
    /// What it keeps of the data beside the config.
    pub record: N::Record,
    /// The network.
    pub network: N,
}

/// Returns the sha256, lower-case hexadecimal, of the part of a config that decides the weights.
pub fn fingerprint<C: Experiment>(config: &C) -> String {
    sha256(config.fingerprint().to_string().as_bytes())
}

impl<N: Trainable> Run<N> {
    /// Whether `folder` holds a run.
    pub fn exists(folder: &Path) -> bool {
        folder.join(CONFIG).exists() || folder.join(N::RECORD).exists() || folder.join(CHECKPOINTS).exists()
    }

    /// Opens the folder that a training wrote.
    ///
    /// # Errors
    /// A missing or damaged file, named with what to do.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::check_there(folder)?;
        let config = N::Config::load(&folder.join(CONFIG), &LoadOptions::default())?;
        Self::assemble(folder, config, Self::stored(folder)?)
    }

    fn stored(folder: &Path) -> Result<N::Stored> {
        let path = folder.join(N::RECORD);
        if !path.exists()
            && let Some(older) = N::record_of_older(folder)?
        {
            return Ok(older);
        }
        let text = files::read_text(&path, files::VOCABULARY)?;
        serde_json::from_str(&text).map_err(|e| {
            Error::new(ErrorKind::Data, format!("not readable: {e}"))
                .at_line(&path, Some(e.line() as u64), None)
                .help("train again with --force")
        })
    }

    /// Whether `folder` can be opened at all.
    pub(super) fn check_there(folder: &Path) -> Result<()> {
        if folder.join(CONFIG).is_file() {
            return Ok(());
        }
        let error =
            Error::new(ErrorKind::Usage, "this is no run folder: it has no config.yaml").in_file(folder);
        Err(error.help("`s2s train CONFIG` writes one, by default runs/NAME"))
    }

    /// Writes a new folder, with a first checkpoint where `start` has one; the caller holds its lock.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if there is a run already and `force` is not set.
    pub(crate) fn create(
        folder: &Path,
        config: N::Config,
        stored: N::Stored,
        force: bool,
        start: impl FnOnce(&N) -> Result<Option<Start>>,
    ) -> Result<Self> {
        if Self::exists(folder) && !force {
            let (message, help) = match folder.join(CONFIG).exists() {
                true => (
                    "there is a run in this folder already",
                    "--resume goes on with it, --force starts over, --output names another folder",
                ),
                false => (
                    "there are parts of a run in this folder, without a config.yaml",
                    "--force starts over, --output names another folder",
                ),
            };
            return Err(Error::new(ErrorKind::Usage, message).in_file(folder).help(help));
        }
        let json = json(&stored)?;
        let run = Self::assemble(folder, config, stored)?;
        let first = start(&run.network)?;
        // The config goes first and comes last, so that a folder that can be opened is one run, whole.
        remove(&folder.join(CONFIG))?;
        for which in [Which::Best, Which::Last] {
            remove(&run.checkpoint_path(which))?;
        }
        remove(&folder.join(METRICS))?;
        logs::remove(folder)?;
        let checkpoints = folder.join(CHECKPOINTS);
        std::fs::create_dir_all(&checkpoints).map_err(|e| Error::io(&checkpoints, e))?;
        write_atomically(&folder.join(N::RECORD), json.as_bytes())?;
        if let Some(Start { which, parameters, optimiser }) = first {
            let checkpoint = run.checkpoint_of(Progress::default(), parameters, optimiser);
            checkpoint.save(&run.checkpoint_path(which))?;
        }
        run.write_config()?;
        Ok(run)
    }

    fn assemble(folder: &Path, config: N::Config, stored: N::Stored) -> Result<Self> {
        let record = N::open(stored)?;
        let network =
            N::of(&config, &record).map_err(|e| e.at_line(folder.join(CONFIG), None, Some("model")))?;
        Ok(Self { folder: folder.to_owned(), config, record, network })
    }

    /// Whether the folder has the file of its record; that of an older version may lack it.
    pub(super) fn has_record(&self) -> bool {
        self.folder.join(N::RECORD).exists()
    }

    /// Writes the record where an older version wrote none.
    pub(super) fn keep(&mut self, stored: N::Stored) -> Result<()> {
        write_atomically(&self.folder.join(N::RECORD), json(&stored)?.as_bytes())?;
        self.record = N::open(stored)?;
        Ok(())
    }

    /// Writes `config.yaml` again, after an override.
    pub fn write_config(&self) -> Result<()> {
        let yaml = serde_yaml::to_string(&self.config.to_json()).map_err(|e| {
            Error::new(ErrorKind::Internal, "the config cannot be written as YAML").caused_by(e)
        })?;
        let text = format!(
            "# Written by s2s {}: the config of this run, overrides laid over.\n{yaml}",
            env!("CARGO_PKG_VERSION")
        );
        write_atomically(&self.folder.join(CONFIG), text.as_bytes())
    }

    /// A checkpoint of this run.
    pub(super) fn checkpoint_of(
        &self,
        progress: Progress,
        parameters: Parameters<f32>,
        optimiser: Option<OptimiserState>,
    ) -> Checkpoint<N> {
        let (architecture, config) = (self.network.architecture().clone(), fingerprint(&self.config));
        Checkpoint { header: Header { architecture, progress, config }, parameters, optimiser }
    }

    /// Path of `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.folder.join(METRICS)
    }

    /// Path of a checkpoint.
    pub fn checkpoint_path(&self, which: Which) -> PathBuf {
        self.folder.join(CHECKPOINTS).join(which.file())
    }

    /// Reads a checkpoint; `None` if there is none yet.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if it is damaged or belongs to another network or config.
    pub fn checkpoint(&self, which: Which) -> Result<Option<Checkpoint<N>>> {
        let path = self.checkpoint_path(which);
        if !path.exists() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::<N>::load_form(&path, N::OLDER_HEADER)?;
        let mixed = |what: &str| {
            Error::new(
                ErrorKind::Data,
                format!("the checkpoint is of {what} than this run's config.yaml and {}", N::RECORD),
            )
            .in_file(&path)
            .help("files of different runs lie in this folder; train again with --force")
        };
        if checkpoint.header.architecture != *self.network.architecture() {
            return Err(mixed("another network"));
        }
        if checkpoint.header.config != fingerprint(&self.config) {
            return Err(mixed("another config"));
        }
        Ok(Some(checkpoint))
    }

    /// The weights of a checkpoint.
    pub fn parameters(&self, which: Which) -> Result<Parameters<f32>> {
        let missing = || {
            Error::new(ErrorKind::Usage, "this checkpoint is not there yet: no epoch is done")
                .in_file(self.checkpoint_path(which))
                .help(format!("go on with `s2s train {} --resume`", self.folder.display()))
        };
        Ok(self.checkpoint(which)?.ok_or_else(missing)?.parameters)
    }

    /// What the bundle says about where the weights come from: config, data, scores of the checkpoint's
    /// epoch, licence.
    pub fn provenance(&self, which: Which) -> Result<Provenance> {
        let progress = self.checkpoint(which)?.map(|c| c.header.progress).unwrap_or_default();
        let epoch = match which {
            Which::Best => progress.best.map_or(progress.epoch, |b| b.epoch),
            Which::Last => progress.epoch,
        };
        let scores = self.metrics()?.into_iter().find(|m| m.epoch == epoch);
        let mut config = self.config.provenance();
        if let (Some(origin), Some(map)) = (N::origin(&self.record), config.as_object_mut()) {
            map.insert("init_from".to_owned(), serde_json::to_value(origin).unwrap_or_default());
        }
        let [licence, attribution] = self.config.rights().map(|text| text.map(str::to_owned));
        Ok(Provenance {
            config: Some(config),
            data: N::data(&self.record).to_vec(),
            scores: scores.map(|m| m.scores()),
            licence,
            attribution,
        })
    }

    /// One entry an epoch.
    pub fn metrics(&self) -> Result<Vec<EpochMetrics>> {
        metrics::read(&self.metrics_path())
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

fn json(stored: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(stored).map_err(|e| {
        Error::new(ErrorKind::Internal, "the record of a run cannot be written as JSON").caused_by(e)
    })
}
