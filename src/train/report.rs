//! What a training says while it runs: events, and the console that prints them.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use s2s_runtime::printable;
use serde::Serialize;

use super::metrics::EpochMetrics;
use super::origin::{Origin, Which};
use crate::data::corpus::Statistics;
use crate::data::report::DataReport;
use crate::score::Decoded;

/// Something that happened in a training.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Data is read, counted or encoded.
    Preparing {
        /// What is done.
        what: &'a str,
        /// How much of it is done.
        done: usize,
        /// Out of how much.
        all: usize,
    },
    /// What there is to say about a file of pairs.
    Data {
        /// Its lengths, and what may be wrong with it.
        report: &'a DataReport,
    },
    /// Data is read and the network is built.
    Started {
        /// The config's name.
        name: &'a str,
        /// The run folder.
        folder: &'a Path,
        /// Counts of the data.
        statistics: &'a Statistics,
        /// Symbols, the four special ones counted.
        source_vocabulary: usize,
        /// Symbols, the four special ones counted.
        target_vocabulary: usize,
        /// Trainable numbers.
        parameters: usize,
        /// Worker threads.
        threads: usize,
        /// The run whose weights and vocabularies it took.
        init_from: Option<&'a Origin>,
        /// Epochs and batches done before, for a resumed run.
        resumed: Option<(usize, usize)>,
    },
    /// Samples of a perceptron are read and it is built.
    Samples {
        /// The config's name.
        name: &'a str,
        /// The run folder.
        folder: &'a Path,
        /// Samples trained on.
        training: usize,
        /// Samples held out.
        validation: usize,
        /// Features of a sample.
        inputs: usize,
        /// Classes.
        classes: usize,
        /// Trainable numbers.
        parameters: usize,
        /// Worker threads.
        threads: usize,
    },
    /// A step is done.
    Step {
        /// Counted from 1.
        epoch: usize,
        /// Epochs of the training.
        epochs: usize,
        /// Batches done in this epoch.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Mean nats a target token of this epoch so far.
        loss: f64,
    },
    /// An epoch is done and saved.
    Epoch {
        /// Epochs of the training.
        epochs: usize,
        /// What it gave.
        metrics: &'a EpochMetrics,
    },
    /// A plateau has lowered the learning rate.
    LearningRate {
        /// After this epoch.
        epoch: usize,
        /// What it is now.
        learning_rate: f64,
    },
    /// The training ends before its last epoch.
    StoppedEarly {
        /// Epochs done.
        epoch: usize,
        /// Epochs of the training.
        epochs: usize,
        /// What has not become better.
        monitor: &'a str,
        /// For so many epochs.
        patience: usize,
    },
    /// Decoded texts at the end.
    Examples {
        /// `training` or `validation`.
        set: &'a str,
        /// Whose weights decoded them.
        weights: Which,
        /// Source, prediction, references.
        decoded: &'a [Decoded],
    },
    /// All epochs are done.
    Finished {
        /// The run folder.
        folder: &'a Path,
        /// The epoch in `checkpoints/best`.
        best_epoch: usize,
        /// What that epoch gave.
        best: Option<&'a EpochMetrics>,
        /// What the last epoch gave, which is in `checkpoints/last`.
        last: &'a EpochMetrics,
        /// What decides which epoch is the best.
        monitor: &'a str,
    },
}

/// Listens to a training.
pub trait Report {
    /// Something happened.
    fn event(&mut self, event: &Event<'_>);
}

/// Prints a training: lines on stdout (JSON objects if asked), what is said about the data on stderr, and a
/// progress bar there where that is a terminal.
#[derive(Debug)]
pub struct Console {
    json: bool,
    quiet: bool,
    bar: Option<ProgressBar>,
    /// Of the work before the first step.
    preparing: Option<ProgressBar>,
    begun: Instant,
    /// Seconds and number of the epochs that this process trained.
    epochs: (f64, usize),
}

/// Work that takes no longer than this shows no progress.
const SHORT: Duration = Duration::from_millis(500);

impl Console {
    /// `json`: one object an event, steps left out; `quiet`: nothing at all.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, bar: None, preparing: None, begun: Instant::now(), epochs: (0.0, 0) }
    }

    fn print(&self, text: &str) {
        // A reader that has gone away does not stop a training.
        let print = || drop(writeln!(std::io::stdout().lock(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn preparing(&mut self, what: &str, done: usize, all: usize) {
        if !std::io::stderr().is_terminal() || self.begun.elapsed() < SHORT {
            return;
        }
        let bar = self.preparing.get_or_insert_with(|| {
            let bar = ProgressBar::new(all as u64);
            if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30.cyan}] {percent} %") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        bar.set_message(format!("{what} data"));
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    }

    fn step(&mut self, epoch: usize, epochs: usize, batch: usize, batches: usize, loss: f64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(batches as u64);
            if let Ok(style) =
                ProgressStyle::with_template("{prefix} [{bar:20.cyan}] {pos}/{len} {msg}, {rate}, {eta} left")
            {
                let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = write!(out, "{:.1} steps/s", state.per_sec());
                };
                bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
            }
            bar
        });
        bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        bar.set_message(format!("loss {loss:.4}"));
        bar.set_position(batch as u64);
    }

    /// Seconds until the last epoch is done, if the coming ones take as long as those so far.
    fn seconds_left(&mut self, epochs: usize, metrics: &EpochMetrics) -> f64 {
        let (seconds, count) = &mut self.epochs;
        *seconds += metrics.seconds;
        *count += 1;
        *seconds / *count as f64 * epochs.saturating_sub(metrics.epoch) as f64
    }

    fn finished(&self, folder: &Path, best: Option<&EpochMetrics>, last: &EpochMetrics, monitor: &str) {
        let scores = |m: &EpochMetrics| {
            let mut said = format!("dev loss {}", loss(m.validation_loss));
            if let Some((name, value)) = scores(m).into_iter().next() {
                said += &format!(", {name} {}", value.trim_start());
            }
            said
        };
        let folder = folder.display();
        self.print(&format!("The run is in {folder}; its checkpoints:"));
        if let Some(best) = best {
            self.print(&format!("  best  epoch {}, {}  (by {monitor})", best.epoch, scores(best)));
        }
        self.print(&format!("  last  epoch {}, {}  (--resume goes on from it)", last.epoch, scores(last)));
        self.print(&format!("Next: s2s export {folder}"));
        if best.is_some_and(|best| best.epoch != last.epoch) {
            self.print("      exports best; --checkpoint last exports last, better on training data");
        }
    }
}

/// A share in percent, which is 100 or 0 only where it is that.
pub(super) fn percent(fraction: f64, decimals: usize) -> String {
    let value = fraction * 100.0;
    let is_rounded_off =
        |text: &str| (value < 100.0 && text.parse() == Ok(100.0)) || (value > 0.0 && text.parse() == Ok(0.0));
    let mut texts = (decimals..=6).map(|decimals| format!("{value:.decimals$}"));
    texts.find(|text| !is_rounded_off(text)).unwrap_or_else(|| format!("{value}"))
}

fn loss(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.4}"),
        v if v < 10_000.0 => format!("{v:.1}"),
        v => format!("{v:.1e}"),
    }
}

/// Hours, minutes and seconds as a clock shows them.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The scores of an epoch that were measured, the one that counts most first; the accuracy where nothing is
/// decoded.
fn scores(m: &EpochMetrics) -> Vec<(&'static str, String)> {
    let share = |fraction: f64| format!("{:>5} %", percent(fraction, 1));
    let points = |points: f64| format!("{points:>5.1}");
    let all = [
        ("exact", m.exact_match.map(share)),
        ("BLEU", m.bleu.map(points)),
        ("chrF", m.chrf.map(points)),
        ("errors", m.token_error_rate.map(share)),
        ("accuracy", m.samples_per_second.map(|_| share(m.validation_accuracy))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Columns of a terminal that nobody has made wider.
const WIDTH: usize = 80;

/// The line of an epoch, of at most 80 columns; `metrics.jsonl` has the rest.
///
/// - `left`: seconds until the training ends.
pub fn epoch_line(epochs: usize, m: &EpochMetrics, left: f64) -> String {
    let digits = epochs.to_string().len();
    let mut line = format!(
        "epoch {:>digits$}/{epochs}{} loss {}, dev {}",
        m.epoch,
        if m.best { "*" } else { " " },
        loss(m.train_loss),
        loss(m.validation_loss)
    );
    let rate = match m.samples_per_second {
        Some(samples) => format!(", {samples:.0} samples/s"),
        None if m.steps_per_second < 10.0 => format!(", {:.1} steps/s", m.steps_per_second),
        None => format!(", {:.0} steps/s", m.steps_per_second),
    };
    let end = if m.epoch >= epochs { String::new() } else { format!(", {} left", clock(left)) };
    let skipped =
        m.skipped_batches.map_or_else(String::new, |skipped| format!(", {skipped} batches not finite"));
    let score =
        scores(m).into_iter().next().map_or_else(String::new, |(name, value)| format!(", {name} {value}"));
    let more = [score, rate, skipped, end];
    // What comes first where there is no room for all.
    let wanted = [0, 3, 2, 1];
    let mut kept = [false; 4];
    let mut length = line.chars().count();
    for i in wanted {
        let longer = length + more[i].chars().count();
        kept[i] = longer <= WIDTH;
        length = if kept[i] { longer } else { length };
    }
    more.into_iter().zip(kept).filter(|(_, kept)| *kept).for_each(|(part, _)| line += &part);
    line
}

impl Report for Console {
    fn event(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        if !matches!(event, Event::Preparing { .. })
            && let Some(bar) = self.preparing.take()
        {
            bar.finish_and_clear();
        }
        if self.json {
            if !matches!(event, Event::Step { .. } | Event::Preparing { .. }) {
                self.print(&serde_json::to_string(event).unwrap_or_default());
            }
            return;
        }
        match event {
            Event::Preparing { what, done, all } => self.preparing(what, *done, *all),
            Event::Data { report } => eprintln!("{}", printable::lines(&report.to_string())),
            Event::Started {
                name,
                folder,
                statistics: s,
                source_vocabulary,
                target_vocabulary,
                parameters,
                threads,
                init_from,
                resumed,
            } => {
                self.print(&format!(
                    "Number of samples: {} ({} training, {} validation)",
                    s.samples, s.training, s.validation
                ));
                self.print(&format!("Number of unique input tokens: {}", s.source_tokens));
                self.print(&format!(
                    "Number of unique output tokens: {} (START and END counted)",
                    s.target_tokens
                ));
                self.print(&format!("Max sequence length for inputs: {}", s.longest_source));
                self.print(&format!(
                    "Max sequence length for outputs: {} (START and END counted)",
                    s.longest_target
                ));
                self.print(&format!(
                    "{name}: {parameters} parameters, vocabularies {source_vocabulary} and \
                     {target_vocabulary}, {threads} threads, run folder {}",
                    folder.display()
                ));
                if let Some(Origin { run, epoch, new_symbols: [source, target], extended, .. }) = init_from {
                    let fate = match extended {
                        _ if source + target == 0 => "",
                        true => ", which have got ids",
                        false => ", which are unknown (--extend-vocabulary gives them ids)",
                    };
                    self.print(&format!(
                        "weights of {run} after epoch {epoch}; {source} source and {target} \
                        target symbols are new{fate}"
                    ));
                }
                if let Some((epochs, batches)) = resumed {
                    self.print(&format!("resumed after {epochs} epochs and {batches} batches"));
                }
            }
            Event::Samples { name, folder, training, validation, inputs, classes, parameters, threads } => {
                self.print(&format!(
                    "Number of samples: {} ({training} training, {validation} validation)",
                    training + validation
                ));
                self.print(&format!(
                    "{name}: {parameters} parameters, {inputs} features, {classes} classes, {threads} \
                     threads, run folder {}",
                    folder.display()
                ));
            }
            Event::Step { epoch, epochs, batch, batches, loss } => {
                self.step(*epoch, *epochs, *batch, *batches, *loss);
            }
            Event::Epoch { epochs, metrics } => {
                let left = self.seconds_left(*epochs, metrics);
                self.print(&epoch_line(*epochs, metrics, left));
            }
            Event::LearningRate { epoch, learning_rate } => {
                self.print(&format!(
                    "epoch {epoch}: no better for a while, learning rate {learning_rate:e} from here"
                ));
            }
            Event::StoppedEarly { epoch, epochs, monitor, patience } => {
                self.print(&format!(
                    "stopped early after epoch {epoch} of {epochs}: {monitor} no better for {patience} epochs"
                ));
            }
            Event::Examples { set, weights, decoded } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                let weights = match weights {
                    Which::Best => "best",
                    Which::Last => "last",
                };
                self.print(&format!("\nDecoded {set} examples (weights of the {weights} epoch)"));
                for d in *decoded {
                    let mark = if d.right { "right" } else { "wrong" };
                    self.print(&format!("  source      {}", d.source));
                    self.print(&format!("  prediction  {}  ({mark})", d.prediction));
                    self.print(&format!("  reference   {}\n", d.references.join(" | ")));
                }
            }
            Event::Finished { folder, best, last, monitor, .. } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                self.finished(folder, *best, last, monitor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> EpochMetrics {
        EpochMetrics {
            epoch: 3,
            train_loss: 0.123_44,
            validation_loss: 0.2,
            exact_match: Some(0.9997),
            token_error_rate: Some(0.01),
            steps_per_second: 84.3,
            seconds: 12.0,
            best: true,
            ..EpochMetrics::default()
        }
    }

    #[test]
    fn the_line_of_an_epoch_says_what_counts_and_when_the_training_ends() {
        let line = epoch_line(12, &metrics(), 108.4);
        assert_eq!(line, "epoch  3/12* loss 0.1234, dev 0.2000, exact 99.97 %, 84 steps/s, 1:48 left");
        let last = EpochMetrics { epoch: 12, best: false, ..metrics() };
        assert_eq!(
            epoch_line(12, &last, 0.0),
            "epoch 12/12  loss 0.1234, dev 0.2000, exact 99.97 %, 84 steps/s"
        );
        let samples = EpochMetrics {
            exact_match: None,
            token_error_rate: None,
            samples_per_second: Some(5123.4),
            validation_accuracy: 1.0,
            ..last
        };
        assert_eq!(
            epoch_line(12, &samples, 0.0),
            "epoch 12/12  loss 0.1234, dev 0.2000, accuracy 100.0 %, 5123 samples/s"
        );
    }

    #[test]
    fn the_line_of_an_epoch_fits_eighty_columns_whatever_the_figures_are() {
        for epoch in [1, 10, 1_000, 1_000_000] {
            for value in [0.0, 1e-9, 0.5, 99.5, 1e7, 1e300] {
                let line = epoch_line(
                    epoch * 2,
                    &EpochMetrics {
                        epoch,
                        train_loss: value,
                        validation_loss: value,
                        exact_match: Some(0.1),
                        bleu: Some(33.3),
                        chrf: Some(33.3),
                        steps_per_second: value.min(1e6),
                        skipped_batches: Some(epoch),
                        best: true,
                        ..metrics()
                    },
                    epoch as f64 * 100.0,
                );
                assert!(line.chars().count() <= 80 && line.contains("exact  10.0 %"), "{line}");
            }
        }
    }

    #[test]
    fn a_share_is_shown_as_all_or_nothing_only_where_it_is_that() {
        let shown = [0.999_7, 0.999_96, 1.0, 0.000_4, 0.0, 0.5].map(|fraction| percent(fraction, 1));
        assert_eq!(shown, ["99.97", "99.996", "100.0", "0.04", "0.0", "50.0"]);
    }

    #[test]
    fn the_time_left_is_that_of_the_epochs_so_far() {
        let mut console = Console::new(false, true);
        assert_eq!(console.seconds_left(12, &metrics()), 9.0 * 12.0);
        assert_eq!(
            console.seconds_left(12, &EpochMetrics { epoch: 4, seconds: 24.0, ..metrics() }),
            8.0 * 18.0
        );
        assert_eq!(
            [0.4, 59.6, 3599.0, 3600.0, 90_061.0].map(clock),
            ["0:00", "1:00", "59:59", "1:00:00", "25:01:01"]
        );
    }
}
