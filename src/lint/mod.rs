//! Which runtimes refuse a foreign ONNX graph, or run it wrongly without a word: `s2s lint`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`rules`] | what to look for, one entry a fault |
//! | [`measured`] | what every runtime did with each of them, and with the usual operators |
//! | [`view`] | the graph with the bodies of its nodes |
//! | [`report`] | what was found, for people and programs |
//! | [`folder`] | all graphs of a bundle, or of another folder |
//!
//! What this program's own engine refuses is no rule: it is asked ([`s2s_runtime::engine::takes`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use s2s_runtime::bundle;
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::engine::{EngineKind, takes};
use s2s_runtime::manifest::Role;

use crate::error::{Error, ErrorKind, Place, Result};

pub mod folder;
pub mod measured;
pub mod report;
pub mod rules;
pub mod view;

pub use folder::lint_folder;
pub use measured::{Form, Outcome, Runtime};
pub use report::{Finding, Report, Verdict};

use rules::{Check, Found, Rule};
use view::View;

/// The rule about what this program's own engine says when it opens a graph.
const ENGINE: &str = "engine";
/// The rule about operators that no other rule is about.
const OPERATOR: &str = "operator";

/// A graph that is looked at.
struct Subject<'a> {
    file: &'a str,
    role: Option<Role>,
    model: &'a CheckedModel,
    /// Files beside it that hold weights of it.
    external: &'a [String],
}

/// Reads the graph at `path`, weights beside it included, and says what `runtimes` do with it; all of them if
/// none is named.
///
/// This program's own engine opens the graph, if it is among them.
///
/// # Errors
/// [`ErrorKind::Bundle`] for a file that is no ONNX model, or that no runtime should be given: with a cycle,
/// with weights outside its folder (see [`CheckedModel`]).
pub fn lint(path: &Path, runtimes: &[Runtime]) -> Result<Report> {
    of_file(path, None, &asked(runtimes), true)
}

/// [`lint`] of a graph that is `role` in its bundle; `opens`: whether the engine is asked.
fn of_file(path: &Path, role: Option<Role>, runtimes: &[Runtime], opens: bool) -> Result<Report> {
    let file = path.display().to_string();
    let (model, external) = bundle::graph_beside_weights(path, &file)?;
    let model = Arc::new(model);
    let engine = (opens && runtimes.contains(&Runtime::S2S))
        .then(|| takes(EngineKind::Tract, &file, Arc::clone(&model)));
    look(&Subject { file: &file, role, model: &model, external: &external }, runtimes, engine)
}

/// The same for a file in memory, without asking the engine: what was measured alone.
///
/// # Errors
/// As [`lint`]; weights in other files are refused.
pub fn lint_bytes(file: &str, bytes: &[u8], runtimes: &[Runtime]) -> Result<Report> {
    let model = CheckedModel::read(file, bytes)?;
    look(&Subject { file, role: None, model: &model, external: &[] }, &asked(runtimes), None)
}

/// The runtimes that are spoken of.
fn asked(runtimes: &[Runtime]) -> Vec<Runtime> {
    if runtimes.is_empty() { Runtime::all().collect() } else { runtimes.to_vec() }
}

/// Holds a graph against the rules.
///
/// - `engine`: what this program's own engine says to it, if it was asked.
fn look(subject: &Subject<'_>, runtimes: &[Runtime], engine: Option<Result<()>>) -> Result<Report> {
    let Subject { file, model, .. } = subject;
    // Other files may happen to decode: a model has nodes, and names its operators.
    if model.graph().node.is_empty() && model.graph().output.is_empty() || model.opset_import.is_empty() {
        return Err(Error::new(ErrorKind::Bundle, "not an ONNX model, or a damaged one").in_file(file));
    }
    let view = View::new(model, subject.external);
    let form = view.form();
    let was_asked = engine.is_some();
    let mut findings = Vec::new();
    findings.extend(engine.and_then(Result::err).map(|error| of_engine(&error)));
    for rule in rules::all() {
        let places: Vec<(String, Found)> = match rule.check {
            Check::Node(check) => view
                .sites()
                .flat_map(|site| check(&site).into_iter().map(move |found| (site.place(), found)))
                .collect(),
            Check::Model(check) => check(&view),
        };
        findings.extend(places.into_iter().map(|(place, found)| of_rule(rule, place, found, form, runtimes)));
    }
    let mut not_known = BTreeMap::new();
    findings.extend(of_operators(&view, form, runtimes, &mut not_known));
    if was_asked {
        // What it refuses it has said itself.
        for finding in findings.iter_mut().filter(|finding| finding.rule != ENGINE) {
            finding.outcomes.retain(|(runtime, outcome)| {
                let is_refused = matches!(outcome, Outcome::Refused { .. } | Outcome::NotTried { .. });
                *runtime != Runtime::S2S || finding.when.is_some() || !is_refused
            });
        }
    }
    findings.retain(|finding| {
        finding.outcomes.iter().any(|(_, outcome)| !matches!(outcome, Outcome::Right { .. }))
    });
    Ok(Report {
        file: (*file).to_owned(),
        role: subject.role,
        producer: model.producer_name.clone(),
        opset: view.opset(),
        ir_version: model.ir_version,
        form,
        nodes: view.sites().count(),
        runtimes: runtimes.to_vec(),
        findings,
        not_known,
    })
}

/// What the engine says that was asked.
fn of_engine(error: &Error) -> Finding {
    let place = match error.place() {
        Some(Place::Graph { node: Some(node), .. }) => node.clone(),
        Some(Place::Graph { graph, .. }) => graph.clone(),
        _ => "the graph".to_owned(),
    };
    Finding {
        rule: ENGINE,
        case: String::new(),
        place,
        about: "this program's own engine does not open it",
        detail: String::new(),
        when: None,
        outcomes: vec![(Runtime::S2S, Outcome::Refused { says: error.message().to_owned() })],
        fix: error.help_text().unwrap_or("use the engine ort").to_owned(),
    }
}

/// What each runtime did with `subject`, or that nobody has tried it.
fn outcomes(
    runtimes: &[Runtime],
    subject: &str,
    measured: impl Fn(Runtime) -> Option<Outcome>,
) -> Vec<(Runtime, Outcome)> {
    let not_tried = || Outcome::NotTried { says: format!("nobody has tried {subject}") };
    runtimes.iter().map(|&runtime| (runtime, measured(runtime).unwrap_or_else(not_tried))).collect()
}

fn of_rule(rule: &Rule, place: String, found: Found, form: Form, runtimes: &[Runtime]) -> Finding {
    let subject = format!("{} ({}, {form})", rule.id, found.case);
    let outcomes =
        outcomes(runtimes, &subject, |runtime| measured::of_case(rule.id, &found.case, form, runtime));
    Finding {
        rule: rule.id,
        place,
        about: rule.about,
        outcomes,
        fix: rule.fix.to_owned(),
        case: found.case,
        detail: found.detail,
        when: found.when,
    }
}

/// What runtimes do with the usual graph of each operator that no rule is about, at its first place.
///
/// - `not_known`: filled with what nobody has tried, and how often it is there.
fn of_operators(
    view: &View<'_>,
    form: Form,
    runtimes: &[Runtime],
    not_known: &mut BTreeMap<String, usize>,
) -> Vec<Finding> {
    let mut places: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for site in view.sites() {
        let operator = &*site.node.op_type;
        if !site.node.is(operator) {
            *not_known.entry(format!("{}.{operator}", site.node.domain)).or_default() += 1;
        } else if !rules::is_about(&site) {
            if measured::knows_operator(operator) {
                places.entry(operator).or_insert_with(|| (site.place(), 0)).1 += 1;
            } else {
                *not_known.entry(operator.to_owned()).or_default() += 1;
            }
        }
    }
    let finding = |(operator, (place, count)): (&str, (String, usize))| {
        let outcomes = outcomes(runtimes, operator, |runtime| measured::of_operator(operator, form, runtime));
        Finding {
            rule: OPERATOR,
            case: operator.to_owned(),
            place,
            about: "an operator as it is usually written",
            detail: if count == 1 { operator.to_owned() } else { format!("{operator}, {count} times") },
            when: None,
            outcomes,
            fix: "write it with other operators, or compute it outside".to_owned(),
        }
    };
    places.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests;
