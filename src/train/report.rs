//! What a training says while it runs: events, and the console that prints them.

use std::io::{IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

use super::initial::Origin;
use super::metrics::EpochMetrics;
use super::run::Which;
use super::score::Decoded;
use crate::data::corpus::Statistics;

/// Something that happened in a training.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
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
    },
}

/// Listens to a training.
pub trait Report {
    /// Something happened.
    fn event(&mut self, event: &Event<'_>);
}

/// Prints a training: lines on stdout (JSON objects if asked), a progress bar on stderr where that is a terminal.
#[derive(Debug, Default)]
pub struct Console {
    json: bool,
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Console {
    /// `json`: one object an event, steps left out; `quiet`: nothing at all.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, bar: None }
    }

    fn print(&self, text: &str) {
        // A reader that has gone away does not stop a training.
        let print = || drop(writeln!(std::io::stdout().lock(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn step(&mut self, epoch: usize, epochs: usize, batch: usize, batches: usize, loss: f64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(batches as u64);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30.cyan}] {pos}/{len} {msg}, {rate}, {eta} left") {
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
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

/// The line of an epoch.
pub fn epoch_line(epochs: usize, m: &EpochMetrics) -> String {
    let mut line = format!(
        "epoch {}/{epochs}: loss {:.4} accuracy {} | validation loss {:.4}{} accuracy {}",
        m.epoch,
        m.train_loss,
        percent(m.train_accuracy),
        m.validation_loss,
        // Samples that are no texts have no padding.
        if m.validation_loss == m.validation_loss_padded {
            String::new()
        } else {
            format!(" (over padded steps {:.4})", m.validation_loss_padded)
        },
        percent(m.validation_accuracy)
    );
    let scores = [("exact match", m.exact_match.map(percent)), ("token error rate", m.token_error_rate.map(percent))];
    let points = [("chrF", m.chrf), ("BLEU", m.bleu)].map(|(name, score)| (name, score.map(|s| format!("{s:.2}"))));
    for (name, score) in scores.into_iter().chain(points) {
        line += &score.map_or_else(String::new, |score| format!(" {name} {score}"));
    }
    if let Some(skipped) = m.skipped_batches {
        line += &format!(" | {skipped} batches left out, their loss not finite");
    }
    line + &format!(
        " | {:.1} s, {:.1} steps/s, {:.0} target tokens/s{}",
        m.seconds,
        m.steps_per_second,
        m.target_tokens_per_second,
        if m.best { " *" } else { "" }
    )
}

impl Report for Console {
    fn event(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        if self.json {
            if !matches!(event, Event::Step { .. }) {
                self.print(&serde_json::to_string(event).unwrap_or_default());
            }
            return;
        }
        match event {
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
                self.print(&format!("Number of samples: {} ({} training, {} validation)", s.samples, s.training, s.validation));
                self.print(&format!("Number of unique input tokens: {}", s.source_tokens));
                self.print(&format!("Number of unique output tokens: {} (START and END counted)", s.target_tokens));
                self.print(&format!("Max sequence length for inputs: {}", s.longest_source));
                self.print(&format!("Max sequence length for outputs: {} (START and END counted)", s.longest_target));
                self.print(&format!(
                    "{name}: {parameters} parameters, vocabularies {source_vocabulary} and {target_vocabulary}, {threads} threads, run folder {}",
                    folder.display()
                ));
                if let Some(Origin { run, epoch, new_symbols: [source, target], extended, .. }) = init_from {
                    let fate = match extended {
                        _ if source + target == 0 => "",
                        true => ", which have got ids",
                        false => ", which are unknown (--extend-vocabulary gives them ids)",
                    };
                    self.print(&format!("weights of {run} after epoch {epoch}; {source} source and {target} target symbols are new{fate}"));
                }
                if let Some((epochs, batches)) = resumed {
                    self.print(&format!("resumed after {epochs} epochs and {batches} batches"));
                }
            }
            Event::Samples { name, folder, training, validation, inputs, classes, parameters, threads } => {
                self.print(&format!("Number of samples: {} ({training} training, {validation} validation)", training + validation));
                self.print(&format!(
                    "{name}: {parameters} parameters, {inputs} features, {classes} classes, {threads} threads, run folder {}",
                    folder.display()
                ));
            }
            Event::Step { epoch, epochs, batch, batches, loss } => self.step(*epoch, *epochs, *batch, *batches, *loss),
            Event::Epoch { epochs, metrics } => self.print(&epoch_line(*epochs, metrics)),
            Event::LearningRate { epoch, learning_rate } => {
                self.print(&format!("epoch {epoch}: no better for a while, learning rate {learning_rate:e} from here"));
            }
            Event::StoppedEarly { epoch, epochs, monitor, patience } => {
                self.print(&format!("stopped early after epoch {epoch} of {epochs}: {monitor} no better for {patience} epochs"));
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
            Event::Finished { folder, best_epoch } => {
                self.print(&format!("best epoch {best_epoch}; export it with: s2s export {} -o DIR", folder.display()));
            }
        }
    }
}
