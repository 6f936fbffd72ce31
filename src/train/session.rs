//! The loop: epochs of steps, the scores after each, checkpoints, interruption and resumption.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checkpoint::{Best, Checkpoint, Progress};
use super::examples::candidates;
use super::initial::{InitFrom, Initial};
use super::lock::RunLock;
use super::logs;
use super::metrics::{self, EpochMetrics};
use super::report::{Event, Report};
use super::run::{Record, Run, Which};
use super::schedule::Rates;
use super::step::{EVALUATION_BATCH, OptimiserState, StepOptions, StepReport, Stepper};
use crate::config::Config;
use crate::config::callbacks::Monitor;
use crate::config::training::Optimiser;
use crate::data::encoded::{Batch, EncodedPairs};
use crate::data::groups::{Group, Groups};
use crate::data::{Corpus, Part, batches};
use crate::error::{Error, ErrorKind, Result};
use crate::network::{Network, Seq2Seq, Sums};
use crate::score::{self, Decoded, Measures, Score};
use s2s_kernels::random::Random;

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
pub struct Outcome {
    /// The run.
    pub run: Run,
    /// Its last epoch.
    pub last: EpochMetrics,
    /// Its best epoch.
    pub best: Best,
}

/// Streams of [`Random`] that no epoch uses; `u64::MAX` splits the data.
const SAMPLE_STREAM: u64 = u64::MAX - 1;
const EXAMPLE_STREAM: u64 = u64::MAX - 2;

/// Trains as `config` says.
///
/// # Errors
/// [`ErrorKind::Interrupted`] after `stop` was set, with everything saved; a loss that is not finite;
/// unreadable data; a run folder that is there already, or that cannot be resumed with this config.
pub fn train(mut config: Config, options: &TrainOptions<'_>, report: &mut dyn Report) -> Result<Outcome> {
    let mut preparing =
        |what: &'static str, done: usize, all: usize| report.event(&Event::Preparing { what, done, all });
    let corpus = Corpus::load(&config.data, config.training.seed, &mut preparing)?;
    let folder = corpus.folder.as_deref().map(absolute).transpose()?;
    let _lock;
    let run = match options.mode {
        Mode::Resume => {
            Run::check_there(&options.output)
                .map_err(|e| e.help("--resume goes on with a run; leave it out to start one"))?;
            _lock = RunLock::take(&options.output)?;
            reopen(config, &corpus, folder.as_deref(), options)?
        }
        Mode::New | Mode::Force => {
            let threads = config.training.threads.unwrap_or_else(available_threads);
            config.settle(threads, folder.as_deref())?;
            let reports = corpus.reports(&config.data, &mut preparing);
            let initial =
                options.init_from.as_ref().map(|from| Initial::open(from, &config, &corpus)).transpose()?;
            let counted = corpus.count(&config.data, &mut preparing)?;
            let (source, target) = match &initial {
                Some(initial) => (&initial.source, &initial.target),
                None => (&counted.source, &counted.target),
            };
            let record = Record {
                source: source.spec().clone(),
                target: target.spec().clone(),
                statistics: counted.statistics,
                data: corpus.sources.clone(),
                init_from: initial.as_ref().map(|i| i.origin.clone()),
                examples: candidates(corpus.validation.iter()),
            };
            _lock = RunLock::take(&options.output)?;
            reports.iter().for_each(|data| report.event(&Event::Data { report: data }));
            Run::create(&options.output, config, &record, options.mode == Mode::Force, |run| {
                let start = initial.map(|initial| initial.checkpoint(run)).transpose()?;
                Ok(start.map(|checkpoint| (Which::Last, checkpoint)))
            })?
        }
    };
    Session::new(run, corpus, report)
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

fn reopen(
    mut config: Config,
    corpus: &Corpus,
    folder: Option<&Path>,
    options: &TrainOptions<'_>,
) -> Result<Run> {
    let mut run = Run::open(&options.output)?;
    if let Some(key) = first_difference("", &run.config.fingerprint(), &config.fingerprint()) {
        return Err(Error::new(ErrorKind::Config, format!("`{key}` differs between the run and the config"))
            .in_file(&options.output)
            .help("a run goes on with the config that it began with (threads, early stopping and decoding may change, and epochs unless the learning rate falls until the last one); --force starts over"));
    }
    if let Some((old, _)) = run.data.iter().zip(&corpus.sources).find(|(old, new)| old != new) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("the data file {} has changed since the run began", old.file),
        )
        .in_file(&options.output)
        .help("bring the old data back (--data DIR), or start over with --force"));
    }
    let threads = config.training.threads.or(run.config.training.threads).unwrap_or_else(available_threads);
    config.settle(threads, folder)?;
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
struct Session {
    run: Run,
    stepper: Stepper<Seq2Seq>,
    rates: Rates,
    progress: Progress,
    train: EncodedPairs,
    validation: EncodedPairs,
    /// Positions of the validation pairs, the short ones first.
    by_length: Vec<u32>,
    /// Validation sources that are decoded after an epoch.
    sample: Vec<Group>,
    /// Training and validation sources that are decoded at the end.
    examples: [Vec<Group>; 2],
    /// The last step's, for its memory.
    batch: Batch,
}

/// Validation pairs whose ids are laid out at a time.
const LAID_OUT: usize = 256 * EVALUATION_BATCH;

impl Session {
    fn new(run: Run, corpus: Corpus, report: &mut dyn Report) -> Result<Self> {
        let training = &run.config.training;
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
        let rates = Rates::new(training, corpus.train.len().div_ceil(training.batch_size))
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
        // What is decoded is chosen before anything is encoded, so that the memory of both is not needed at
        // once.
        let sample = sample(&corpus.validation, &run, training.exact_match_sample, SAMPLE_STREAM);
        let examples = [&corpus.train, &corpus.validation]
            .map(|part| self::sample(part, &run, training.examples, EXAMPLE_STREAM));
        let mut preparing =
            |what: &'static str, done: usize, all: usize| report.event(&Event::Preparing { what, done, all });
        let train = EncodedPairs::new(&corpus.train, &run.source, &run.target, &mut preparing)?;
        let validation = EncodedPairs::new(&corpus.validation, &run.source, &run.target, &mut preparing)?;
        let mut by_length: Vec<u32> = (0..validation.len() as u32).collect();
        by_length.sort_by_cached_key(|&p| {
            let (source, target) = validation.lengths(p as usize);
            source + target
        });
        Ok(Self {
            run,
            stepper,
            rates,
            progress,
            train,
            validation,
            by_length,
            sample,
            examples,
            batch: Batch::default(),
        })
    }

    fn run(mut self, stop: &AtomicBool, report: &mut dyn Report) -> Result<Outcome> {
        let parameters = self.stepper.parameters().len();
        report.event(&Event::Started {
            name: &self.run.config.name,
            folder: &self.run.folder,
            statistics: &self.run.statistics,
            source_vocabulary: self.run.source.len(),
            target_vocabulary: self.run.target.len(),
            parameters,
            threads: self.run.config.training.threads.unwrap_or(1),
            init_from: self.run.init_from.as_ref(),
            resumed: (self.progress.step > 0).then_some((self.progress.epoch, self.progress.batches)),
        });
        let epochs = self.run.config.training.epochs;
        while self.progress.epoch < epochs && !self.stopped_early() {
            self.epoch(stop, report)?;
            if stop.load(Ordering::SeqCst) && self.progress.epoch < epochs && !self.stopped_early() {
                return Err(self.interrupted());
            }
        }
        let training = &self.run.config.training;
        let restored = training.early_stopping.is_some_and(|e| e.restore_best_weights);
        if restored {
            let best = self.run.parameters(Which::Best)?;
            self.stepper.restore(best, self.stepper.optimiser().clone());
        }
        for (set, groups) in ["training", "validation"].into_iter().zip(&self.examples) {
            let decoded = self.decode(&groups.iter().collect::<Vec<_>>())?;
            if !decoded.is_empty() {
                let weights = if restored { Which::Best } else { Which::Last };
                report.event(&Event::Examples { set, weights, decoded: &decoded });
            }
        }
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
        let training = self.run.config.training.clone();
        let epoch = self.progress.epoch + 1;
        let lengths = |p| self.train.lengths(p);
        let order = batches::epoch(
            self.train.len(),
            lengths,
            training.batch_size,
            training.batches,
            training.seed,
            epoch,
        );
        let learning_rate = self.progress.callbacks.learning_rate(&training);
        let (before, started) = (self.progress.milliseconds, Instant::now());
        let mut nats = f64::from_bits(self.progress.nats_bits);
        let done = self.progress.batches;
        for batch in order.iter().skip(done) {
            self.train.fill(batch.iter().map(|&p| p as usize), &mut self.batch);
            self.stepper.set_learning_rate(self.rates.at(self.progress.step, learning_rate));
            let StepReport { sums, gradient_norm } = self.stepper.step(&self.batch.examples());
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
        let training = self.run.config.training.clone();
        if self.progress.tokens == 0 {
            return Err(self.diverged(epoch, "the loss of every batch"));
        }
        let validation = self.evaluate();
        let count = |n: usize| n.max(1) as f64;
        let validation_loss = validation.nats / count(validation.tokens);
        if !validation_loss.is_finite() {
            return Err(self.diverged(epoch, "the validation loss"));
        }
        let scored = !self.sample.is_empty()
            && !training.scores.is_empty()
            && (epoch.is_multiple_of(training.exact_match_every) || epoch == training.epochs);
        let score = if scored { Some(self.score()?) } else { None };
        let given = |monitor, value: fn(&Score) -> f64| {
            score.as_ref().filter(|_| training.scores.contains(&monitor)).map(value)
        };
        let progress = self.progress.clone();
        let (nats, tokens) = (f64::from_bits(progress.nats_bits), count(progress.tokens));
        // The tutorial reserves a step for START and one for END and averages over all of them.
        let padded_steps = self.validation.len() * self.run.statistics.longest_target;
        let mut metrics = EpochMetrics {
            epoch,
            step: progress.step,
            train_loss: nats / tokens,
            train_accuracy: progress.correct as f64 / tokens,
            validation_loss,
            validation_accuracy: validation.correct as f64 / count(validation.tokens),
            validation_loss_padded: Some(validation.nats / count(padded_steps)),
            exact_match: given(Monitor::ExactMatch, |s| s.exact_match()),
            token_error_rate: given(Monitor::TokenErrorRate, |s| s.token_error_rate()),
            chrf: given(Monitor::Chrf, |s| s.chrf.score()),
            bleu: given(Monitor::Bleu, |s| s.bleu.score()),
            skipped_batches: Some(progress.skipped).filter(|&skipped| skipped > 0),
            best: false,
            learning_rate: Some(
                self.rates.at(progress.step.saturating_sub(1), progress.callbacks.learning_rate(&training)),
            ),
            train_seconds,
            seconds: progress.milliseconds as f64 / 1e3 + started.elapsed().as_secs_f64(),
            steps_per_second: steps as f64 / train_seconds.max(1e-9),
            target_tokens_per_second: Some(tokens / train_seconds.max(1e-9)),
            samples_per_second: None,
        };
        let new = Best::of(training.best, &metrics);
        metrics.best = progress.best.is_none_or(|old| new.is_better(training.best, old));
        let mut callbacks = progress.callbacks;
        callbacks.epoch(&training, &metrics);
        let best = if metrics.best { Some(new) } else { progress.best };
        self.progress = Progress { epoch, step: progress.step, best, callbacks, ..Progress::default() };
        if metrics.best {
            self.checkpoint(None).save(&self.run.checkpoint_path(Which::Best))?;
        }
        metrics::append(&self.run.metrics_path(), &metrics)?;
        self.save_last()?;
        logs::epoch(&self.run.folder, &self.run.config.name, &training, &self.run.metrics_path())?;
        Ok(metrics)
    }

    fn stopped_early(&self) -> bool {
        self.progress.callbacks.stop(&self.run.config.training, self.progress.epoch)
    }

    fn checkpoint(&self, optimiser: Option<OptimiserState>) -> Checkpoint {
        self.run.checkpoint_of(self.progress.clone(), self.stepper.parameters().clone(), optimiser)
    }

    fn save_last(&self) -> Result<()> {
        self.checkpoint(Some(self.stepper.optimiser().clone())).save(&self.run.checkpoint_path(Which::Last))
    }

    fn evaluate(&mut self) -> Sums {
        let mut sums = Sums::default();
        let mut rest = &self.by_length[..];
        while !rest.is_empty() {
            // Whole units but for the last one, which is never alone: the sums are those of one pass over all
            // pairs.
            let (part, more) =
                rest.split_at(if rest.len() < LAID_OUT + EVALUATION_BATCH { rest.len() } else { LAID_OUT });
            self.validation.fill(part.iter().map(|&p| p as usize), &mut self.batch);
            self.stepper.evaluate_onto(&mut sums, &self.batch.examples());
            rest = more;
        }
        sums
    }

    fn decode(&self, groups: &[&Group]) -> Result<Vec<Decoded>> {
        let run = &self.run;
        let input = run.export_input(self.stepper.parameters(), None);
        score::decode(&input, groups, &run.config.decoding)
    }

    fn score(&self) -> Result<Score> {
        let decoded = self.decode(&self.sample.iter().collect::<Vec<_>>())?;
        let training = &self.run.config.training;
        let bleu = training.scores.contains(&Monitor::Bleu).then_some(training.bleu_tokenise);
        let mut score = Score::new(Measures { chrf: training.scores.contains(&Monitor::Chrf), bleu });
        decoded.iter().for_each(|d| score.add(&d.prediction, &d.references, &self.run.target));
        Ok(score)
    }

    fn diverged(&self, epoch: usize, what: &str) -> Error {
        let (batch, step) = (self.progress.batches, self.progress.step + 1);
        let message = format!("{what} is not a finite number: epoch {epoch}, batch {batch}, step {step}");
        Error::new(ErrorKind::Config, message)
            .at_line(self.run.folder.join("config.yaml"), None, Some("training.learning_rate"))
            .help("lower training.learning_rate or set training.clip_norm (1.0, say); the checkpoints hold the state before this epoch")
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

/// `n` sources of `pairs` with all their references, drawn with the training's seed, in the order of the
/// file.
fn sample(pairs: &Part, run: &Run, n: usize, stream: u64) -> Vec<Group> {
    if n == 0 {
        return Vec::new();
    }
    let groups = Groups::new(pairs, &run.source);
    let mut positions: Vec<u32> = (0..groups.len() as u32).collect();
    Random::new(run.config.training.seed, stream).shuffle(&mut positions);
    positions.truncate(n);
    positions.sort_unstable();
    positions.into_iter().map(|p| groups.get(p as usize)).collect()
}
