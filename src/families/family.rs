//! What the commands ask of a family of networks.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use s2s_runtime::manifest::Io;

use crate::config::LoadOptions;
use crate::data::report::DataReport;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Dtype, EncoderForm, Replace, Report as Verified, VerifyOptions};
use crate::train::{InitFrom, Mode, Report, TrainOptions, Which};

/// A family of networks with all that belongs to it: its configs, data, runs and bundles.
///
/// A new family is a folder with one of these, and a line in [`FAMILIES`](super::FAMILIES).
pub trait Family: Debug + Sync {
    /// Returns what configs call it: the value of `model.kind`.
    fn kind(&self) -> &'static str;
    /// Whether configs that say nothing of their kind are its own.
    fn is_default(&self) -> bool {
        false
    }

    /// Checks a config and looks at its data.
    ///
    /// # Errors
    /// What is wrong with either, with file, line and key.
    fn check(&self, config: &Path, load: &LoadOptions) -> Result<Checked>;
    /// Reads a config as it would be used: overrides laid over.
    ///
    /// # Errors
    /// What is wrong with it, with file, line and key.
    fn show(&self, config: &Path, load: &LoadOptions) -> Result<serde_json::Value>;
    /// Trains as a config says.
    ///
    /// # Errors
    /// As [`train`](crate::train::train()); what is wrong with config and data.
    fn train(&self, training: &Training<'_>, report: &mut dyn Report) -> Result<()>;
    /// Exports a run; `say` hears what is worth a line meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an option that the family has not; a check that failed.
    fn export(&self, run: &Path, export: &Export, say: &mut dyn FnMut(String)) -> Result<Exported>;
    /// Whether a path is a bundle of this family, as far as one can tell without opening all of it.
    fn is_bundle(&self, path: &Path) -> bool;
    /// Verifies a bundle; with `write` the report becomes its record.
    ///
    /// # Errors
    /// A bundle that cannot be opened; an option that the family has not. A check that fails is none.
    fn verify(&self, bundle: &Path, options: &VerifyOptions, write: bool) -> Result<Verified>;
}

/// What there is to say about a config and its data.
#[derive(Debug)]
pub struct Checked {
    /// The run folder and the bundle are called so.
    pub name: String,
    /// One for each file of pairs.
    pub data: Vec<DataReport>,
    /// A data file that is not there.
    pub missing: Option<PathBuf>,
}

/// A training that was asked for.
#[derive(Clone, Debug)]
pub struct Training<'a> {
    /// The config.
    pub config: &'a Path,
    /// What is laid over it.
    pub load: &'a LoadOptions,
    /// The run folder that was named; by default the config's own.
    pub output: Option<PathBuf>,
    /// What happens where it is there already.
    pub mode: Mode,
    /// Another run whose weights a new run takes.
    pub init_from: Option<InitFrom>,
    /// Set by a signal: finish the step, save, stop.
    pub stop: &'a AtomicBool,
}

impl Training<'_> {
    /// Returns the options of the loop, where the config gives a run folder or a name.
    pub(super) fn options(&self, own: Option<&Path>, name: &str) -> TrainOptions<'_> {
        let own = || own.map_or_else(|| Path::new("runs").join(name), Path::to_owned);
        TrainOptions {
            output: self.output.clone().unwrap_or_else(own),
            mode: self.mode,
            init_from: self.init_from.clone(),
            stop: self.stop,
        }
    }
}

/// What an export writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// ONNX graphs.
    #[default]
    Onnx,
    /// A module of PyTorch.
    Pytorch,
}

/// How the folder of an export is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// A bundle, as every command reads it.
    #[default]
    Bundle,
    /// A model repository of Triton Inference Server.
    Triton,
}

/// An export that was asked for.
#[derive(Clone, Debug)]
pub struct Export {
    /// Where it goes; by default a free folder of the run's name.
    pub output: Option<PathBuf>,
    /// What is written.
    pub format: Format,
    /// How it is laid out.
    pub layout: Layout,
    /// Tensors that stand for tokens.
    pub io: Io,
    /// Version of the standard operators, where one was asked for.
    pub opset: Option<i64>,
    /// The runtime that shall run the graphs.
    pub target: Option<String>,
    /// How weights are stored.
    pub dtype: Dtype,
    /// The graphs that the encoder is written as.
    pub encoder_form: EncoderForm,
    /// Whether the whole of greedy decoding becomes a graph too.
    pub fused: bool,
    /// Pairs that smaller weights are scored on; by default the run's.
    pub dev: Option<PathBuf>,
    /// The largest share of exact matches that they may lose.
    pub max_loss: f64,
    /// Which weights of the run.
    pub checkpoint: Which,
    /// Source texts that whoever tries the bundle is offered; `None` chooses them.
    pub examples: Option<Vec<String>>,
    /// Whether any bundle is replaced.
    pub force: bool,
    /// How the bundle is verified.
    pub verification: VerifyOptions,
}

impl Export {
    /// Says where the export of a run goes. A place that nobody named is never written over without `force`,
    /// not even an older export of the same name: what is there may be somebody's only copy.
    pub(super) fn place(&self, name: &str) -> Result<PathBuf> {
        if let Some(output) = &self.output {
            return Ok(output.clone());
        }
        let own = match (self.format, self.layout) {
            (Format::Pytorch, _) => format!("{name}-pytorch"),
            (Format::Onnx, Layout::Bundle) => name.to_owned(),
            (Format::Onnx, Layout::Triton) => format!("{name}-triton"),
        };
        let output = Path::new("exported").join(own);
        let is_free =
            output.read_dir().map_or_else(|_| !output.exists(), |mut entries| entries.next().is_none());
        if is_free || self.force {
            return Ok(output);
        }
        let error = Error::new(ErrorKind::Usage, "the default place is taken").in_file(&output);
        Err(error.help("-o names another folder; --force replaces a bundle that is there"))
    }

    /// Says what an export of this name may replace.
    pub(super) fn replace(&self, name: &str) -> Replace {
        if self.force { Replace::AnyBundle } else { Replace::OlderOf(name.to_owned()) }
    }

    /// Names an option of graphs, where one was given for a format without graphs.
    pub(super) fn only_of_graphs(&self) -> Result<()> {
        let given = [
            (self.layout != Layout::Bundle, "--layout"),
            (self.io != Io::default(), "--io"),
            (self.opset.is_some(), "--opset"),
            (self.target.is_some(), "--target"),
            (self.dtype != Dtype::F32, "--dtype"),
            (self.encoder_form != EncoderForm::Whole, "--encoder-form"),
            (self.fused, "--fused"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            None => Ok(()),
            Some((_, flag)) => {
                let message = format!("{flag} is of ONNX graphs, and --format pytorch writes none");
                Err(Error::new(ErrorKind::Usage, message).help("leave one of them out"))
            }
        }
    }

    /// Names an option that only sequence models have, where one was given.
    pub(super) fn only_of_sequences(&self) -> Result<()> {
        let flag = match (self.fused, self.target.is_some(), self.dtype) {
            _ if self.format != Format::Onnx => "--format pytorch",
            _ if self.encoder_form != EncoderForm::Whole => "--encoder-form",
            (true, ..) => "--fused",
            (_, true, _) => "--target",
            (.., Dtype::F32) => return Ok(()),
            _ => "--dtype",
        };
        let message = format!("{flag} is for sequence models; this run is of another kind");
        Err(Error::new(ErrorKind::Usage, message))
    }
}

/// What an export wrote.
#[derive(Debug)]
pub struct Exported {
    /// Where it lies.
    pub place: PathBuf,
    /// Its checks, all of them passed, where it holds graphs.
    pub report: Option<Verified>,
    /// The command that one would type next.
    pub next: String,
}
