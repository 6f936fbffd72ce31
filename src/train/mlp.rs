//! Training of a perceptron: the same optimiser step, metrics, files and rules as for pairs of texts, without
//! the texts.
//!
//! | file | what |
//! |---|---|
//! | `config.yaml` | the config, overrides laid over, data folder and threads fixed |
//! | `metrics.jsonl` | one JSON object an epoch |
//! | `checkpoints/last.safetensors` | weights and the optimiser's state after the last whole epoch: `--resume` goes on here |
//! | `checkpoints/best.safetensors` | weights of the epoch with the lowest validation loss |

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use s2s_runtime::manifest::{DataFile, Provenance};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::callbacks::Callbacks;
use super::lock::RunLock;
use super::logs;
use super::metrics::{self, EpochMetrics};
use super::report::{Event, Report};
use super::run::Which;
use super::schedule::Rates;
use super::session::{Mode, TrainOptions, absolute};
use super::step::{OptimiserState, StepOptions, Stepper};
use super::tensors::TensorFile;
use crate::config::LoadOptions;
use crate::config::callbacks::Monitor;
use crate::config::checked::Validation;
use crate::config::mlp::{MlpConfig, is_mlp};
use crate::config::training::Optimiser;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;
use crate::network::perceptron::{Mlp, MlpArchitecture, Sample};
use crate::network::{Network, Parameters, Sums};
use s2s_kernels::random::Random;

/// Stream of [`Random`] that splits the data; epochs have their own.
const SPLIT_STREAM: u64 = u64::MAX;
const METADATA: &str = "s2s.mlp_checkpoint";
/// Most bytes of a number in a file of samples, spaces around it counted.
const LONGEST_NUMBER: usize = 64;

/// Samples as they are in the data.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// (samples, inputs).
    pub features: Vec<f32>,
    /// One a sample, where the data has labels.
    pub labels: Vec<u32>,
    /// Features of a sample.
    pub inputs: usize,
}

impl Samples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.features.len() / self.inputs.max(1)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Features of one sample.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.features[i * self.inputs..][..self.inputs]
    }

    fn sample(&self, i: usize) -> Sample<'_> {
        Sample { features: self.row(i), label: self.labels[i] }
    }
}

/// Reads comma-separated numbers, one sample a line, gzipped or not; gives the sha256 of the file too.
///
/// With `classes` each line ends with a label below it; without, lines may have one or not, all alike.
///
/// # Errors
/// [`ErrorKind::Data`] with the line, [`ErrorKind::Io`].
pub fn read_samples(path: &Path, inputs: usize, classes: Option<usize>) -> Result<(Samples, String)> {
    let bytes = files::read(path, files::DATA)?;
    let hash = sha256(&bytes);
    let samples = if bytes.starts_with(&[0x1f, 0x8b]) {
        // Unpacked line by line: what a small file may become is bounded as a file is.
        parse_samples(
            BufReader::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
            path,
            inputs,
            classes,
        )?
    } else {
        parse_samples(bytes.as_slice(), path, inputs, classes)?
    };
    Ok((samples, hash))
}

/// As [`read_samples`], from text, which is read line by line.
///
/// # Errors
/// [`ErrorKind::Data`] with the line, which may have 64 bytes a number; also where there are more than 4 GiB
/// in all.
pub fn parse_samples(
    mut text: impl BufRead,
    path: &Path,
    inputs: usize,
    classes: Option<usize>,
) -> Result<Samples> {
    let mut samples = Samples { inputs, ..Samples::default() };
    let longest = LONGEST_NUMBER.saturating_mul(inputs.saturating_add(16));
    let (mut line, mut total) = (Vec::new(), 0);
    for number in 1u64.. {
        line.clear();
        let read = text
            .by_ref()
            .take(longest as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io(path, e))?;
        if read == 0 {
            break;
        }
        total += read as u64;
        let wrong = |message: String, help: &str| {
            Error::new(ErrorKind::Data, message).at_line(path, Some(number), None).help(help)
        };
        if line.len() > longest {
            let message = format!("the line is longer than {longest} bytes, where {inputs} features belong");
            return Err(wrong(message, "give one sample a line, numbers separated by commas"));
        }
        if total > files::DATA.limit {
            let message = format!("more than {} GiB of text, unpacked, up to here", files::DATA.limit >> 30);
            return Err(wrong(message, "is this the right file? Samples are held in memory"));
        }
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        let mut fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let labelled = fields.len() == inputs + 1;
        if !labelled && (fields.len() != inputs || classes.is_some()) {
            let message = format!(
                "{} values, where {inputs} features{} belong",
                fields.len(),
                if classes.is_some() { " and a label" } else { "" }
            );
            return Err(wrong(message, "give one sample a line, numbers separated by commas"));
        }
        if labelled {
            let field = fields.pop().unwrap_or_default();
            let label = field.parse::<u32>().ok().filter(|&l| classes.is_none_or(|n| (l as usize) < n));
            samples.labels.push(label.ok_or_else(|| {
                wrong(
                    format!("{field:?} is no label"),
                    "labels are whole numbers from 0, below `model.classes`",
                )
            })?);
        }
        for field in fields {
            let value = field.parse::<f32>().ok().filter(|v| v.is_finite());
            samples
                .features
                .push(value.ok_or_else(|| {
                    wrong(format!("{field:?} is no number"), "features are finite numbers")
                })?);
        }
        if !samples.labels.is_empty() && samples.labels.len() != samples.len() {
            return Err(wrong(
                "some lines have a label and some have none".to_owned(),
                "make all lines alike",
            ));
        }
    }
    if samples.is_empty() {
        return Err(Error::new(ErrorKind::Data, "there is no sample in it")
            .in_file(path)
            .help("give one sample a line"));
    }
    Ok(samples)
}

/// An opened run folder.
#[derive(Clone, Debug)]
pub struct MlpRun {
    /// Where it lies.
    pub folder: PathBuf,
    /// The config that it was trained by.
    pub config: MlpConfig,
    /// The network.
    pub network: Mlp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    architecture: MlpArchitecture,
    config: String,
    data: DataFile,
    epoch: usize,
    step: u64,
    best: Option<(usize, f64)>,
    #[serde(default)]
    callbacks: Callbacks,
}

struct Saved {
    header: Header,
    parameters: Parameters<f32>,
    optimiser: Option<OptimiserState>,
}

impl MlpRun {
    /// Whether `folder` holds a run of this kind.
    pub fn exists(folder: &Path) -> bool {
        is_mlp(&folder.join("config.yaml"), &LoadOptions::default())
    }

    /// Opens the folder that a training wrote.
    ///
    /// # Errors
    /// As [`MlpConfig::load`].
    pub fn open(folder: &Path) -> Result<Self> {
        let config = MlpConfig::load(&folder.join("config.yaml"), &LoadOptions::default())?;
        let network = Mlp::new(config.architecture.clone())?;
        Ok(Self { folder: folder.to_owned(), config, network })
    }

    fn path(&self, which: Which) -> PathBuf {
        self.folder.join("checkpoints").join(match which {
            Which::Best => "best.safetensors",
            Which::Last => "last.safetensors",
        })
    }

    /// Weights of a checkpoint, and where they come from.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if there is none yet, [`ErrorKind::Data`] if it is damaged or of another config.
    pub fn checkpoint(&self, which: Which) -> Result<(Parameters<f32>, Provenance)> {
        let path = self.path(which);
        if !path.exists() {
            let error = Error::new(ErrorKind::Usage, "this checkpoint is not there yet: no epoch is done")
                .in_file(&path);
            return Err(error.help(format!("go on with `s2s train {} --resume`", self.folder.display())));
        }
        let saved = self.load(&path)?;
        let epoch = match which {
            Which::Best => saved.header.best.map_or(saved.header.epoch, |b| b.0),
            Which::Last => saved.header.epoch,
        };
        let scores = metrics::read(&self.folder.join("metrics.jsonl"))?
            .into_iter()
            .find(|m| m.epoch == epoch)
            .map(|m| m.scores());
        let provenance = Provenance {
            config: Some(self.config.provenance()),
            data: vec![saved.header.data],
            scores,
            licence: self.config.licence.clone(),
            attribution: self.config.attribution.clone(),
        };
        Ok((saved.parameters, provenance))
    }

    fn fingerprint(&self) -> String {
        sha256(self.config.fingerprint().to_string().as_bytes())
    }

    fn load(&self, path: &Path) -> Result<Saved> {
        let file =
            TensorFile::read(path, "the file is damaged or of another config; train again with --force")?;
        let (header, tensors) = file.parse::<Header>(METADATA)?;
        if header.architecture != self.config.architecture || header.config != self.fingerprint() {
            return Err(file.damaged("the checkpoint is of another config than this run's"));
        }
        tensors.check(self.network.layout())?;
        let parameters = tensors.weights(|find| self.network.import(find))?;
        let optimiser = if tensors.has_moments() {
            let [first, second] =
                ["m.", "v."].map(|prefix| tensors.gather(prefix, |find| self.network.import(find)));
            Some(OptimiserState { first: first?, second: second?, time: header.step })
        } else {
            None
        };
        Ok(Saved { header, parameters, optimiser })
    }

    fn save(&self, which: Which, header: &Header, stepper: &Stepper<Mlp>) -> Result<()> {
        let internal = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Internal, "the checkpoint cannot be laid out").caused_by(cause)
        };
        let o = stepper.optimiser();
        let sets = match which {
            Which::Best => vec![("", stepper.parameters())],
            Which::Last => vec![("", stepper.parameters()), ("m.", &o.first), ("v.", &o.second)],
        };
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = sets
            .into_iter()
            .flat_map(|(prefix, p)| {
                let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
                p.iter()
                    .map(move |(e, values)| (format!("{prefix}{}", e.name), e.shape.clone(), bytes(values)))
                    .collect::<Vec<_>>()
            })
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
        let views = views
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| internal(e.into()))?;
        let text = serde_json::to_string(header).map_err(|e| internal(e.into()))?;
        let bytes = safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), text)])))
            .map_err(|e| internal(e.into()))?;
        write_atomically(&self.path(which), &bytes)
    }
}

/// Trains as `config` says.
///
/// # Errors
/// [`ErrorKind::Interrupted`] after `stop` was set, with the last whole epoch saved; a loss that is not
/// finite; unreadable data; a run folder that is there already, or that cannot be resumed with this config.
pub fn train_mlp(
    mut config: MlpConfig,
    options: &TrainOptions<'_>,
    report: &mut dyn Report,
) -> Result<MlpRun> {
    let (samples, hash) =
        read_samples(&config.train, config.architecture.inputs, Some(config.architecture.classes))?;
    let folder = absolute(&config.folder)?;
    let threads = config
        .training
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    config.settle(threads, &folder)?;
    let file = config.train.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let data = DataFile { file, sha256: hash, pairs: samples.len() };
    let network = Mlp::new(config.architecture.clone())?;
    let run = MlpRun { folder: options.output.clone(), config, network };
    let (training, validation) =
        split(samples.len(), run.config.validation.clone(), run.config.training.seed)?;

    let t = &run.config.training;
    let Optimiser::Adam { beta_1, beta_2, epsilon } = t.optimiser;
    let step = StepOptions {
        learning_rate: t.learning_rate,
        clip_norm: t.clip_norm,
        label_smoothing: t.label_smoothing,
        threads,
        beta1: beta_1,
        beta2: beta_2,
        epsilon,
        ..StepOptions::default()
    };
    let mut stepper = Stepper::new(run.network.clone(), run.network.initialise(t.seed), step);
    let mut header = Header {
        architecture: run.config.architecture.clone(),
        config: run.fingerprint(),
        data,
        epoch: 0,
        step: 0,
        best: None,
        callbacks: Callbacks::default(),
    };
    let _lock = RunLock::take(&run.folder)?;
    if options.mode == Mode::Resume && run.path(Which::Last).exists() {
        let saved = run.load(&run.path(Which::Last))?;
        if saved.header.data != header.data {
            return Err(Error::new(ErrorKind::Data, "the data file has changed since the run began")
                .in_file(&run.config.train));
        }
        let lacking = || {
            Error::new(ErrorKind::Data, "the checkpoint lacks the optimiser's state")
                .in_file(run.path(Which::Last))
        };
        stepper.restore(saved.parameters, saved.optimiser.ok_or_else(lacking)?);
        header = saved.header;
    }
    // Only now, so that a config that does not fit the checkpoint leaves the run as it is.
    prepare_folder(&run, options.mode)?;
    metrics::truncate(&run.folder.join("metrics.jsonl"), header.epoch)?;
    logs::begin(&run.folder, &run.config.training, &run.folder.join("metrics.jsonl"))?;
    report.event(&Event::Samples {
        name: &run.config.name,
        folder: &run.folder,
        training: training.len(),
        validation: validation.len(),
        inputs: samples.inputs,
        classes: run.config.architecture.classes,
        parameters: stepper.parameters().len(),
        threads,
    });
    let held_out: Vec<Sample<'_>> = validation.iter().map(|&i| samples.sample(i)).collect();
    let t = &run.config.training;
    while header.epoch < t.epochs && !header.callbacks.stop(t, header.epoch) {
        epoch(&run, &samples, &training, &held_out, &mut stepper, &mut header, options, report)?;
    }
    let mut metrics = metrics::read(&run.folder.join("metrics.jsonl"))?;
    let best_epoch = header.best.map_or(0, |b| b.0);
    let best = metrics.iter().find(|m| m.epoch == best_epoch).cloned();
    if let Some(last) = metrics.pop() {
        let monitor = Monitor::ValidationLoss.name();
        report.event(&Event::Finished {
            folder: &run.folder,
            best_epoch,
            best: best.as_ref(),
            last: &last,
            monitor,
        });
    }
    Ok(run)
}

#[allow(clippy::too_many_arguments)] // One call; a struct would only rename them.
fn epoch(
    run: &MlpRun,
    samples: &Samples,
    training: &[usize],
    held_out: &[Sample<'_>],
    stepper: &mut Stepper<Mlp>,
    header: &mut Header,
    options: &TrainOptions<'_>,
    report: &mut dyn Report,
) -> Result<()> {
    let t = &run.config.training;
    let (number, started) = (header.epoch + 1, Instant::now());
    let diverged = |what: &str| {
        let error = Error::new(ErrorKind::Data, format!("{what} is not a finite number in epoch {number}"))
            .in_file(&run.folder);
        error.help("lower `training.learning_rate`, or set `training.clip_norm: 1.0`")
    };
    let learning_rate = header.callbacks.learning_rate(t);
    let rates = Rates::new(t, training.len().div_ceil(t.batch_size))
        .map_err(|e| e.in_file(run.folder.join("config.yaml")))?;
    let (mut steps, mut skipped) = (header.step, 0);
    let mut order = training.to_vec();
    Random::new(t.seed, number as u64).shuffle(&mut order);
    let mut sums = Sums::default();
    let batches = order.len().div_ceil(t.batch_size);
    for (done, batch) in (1..).zip(order.chunks(t.batch_size)) {
        let batch: Vec<Sample<'_>> = batch.iter().map(|&i| samples.sample(i)).collect();
        stepper.set_learning_rate(rates.at(steps, learning_rate));
        let step = stepper.step(&batch);
        if step.sums.nats.is_finite() && step.gradient_norm.is_finite() {
            sums += step.sums;
            steps += 1;
        } else if t.terminate_on_nan {
            return Err(diverged("the loss"));
        } else {
            skipped += 1;
        }
        let loss = sums.nats / sums.tokens as f64;
        report.event(&Event::Step { epoch: number, epochs: t.epochs, batch: done, batches, loss });
        if options.stop.load(Ordering::SeqCst) {
            let error = Error::new(
                ErrorKind::Interrupted,
                format!("stopped in epoch {number}; {} whole epochs are saved", header.epoch),
            );
            return Err(error.help(format!("go on with `s2s train {} --resume`", run.folder.display())));
        }
    }
    if sums.tokens == 0 {
        return Err(diverged("the loss of every batch"));
    }
    let train_seconds = started.elapsed().as_secs_f64();
    let found = stepper.evaluate(held_out);
    let validation_loss = found.nats / found.tokens.max(1) as f64;
    if !validation_loss.is_finite() {
        return Err(diverged("the validation loss"));
    }
    let best = header.best.is_none_or(|b| validation_loss < b.1);
    (header.epoch, header.step) = (number, steps);
    let count = sums.tokens as f64;
    let metrics = EpochMetrics {
        epoch: number,
        step: header.step,
        train_loss: sums.nats / count,
        train_accuracy: sums.correct as f64 / count,
        validation_loss,
        validation_accuracy: found.correct as f64 / found.tokens.max(1) as f64,
        validation_loss_padded: None,
        exact_match: None,
        token_error_rate: None,
        chrf: None,
        bleu: None,
        learning_rate: Some(rates.at(steps.saturating_sub(1), learning_rate)),
        skipped_batches: Some(skipped).filter(|&skipped| skipped > 0),
        best,
        train_seconds,
        seconds: started.elapsed().as_secs_f64(),
        steps_per_second: batches as f64 / train_seconds.max(1e-9),
        target_tokens_per_second: None,
        samples_per_second: Some(count / train_seconds.max(1e-9)),
    };
    header.callbacks.epoch(t, &metrics);
    if best {
        header.best = Some((number, validation_loss));
        run.save(Which::Best, header, stepper)?;
    }
    metrics::append(&run.folder.join("metrics.jsonl"), &metrics)?;
    run.save(Which::Last, header, stepper)?;
    logs::epoch(&run.folder, &run.config.name, t, &run.folder.join("metrics.jsonl"))?;
    report.event(&Event::Epoch { epochs: t.epochs, metrics: &metrics });
    header.callbacks.tell(t, number, learning_rate, report);
    Ok(())
}

/// Positions of the training part and of what is held out.
fn split(count: usize, validation: Validation, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut order: Vec<usize> = (0..count).collect();
    let fraction = match validation {
        Validation::Shuffled(fraction) => {
            Random::new(seed, SPLIT_STREAM).shuffle(&mut order);
            fraction
        }
        Validation::Tail(fraction) => fraction,
        Validation::File(_) => {
            return Err(Error::new(ErrorKind::Internal, "a perceptron has no file of validation samples"));
        }
    };
    let held_out = ((count as f64 * fraction).round() as usize).clamp(1, count.saturating_sub(1).max(1));
    let validation = order.split_off(count - held_out);
    if order.is_empty() {
        return Err(Error::new(ErrorKind::Data, "nothing is left to train on")
            .help("give more samples, or a smaller fraction"));
    }
    Ok((order, validation))
}

fn prepare_folder(run: &MlpRun, mode: Mode) -> Result<()> {
    let checkpoints = run.folder.join("checkpoints");
    let there = run.folder.join("config.yaml").exists() || checkpoints.exists();
    match mode {
        Mode::New if there => {
            let error =
                Error::new(ErrorKind::Usage, "there is a run in this folder already").in_file(&run.folder);
            return Err(
                error.help("--resume goes on with it, --force starts over, --output names another folder")
            );
        }
        Mode::Force => {
            // The config goes first and comes last, so that a folder that can be opened is one run, whole.
            for path in [
                run.folder.join("config.yaml"),
                run.path(Which::Best),
                run.path(Which::Last),
                run.folder.join("metrics.jsonl"),
            ] {
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path, e)),
                    _ => {}
                }
            }
        }
        Mode::New | Mode::Resume => {}
    }
    std::fs::create_dir_all(&checkpoints).map_err(|e| Error::io(&checkpoints, e))?;
    let yaml = serde_yaml::to_string(&run.config.to_json());
    let yaml = yaml
        .map_err(|e| Error::new(ErrorKind::Internal, "the config cannot be written as YAML").caused_by(e))?;
    let text = format!(
        "# Written by s2s {}: the config of this run, overrides laid over.\n{yaml}",
        env!("CARGO_PKG_VERSION")
    );
    write_atomically(&run.folder.join("config.yaml"), text.as_bytes())
}
