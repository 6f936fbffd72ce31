//! Which runtimes refuse a foreign ONNX graph, or run it wrongly without a word: `s2s lint`.
//!
//! [`rules`] has one entry a fault, [`view`] the graph with the bodies of its nodes.

use std::fmt;
use std::path::Path;

use s2s_runtime::checked::CheckedModel;
use s2s_runtime::{files, printable};
use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};

pub mod rules;
mod runtime;
pub mod view;

pub use runtime::{Effect, Runtime};

use rules::{Check, RULES};
use view::View;

/// What is said about one place in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// The node, tensor or version.
    pub place: String,
    /// What is the matter.
    pub about: &'static str,
    /// More about this place.
    pub detail: String,
    /// What happens where.
    pub effects: Vec<(Runtime, Effect)>,
    /// What to do.
    pub fix: &'static str,
}

/// What was found in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The file, as it was named.
    pub file: String,
    /// The program that wrote it.
    pub producer: String,
    /// Version of the standard operators.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Nodes, bodies counted.
    pub nodes: usize,
    /// In the order of the rules.
    pub findings: Vec<Finding>,
}

/// Reads `path` and holds it against the rules; `runtimes` limits what is said to these, empty for all.
///
/// # Errors
/// [`ErrorKind::Bundle`] for a file that is no ONNX model, or that no runtime should be given: with a cycle,
/// with weights in other files (see [`CheckedModel`]).
pub fn lint(path: &Path, runtimes: &[Runtime]) -> Result<Report> {
    let bytes = files::read(path, files::GRAPH)?;
    lint_bytes(&path.display().to_string(), &bytes, runtimes)
}

/// [`lint`] of a file in memory.
///
/// # Errors
/// As [`lint`].
pub fn lint_bytes(file: &str, bytes: &[u8], runtimes: &[Runtime]) -> Result<Report> {
    let no_model = || Error::new(ErrorKind::Bundle, "not an ONNX model, or a damaged one").in_file(file);
    let model = CheckedModel::read(file, bytes)?;
    // Other files may happen to decode: a model has nodes, and names its operators.
    if model.graph().node.is_empty() && model.graph().output.is_empty() || model.opset_import.is_empty() {
        return Err(no_model());
    }
    let view = View::new(&model);
    let mut findings = Vec::new();
    for rule in RULES {
        let effects: Vec<_> = rule
            .effects
            .iter()
            .copied()
            .filter(|(runtime, _)| runtimes.is_empty() || runtimes.contains(runtime))
            .collect();
        if effects.is_empty() {
            continue;
        }
        let places: Vec<(String, String)> = match rule.check {
            Check::Node(check) => {
                view.sites().filter_map(|site| Some((site.place(), check(&site)?))).collect()
            }
            Check::Model(check) => check(&view),
        };
        findings.extend(places.into_iter().map(|(place, detail)| Finding {
            rule: rule.id,
            place,
            about: rule.about,
            detail,
            effects: effects.clone(),
            fix: rule.fix,
        }));
    }
    Ok(Report {
        file: file.to_owned(),
        producer: model.producer_name.clone(),
        opset: view.opset(),
        ir_version: model.ir_version,
        nodes: view.sites().count(),
        findings,
    })
}

impl Finding {
    /// Whether some runtime cannot run it rightly; slowness alone is none.
    pub fn is_fault(&self) -> bool {
        self.effects.iter().any(|(_, effect)| *effect != Effect::Slow)
    }
}

impl Report {
    /// An error if some runtime refuses the graph or runs it wrongly.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`].
    pub fn check(&self) -> Result<()> {
        let faults: Vec<&Finding> = self.findings.iter().filter(|finding| finding.is_fault()).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let mut runtimes: Vec<Runtime> = faults
            .iter()
            .flat_map(|f| &f.effects)
            .filter(|(_, e)| *e != Effect::Slow)
            .map(|(r, _)| *r)
            .collect();
        runtimes.sort_unstable();
        runtimes.dedup();
        let names: Vec<&str> = runtimes.into_iter().map(Runtime::name).collect();
        let places =
            if faults.len() == 1 { "1 place".to_owned() } else { format!("{} places", faults.len()) };
        Err(Error::new(
            ErrorKind::Bundle,
            format!("{places} that not every runtime runs rightly: {}", names.join(", ")),
        )
        .in_file(&self.file))
    }

    /// The report as one JSON object, for programs.
    pub fn to_json(&self) -> Value {
        let finding = |f: &Finding| {
            let runtimes: Map<String, Value> =
                f.effects.iter().map(|(runtime, effect)| (runtime.to_string(), json!(effect))).collect();
            json!({ "rule": f.rule, "place": f.place, "about": f.about, "detail": f.detail, "runtimes": runtimes, "fix": f.fix })
        };
        json!({
            "file": self.file,
            "producer": self.producer,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "nodes": self.nodes,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

/// For people: each rule once, with its places.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let producer =
            if self.producer.is_empty() { String::new() } else { format!(", written by {}", self.producer) };
        write!(
            f,
            "{}: {} nodes, opset {}, IR {}{producer}",
            self.file, self.nodes, self.opset, self.ir_version
        )?;
        if self.findings.is_empty() {
            return write!(f, "\n  nothing to say");
        }
        for group in self.findings.chunk_by(|a, b| a.rule == b.rule) {
            let first = &group[0];
            write!(f, "\n\n  {}: {}", first.rule, first.about)?;
            for finding in group {
                let detail =
                    if finding.detail.is_empty() { String::new() } else { format!(": {}", finding.detail) };
                write!(f, "\n    at {}{}", printable::line(&finding.place), printable::line(&detail))?;
            }
            for effect in [Effect::Wrong, Effect::Refuses, Effect::Slow] {
                let names: Vec<&str> = first
                    .effects
                    .iter()
                    .filter(|(_, e)| *e == effect)
                    .map(|(runtime, _)| runtime.name())
                    .collect();
                if !names.is_empty() {
                    write!(f, "\n    {effect}: {}", names.join(", "))?;
                }
            }
            write!(f, "\n    fix: {}", first.fix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
