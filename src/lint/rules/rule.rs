//! What a rule is, and what it finds.

use crate::lint::view::{Site, View};

/// One thing that some runtime does not do.
pub struct Rule {
    /// Its name, for reports.
    pub id: &'static str,
    /// What is the matter, without a full stop.
    pub about: &'static str,
    /// What to do about it, without a full stop.
    pub fix: &'static str,
    /// Standard operators that the rule's graphs are the usual ones of.
    pub operators: &'static [&'static str],
    /// Finds every place of a model where the rule applies.
    pub check: Check,
}

/// How a rule looks at a model.
pub enum Check {
    /// At each node.
    Node(fn(&Site<'_, '_>) -> Vec<Found>),
    /// At the whole model: places, and what is found at each.
    Model(fn(&View<'_>) -> Vec<(String, Found)>),
}

/// Where a rule applies: which of its measured cases this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The case, as the table of what was measured calls it.
    pub case: String,
    /// More to say about the place.
    pub detail: String,
    /// What must be fed for the case to bite; none if it always does.
    pub when: Option<&'static str>,
}

impl Found {
    pub(super) fn new(case: impl Into<String>) -> Self {
        Self { case: case.into(), detail: String::new(), when: None }
    }

    pub(super) fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    pub(super) fn when(self, when: &'static str) -> Self {
        Self { when: Some(when), ..self }
    }
}

/// One place at most.
pub(super) fn one(found: Option<Found>) -> Vec<Found> {
    found.into_iter().collect()
}
