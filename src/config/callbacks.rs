//! What watches a training: monitors, the learning rate's schedule, and Keras's callbacks under Keras's names
//! and defaults.

use super::raw::{Field, Section, Value};
use crate::error::Result;

/// A figure of an epoch that decides something; named as in `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// Mean nats a target token of the validation pairs.
    ValidationLoss,
    /// Fraction of the validation pairs' target tokens predicted right.
    ValidationAccuracy,
    /// Mean nats a target token of the training pairs, averaged while the weights move.
    TrainLoss,
    /// Fraction of the training pairs' target tokens predicted right, likewise.
    TrainAccuracy,
    /// Fraction of the decoded validation sample that equals a reference.
    ExactMatch,
    /// Token edits to the closest reference over the references' tokens.
    TokenErrorRate,
    /// chrF2 of the decoded validation sample.
    Chrf,
    /// BLEU of the decoded validation sample.
    Bleu,
}

/// Every monitor by its name, and by the name that Keras gives it.
const MONITORS: [(&str, Monitor); 12] = [
    ("validation_loss", Monitor::ValidationLoss),
    ("validation_accuracy", Monitor::ValidationAccuracy),
    ("train_loss", Monitor::TrainLoss),
    ("train_accuracy", Monitor::TrainAccuracy),
    ("exact_match", Monitor::ExactMatch),
    ("token_error_rate", Monitor::TokenErrorRate),
    ("chrf", Monitor::Chrf),
    ("bleu", Monitor::Bleu),
    ("val_loss", Monitor::ValidationLoss),
    ("val_accuracy", Monitor::ValidationAccuracy),
    ("loss", Monitor::TrainLoss),
    ("accuracy", Monitor::TrainAccuracy),
];

/// Those that decoded texts give.
pub(super) const SCORES: [(&str, Monitor); 4] = [
    ("exact_match", Monitor::ExactMatch),
    ("token_error_rate", Monitor::TokenErrorRate),
    ("chrf", Monitor::Chrf),
    ("bleu", Monitor::Bleu),
];

impl Monitor {
    /// Its name in `metrics.jsonl` and in configs.
    pub fn name(self) -> &'static str {
        MONITORS.iter().find(|(_, monitor)| *monitor == self).map_or("", |(name, _)| name)
    }

    /// Every name that a config may use.
    pub fn names() -> Vec<&'static str> {
        MONITORS.iter().map(|(name, _)| *name).collect()
    }

    /// Whether more of it is better.
    pub fn higher_is_better(self) -> bool {
        matches!(
            self,
            Self::ValidationAccuracy | Self::TrainAccuracy | Self::ExactMatch | Self::Chrf | Self::Bleu
        )
    }

    /// Whether validation sources must be decoded for it.
    pub fn is_decoded(self) -> bool {
        SCORES.iter().any(|(_, score)| *score == self)
    }
}

/// The name of a monitor.
pub(super) fn monitor(field: &Field<'_>) -> Result<Monitor> {
    field.choice(&MONITORS)
}

/// How the learning rate moves within a training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub shape: Shape,
    /// The rate rises in equal steps up to `learning_rate`.
    pub warmup: Option<Span>,
    /// How long it falls after the warm-up; `None` for the rest of the training.
    pub decay: Option<Span>,
    /// The lowest rate that it falls to.
    pub floor: f64,
}

/// A curve of learning rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The learning rate stays what it is after the warm-up.
    #[default]
    Constant,
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
}

/// A part of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// So many optimiser steps.
    Steps(usize),
    /// Epochs, whole or not.
    Epochs(f64),
}

impl Schedule {
    /// Whether the rate of a step depends on how many epochs the training has.
    pub fn ends_with_the_training(&self) -> bool {
        self.shape != Shape::Constant && self.decay.is_none()
    }
}

/// What counts as better, and for how long a training may go without it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// The figure whose best value so far is compared.
    pub monitor: Monitor,
    /// Whether more of it is better.
    pub higher: bool,
    /// Smaller changes are none.
    pub min_delta: f64,
    /// Epochs without a better one.
    pub patience: usize,
}

/// Multiplies the learning rate by a factor once epochs are no better: `reduce_lr_on_plateau`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReduceOnPlateau {
    /// When epochs count as no better.
    pub watch: Watch,
    /// The learning rate is multiplied by this.
    pub factor: f64,
    /// Epochs after a reduction that are not watched.
    pub cooldown: usize,
    /// The learning rate goes no lower.
    pub min_lr: f64,
}

/// Ends the training once epochs are no better: `early_stopping`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    /// When epochs count as no better.
    pub watch: Watch,
    /// Better epochs count only once they are better than this.
    pub baseline: Option<f64>,
    /// Whether the training ends with the weights of `checkpoints/best`.
    pub restore_best_weights: bool,
    /// The first so many epochs are not watched.
    pub start_from_epoch: usize,
}

fn at_least_zero(field: &Field<'_>) -> Result<f64> {
    field.number("a number of at least 0", |v| v >= 0.0)
}

/// `schedule`: a word, or a section.
pub(super) fn schedule(field: Option<Field<'_>>, learning_rate: f64) -> Result<Schedule> {
    const SHAPES: [(&str, Shape); 3] =
        [("constant", Shape::Constant), ("cosine", Shape::Cosine), ("linear", Shape::Linear)];
    let Some(field) = field else { return Ok(Schedule::default()) };
    if !field.is_map() {
        return Ok(Schedule { shape: field.choice(&SHAPES)?, ..Schedule::default() });
    }
    let section = field.section(&["name", "warmup", "decay", "floor"])?;
    let shape = section.get("name").map_or(Ok(Shape::Constant), |f| f.choice(&SHAPES))?;
    if shape == Shape::Constant
        && let Some(other) = section.get("decay").or_else(|| section.get("floor"))
    {
        return Err(other.error(
            "a constant learning rate does not fall",
            "add `name: cosine` or `name: linear`, or leave this key out",
        ));
    }
    let span = |key: &str| section.get(key).map(|f| span(&f)).transpose();
    let floor = section.get("floor").map_or(Ok(0.0), |f| {
        f.number(&format!("a learning rate of at least 0 and below `learning_rate` ({learning_rate})"), |v| {
            (0.0..learning_rate).contains(&v)
        })
    })?;
    Ok(Schedule { shape, warmup: span("warmup")?, decay: span("decay")?, floor })
}

fn span(field: &Field<'_>) -> Result<Span> {
    const HELP: &str = "give `{steps: 500}` or `{epochs: 2}`";
    if !matches!(field.node().value, Value::Map(_)) {
        return Err(field.error("this does not say whether it counts steps or epochs", HELP));
    }
    let section = field.section(&["steps", "epochs"])?;
    match (section.get("steps"), section.get("epochs")) {
        (Some(steps), None) => Ok(Span::Steps(steps.count(1..=u32::MAX)?)),
        (None, Some(epochs)) => Ok(Span::Epochs(epochs.number("a number above 0", |v| v > 0.0 && v <= 1e9)?)),
        _ => Err(field.error("one of `steps` and `epochs` belongs here", HELP)),
    }
}

const WATCH: [&str; 4] = ["monitor", "mode", "min_delta", "patience"];

fn watch(section: &Section<'_>, best: Monitor, min_delta: f64, patience: usize) -> Result<Watch> {
    let monitor = section.get("monitor").map_or(Ok(best), |f| monitor(&f))?;
    let higher = section
        .get("mode")
        .map_or(Ok(None), |f| f.choice(&[("auto", None), ("min", Some(false)), ("max", Some(true))]))?;
    Ok(Watch {
        monitor,
        higher: higher.unwrap_or_else(|| monitor.higher_is_better()),
        min_delta: section.get("min_delta").map_or(Ok(min_delta), |f| at_least_zero(&f))?,
        patience: section.get("patience").map_or(Ok(patience), |f| f.count(0..=u32::MAX))?,
    })
}

/// `reduce_lr_on_plateau`; it watches what decides the best checkpoint unless it says otherwise.
pub(super) fn reduce_on_plateau(
    field: &Field<'_>,
    best: Monitor,
    schedule: &Schedule,
) -> Result<ReduceOnPlateau> {
    let section = field.section(&[&WATCH[..], &["factor", "cooldown", "min_lr"]].concat())?;
    if schedule.shape != Shape::Constant {
        let message = "`training.schedule` lowers the learning rate already";
        return Err(
            field.error(message, "leave one of the two out; `schedule: {warmup: ...}` alone goes with it")
        );
    }
    Ok(ReduceOnPlateau {
        watch: watch(&section, best, 1e-4, 10)?,
        factor: section
            .get("factor")
            .map_or(Ok(0.1), |f| f.number("a number above 0 and below 1", |v| v > 0.0 && v < 1.0))?,
        cooldown: section.get("cooldown").map_or(Ok(0), |f| f.count(0..=u32::MAX))?,
        min_lr: section.get("min_lr").map_or(Ok(0.0), |f| at_least_zero(&f))?,
    })
}

/// `early_stopping`; it watches what decides the best checkpoint unless it says otherwise.
pub(super) fn early_stopping(field: &Field<'_>, best: Monitor) -> Result<EarlyStopping> {
    let section =
        field.section(&[&WATCH[..], &["baseline", "restore_best_weights", "start_from_epoch"]].concat())?;
    let watch = watch(&section, best, 0.0, 0)?;
    let restore = section.get("restore_best_weights");
    let restore_best_weights = restore.as_ref().map_or(Ok(false), Field::boolean)?;
    if let (Some(restore), true) = (restore, restore_best_weights && watch.monitor != best) {
        let (own, best) = (watch.monitor.name(), best.name());
        let message = format!("the best weights are those with the best {best}, but {own} is watched");
        return Err(restore.error(message, format!("set `training.best: {own}`, or leave `monitor` out")));
    }
    Ok(EarlyStopping {
        watch,
        baseline: section.get("baseline").map(|f| f.number("a finite number", |_| true)).transpose()?,
        restore_best_weights,
        start_from_epoch: section.get("start_from_epoch").map_or(Ok(0), |f| f.count(0..=u32::MAX))?,
    })
}
