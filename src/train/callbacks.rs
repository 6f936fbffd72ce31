//! Early stopping and learning rates that fall on a plateau, as Keras's callbacks of these names decide.

use serde::{Deserialize, Serialize};

use super::metrics::EpochMetrics;
use super::report::{Event, Report};
use crate::config::callbacks::{EarlyStopping, Monitor, ReduceOnPlateau, Watch};
use crate::config::training::Training;

/// What the callbacks remember; a part of a checkpoint, so that a resumed training decides as an undisturbed
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callbacks {
    /// Of `early_stopping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<Stopping>,
    /// Of `reduce_lr_on_plateau`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce_lr_on_plateau: Option<Plateau>,
}

/// State of `early_stopping`. Floating-point numbers are kept as the bits of an f64, because JSON may round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopping {
    /// What was watched; a run that goes on with another monitor starts to count anew.
    pub monitor: String,
    /// The best value so far.
    pub best_bits: u64,
    /// Epochs since it was better.
    pub wait: usize,
    /// Whether the last epoch was better.
    pub better: bool,
}

/// State of `reduce_lr_on_plateau`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// The best value so far.
    pub best_bits: u64,
    /// Epochs since it was better.
    pub wait: usize,
    /// Epochs that are not watched any more.
    pub cooldown: usize,
    /// The learning rate as it is now.
    pub learning_rate_bits: u64,
}

impl Watch {
    fn better(&self, value: f64, best: f64) -> bool {
        if self.higher { value - self.min_delta > best } else { value + self.min_delta < best }
    }
}

impl Monitor {
    /// Its value in an epoch; `None` where it was not measured.
    pub fn value(self, metrics: &EpochMetrics) -> Option<f64> {
        match self {
            Self::ValidationLoss => Some(metrics.validation_loss),
            Self::ValidationAccuracy => Some(metrics.validation_accuracy),
            Self::TrainLoss => Some(metrics.train_loss),
            Self::TrainAccuracy => Some(metrics.train_accuracy),
            Self::ExactMatch => metrics.exact_match,
            Self::TokenErrorRate => metrics.token_error_rate,
            Self::Chrf => metrics.chrf,
            Self::Bleu => metrics.bleu,
        }
    }
}

impl Callbacks {
    /// The learning rate that the schedule starts from.
    pub fn learning_rate(&self, training: &Training) -> f64 {
        self.reduce_lr_on_plateau
            .as_ref()
            .map_or(training.learning_rate, |p| f64::from_bits(p.learning_rate_bits))
    }

    /// Whether `early_stopping` ends the training after `epoch`, counted from 1.
    pub fn stop(&self, training: &Training, epoch: usize) -> bool {
        let (Some(options), Some(state)) = (&training.early_stopping, &self.early_stopping) else {
            return false;
        };
        state.monitor == options.watch.monitor.name()
            && !state.better
            && state.wait >= options.watch.patience
            && epoch > 1
    }

    /// Reports what an epoch has changed; `learning_rate` is what it began with.
    pub fn tell(&self, training: &Training, epoch: usize, learning_rate: f64, report: &mut dyn Report) {
        let lowered = self.learning_rate(training);
        if lowered < learning_rate {
            report.event(&Event::LearningRate { epoch, learning_rate: lowered });
        }
        if let (Some(options), true) = (&training.early_stopping, self.stop(training, epoch)) {
            let (monitor, patience) = (options.watch.monitor.name(), options.watch.patience);
            report.event(&Event::StoppedEarly { epoch, epochs: training.epochs, monitor, patience });
        }
    }

    /// Takes an epoch's figures in.
    pub fn epoch(&mut self, training: &Training, metrics: &EpochMetrics) {
        if let Some(options) = &training.reduce_lr_on_plateau
            && let Some(value) = options.watch.monitor.value(metrics)
        {
            let learning_rate = self.learning_rate(training);
            self.reduce_lr_on_plateau =
                Some(plateau(options, self.reduce_lr_on_plateau.take(), value, learning_rate));
        }
        if let Some(options) = &training.early_stopping
            && let Some(value) = options.watch.monitor.value(metrics)
            && metrics.epoch > options.start_from_epoch
        {
            let own = |state: &Stopping| state.monitor == options.watch.monitor.name();
            self.early_stopping = Some(stopping(options, self.early_stopping.take().filter(own), value));
        }
    }
}

fn stopping(options: &EarlyStopping, state: Option<Stopping>, value: f64) -> Stopping {
    let watch = &options.watch;
    let better = state.as_ref().is_none_or(|s| watch.better(value, f64::from_bits(s.best_bits)));
    let waited = state.as_ref().map_or(0, |s| s.wait) + 1;
    // A better epoch that misses the baseline does not end the wait.
    let wait = if better && options.baseline.is_none_or(|baseline| watch.better(value, baseline)) {
        0
    } else {
        waited
    };
    let best_bits = state.filter(|_| !better).map_or(value.to_bits(), |s| s.best_bits);
    Stopping { monitor: watch.monitor.name().to_owned(), best_bits, wait, better }
}

fn plateau(options: &ReduceOnPlateau, state: Option<Plateau>, value: f64, learning_rate: f64) -> Plateau {
    let first = || Plateau {
        best_bits: value.to_bits(),
        wait: 0,
        cooldown: 0,
        learning_rate_bits: learning_rate.to_bits(),
    };
    let Some(mut state) = state else { return first() };
    if state.cooldown > 0 {
        state.cooldown -= 1;
        state.wait = 0;
    }
    if options.watch.better(value, f64::from_bits(state.best_bits)) {
        state.best_bits = value.to_bits();
        state.wait = 0;
    } else if state.cooldown == 0 {
        state.wait += 1;
        if state.wait >= options.watch.patience && learning_rate > options.min_lr {
            state.learning_rate_bits = (learning_rate * options.factor).max(options.min_lr).to_bits();
            state.cooldown = options.cooldown;
            state.wait = 0;
        }
    }
    state
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::config::{Config, LoadOptions};

    fn training(set: &[String]) -> Training {
        let text = "name: a\ndata: {task: dates}\nmodel: {hidden: 8, input: one_hot}\ntraining: {epochs: 99, \
            batch_size: 2, learning_rate: 0.125}\n";
        Config::parse(text, Path::new("a.yaml"), &LoadOptions { overrides: set.to_vec(), data: None })
            .unwrap()
            .training
    }

    fn metrics(epoch: usize, value: f64) -> EpochMetrics {
        EpochMetrics { epoch, validation_loss: value, ..EpochMetrics::default() }
    }

    #[test]
    fn stopping_and_lower_rates_come_after_the_epochs_where_keras_has_them() {
        let path = format!("{}/tests/goldens/callbacks.json", env!("CARGO_MANIFEST_DIR"));
        let goldens: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in goldens["cases"].as_array().unwrap() {
            let values: Vec<f64> =
                case["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let set = |key: &str, options: &Value| {
                let mut options = options.clone();
                options["mode"] = case["mode"].clone();
                training(&[format!("training.{key}={options}")])
            };
            for golden in case["early_stopping"].as_array().unwrap() {
                let training = set("early_stopping", &golden["options"]);
                let mut callbacks = Callbacks::default();
                let stopped = (1..).zip(&values).find_map(|(epoch, &value)| {
                    callbacks.epoch(&training, &metrics(epoch, value));
                    // What a checkpoint keeps is all that is needed.
                    callbacks = serde_json::from_str(&serde_json::to_string(&callbacks).unwrap()).unwrap();
                    callbacks.stop(&training, epoch).then_some(epoch)
                });
                assert_eq!(
                    serde_json::to_value(stopped).unwrap(),
                    golden["stopped_after"],
                    "{} {values:?}",
                    golden["options"]
                );
            }
            for golden in case["reduce_lr_on_plateau"].as_array().unwrap() {
                let training = set("reduce_lr_on_plateau", &golden["options"]);
                let mut callbacks = Callbacks::default();
                for ((epoch, &value), rate) in
                    (1..).zip(&values).zip(golden["learning_rates"].as_array().unwrap())
                {
                    callbacks.epoch(&training, &metrics(epoch, value));
                    callbacks = serde_json::from_str(&serde_json::to_string(&callbacks).unwrap()).unwrap();
                    let (found, rate) = (callbacks.learning_rate(&training), rate.as_f64().unwrap());
                    assert!(
                        (found - rate).abs() <= 1e-7 * rate,
                        "{} epoch {epoch}: {found} {rate} {values:?}",
                        golden["options"]
                    );
                }
            }
        }
    }

    #[test]
    fn another_monitor_counts_anew() {
        let watching = |monitor: &str| {
            training(&[format!("training.early_stopping={{monitor: {monitor}, patience: 1}}")])
        };
        let mut callbacks = Callbacks::default();
        for epoch in 1..=2 {
            callbacks.epoch(&watching("val_loss"), &metrics(epoch, 1.0));
        }
        assert!(
            callbacks.stop(&watching("validation_loss"), 2) && !callbacks.stop(&watching("train_loss"), 2)
        );
        callbacks.epoch(&watching("train_loss"), &metrics(3, 1.0));
        assert!(!callbacks.stop(&watching("train_loss"), 3));
    }
}
