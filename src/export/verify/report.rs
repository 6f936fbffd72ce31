//! What a verification found: for people as a table, for machines as `conformance.json`.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::super::compression::Dtype;
use super::super::tolerances::{Rounding, Tolerances};
use crate::error::{Error, ErrorKind, Place, Result};

/// The subject of checks of the trainer's own pass.
pub(super) const NETWORK: &str = "network";

/// The result of a verification; the text of `conformance.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The name in the bundle's manifest.
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
    /// The largest errors that were allowed.
    pub tolerances: Tolerances,
    /// How far the trainer's own pass in f32 is from the one in f64, from which `tolerances` were made; a
    /// later verification of the same weights allows as much, on whatever machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounding>,
    /// The checks in the order in which they were made.
    pub checks: Vec<Check>,
}

/// An engine in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineEntry {
    /// The name as flags have it, `tract` or `ort`, or that of another runtime.
    pub name: String,
    /// The version that ran, where it is known.
    pub version: Option<String>,
    /// False if it is not on this machine: then nothing is known about it.
    pub available: bool,
}

/// One line of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was checked: a file, or `decoding`.
    pub subject: String,
    /// The property of the subject that was checked.
    pub what: String,
    /// The engine that ran it; none for checks of the files alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Whether the check passed, failed or was skipped.
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

/// What a report says of an error. The record travels with the bundle: graphs have a place in it, files of
/// this machine do not.
pub(super) fn said_of(error: &Error) -> String {
    match error.place() {
        Some(Place::Graph { .. }) => error.to_string(),
        _ => error.message().to_owned(),
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
                let failed = Check::new(subject, what, engine, Outcome::Failed);
                self.checks.push(failed.detail(said_of(&error)));
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
            return "this is more than rounding: the bundle was changed (export the run again), or the \
                engine that is named computes \
                    something else (`--runtimes all` shows which others agree)"
                .to_owned();
        }
        let largest = failed().filter_map(|check| check.measured).fold(0.0, f64::max);
        // Rounded up to one digit.
        let digit = 10f64.powf(largest.log10().floor());
        let enough = format!("--atol {:.0e}", (largest / digit).ceil() * digit);
        if failed().any(|check| check.subject == NETWORK) {
            return format!(
                "these weights amplify rounding, in training as here: train with a lower learning_rate, \
                 with clip_norm or for fewer \
                 epochs; every decoded text agrees, and {enough} lets the bundle through as it is"
            );
        }
        format!(
            "every decoded text agrees; {enough} allows such an error, --texts FILE decodes texts of \
             your own instead of random ones"
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
