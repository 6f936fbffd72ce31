//! Holds a bundle against the network that it was cut from, in every engine that is there.
//!
//! 1. Files: [`Bundle::open`] has checked hashes, roles, vocabularies and wiring. The network is rebuilt from
//!    the manifest's architecture and the training graph's initialisers; their hash must be the manifest's,
//!    the other graphs must carry the same bytes under the same names, and what else they carry must follow
//!    from the weights.
//! 2. Each graph in each engine against the rebuilt network's own pass, over ragged batches of {1, 2, 7}
//!    texts of up to {1, 5, 33} tokens; the encoder and the folded decoder steps against the training graph.
//! 3. Whole texts, greedily and if asked for with beams: one by one against batches, engine against engine,
//!    and (greedily) against the network. The graph that decodes by itself, if there is one, against the loop
//!    of the same engine.
//!
//! A bundle without a training graph, from another exporter, gets what remains of this, and the report says
//! so.

use std::path::Path;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::file;
use s2s_runtime::engine::graph::Graph;
use s2s_runtime::engine::onnx::OnnxEngine;
use s2s_runtime::engine::{self, Engine, EngineKind};
use s2s_runtime::manifest::Role;
use s2s_runtime::self_test::SelfTest;

mod decoding;
mod fused;
mod graphs;
mod inputs;
pub(super) mod report;
pub mod runtimes;
mod weights;

use report::NETWORK;
pub use report::{Check, EngineEntry, Outcome, Report, Rounding, Tolerances};

use super::Dtype;
use super::folder::write_record;
use crate::error::{Error, ErrorKind, Result};
use runtimes::{Process, Runtime};
use weights::Rebuilt;

/// How a bundle is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyOptions {
    /// Source texts to decode; `None` draws `random` sources instead.
    pub texts: Option<Vec<String>>,
    /// Random sources that are decoded where no texts are given.
    pub random: usize,
    /// Of all random numbers.
    pub seed: u64,
    /// Engines that must be there; one that is not is otherwise reported as not available.
    pub require: Vec<EngineKind>,
    /// Decode with so many beams too.
    pub beams: Option<usize>,
    /// Other runtimes to hold the graphs against; one that is not installed is reported as such.
    pub runtimes: Vec<Runtime>,
    /// The largest error of states and probabilities; by default what the network's own rounding makes of
    /// [`Tolerances::ATOL`] ([`Tolerances::for_rounding`]).
    pub atol: Option<f32>,
}

/// What runs the graphs: an engine of the runtime crate, or a process.
enum Subject {
    Engine(EngineKind),
    Process(&'static str, Process),
}

impl Subject {
    fn name(&self) -> &'static str {
        match self {
            Self::Engine(kind) => kind.as_str(),
            Self::Process(name, _) => name,
        }
    }

    /// Loads one graph: its name for errors, the ONNX bytes, inputs, outputs.
    fn load(&self, name: &str, model: &[u8], inputs: &[&str], outputs: &[&str]) -> Result<Box<dyn Graph>> {
        match self {
            Self::Engine(kind) => engine::load_graph(*kind, name, model, inputs, outputs),
            Self::Process(_, process) => process.load(name, model, inputs, outputs),
        }
    }

    /// Encoder and decoder, after the self test.
    fn open(&self, bundle: &Bundle) -> Result<Box<dyn Engine>> {
        let (name, process) = match self {
            Self::Engine(kind) => return engine::open(bundle, *kind),
            Self::Process(name, process) => (name, process),
        };
        let mut engine = OnnxEngine::new(name, bundle, |name, model, inputs, outputs| {
            process.load(name, model, inputs, outputs)
        })?;
        if let Some(json) = bundle.file(file::SELF_TEST) {
            SelfTest::from_json(json)?.run(&mut engine, &bundle.manifest().wiring)?;
        }
        Ok(Box::new(engine))
    }
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            texts: None,
            random: 128,
            seed: 0,
            require: Vec::new(),
            beams: None,
            runtimes: Vec::new(),
            atol: None,
        }
    }
}

impl VerifyOptions {
    /// What is allowed before the network's own rounding is known.
    pub(super) fn tolerances(&self) -> Tolerances {
        Tolerances::with_atol(self.atol.unwrap_or(Tolerances::ATOL))
    }
}

/// Verifies a bundle. That a check fails is no error of this function: see [`Report::check`].
///
/// # Errors
/// [`ErrorKind::Engine`] if a required engine is not there or there is none; [`ErrorKind::Data`] if `texts`
/// has no text.
pub fn verify(bundle: &Bundle, options: &VerifyOptions) -> Result<Report> {
    let available = engine::available();
    let (sources, sources_from) = sources(bundle, options)?;
    let engines: Vec<EngineEntry> = available
        .iter()
        .map(|engine| EngineEntry {
            name: engine.name.to_owned(),
            version: engine.version.clone(),
            available: engine.problem.is_none(),
        })
        .collect();
    for kind in &options.require {
        if !engines.iter().any(|engine| engine.name == kind.as_str() && engine.available) {
            let problem = available
                .iter()
                .find(|engine| engine.name == kind.as_str())
                .and_then(|engine| engine.problem.clone());
            let message = format!(
                "the engine {kind} is required and not available: {}",
                problem.as_deref().unwrap_or("not compiled in")
            );
            return Err(
                Error::new(ErrorKind::Engine, message).help("`s2s doctor` shows where it was looked for")
            );
        }
    }
    let is_usable = |kind: &&EngineKind| engines.iter().any(|e| e.available && e.name == kind.as_str());
    let mut usable: Vec<Subject> =
        EngineKind::COMPILED.iter().filter(is_usable).map(|&kind| Subject::Engine(kind)).collect();
    if usable.is_empty() {
        return Err(Error::new(ErrorKind::Engine, "no engine is available")
            .help("`s2s doctor` shows what was looked for"));
    }
    let dtype = weights::decode(bundle).map(|models| Dtype::of(models.values())).unwrap_or_default();
    let tolerances = options.tolerances().for_dtype(dtype);
    let mut report = Report {
        name: bundle.manifest().name.clone(),
        weights_sha256: bundle.manifest().weights_sha256.clone(),
        s2s: env!("CARGO_PKG_VERSION").to_owned(),
        passed: true,
        engines: engines.clone(),
        sources: sources.len(),
        sources_from,
        dtype,
        tolerances,
        rounding: None,
        checks: vec![
            Check::new(file::MANIFEST, "hashes, roles, vocabularies and wiring", None, Outcome::Passed)
                .detail(format!("{} graphs", bundle.manifest().graphs.len())),
        ],
    };
    for runtime in &options.runtimes {
        let started = runtime.start();
        let version = started.as_ref().ok().and_then(|process| process.version.clone());
        report.engines.push(EngineEntry {
            name: runtime.name.to_owned(),
            version,
            available: started.is_ok(),
        });
        match started {
            Ok(process) => usable.push(Subject::Process(runtime.name, process)),
            Err(error) if runtime.required => {
                report.push("graphs", "all checks", Some(runtime.name), Err(error))
            }
            Err(error) => {
                report.checks.push(
                    Check::new("graphs", "all checks", Some(runtime.name), Outcome::Skipped)
                        .detail(error.message()),
                );
            }
        }
    }
    let rebuilt = files(bundle, &tolerances, &mut report);
    if let Some(rebuilt) = &rebuilt {
        let mut sets = vec![(
            "on every size",
            inputs::sweep(bundle.source().len(), bundle.target().len(), options.seed),
        )];
        if options.texts.is_some() {
            sets.push(("on texts", inputs::of_texts(&sources, rebuilt, bundle.target().spec().longest)));
        }
        let references: Vec<_> =
            sets.iter().map(|(_, batches)| graphs::references(rebuilt, batches)).collect();
        let measured = references.iter().fold(Rounding::default(), |all, (_, rounding)| all.max(*rounding));
        let weights = bundle.manifest().weights_sha256.as_deref();
        let recorded = bundle
            .file(file::CONFORMANCE)
            .and_then(|json| Rounding::recorded(json, weights))
            .unwrap_or_default();
        let rounding = measured.max(recorded);
        report.rounding = Some(rounding);
        if options.atol.is_none() {
            report.tolerances = tolerances.for_rounding(rounding);
        }
        report.push(
            NETWORK,
            "the trainer's own pass",
            None,
            Ok(graphs::rounding_checks(measured, options.atol)),
        );
        for ((on, batches), (references, _)) in sets.iter().zip(&references) {
            for subject in &usable {
                let checks = graphs::check(bundle, subject, references, batches, on, &report.tolerances);
                report.push("graphs", &format!("run {on}"), Some(subject.name()), checks);
            }
        }
    }
    texts(bundle, &usable, &sources, rebuilt.as_ref(), options.beams, &mut report);
    for engine in engines.iter().filter(|engine| !engine.available) {
        report.checks.push(
            Check::new("graphs", "all checks", Some(&engine.name), Outcome::Skipped).detail("not available"),
        );
    }
    Ok(report)
}

/// Opens the bundle in `path` and verifies it; unless it is a zip or `write` is false, the report becomes its
/// `conformance.json`, also if a check failed.
///
/// # Errors
/// As [`Bundle::open`] and [`verify`].
pub fn verify_path(path: &Path, options: &VerifyOptions, write: bool) -> Result<Report> {
    let bundle = Bundle::open(path)?;
    let report = verify(&bundle, options)?;
    if write && bundle.path().is_dir() {
        write_record(&bundle, report.to_json()?.as_bytes())?;
    }
    Ok(report)
}

/// Sources as ids, none empty, and where they came from.
fn sources(bundle: &Bundle, options: &VerifyOptions) -> Result<(Vec<Vec<u32>>, String)> {
    let Some(texts) = &options.texts else {
        let from = format!("random ids, seed {}", options.seed);
        return Ok((inputs::random_sources(bundle.source(), options.random, options.seed), from));
    };
    let sources: Vec<Vec<u32>> =
        texts.iter().map(|text| bundle.source().encode(text)).filter(|ids| !ids.is_empty()).collect();
    if sources.is_empty() {
        return Err(Error::new(ErrorKind::Data, "there is no text to verify with")
            .help("give one source text a line"));
    }
    Ok((sources, "texts".to_owned()))
}

/// Checks of the files alone; gives the network if the bundle has one.
fn files(bundle: &Bundle, tolerances: &Tolerances, report: &mut Report) -> Option<Rebuilt> {
    const WHAT: &str = "the network is rebuilt from it";
    let subject = bundle.graph_name(Role::Training).to_owned();
    let rebuilt = weights::decode(bundle).and_then(|models| Ok((weights::rebuild(bundle, &models)?, models)));
    match rebuilt {
        Ok((Some(rebuilt), models)) => {
            let checks = weights::check(bundle, &models, &rebuilt, tolerances);
            report.push("weights", "of all graphs", None, checks);
            Some(rebuilt)
        }
        Ok((None, _)) => {
            let detail = "no training graph or no architecture: engines are held against each other only";
            report.checks.push(Check::new("bundle", WHAT, None, Outcome::Skipped).detail(detail));
            None
        }
        Err(error) => {
            report.push(&subject, WHAT, None, Err(error));
            None
        }
    }
}

/// Checks of whole texts.
fn texts(
    bundle: &Bundle,
    engines: &[Subject],
    sources: &[Vec<u32>],
    rebuilt: Option<&Rebuilt>,
    beams: Option<usize>,
    report: &mut Report,
) {
    let tolerances = &report.tolerances.clone();
    let longest = match bundle.target().spec().longest {
        0 => 64,
        longest => longest + 1,
    };
    let mut first: Option<(&str, Vec<decoding::Output>)> = None;
    let mut first_beams: Option<(&str, Vec<decoding::Scored>)> = None;
    for subject in engines {
        let name = subject.name();
        let result = subject.open(bundle).and_then(|mut engine| {
            let batched = decoding::greedy(&mut *engine, sources, decoding::BATCH, longest)?;
            let single = decoding::greedy(&mut *engine, sources, 1, longest)?;
            Ok((single, batched))
        });
        let mut fused = None;
        let result = result.map(|(single, batched)| {
            let mut checks = vec![];
            if bundle.file(file::SELF_TEST).is_some() {
                checks.push(Check::new(file::SELF_TEST, "vectors", Some(name), Outcome::Passed));
            }
            let what = format!("greedy tokens, batch {} against batch 1", decoding::BATCH);
            checks.push(decoding::compare(
                &what,
                Some(name),
                sources,
                [&batched, &single],
                rebuilt,
                tolerances,
            ));
            if let Some(rebuilt) = rebuilt {
                checks.push(decoding::against_trainer(name, sources, &batched, rebuilt, tolerances));
            }
            // The protocol of foreign runtimes knows no scalar inputs and no ids as outputs.
            if let (&Subject::Engine(kind), true) =
                (subject, bundle.manifest().graphs.contains_key(&Role::Translate))
            {
                fused = Some(fused::check(bundle, kind, sources, &batched, longest, rebuilt, tolerances));
            }
            match &first {
                None => first = Some((name, batched)),
                Some((other, outputs)) => {
                    let what = format!("greedy tokens, {name} against {other}");
                    checks.push(decoding::compare(
                        &what,
                        None,
                        sources,
                        [outputs, &batched],
                        rebuilt,
                        tolerances,
                    ));
                }
            }
            checks
        });
        report.push("decoding", "whole texts", Some(name), result);
        if let Some(checks) = fused {
            report.push(bundle.graph_name(Role::Translate), "greedy tokens", Some(name), checks);
        }
        let Some(beams) = beams else { continue };
        let result = subject.open(bundle).and_then(|mut engine| {
            let batched = decoding::beam(&mut *engine, sources, decoding::BATCH, longest, beams)?;
            let single = decoding::beam(&mut *engine, sources, 1, longest, beams)?;
            let what = format!("{beams} beams, batch {} against batch 1", decoding::BATCH);
            let mut checks = vec![decoding::compare_beams(
                &what,
                Some(name),
                bundle,
                sources,
                [&batched, &single],
                tolerances,
            )];
            match &first_beams {
                None => first_beams = Some((name, batched)),
                Some((other, outputs)) => {
                    let what = format!("{beams} beams, {name} against {other}");
                    checks.push(decoding::compare_beams(
                        &what,
                        None,
                        bundle,
                        sources,
                        [outputs, &batched],
                        tolerances,
                    ));
                }
            }
            Ok(checks)
        });
        report.push("decoding", "beams", Some(name), result);
    }
}
