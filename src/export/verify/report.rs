//! What a verification found: for people as a table, for machines as `conformance.json`.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::{Deserialize, Serialize};

use super::super::Dtype;
use super::super::rounding::allowed;
use crate::error::{Error, ErrorKind, Place, Result};

/// The subject of checks of the trainer's own pass.
pub(super) const NETWORK: &str = "network";

/// The result of a verification; the text of `conformance.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The bundle's name.
    pub name: String,
    /// sha256 of all weights, where the bundle says it.
    pub weights_sha256: Option<String>,
    /// The version of s2s that checked.
    pub s2s: String,
    /// Whether no check failed.
    pub passed: bool,
    /// Engines that were asked for.
    pub engines: Vec<EngineEntry>,
    /// Sources that were decoded.
    pub sources: usize,
    /// Where those came from.
    pub sources_from: String,
    /// How the graphs store their weights.
    pub dtype: Dtype,
    /// What was allowed.
    pub tolerances: Tolerances,
    /// How far the trainer's own pass in f32 is from the one in f64, from which `tolerances` were made; a
    /// later verification of the same weights allows as much, on whatever machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounding>,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// An engine in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineEntry {
    /// `tract` or `ort`.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// False if it is not on this machine: then nothing is known about it.
    pub available: bool,
}

/// The largest errors that are accepted, declared here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerances {
    /// Of a state, over max(1, |state|): h lies within -1 and 1, but c of a model that knows its texts by
    /// heart reaches tens, where one unit in the last place of f32 is 4e-6 already. The rounding of 33 steps,
    /// summed in another order and with another exp, was measured at up to 5e-6 of it; the absolute error is
    /// shown beside it.
    pub states: f32,
    /// Of a probability, over the largest |logit| of its row or 1: it is off by up to half of what the logits
    /// are off by. The absolute error, what a user of the scores sees, is shown beside it. (Measured: 1.2e-5
    /// absolute with logits of 4.)
    pub probabilities: f32,
    /// Of a logit, over the largest |logit| of its row or 1: logits have no bound, and their rounding grows
    /// with them.
    pub logits: f32,
    /// Of the loss, over max(1, loss): a mean of logarithms of probabilities.
    pub loss: f32,
    /// Of a tensor that is computed from weights when exporting, over max(1, |value|): one product in f32,
    /// which depends on the order of the sum.
    pub derived: f32,
    /// Two logits this near, over max(1, |logit|), count as equal when two computations choose different
    /// tokens.
    pub tie: f32,
    /// Two hypotheses of a beam search whose scores are this near may change places: their log p are sums
    /// over all steps.
    pub score: f32,
}

/// What rounding does to a network: the largest errors of the trainer's pass in f32 against the same pass in
/// f64, with the weights as they are and each moved to a neighbour in f32 some times, in the units of
/// [`Tolerances`]. Most networks stay below 3e-6; one that knows a few texts by heart, with weights in the
/// tens, amplifies each rounding from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rounding {
    /// Of a state, over max(1, |state|).
    pub states: f32,
    /// Of a probability, over the largest |logit| of its row or 1.
    pub probabilities: f32,
    /// Of a logit, over the largest |logit| of its row or 1.
    pub logits: f32,
    /// Of the loss, over max(1, loss).
    pub loss: f32,
}

impl Rounding {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            states: self.states.max(other.states),
            probabilities: self.probabilities.max(other.probabilities),
            logits: self.logits.max(other.logits),
            loss: self.loss.max(other.loss),
        }
    }

    /// What the record of a bundle says about these weights; nothing if it is of others, damaged, or older
    /// than the key.
    pub(in crate::export) fn recorded(json: &[u8], weights_sha256: Option<&str>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            weights_sha256: Option<String>,
            rounding: Option<Rounding>,
        }
        let record: Record = serde_json::from_slice(json).ok()?;
        record
            .rounding
            .filter(|_| weights_sha256.is_some() && record.weights_sha256.as_deref() == weights_sha256)
    }
}

impl Tolerances {
    /// Of states and probabilities, where nobody asks for another and rounding alone does not make more.
    pub const ATOL: f32 = 1e-5;
    /// An engine may be so many times as far from f64 as the trainer's own f32 is: both round the same sums,
    /// but in another order, and engines approximate exp more coarsely. (Measured: up to 4 times; three bits
    /// of 24 are allowed.)
    pub const ROUNDING_FACTOR: f32 = 8.0;
    /// However a network amplifies rounding, no more than this is allowed. A real fault is amplified as
    /// rounding is: a gate swapped, a bias left out or a weight in f16 is as far beyond the bound in such a
    /// network as in any other.
    pub const CEILING: f32 = 1e-2;

    /// These, wider where the network itself amplifies rounding: [`Self::ROUNDING_FACTOR`] times what the
    /// trainer's f32 is off by, never less than before and never more than [`Self::CEILING`].
    #[must_use]
    pub fn for_rounding(self, rounding: Rounding) -> Self {
        Self {
            states: allowed(self.states, rounding.states),
            probabilities: allowed(self.probabilities, rounding.probabilities),
            logits: allowed(self.logits, rounding.logits),
            loss: allowed(self.loss, rounding.loss),
            tie: allowed(self.tie, rounding.logits),
            score: allowed(self.score, rounding.logits),
            ..self
        }
    }

    /// The usual tolerances, with those of states and probabilities given.
    pub fn with_atol(atol: f32) -> Self {
        Self {
            states: atol,
            probabilities: atol,
            logits: 5.0 * atol,
            loss: atol,
            derived: 1e-5,
            tie: 1e-6,
            score: 1e-5,
        }
    }

    /// The same for weights that are stored in `dtype`. The network that is held against them has the rounded
    /// weights, so that only tables which are computed from weights and rounded once more differ: by half a
    /// unit in the last of 11 bits, or by half of a 127th of an output's largest value. Logits follow by sums
    /// over the state.
    #[must_use]
    pub fn for_dtype(self, dtype: Dtype) -> Self {
        let (derived, probabilities, logits) = match dtype {
            Dtype::F32 => return self,
            Dtype::F16 => (5e-4, 2e-3, 5e-3),
            Dtype::Int8 => (1e-1, 1e-1, 2e-1),
        };
        let least = |own: f32, other: f32| own.max(other);
        Self {
            derived: least(self.derived, derived),
            probabilities: least(self.probabilities, probabilities),
            logits: least(self.logits, logits),
            tie: least(self.tie, 2.0 * logits),
            ..self
        }
    }
}

impl Default for Tolerances {
    fn default() -> Self {
        Self::with_atol(Self::ATOL)
    }
}

/// One line of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was checked: a file, or `decoding`.
    pub subject: String,
    /// What about it.
    pub what: String,
    /// The engine that ran it; none for checks of the files alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How it went.
    pub outcome: Outcome,
    /// The largest error, or the number of differing texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
    /// The largest value that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// More about it: why it failed or was skipped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed,
    /// Not checked; the detail says why.
    Skipped,
}

impl Outcome {
    /// As the table says it.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAIL",
            Self::Skipped => "skip",
        }
    }
}

impl Check {
    /// A check of a number against its limit; a number that is not finite fails.
    pub(in crate::export) fn measured(
        subject: &str,
        what: impl Into<String>,
        engine: Option<&str>,
        measured: f64,
        limit: f32,
    ) -> Self {
        // The limit as it was written: 1e-5 and not the nearest f32's digits.
        let limit: f64 = limit.to_string().parse().unwrap_or(f64::from(limit));
        let outcome = if measured <= limit { Outcome::Passed } else { Outcome::Failed };
        // JSON has no infinity; such a value has failed and its detail says so.
        let detail = if measured.is_finite() { String::new() } else { "not a finite number".to_owned() };
        let measured = measured.is_finite().then_some(measured);
        Self { measured, limit: Some(limit), detail, ..Self::new(subject, what, engine, outcome) }
    }

    pub(in crate::export) fn new(
        subject: &str,
        what: impl Into<String>,
        engine: Option<&str>,
        outcome: Outcome,
    ) -> Self {
        Self {
            subject: subject.to_owned(),
            what: what.into(),
            engine: engine.map(str::to_owned),
            outcome,
            measured: None,
            limit: None,
            detail: String::new(),
        }
    }

    pub(in crate::export) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

impl Report {
    /// A check that cannot even be made has failed: one broken graph does not hide what is wrong with
    /// another.
    pub(in crate::export) fn push(
        &mut self,
        subject: &str,
        what: &str,
        engine: Option<&str>,
        result: Result<Vec<Check>>,
    ) {
        match result {
            Ok(checks) => self.checks.extend(checks),
            Err(error) => {
                // The record travels with the bundle: graphs have a place in it, files of this machine do
                // not.
                let text = match error.place() {
                    Some(Place::Graph { .. }) => error.to_string(),
                    _ => error.message().to_owned(),
                };
                self.checks.push(Check::new(subject, what, engine, Outcome::Failed).detail(text));
            }
        }
        self.passed = self.checks.iter().all(|check| check.outcome != Outcome::Failed);
    }

    /// The table for people, a line a check.
    pub fn table(&self) -> String {
        self.table_within(None)
    }

    /// The same, no line wider than `width` columns: where the table is, subject, check and detail share a
    /// column.
    pub fn table_within(&self, width: Option<usize>) -> String {
        let wide = self.rows(["", "subject", "check", "engine", "measured", "limit", ""], None, |check| {
            [check.subject.clone(), check.what.clone()]
                .into_iter()
                .chain(numbers(check))
                .chain([check.detail.clone()])
                .collect()
        });
        match width {
            Some(width) if wide.lines().any(|line| line.chars().count() > width) => {
                self.rows(["", "check", "engine", "measured", "limit"], Some(width), |check| {
                    let detail =
                        if check.detail.is_empty() { String::new() } else { format!(" ({})", check.detail) };
                    [format!("{}: {}{detail}", check.subject, check.what)]
                        .into_iter()
                        .chain(numbers(check))
                        .collect()
                })
            }
            _ => wide,
        }
    }

    fn rows<const N: usize>(
        &self,
        header: [&str; N],
        width: Option<usize>,
        cells: impl Fn(&Check) -> Vec<String>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(header);
        if let Some(width) = width {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(u16::try_from(width).unwrap_or(u16::MAX));
        }
        for check in &self.checks {
            table.add_row([check.outcome.mark().to_owned()].into_iter().chain(cells(check)));
        }
        for (at, name) in header.into_iter().enumerate() {
            if let Some(column) = table.column_mut(at).filter(|_| ["measured", "limit"].contains(&name)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    /// The result in one line: how many checks passed, failed and were skipped, and in which engines.
    pub fn verdict(&self) -> String {
        let count = |outcome| self.checks.iter().filter(|check| check.outcome == outcome).count();
        let [passed, failed, skipped] = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(count);
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        let names = |available: bool| -> String {
            let names = self
                .engines
                .iter()
                .filter(|engine| engine.available == available)
                .map(|engine| engine.name.as_str());
            names.collect::<Vec<_>>().join(" and ")
        };
        let ran = match names(true) {
            none if none.is_empty() => String::new(),
            ran => format!(", in {ran}"),
        };
        let missing = match names(false) {
            none if none.is_empty() => String::new(),
            missing => format!(" ({missing} not available here)"),
        };
        let checks = |n: usize| if n == 1 { "1 check".to_owned() } else { format!("{n} checks") };
        match failed {
            0 => format!("PASSED: {}{skipped}{ran}{missing}", checks(passed)),
            failed => format!("FAILED: {} of {}{skipped}{ran}{missing}", checks(failed), self.checks.len()),
        }
    }

    /// The text of `conformance.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`]; every number in a report can be written.
    pub fn to_json(&self) -> Result<String> {
        let mut json = serde_json::to_string_pretty(self)
            .map_err(|e| Error::new(ErrorKind::Internal, "the report cannot be written").caused_by(e))?;
        json.push('\n');
        Ok(json)
    }

    /// An error that names the failed checks, if any failed.
    ///
    /// # Errors
    /// [`ErrorKind::Parity`].
    pub fn check(&self) -> Result<()> {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|check| check.outcome == Outcome::Failed)
            .map(|check| {
                let engine = check.engine.as_ref().map_or_else(String::new, |engine| format!(" in {engine}"));
                let value = check.measured.map_or_else(String::new, |value| format!(": {}", short(value)));
                let detail =
                    if check.detail.is_empty() { String::new() } else { format!(" ({})", check.detail) };
                format!("{}: {}{engine}{value}{detail}", check.subject, check.what)
            })
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let checks =
            if failed.len() == 1 { "1 check".to_owned() } else { format!("{} checks", failed.len()) };
        let message = format!("{checks} of {} failed: {}", self.checks.len(), failed.join("; "));
        Err(Error::new(ErrorKind::Parity, message).help(self.advice()))
    }

    /// What to do about the checks that failed.
    fn advice(&self) -> String {
        let failed = || self.checks.iter().filter(|check| check.outcome == Outcome::Failed);
        // A number that is a little off, of states, scores or loss: neither another text nor another file.
        let is_rounding = |check: &Check| {
            let near = check.measured.is_some_and(|measured| measured <= f64::from(Tolerances::CEILING));
            near && check.limit.is_some_and(|limit| limit > 0.0)
                && (check.engine.is_some() || check.subject == NETWORK)
        };
        if !failed().all(is_rounding) {
            return "this is more than rounding: the bundle was changed (export the run again), or the engine that is named computes \
                    something else (`--runtimes all` shows which others agree)"
                .to_owned();
        }
        let largest = failed().filter_map(|check| check.measured).fold(0.0, f64::max);
        // Rounded up to one digit.
        let digit = 10f64.powf(largest.log10().floor());
        let enough = format!("--atol {:.0e}", (largest / digit).ceil() * digit);
        if failed().any(|check| check.subject == NETWORK) {
            return format!(
                "these weights amplify rounding, in training as here: train with a lower learning_rate, with clip_norm or for fewer \
                 epochs; every decoded text agrees, and {enough} lets the bundle through as it is"
            );
        }
        format!(
            "every decoded text agrees; {enough} allows such an error, --texts FILE decodes texts of your own instead of random ones"
        )
    }
}

/// Engine, measured value and limit.
fn numbers(check: &Check) -> [String; 3] {
    let number = |value: Option<f64>| value.map_or_else(String::new, short);
    [check.engine.clone().unwrap_or_default(), number(check.measured), number(check.limit)]
}

fn short(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e9 { format!("{value}") } else { format!("{value:.1e}") }
}
