//! What the decoding loop knows of an engine.

use std::any::Any;
use std::ops::Range;

use super::best::{BestFew, Wanted};
use crate::contract::SpecialIds;
use crate::error::Result;

/// Ids of several texts, (rows, columns) row-major; sources are left-padded with the padding of
/// [`Engine::special_ids`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMatrix {
    /// Texts.
    pub rows: usize,
    /// Tokens of the longest text.
    pub columns: usize,
    /// `rows * columns` ids.
    pub data: Vec<i64>,
}

/// Sources that were encoded and whose rows may [join](Engine::join); only the engine that made it, and its
/// forks, can read it. What it holds lies where the engine keeps its state, and goes with it.
#[derive(Debug)]
pub struct Encoded {
    /// Sources.
    pub rows: usize,
    inner: Box<dyn Any + Send>,
}

/// What one decoder step gives; the buffers are reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct StepOutput {
    /// Logits, f32 (rows, target_vocabulary) row-major, of [`Engine::step`].
    pub logits: Vec<f32>,
    /// Attention weights, f32 (rows, source_time) row-major, those of a row's own tokens the last ones; empty
    /// without attention, or where it was not wanted.
    pub attention: Vec<f32>,
    /// The best few of each row, of [`Engine::step_best`].
    pub best: BestFew,
}

/// A copy of one state of all running rows, f32 row-major (rows, `row_shape`...).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateTensor {
    /// Shape of one row: `[hidden]` for a recurrent state.
    pub row_shape: Vec<usize>,
    /// `rows * row_shape.product()` values.
    pub data: Vec<f32>,
}

/// Which rows an engine can decode in one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Joins {
    /// Rows may join at any time.
    #[default]
    AnyAge,
    /// All rows have made the same number of steps, because the decoder has no way to tell which part of a
    /// state that grows, or of a prefix, belongs to a row.
    SameAge,
}

/// Which sources an engine can take side by side: what padding leaves in states and memory decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lengths {
    /// Sources of any lengths.
    #[default]
    Any,
    /// Sources that are encoded as one batch have one length; their rows then run beside any others.
    OneToEncode,
    /// Sources are encoded one at a time; their rows then run beside any others.
    Alone,
    /// Rows that run side by side have sources of one length too.
    One,
    /// Each source runs apart from all others, because its scores depend on its company: a graph that rounds
    /// by the largest value of a batch does that.
    Apart,
}

/// An encoder and a single-step decoder, ready to run, with the state of the rows that are running. One
/// engine belongs to one worker.
///
/// The state never leaves the engine: rows join it, leave it and change places, and each step renews it.
pub trait Engine: Send {
    /// `tract`, `ort`, or the name of a scripted one.
    fn name(&self) -> &str;

    /// Target symbols, special ones counted: the width of a row of logits.
    fn target_vocabulary(&self) -> usize;

    /// The ids of the special symbols, all of them below [`target_vocabulary`](Self::target_vocabulary).
    fn special_ids(&self) -> SpecialIds {
        SpecialIds::default()
    }

    /// Which rows may run side by side.
    fn joins(&self) -> Joins {
        Joins::AnyAge
    }

    /// Which sources may be encoded as one batch, and run side by side.
    fn lengths(&self) -> Lengths {
        Lengths::Any
    }

    /// A sentence for people about what was found out when the bundle was opened, if that is unusual.
    fn remark(&self) -> Option<&str> {
        None
    }

    /// Chooses the cohort that [`rows`](Self::rows), [`join`](Self::join), [`keep`](Self::keep),
    /// [`step`](Self::step) and [`states`](Self::states) act upon; cohort 0 until this is called.
    ///
    /// Rows of different cohorts never run in one step, so that each may have rows of another age where
    /// [`joins`](Self::joins) says [`Joins::SameAge`]. A cohort begins without rows; one that has lost its
    /// last row keeps no tensors. What was encoded may join any cohort. Memory grows with the largest
    /// number that was selected: callers count from 0.
    fn select(&mut self, cohort: usize);

    /// Encodes a batch of sources, which wait until they join.
    ///
    /// - `sources`: ids int64 (rows, source_time), left-padded; at least one row and one column, ids within
    ///   the vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for sources that do not fit; of the engine. The running
    /// rows stay as they are.
    fn encode(&mut self, sources: &IdMatrix) -> Result<Encoded>;

    /// Lets some of the sources run: their rows come behind those that are running.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`](crate::ErrorKind::Engine) if what was encoded does not fit what is running,
    /// which stays as it is.
    fn join(&mut self, encoded: &Encoded, rows: Range<usize>) -> Result<()>;

    /// Keeps running rows in this order, each below [`rows`](Self::rows); a row may be named several times
    /// (beams) or not at all (finished).
    fn keep(&mut self, rows: &[usize]);

    /// One decoder step of every running row: renews the state and fills `output`.
    ///
    /// - `tokens`: ids int64 (rows), the last token of each row.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for tokens that do not fit, before anything is run; of
    /// the engine, and then no row of the cohort is running any more.
    fn step(&mut self, tokens: &[i64], output: &mut StepOutput) -> Result<()>;

    /// The same step where a few scores of each row are enough: fills `output.best`, and `output.attention`
    /// if that is wanted; what is in `output.logits` is then good for nothing. On a device the scores that
    /// are not wanted stay there.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn step_best(&mut self, tokens: &[i64], wanted: &Wanted<'_>, output: &mut StepOutput) -> Result<()> {
        self.step(tokens, output)?;
        output.best.take(&mut output.logits, self.target_vocabulary(), wanted)
    }

    /// Rows that are running in the selected cohort.
    fn rows(&self) -> usize;

    /// Lets the rows of all cohorts go, and selects cohort 0.
    fn clear(&mut self);

    /// Copies what the steps renew to the host's memory, in the order of the manifest's wiring; for tests,
    /// the bundle's own among them.
    ///
    /// # Errors
    /// Of the engine.
    fn states(&mut self) -> Result<Vec<StateTensor>>;

    /// Another engine over the same weights, for another worker; no row runs in it.
    ///
    /// # Errors
    /// Of the engine.
    fn fork(&self) -> Result<Box<dyn Engine>>;
}

impl IdMatrix {
    /// Sources as one batch: each is filled up with `pad` on its left until it is as long as the longest, and
    /// at least one column wide.
    pub fn left_padded<'a>(sources: impl IntoIterator<Item = &'a [u32], IntoIter: Clone>, pad: u32) -> Self {
        let sources = sources.into_iter();
        let columns = sources.clone().map(<[u32]>::len).max().unwrap_or(0).max(1);
        let mut data = Vec::new();
        let mut rows = 0;
        for source in sources {
            data.extend(std::iter::repeat_n(i64::from(pad), columns - source.len()));
            data.extend(source.iter().map(|&id| i64::from(id)));
            rows += 1;
        }
        Self { rows, columns, data }
    }
}

impl Encoded {
    /// `rows` sources in an engine's own form.
    pub fn new(rows: usize, inner: impl Any + Send) -> Self {
        Self { rows, inner: Box::new(inner) }
    }

    /// What [`new`](Self::new) was given, if it was a `T`.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.inner.downcast_ref()
    }
}

impl StateTensor {
    /// Values of one row.
    pub fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }
}
