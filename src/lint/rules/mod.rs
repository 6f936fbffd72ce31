//! The rules: what to look for in a graph, and what to do about it. What happens where is
//! [measured](super::measured).

use super::view::Site;

mod file;
mod operators;
mod recurrent;
mod rule;

pub use rule::{Check, Found, Rule};

/// All rules, in the order of reports.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    recurrent::RULES.iter().chain(operators::RULES).chain(file::RULES)
}

/// Whether a rule, and not the usual graph of its operator, says what runtimes do with a node.
pub(super) fn is_about(site: &Site<'_, '_>) -> bool {
    all().any(|rule| rule.operators.iter().any(|operator| site.node.is(operator)))
        || operators::is_about_quantising(site)
}
