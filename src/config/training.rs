//! Section `training`: how a network is trained.

use super::callbacks::{
    EarlyStopping, Monitor, ReduceOnPlateau, SCORES, Schedule, early_stopping, monitor, reduce_on_plateau,
    schedule,
};
use super::raw::{Field, Section, Value};
use crate::error::Result;

/// How a network is trained: section `training`.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Passes over the training pairs.
    pub epochs: usize,
    /// Pairs a step; the last step of an epoch takes what remains.
    pub batch_size: usize,
    /// How batches are put together.
    pub batches: BatchOrder,
    /// Seed of initial weights, shuffling and split.
    pub seed: u64,
    /// Worker threads; `None` for one a core. The same number gives the same result, bit for bit.
    pub threads: Option<usize>,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// How the step size moves.
    pub schedule: Schedule,
    /// Lower step sizes where an epoch is no better.
    pub reduce_lr_on_plateau: Option<ReduceOnPlateau>,
    /// An end before `epochs`.
    pub early_stopping: Option<EarlyStopping>,
    /// What makes an update of a gradient.
    pub optimiser: Optimiser,
    /// The gradient's L2 norm is scaled down to this.
    pub clip_norm: Option<f64>,
    /// Probability of dropping a value from the inputs of the layers and of the output layer.
    pub dropout: f64,
    /// Probability that the loss spreads evenly over all symbols instead of the target.
    pub label_smoothing: f64,
    /// Validation sources decoded after an epoch for exact match; 0 for none.
    pub exact_match_sample: usize,
    /// After every so many epochs, and after the last.
    pub exact_match_every: usize,
    /// What decoded texts are scored by.
    pub scores: Vec<Monitor>,
    /// How BLEU cuts them into words.
    pub bleu_tokenise: Tokenisation,
    /// What decides which checkpoint is the best.
    pub best: Monitor,
    /// Whether a batch whose loss is not finite ends the training, rather than being left out.
    pub terminate_on_nan: bool,
    /// Whether `metrics.csv` is written.
    pub csv_logger: bool,
    /// Whether event files for TensorBoard are written.
    pub tensorboard: bool,
    /// Decoded examples printed at the end, of each set.
    pub examples: usize,
}

impl Training {
    /// The figures that decide something, with the keys that name them.
    pub fn monitors(&self) -> impl Iterator<Item = (&'static str, Monitor)> + use<> {
        let watches = [
            ("best", Some(self.best)),
            ("reduce_lr_on_plateau", self.reduce_lr_on_plateau.map(|p| p.watch.monitor)),
            ("early_stopping", self.early_stopping.map(|s| s.watch.monitor)),
        ];
        watches.into_iter().filter_map(|(key, monitor)| Some((key, monitor?)))
    }

    /// Keys that may change when a run is resumed: they decide when it ends and what it prints, not the
    /// weights of an epoch.
    pub(super) fn resumable(&self) -> Vec<&'static str> {
        let mut keys = vec![
            "early_stopping",
            "csv_logger",
            "tensorboard",
            "terminate_on_nan",
            "scores",
            "examples",
            "threads",
        ];
        if !self.schedule.ends_with_the_training() {
            keys.push("epochs");
        }
        keys
    }
}

/// How batches are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOrder {
    /// In a new order each epoch.
    Shuffled,
    /// Pairs of similar length together, batches in a new order each epoch.
    Bucketed,
}

/// What makes an update of a gradient, with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimiser {
    /// Adam (arXiv 1412.6980).
    Adam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

/// How BLEU cuts a text into words; the names are sacreBLEU's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokenisation {
    /// At whitespace and around punctuation, as the scorer of the WMT evaluations (mteval-v13a) does it.
    #[default]
    Western,
    /// The same, and every Chinese character is a word.
    Chinese,
    /// Every character is a word.
    Characters,
    /// At whitespace alone.
    Whitespace,
}

/// Every tokenisation by its name.
pub const TOKENISATIONS: [(&str, Tokenisation); 4] = [
    ("13a", Tokenisation::Western),
    ("zh", Tokenisation::Chinese),
    ("char", Tokenisation::Characters),
    ("none", Tokenisation::Whitespace),
];

impl Tokenisation {
    /// Its name in configs and records.
    pub fn name(self) -> &'static str {
        TOKENISATIONS.iter().find(|(_, t)| *t == self).map_or("", |(name, _)| name)
    }
}

pub(super) fn seed(section: &Section<'_>, default: u64) -> Result<u64> {
    section.get("seed").map_or(Ok(default), |f| Ok(f.integer(0..=i64::MAX)?.unsigned_abs()))
}

pub(super) fn training(field: &Field<'_>) -> Result<Training> {
    let section = field.section(&[
        "epochs",
        "batch_size",
        "batches",
        "seed",
        "threads",
        "learning_rate",
        "schedule",
        "reduce_lr_on_plateau",
        "early_stopping",
        "optimiser",
        "clip_norm",
        "dropout",
        "label_smoothing",
        "exact_match",
        "scores",
        "bleu_tokenise",
        "best",
        "terminate_on_nan",
        "csv_logger",
        "tensorboard",
        "examples",
    ])?;
    let positive = |f: &Field<'_>| {
        f.number("a finite number above 0", |v| v > 0.0 && (v as f32) > 0.0 && (v as f32).is_finite())
    };
    let rate = |key: &str| {
        let fits = |v: f64| (0.0..1.0).contains(&v);
        section.get(key).map_or(Ok(0.0), |f| f.number("a number of at least 0 and below 1", fits))
    };
    let flag = |key: &str, default| section.get(key).map_or(Ok(default), |f| f.boolean());
    let threads = match section.get("threads") {
        Some(f) if matches!(&f.node().value, Value::String(s) if s == "auto") => None,
        Some(f) if matches!(f.node().value, Value::String(_)) => {
            return Err(f.error("this is no number of threads", "give `auto` or 2"));
        }
        Some(f) => Some(f.count(1..=1_024)?),
        None => None,
    };
    let (exact_match_sample, exact_match_every) = match section.get("exact_match") {
        Some(f) => {
            let s = f.section(&["sample", "every"])?;
            let count =
                |key: &str, least, default| s.get(key).map_or(Ok(default), |f| f.count(least..=u32::MAX));
            (count("sample", 0, 500)?, count("every", 1, 1)?)
        }
        None => (500, 1),
    };
    let scores = match section.get("scores") {
        Some(f) => f.list()?.iter().map(|f| f.choice(&SCORES)).collect::<Result<_>>()?,
        None => vec![Monitor::ExactMatch, Monitor::TokenErrorRate],
    };
    let best = section.get("best").map_or(Ok(Monitor::ValidationLoss), |f| monitor(&f))?;
    let learning_rate = positive(&section.required("learning_rate", "0.001")?)?;
    let schedule = schedule(section.get("schedule"), learning_rate)?;
    let reduce_lr_on_plateau =
        section.get("reduce_lr_on_plateau").map(|f| reduce_on_plateau(&f, best, &schedule)).transpose()?;
    let early_stopping = section.get("early_stopping").map(|f| early_stopping(&f, best)).transpose()?;
    let training = Training {
        epochs: section.required("epochs", "10")?.count(1..=u32::MAX)?,
        batch_size: section.required("batch_size", "64")?.count(1..=1_000_000)?,
        batches: section.get("batches").map_or(Ok(BatchOrder::Shuffled), |f| {
            f.choice(&[("shuffled", BatchOrder::Shuffled), ("bucketed", BatchOrder::Bucketed)])
        })?,
        seed: seed(&section, 1)?,
        threads,
        learning_rate,
        schedule,
        reduce_lr_on_plateau,
        early_stopping,
        optimiser: optimiser(section.get("optimiser"))?,
        clip_norm: section.get("clip_norm").map(|f| positive(&f)).transpose()?,
        dropout: rate("dropout")?,
        label_smoothing: rate("label_smoothing")?,
        exact_match_sample,
        exact_match_every,
        scores,
        bleu_tokenise: section
            .get("bleu_tokenise")
            .map_or(Ok(Tokenisation::default()), |f| f.choice(&TOKENISATIONS))?,
        best,
        terminate_on_nan: flag("terminate_on_nan", true)?,
        csv_logger: flag("csv_logger", false)?,
        tensorboard: flag("tensorboard", false)?,
        examples: section.get("examples").map_or(Ok(10), |f| f.count(0..=10_000))?,
    };
    for (key, monitor) in training.monitors().filter(|(_, monitor)| monitor.is_decoded()) {
        if exact_match_sample == 0 || exact_match_every != 1 {
            let field = section.get(key).unwrap_or_else(|| field.clone());
            let message = format!("{} is not measured after every epoch", monitor.name());
            return Err(field.error(message, "give `exact_match: {sample: 500, every: 1}`"));
        }
        if !training.scores.contains(&monitor) {
            let field = section.get(key).unwrap_or_else(|| field.clone());
            let scores: Vec<&str> = training.scores.iter().chain([&monitor]).map(|s| s.name()).collect();
            return Err(field.error(
                format!("{} is not among the scores", monitor.name()),
                format!("give `scores: [{}]`", scores.join(", ")),
            ));
        }
    }
    Ok(training)
}

fn optimiser(field: Option<Field<'_>>) -> Result<Optimiser> {
    let adam = |section: Option<&Section<'_>>| -> Result<Optimiser> {
        let number = |key: &str, default: f64, wanted: &str, fits: fn(f64) -> bool| {
            section.and_then(|s| s.get(key)).map_or(Ok(default), |f| f.number(wanted, fits))
        };
        let decay = |v: f64| (0.0..1.0).contains(&(v as f32).into());
        Ok(Optimiser::Adam {
            beta_1: number("beta_1", 0.9, "a number of at least 0 and below 1", decay)?,
            beta_2: number("beta_2", 0.999, "a number of at least 0 and below 1", decay)?,
            epsilon: number("epsilon", 1e-8, "a finite number above 0", |v| v > 0.0)?,
        })
    };
    match field {
        None => adam(None),
        Some(f) if f.is_map() => {
            let section = f.section(&["name", "beta_1", "beta_2", "epsilon"])?;
            section.required("name", "adam")?.choice(&[("adam", ())])?;
            adam(Some(&section))
        }
        Some(f) => {
            f.choice(&[("adam", ())])?;
            adam(None)
        }
    }
}
