//! Configs of networks that learn from samples: numbers and a label instead of pairs of texts.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use s2s_runtime::files;

use super::checked::{LoadOptions, Validation, validation};
use super::experiment::Experiment;
use super::raw::{Field, Node};
use super::training::{Training, training};
use crate::error::Result;

/// What the section `model` of such a config says: the architecture of a family of networks.
pub trait SampleModel: Clone + Debug + Send + Sync + Sized + 'static {
    /// The section as one may write it.
    const EXAMPLE: &'static str;
    /// What a network of the family is called in messages, with its article.
    const NOUN: &'static str;

    /// Reads the section, `kind` included; `scale` is what features are divided by.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) with file, line and key.
    fn read(model: &Field<'_>, scale: f32) -> Result<Self>;
    /// Returns the number of features and of classes.
    fn sizes(&self) -> [usize; 2];
}

/// An experiment on samples.
#[derive(Clone, Debug)]
pub struct SampleConfig<A> {
    /// The run folder and the bundle are called so.
    pub name: String,
    /// The file of samples, resolved.
    pub train: PathBuf,
    /// Where relative paths of data start.
    pub folder: PathBuf,
    /// What is held out.
    pub validation: Validation,
    /// The network.
    pub architecture: A,
    /// How it is trained; what concerns decoding is not used.
    pub training: Training,
    /// Licence of the data, for the bundle.
    pub licence: Option<String>,
    /// Who made the data, for the bundle.
    pub attribution: Option<String>,
    effective: Node,
}

impl<A: SampleModel> SampleConfig<A> {
    /// Checks `text`; `file` is named in errors, and its folder is where relative paths start.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) with file, line and key.
    pub fn parse(text: &str, file: &Path, options: &LoadOptions) -> Result<Self> {
        let effective = Node::overlaid(text, file, &options.overrides)?;
        let root = Field::root(file, &effective).section(&["name", "data", "model", "training"])?;
        let here = file.parent().unwrap_or(Path::new(""));
        let name = root.required("name", "digits")?.folder_name()?.to_owned();
        let data = root.required("data", "{train: digits.csv, ...}")?;
        let data = data.section(&["folder", "train", "validation", "scale", "licence", "attribution"])?;
        let named = data.get("folder").map(|f| f.string().map(|s| here.join(s))).transpose()?;
        let folder = options.data.clone().or(named).unwrap_or_else(|| here.to_owned());
        let positive = |f: Field<'_>| {
            f.number("a finite number above 0", |v| v > 0.0 && (v as f32).is_finite() && (v as f32) > 0.0)
        };
        let scale = data.get("scale").map_or(Ok(1.0), positive)?;
        let text = |key: &str| data.get(key).map(|f| f.string().map(str::to_owned)).transpose();

        let architecture = A::read(&root.required("model", A::EXAMPLE)?, scale as f32)?;
        let training_field = root.required("training", "{epochs: 10, ...}")?;
        // What concerns texts and decoding has no meaning here, and dropout is not made.
        let optimiser = [
            "epochs",
            "batch_size",
            "seed",
            "threads",
            "learning_rate",
            "optimiser",
            "clip_norm",
            "label_smoothing",
        ];
        let callbacks = [
            "schedule",
            "reduce_lr_on_plateau",
            "early_stopping",
            "terminate_on_nan",
            "csv_logger",
            "tensorboard",
        ];
        let section = training_field.section(&[&optimiser[..], &callbacks].concat())?;
        let training = training(&training_field)?;
        if let Some((key, monitor)) = training.monitors().find(|(_, monitor)| monitor.is_decoded()) {
            let field = section.get(key).unwrap_or_else(|| training_field.clone());
            let message = format!("{} has no {}", A::NOUN, monitor.name());
            return Err(field
                .error(message, "watch validation_loss, validation_accuracy, train_loss or train_accuracy"));
        }
        Ok(Self {
            name,
            train: folder.join(data.required("train", "digits.csv")?.string()?),
            validation: validation(&data.required("validation", "{split: shuffled, fraction: 0.2}")?)?,
            folder,
            architecture,
            training,
            licence: text("licence")?,
            attribution: text("attribution")?,
            effective,
        })
    }
}

impl<A: SampleModel> Experiment for SampleConfig<A> {
    fn load(file: &Path, options: &LoadOptions) -> Result<Self> {
        Self::parse(&files::read_text(file, files::CONFIG)?, file, options)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn training(&self) -> &Training {
        &self.training
    }

    fn rights(&self) -> [Option<&str>; 2] {
        [self.licence.as_deref(), self.attribution.as_deref()]
    }

    fn to_json(&self) -> serde_json::Value {
        self.effective.to_json()
    }

    fn provenance(&self) -> serde_json::Value {
        self.effective.provenance()
    }

    fn fingerprint(&self) -> serde_json::Value {
        self.effective.fingerprint(&[], &self.training)
    }

    fn settle(&mut self, threads: usize, folder: Option<&Path>) -> Result<()> {
        self.training.threads = Some(threads);
        self.effective.settle(threads, folder)
    }
}
