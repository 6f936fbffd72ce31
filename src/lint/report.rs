//! What was found in one file, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use s2s_runtime::manifest::Role;
use s2s_runtime::printable;
use serde_json::{Map, Value, json};

use super::measured::{Form, Outcome, Runtime};
use crate::error::{Error, ErrorKind, Result};

/// What is said about one place in a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// Which of the rule's measured graphs this is like; empty if it is none of them.
    pub case: String,
    /// The node, tensor or version.
    pub place: String,
    /// What is the matter.
    pub about: &'static str,
    /// More about this place.
    pub detail: String,
    /// What must be fed for it to happen; none if it always does.
    pub when: Option<&'static str>,
    /// What every runtime that was asked for does.
    pub outcomes: Vec<(Runtime, Outcome)>,
    /// What to do.
    pub fix: String,
}

/// What is known of one runtime and one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All that is in the graph was tried and right.
    Right,
    /// The same, and something is slow.
    Slow,
    /// Something in the graph was not tried.
    NotKnown,
    /// It gives wrong numbers and no error.
    Wrong,
    /// It does not load or run it.
    Refused,
}

/// What was found in one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The file, as it was named.
    pub file: String,
    /// What it is in its bundle.
    pub role: Option<Role>,
    /// The program that wrote it.
    pub producer: String,
    /// Version of the standard operators.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Whether the axes of its inputs are fixed.
    pub form: Form,
    /// Nodes, bodies counted.
    pub nodes: usize,
    /// The runtimes that were asked for.
    pub runtimes: Vec<Runtime>,
    /// In the order of the rules; without places that every runtime runs rightly.
    pub findings: Vec<Finding>,
    /// Operators that nobody has tried, and how often they are there.
    pub not_known: BTreeMap<String, usize>,
}

impl Finding {
    /// Whether some runtime cannot run it rightly, whatever is fed; slowness is no fault.
    pub fn is_fault(&self) -> bool {
        self.when.is_none() && self.outcomes.iter().any(|(_, outcome)| outcome.is_fault())
    }

    fn outcome(&self, runtime: Runtime) -> Option<&Outcome> {
        self.outcomes.iter().find(|(of, _)| *of == runtime).map(|(_, outcome)| outcome)
    }
}

impl Verdict {
    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Slow => "slow",
            Self::NotKnown => "not known",
            Self::Wrong => "wrong without an error",
            Self::Refused => "refused",
        }
    }

    /// As programs read it, like the outcomes of single cases.
    fn word(self) -> &'static str {
        if self == Self::Wrong { "wrong" } else { self.name() }
    }

    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Right { .. } => Self::Right,
            Outcome::Slow { .. } => Self::Slow,
            Outcome::NotTried { .. } => Self::NotKnown,
            Outcome::Wrong { .. } => Self::Wrong,
            Outcome::Refused { .. } => Self::Refused,
        }
    }
}

impl Report {
    /// What a runtime does with the graph, as long as nothing is fed that a finding names as its condition.
    pub fn verdict(&self, runtime: Runtime) -> Verdict {
        let always = self.findings.iter().filter(|finding| finding.when.is_none());
        let outcomes = always.filter_map(|finding| finding.outcome(runtime)).map(Verdict::of);
        // An operator that was never tried in the engine that opened the graph is one that it has.
        let known = if self.not_known.is_empty() { Verdict::Right } else { Verdict::NotKnown };
        outcomes.max().unwrap_or(Verdict::Right).max(known)
    }

    /// An error if some runtime refuses the graph, runs it wrongly, or nobody knows.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] with the runtimes that fail; [`ErrorKind::Engine`] if none does and something was
    /// not tried.
    pub fn check(&self) -> Result<()> {
        let with = |verdicts: &[Verdict]| {
            let found = self.runtimes.iter().filter(|&&runtime| verdicts.contains(&self.verdict(runtime)));
            found.map(|runtime| runtime.name()).collect::<Vec<_>>()
        };
        let failing = with(&[Verdict::Wrong, Verdict::Refused]);
        if !failing.is_empty() {
            let places = self.findings.iter().filter(|finding| finding.is_fault()).count();
            let places = if places == 1 { "1 place".to_owned() } else { format!("{places} places") };
            let message = format!("{places} that not every runtime runs rightly: {}", failing.join(", "));
            return Err(Error::new(ErrorKind::Bundle, message).in_file(&self.file));
        }
        let unsure = with(&[Verdict::NotKnown]);
        if unsure.is_empty() {
            return Ok(());
        }
        let message = format!("not known, because not all of it was tried: {}", unsure.join(", "));
        Err(Error::new(ErrorKind::Engine, message)
            .in_file(&self.file)
            .help("run it there on texts of unequal length, and compare with the framework that made it"))
    }

    /// The report as one JSON object, for programs.
    pub fn to_json(&self) -> Value {
        let outcomes = |finding: &Finding| -> Map<String, Value> {
            finding.outcomes.iter().map(|(runtime, outcome)| (runtime.to_string(), json!(outcome))).collect()
        };
        let finding = |f: &Finding| {
            json!({
                "rule": f.rule, "case": f.case, "place": f.place, "about": f.about, "detail": f.detail,
                "when": f.when, "runtimes": outcomes(f), "fix": f.fix,
            })
        };
        let verdict = |&runtime: &Runtime| (runtime.to_string(), json!(self.verdict(runtime).word()));
        json!({
            "file": self.file,
            "role": self.role.map(Role::as_str),
            "producer": self.producer,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "form": self.form,
            "nodes": self.nodes,
            "runtimes": self.runtimes.iter().map(verdict).collect::<Map<_, _>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "not_known": self.not_known,
        })
    }
}

/// For people: each rule once, with its places; then what every runtime does.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.map_or_else(String::new, |role| format!("the {role} graph, "));
        let producer =
            if self.producer.is_empty() { String::new() } else { format!(", written by {}", self.producer) };
        write!(
            f,
            "{}: {role}{} nodes, opset {}, IR {}, {} axes{producer}",
            self.file, self.nodes, self.opset, self.ir_version, self.form
        )?;
        let same = |a: &Finding, b: &Finding| a.rule == b.rule && a.case == b.case && a.when == b.when;
        for group in self.findings.chunk_by(same) {
            let first = &group[0];
            write!(f, "\n\n  {}: {}", first.rule, first.about)?;
            if let Some(when) = first.when {
                write!(f, ", which matters when {when}")?;
            }
            for finding in group {
                let detail =
                    if finding.detail.is_empty() { String::new() } else { format!(": {}", finding.detail) };
                write!(f, "\n    at {}{}", printable::line(&finding.place), printable::line(&detail))?;
            }
            of_outcomes(f, &first.outcomes)?;
            write!(f, "\n    fix: {}", first.fix)?;
        }
        writeln!(f)?;
        for verdict in [Verdict::Right, Verdict::Slow, Verdict::Wrong, Verdict::Refused, Verdict::NotKnown] {
            let names = self.runtimes.iter().filter(|&&runtime| self.verdict(runtime) == verdict);
            let names: Vec<&str> = names.map(|runtime| runtime.name()).collect();
            if !names.is_empty() {
                write!(f, "\n  {}: {}", verdict.name(), names.join(", "))?;
            }
        }
        if !self.not_known.is_empty() {
            let operators = self.not_known.iter().map(|(operator, count)| format!("{operator} ({count})"));
            let operators: Vec<String> = operators.collect();
            write!(f, "\n  operators that were tried nowhere: {}", printable::line(&operators.join(", ")))?;
        }
        Ok(())
    }
}

/// A line for each outcome that somebody should know of.
fn of_outcomes(f: &mut fmt::Formatter<'_>, outcomes: &[(Runtime, Outcome)]) -> fmt::Result {
    for kind in ["wrong without an error", "refused", "slow"] {
        for (runtime, outcome) in outcomes.iter().filter(|(_, outcome)| outcome.name() == kind) {
            let detail = outcome.detail();
            let detail = if detail.is_empty() { detail } else { format!(" ({})", printable::line(&detail)) };
            write!(f, "\n    {kind}: {runtime}{detail}")?;
        }
    }
    let untried = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::NotTried { .. }));
    let untried: Vec<&str> = untried.map(|(runtime, _)| runtime.name()).collect();
    if untried.is_empty() { Ok(()) } else { write!(f, "\n    not tried: {}", untried.join(", ")) }
}
