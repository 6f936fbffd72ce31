//! The engines that a verification finds, and the report that it begins with.

use s2s_runtime::engine::{self, EngineKind};

use super::super::compression::Dtype;
use super::super::tolerances::Tolerances;
use super::report::{Check, EngineEntry, Outcome, Report};
use crate::error::{Error, ErrorKind, Result};

/// The engines of this program on this machine.
pub(super) struct Engines {
    entries: Vec<EngineEntry>,
    /// Those that can run graphs here, at least one.
    pub(super) usable: Vec<EngineKind>,
}

impl Engines {
    /// Looks for every engine.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if one of `required` is not there, or there is none.
    pub(super) fn find(required: &[EngineKind]) -> Result<Self> {
        let available = engine::available();
        let entries: Vec<EngineEntry> = available
            .iter()
            .map(|engine| EngineEntry {
                name: engine.name.to_owned(),
                version: engine.version.clone(),
                available: engine.problem.is_none(),
            })
            .collect();
        let is_usable = |kind: &&EngineKind| entries.iter().any(|e| e.available && e.name == kind.as_str());
        if let Some(kind) = required.iter().find(|kind| !is_usable(kind)) {
            let problem = available
                .iter()
                .find(|engine| engine.name == kind.as_str())
                .and_then(|engine| engine.problem.as_deref())
                .unwrap_or("not compiled in");
            let message = format!("the engine {kind} is required and not available: {problem}");
            return Err(
                Error::new(ErrorKind::Engine, message).help("`s2s doctor` shows where it was looked for")
            );
        }
        let usable: Vec<EngineKind> = EngineKind::COMPILED.iter().filter(is_usable).copied().collect();
        if usable.is_empty() {
            return Err(Error::new(ErrorKind::Engine, "no engine is available")
                .help("`s2s doctor` shows what was looked for"));
        }
        Ok(Self { entries, usable })
    }

    /// Begins a report without checks.
    pub(super) fn report(&self, name: &str, tolerances: Tolerances) -> Report {
        Report {
            name: name.to_owned(),
            weights_sha256: None,
            s2s: env!("CARGO_PKG_VERSION").to_owned(),
            passed: true,
            engines: self.entries.clone(),
            sources: 0,
            sources_from: String::new(),
            dtype: Dtype::F32,
            tolerances,
            rounding: None,
            checks: Vec::new(),
        }
    }

    /// Says of each engine that is not here that nothing was checked in it.
    pub(super) fn skip_missing(&self, subject: &str, report: &mut Report) {
        for engine in self.entries.iter().filter(|engine| !engine.available) {
            let check = Check::new(subject, "all checks", Some(&engine.name), Outcome::Skipped);
            report.checks.push(check.detail("not available"));
        }
    }
}
