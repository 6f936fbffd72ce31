//! The loop: epochs of steps, the scores after each, checkpoints, interruption and resumption.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checkpoint::{Best, Checkpoint, Progress};
use super::dataset::{Begun, Dataset, Found, Source};
use super::lock::RunLock;
use super::logs;
use super::metrics::{self, EpochMetrics};
use super::origin::{InitFrom, Which};
use super::report::{Event, Report};
use super::run::Run;
use super::schedule::Rates;
use super::step::{EVALUATION_BATCH, OptimiserState, StepOptions, StepReport, Stepper};
use super::trainable::Trainable;
use crate::config::experiment::Experiment;
use crate::config::training::Optimiser;
use crate::error::{Error, ErrorKind, Result};
use crate::network::Sums;

/// What happens where the run folder is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is an error.
    #[default]
    New,
    /// The old run is replaced.
    Force,
    /// The old run goes on, bit for bit as if it had not stopped.
    Resume,
}

/// What a training needs besides its config.
#[derive(Clone, Debug)]
pub struct TrainOptions<'a> {
    /// The run folder.
    pub output: PathBuf,
    /// What happens where it is there already.
    pub mode: Mode,
    /// Another run whose weights and vocabularies a new run takes.
    pub init_from: Option<InitFrom>,
    /// Set by a signal: finish the step, save, stop.
    pub stop: &'a AtomicBool,
}

/// How a training ended.
#[derive(Clone, Debug)]
pub struct Outcome<N: Trainable> {
    /// The run.
    pub run: Run<N>,
    /// Its last epoch.
    pub last: EpochMetrics,
    /// Its best epoch.
    pub best: Best,
}

/// Trains on data that were read as `config` says.
///
/// # Errors
/// [`ErrorKind::Interrupted`] after `stop` was set, with everything saved; a loss that is not finite; data
/// that cannot be learnt; a run folder that is there already, or that cannot be resumed with this config.
pub fn train<N: Trainable, S: Source<N>>(
    mut config: N::Config,
    mut source: S,
    options: &TrainOptions<'_>,
    report: &mut dyn Report,
) -> Result<Outcome<N>> {
    let folder = source.folder().map(absolute).transpose()?;
    let _lock;
    let run = match options.mode {
        Mode::Resume => {
            Run::<N>::check_there(&options.output)
                .map_err(|e| e.help("--resume goes on with a run; leave it out to start one"))?;
            _lock = RunLock::take(&options.output)?;
            reopen(config, &mut source, folder.as_deref(), &options.output, report)?
        }
        Mode::New | Mode::Force => {
            let threads = config.training().threads.unwrap_or_else(available_threads);
            config.settle(threads, folder.as_deref())?;
            let stored = source.record(&config, report)?;
            _lock = RunLock::take(&options.output)?;
            source.announce(report);
            let force = options.mode == Mode::Force;
            let settled = config.clone();
            Run::create(&options.output, config, stored, force, |network| source.start(network, &settled))?
        }
    };
    Session::new(run, source, report)
        .and_then(|session| session.run(options.stop, report))
        .map_err(|error| say_how_to_go_on(error, &options.output))
}

/// Where nothing could be written any more, the checkpoints are as they were: files are replaced whole or not
/// at all.
fn say_how_to_go_on(error: Error, folder: &Path) -> Error {
    let full = [
        std::io::ErrorKind::StorageFull,
        std::io::ErrorKind::QuotaExceeded,
        std::io::ErrorKind::FileTooLarge,
    ];
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let Some(cause) = cause else { return error };
    let first = if full.contains(&cause.kind()) { "free some space" } else { "mend that" };
    error.help(format!(
        "{first}, then go on from the last checkpoint with `s2s train {} --resume`",
        folder.display()
    ))
}

/// A folder as it can be found from anywhere; the empty path of a config in the working folder too.
pub(super) fn absolute(folder: &Path) -> Result<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::path::absolute(folder).map_err(|e| Error::io(folder, e))
}

/// Worker threads of `threads: auto`: the CPUs that this process may use, its quota counted.
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn reopen<N: Trainable>(
    mut config: N::Config,
    source: &mut impl Source<N>,
    folder: Option<&Path>,
    output: &Path,
    report: &mut dyn Report,
) -> Result<Run<N>> {
    let mut run = Run::<N>::open(output)?;
    if let Some(key) = first_difference("", &run.config.fingerprint(), &config.fingerprint()) {
        return Err(Error::new(ErrorKind::Config, format!("`{key}` differs between the run and the config"))
            .in_file(output)
            .help(
                "a run goes on with the config that it began with (threads, early stopping and decoding \
                may change, and epochs unless the learning rate falls until the last one); --force starts \
                over",
            ));
    }
    if let Some((old, _)) = N::data(&run.record).iter().zip(source.files()).find(|(old, new)| old != new) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("the data file {} has changed since the run began", old.file),
        )
        .in_file(output)
        .help("bring the old data back (--data DIR), or start over with --force"));
    }
    let threads = config.training().threads.or(run.config.training().threads);
    config.settle(threads.unwrap_or_else(available_threads), folder)?;
    if !run.has_record() {
        run.keep(source.record(&config, report)?)?;
    }
    run.config = config;
    run.write_config()?;
    Ok(run)
}

fn first_difference(prefix: &str, a: &serde_json::Value, b: &serde_json::Value) -> Option<String> {
    match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
            keys.sort_unstable();
            let null = serde_json::Value::Null;
            keys.into_iter().find_map(|key| {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                first_difference(&path, a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null))
            })
        }
        _ => (a != b).then(|| prefix.to_owned()),
    }
}

/// A training under way.
struct Session<N: Trainable, D> {
    run: Run<N>,
    stepper: Stepper<N>,
    rates: Rates,
    progress: Progress,
    data: D,
}

/// Examples that are held out and laid out at a time.
const LAID_OUT: usize = 256 * EVALUATION_BATCH;

impl<N: Trainable, D: Dataset<N>> Session<N, D> {
    fn new(run: Run<N>, source: impl Source<N, Dataset = D>, report: &mut dyn Report) -> Result<Self> {
        let training = run.config.training();
        let Optimiser::Adam { beta_1, beta_2, epsilon } = training.optimiser;
        let checkpoint = run.checkpoint(Which::Last)?;
        let options = StepOptions {
            learning_rate: training.learning_rate,
            clip_norm: training.clip_norm,
            dropout: training.dropout,
            label_smoothing: training.label_smoothing,
            seed: training.seed,
            threads: training.threads.unwrap_or(1),
            beta1: beta_1,
            beta2: beta_2,
            epsilon,
        };
        let rates = Rates::new(training, source.training().div_ceil(training.batch_size))
            .map_err(|e| e.in_file(run.folder.join("config.yaml")))?;
        let network = run.network.clone();
        let parameters = network.initialise(training.seed);
        let mut stepper = Stepper::new(network, parameters, options);
        let progress = match checkpoint {
            None => Progress::default(),
            Some(Checkpoint { header, parameters, optimiser }) => {
                let optimiser = optimiser.ok_or_else(|| {
                    Error::new(ErrorKind::Data, "the checkpoint lacks the optimiser's state")
                        .in_file(run.checkpoint_path(Which::Last))
                })?;
                stepper.restore(parameters, optimiser);
                header.progress
            }
        };
        metrics::truncate(&run.metrics_path(), progress.epoch)?;
        logs::begin(&run.folder, training, &run.metrics_path())?;
        let data = source.prepare(&run, report)?;
        Ok(Self { run, stepper, rates, progress, data })
    }

    fn run(mut self, stop: &AtomicBool, report: &mut dyn Report) -> Result<Outcome<N>> {
        let begun = Begun {
            parameters: self.stepper.parameters().len(),
            threads: self.run.config.training().threads.unwrap_or(1),
            resumed: (self.progress.step > 0).then_some((self.progress.epoch, self.progress.batches)),
        };
        self.data.begin(&self.run, begun, report);
        let epochs = self.run.config.training().epochs;
        while self.progress.epoch < epochs && !self.stopped_early() {
            self.epoch(stop, report)?;
            if stop.load(Ordering::SeqCst) && self.progress.epoch < epochs && !self.stopped_early() {
                return Err(self.interrupted());
            }
        }
        let training = self.run.config.training();
        let restored = training.early_stopping.is_some_and(|e| e.restore_best_weights);
        if restored {
            let best = self.run.parameters(Which::Best)?;
            self.stepper.restore(best, self.stepper.optimiser().clone());
        }
        let which = if restored { Which::Best } else { Which::Last };
        self.data.end(&self.run, self.stepper.parameters(), which, report)?;
        let mut metrics = self.run.metrics()?;
        let of_best =
            self.progress.best.and_then(|best| metrics.iter().find(|m| m.epoch == best.epoch).cloned());
        let (Some(last), Some(best)) = (metrics.pop(), self.progress.best) else {
            return Err(
                Error::new(ErrorKind::Data, "the run has no metrics").in_file(self.run.metrics_path())
            );
        };
        report.event(&Event::Finished {
            folder: &self.run.folder,
            best_epoch: best.epoch,
            best: of_best.as_ref(),
            last: &last,
            monitor: training.best.name(),
        });
        Ok(Outcome { run: self.run, last, best })
    }

    /// One epoch, from where the checkpoint left it.
    fn epoch(&mut self, stop: &AtomicBool, report: &mut dyn Report) -> Result<()> {
        let training = self.run.config.training().clone();
        let epoch = self.progress.epoch + 1;
        let order = self.data.order(epoch, &training);
        let learning_rate = self.progress.callbacks.learning_rate(&training);
        let (before, started) = (self.progress.milliseconds, Instant::now());
        let mut nats = f64::from_bits(self.progress.nats_bits);
        let done = self.progress.batches;
        for batch in order.iter().skip(done) {
            self.stepper.set_learning_rate(self.rates.at(self.progress.step, learning_rate));
            let StepReport { sums, gradient_norm } = self.stepper.step(&self.data.batch(batch));
            self.progress.batches += 1;
            if sums.nats.is_finite() && gradient_norm.is_finite() {
                self.progress.step += 1;
                nats += sums.nats;
                self.progress.nats_bits = nats.to_bits();
                self.progress.tokens += sums.tokens;
                self.progress.correct += sums.correct;
            } else if training.terminate_on_nan {
                let what = if sums.nats.is_finite() { "the gradient's norm" } else { "the loss" };
                return Err(self.diverged(epoch, what));
            } else {
                // The optimiser has left the batch out as well.
                self.progress.skipped += 1;
            }
            let loss = nats / self.progress.tokens.max(1) as f64;
            report.event(&Event::Step {
                epoch,
                epochs: training.epochs,
                batch: self.progress.batches,
                batches: order.len(),
                loss,
            });
            if stop.load(Ordering::SeqCst) {
                self.progress.milliseconds = before + started.elapsed().as_millis() as u64;
                self.save_last()?;
                return Err(self.interrupted());
            }
        }
        let train_seconds = (before as f64) / 1e3 + started.elapsed().as_secs_f64();
        let metrics = self.finish_epoch(epoch, order.len(), train_seconds, started)?;
        report.event(&Event::Epoch { epochs: training.epochs, metrics: &metrics });
        self.progress.callbacks.tell(&training, epoch, learning_rate, report);
        Ok(())
    }

    /// Scores after an epoch, and the files that keep them: best, metrics, last. A crash between them repeats
    /// the epoch.
    fn finish_epoch(
        &mut self,
        epoch: usize,
        steps: usize,
        train_seconds: f64,
        started: Instant,
    ) -> Result<EpochMetrics> {
        let training = self.run.config.training().clone();
        if self.progress.tokens == 0 {
            return Err(self.diverged(epoch, "the loss of every batch"));
        }
        let held_out = self.evaluate();
        let count = |n: usize| n.max(1) as f64;
        let validation_loss = held_out.nats / count(held_out.tokens);
        if !validation_loss.is_finite() {
            return Err(self.diverged(epoch, "the validation loss"));
        }
        let Progress { step, nats_bits, tokens, correct, skipped, best: old, milliseconds, .. } =
            self.progress;
        let found = Found { training: Sums { nats: f64::from_bits(nats_bits), tokens, correct }, held_out };
        let tokens = count(tokens);
        let base = self.progress.callbacks.learning_rate(&training);
        let mut metrics = EpochMetrics {
            epoch,
            step,
            train_loss: found.training.nats / tokens,
            train_accuracy: correct as f64 / tokens,
            validation_loss,
            validation_accuracy: held_out.correct as f64 / count(held_out.tokens),
            skipped_batches: Some(skipped).filter(|&skipped| skipped > 0),
            learning_rate: Some(self.rates.at(step.saturating_sub(1), base)),
            train_seconds,
            steps_per_second: steps as f64 / train_seconds.max(1e-9),
            ..EpochMetrics::default()
        };
        self.data.figures(&self.run, self.stepper.parameters(), &found, &mut metrics)?;
        metrics.seconds = milliseconds as f64 / 1e3 + started.elapsed().as_secs_f64();
        let new = Best::of(training.best, &metrics);
        metrics.best = old.is_none_or(|old| new.is_better(training.best, old));
        let mut callbacks = std::mem::take(&mut self.progress.callbacks);
        callbacks.epoch(&training, &metrics);
        let best = if metrics.best { Some(new) } else { old };
        self.progress = Progress { epoch, step, best, callbacks, ..Progress::default() };
        if metrics.best {
            self.checkpoint(None).save(&self.run.checkpoint_path(Which::Best))?;
        }
        metrics::append(&self.run.metrics_path(), &metrics)?;
        self.save_last()?;
        logs::epoch(&self.run.folder, self.run.config.name(), &training, &self.run.metrics_path())?;
        Ok(metrics)
    }

    fn stopped_early(&self) -> bool {
        self.progress.callbacks.stop(self.run.config.training(), self.progress.epoch)
    }

    fn checkpoint(&self, optimiser: Option<OptimiserState>) -> Checkpoint<N> {
        self.run.checkpoint_of(self.progress.clone(), self.stepper.parameters().clone(), optimiser)
    }

    fn save_last(&self) -> Result<()> {
        self.checkpoint(Some(self.stepper.optimiser().clone())).save(&self.run.checkpoint_path(Which::Last))
    }

    fn evaluate(&mut self) -> Sums {
        let (mut sums, mut done, all) = (Sums::default(), 0, self.data.held_out());
        while done < all {
            // Whole units but for the last one, which is never alone: the sums are those of one pass over all
            // examples.
            let end = if all - done < LAID_OUT + EVALUATION_BATCH { all } else { done + LAID_OUT };
            self.stepper.evaluate_onto(&mut sums, &self.data.held_out_part(done..end));
            done = end;
        }
        sums
    }

    fn diverged(&self, epoch: usize, what: &str) -> Error {
        let (batch, step) = (self.progress.batches, self.progress.step + 1);
        let message = format!("{what} is not a finite number: epoch {epoch}, batch {batch}, step {step}");
        Error::new(ErrorKind::Config, message)
            .at_line(self.run.folder.join("config.yaml"), None, Some("training.learning_rate"))
            .help(
                "lower training.learning_rate or set training.clip_norm (1.0, say); the checkpoints hold \
                the state before this epoch",
            )
    }

    fn interrupted(&self) -> Error {
        let Progress { epoch, batches, .. } = self.progress;
        let folder = self.run.folder.display();
        Error::new(
            ErrorKind::Interrupted,
            format!("stopped and saved after {epoch} epochs and {batches} batches"),
        )
        .in_file(&self.run.folder)
        .help(format!("go on with `s2s train {folder} --resume`"))
    }
}
