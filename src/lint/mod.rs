//! Which runtimes refuse a foreign ONNX graph, or run it wrongly without a word: `s2s lint`.
//!
//! [`rules`] has one entry a fault, [`view`] the graph with the bodies of its nodes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use s2s_runtime::checked::CheckedModel;
use s2s_runtime::{files, printable};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result, guess};

pub mod rules;
#[cfg(test)]
mod tests;
pub mod view;

use rules::{Check, RULES};
use view::View;

/// A runtime that the rules know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// ONNX Runtime, also as onnxruntime-node, onnxruntime-web and the crate ort.
    OnnxRuntime,
    /// tract.
    Tract,
    /// rten.
    Rten,
    /// candle-onnx.
    Candle,
    /// OpenVINO.
    OpenVino,
    /// MNN.
    Mnn,
    /// IREE.
    Iree,
    /// OpenCV's DNN module.
    OpenCv,
    /// The onnx package's reference evaluator.
    Reference,
    /// emx-onnx-cgen, which writes C.
    EmxOnnxCgen,
}

/// What a runtime does with what a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It gives wrong numbers and no error.
    Wrong,
    /// It does not load or run it.
    Refuses,
    /// It is much slower than it need be.
    Slow,
}

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
    /// The file.
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

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OnnxRuntime,
        Self::Tract,
        Self::Rten,
        Self::Candle,
        Self::OpenVino,
        Self::Mnn,
        Self::Iree,
        Self::OpenCv,
        Self::Reference,
        Self::EmxOnnxCgen,
    ];

    /// As it is written in reports and after `--for`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::Tract => "tract",
            Self::Rten => "rten",
            Self::Candle => "candle",
            Self::OpenVino => "openvino",
            Self::Mnn => "mnn",
            Self::Iree => "iree",
            Self::OpenCv => "opencv",
            Self::Reference => "reference",
            Self::EmxOnnxCgen => "emx-onnx-cgen",
        }
    }

    /// The release whose behaviour the rules tell.
    pub fn version(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "1.32.0",
            Self::Tract => "0.23.9",
            Self::Rten => "0.27.0",
            Self::Candle => "0.11.1",
            Self::OpenVino => "2026.4.1",
            Self::Mnn => "3.6.1",
            Self::Iree => "3.13.0",
            Self::OpenCv => "5.0.0",
            Self::Reference => "1.23.2",
            Self::EmxOnnxCgen => "1.4.0",
        }
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
        let names = || Self::ALL.into_iter().map(Self::name);
        Self::ALL.into_iter().find(|runtime| runtime.name() == text).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is no runtime that the rules know")).help(guess(
                text,
                "known runtimes",
                names(),
            ))
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "wrong without an error",
            Self::Refuses => "refused",
            Self::Slow => "slow",
        })
    }
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

    /// As JSON.
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
