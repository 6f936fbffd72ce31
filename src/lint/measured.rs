//! What runtimes did with small graphs, one a rule and case: `measured.json`, which `tests/runtimes/run --rules`
//! writes. Nothing is said here that was not measured.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result, guess};

static MEASURED: LazyLock<Measured> = LazyLock::new(|| {
    serde_json::from_str(include_str!("measured.json"))
        .unwrap_or_else(|error| unreachable!("measured.json is part of the program: {error}"))
});

#[derive(Deserialize)]
struct Measured {
    versions: BTreeMap<String, String>,
    cases: Vec<Case>,
    operators: Vec<Operator>,
}

#[derive(Deserialize)]
struct Case {
    rule: String,
    case: String,
    form: Form,
    outcomes: BTreeMap<String, Outcome>,
}

#[derive(Deserialize)]
struct Operator {
    operator: String,
    form: Form,
    /// Runtimes that failed on this graph and did rightly with others that have the operator.
    #[serde(default)]
    elsewhere: Vec<String>,
    outcomes: BTreeMap<String, Outcome>,
}

/// Whether the axes of a graph's inputs are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// All of them are.
    Static,
    /// One at least is free.
    Symbolic,
}

/// What a runtime did with a graph.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is")]
pub enum Outcome {
    /// Its numbers are those of a float64 computation, within the roundings of f32.
    #[serde(rename = "right")]
    Right {
        /// The largest difference, relative where values exceed 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<f64>,
    },
    /// It gives other numbers and no error.
    #[serde(rename = "wrong")]
    Wrong {
        /// The largest difference, relative where values exceed 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<f64>,
        /// What is wrong, where that is no number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        says: Option<String>,
    },
    /// It does not load or run it, or ends.
    #[serde(rename = "refused")]
    Refused {
        /// The runtime's own words.
        says: String,
    },
    /// Its numbers are right, and late.
    #[serde(rename = "slow")]
    Slow {
        /// Its time, as a multiple of what it takes for the form that the fix gives.
        ratio: f64,
    },
    /// Nobody knows.
    #[serde(rename = "not tried")]
    NotTried {
        /// Why.
        says: String,
    },
}

/// A runtime in which graphs were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Runtime(&'static str);

impl Runtime {
    /// This program's own engine, tract with operators of its own.
    pub const S2S: Self = Self("s2s");

    /// All of them, by name; of other builds of one runtime only the first.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::with_builds().filter(|runtime| runtime.base().is_none())
    }

    /// All of them, by name.
    pub fn with_builds() -> impl Iterator<Item = Self> {
        MEASURED.versions.keys().map(|name| Self(name))
    }

    /// As it is written in reports and after `--for`.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The release whose behaviour is told.
    pub fn version(self) -> &'static str {
        &MEASURED.versions[self.0]
    }

    /// The runtime that this is another build of, and does as where nothing else is said.
    fn base(self) -> Option<Self> {
        let (base, _) = self.0.split_once('-')?;
        MEASURED.versions.get_key_value(base).map(|(name, _)| Self(name))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Symbolic => "symbolic",
        })
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Runtime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || Self::with_builds().map(Self::name);
        Self::with_builds().find(|runtime| runtime.name() == text).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is no runtime in which graphs were tried"))
                .help(guess(text, "known runtimes", names()))
        })
    }
}

impl Outcome {
    /// Whether it is wrong or refused.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Wrong { .. } | Self::Refused { .. })
    }

    /// Whether it is right, at whatever speed.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right { .. } | Self::Slow { .. })
    }

    /// As reports have it: `wrong without an error`, `refused`, `slow`, `not tried`, `right`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Right { .. } => "right",
            Self::Wrong { .. } => "wrong without an error",
            Self::Refused { .. } => "refused",
            Self::Slow { .. } => "slow",
            Self::NotTried { .. } => "not tried",
        }
    }

    /// What was measured, or what the runtime says; empty where there is nothing more to say.
    pub fn detail(&self) -> String {
        match self {
            Self::Right { .. } | Self::Wrong { error: None, says: None } => String::new(),
            Self::Wrong { says: Some(says), .. } | Self::Refused { says } | Self::NotTried { says } => {
                says.clone()
            }
            Self::Wrong { error: Some(error), .. } => format!("off by {error}"),
            Self::Slow { ratio } => format!("{ratio} times the time of the fix"),
        }
    }
}

/// What a runtime did with the case of a rule; none if the case was not tried anywhere.
///
/// A case that was measured in the other form alone (lengths that are constants fix the batch) counts for both.
pub fn of_case(rule: &str, case: &str, form: Form, runtime: Runtime) -> Option<Outcome> {
    let cases = || MEASURED.cases.iter().filter(|entry| entry.rule == rule && entry.case == case);
    let entry = cases().find(|entry| entry.form == form).or_else(|| cases().next())?;
    of(&entry.outcomes, runtime)
}

/// What a runtime did with the usual graph of a standard operator; none if there is none.
pub fn of_operator(operator: &str, form: Form, runtime: Runtime) -> Option<Outcome> {
    let graphs = || MEASURED.operators.iter().filter(|entry| entry.operator == operator);
    let entry = graphs().find(|entry| entry.form == form).or_else(|| graphs().next())?;
    let outcome = of(&entry.outcomes, runtime)?;
    // What is only sometimes so is not asserted.
    if entry.elsewhere.iter().any(|name| name == runtime.name()) {
        let says = "it failed on the usual graph of this operator, and did rightly with others".to_owned();
        return Some(Outcome::NotTried { says });
    }
    Some(outcome)
}

fn of(outcomes: &BTreeMap<String, Outcome>, runtime: Runtime) -> Option<Outcome> {
    let found = outcomes.get(runtime.name());
    found.or_else(|| outcomes.get(runtime.base()?.name())).cloned()
}

/// Whether the usual graph of a standard operator was tried anywhere.
pub fn knows_operator(operator: &str) -> bool {
    MEASURED.operators.iter().any(|entry| entry.operator == operator)
}

/// Every case of a rule that was measured, with its form.
pub fn cases(rule: &str) -> impl Iterator<Item = (&'static str, Form)> {
    MEASURED.cases.iter().filter(move |entry| entry.rule == rule).map(|entry| (&entry.case[..], entry.form))
}

/// The rules that were measured.
pub fn rules() -> Vec<&'static str> {
    let mut rules: Vec<&str> = MEASURED.cases.iter().map(|entry| &entry.rule[..]).collect();
    rules.dedup();
    rules
}
