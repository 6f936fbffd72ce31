//! The verification of a bundle from texts to texts, from its files to its decoded texts.

use std::path::Path;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::file;
use s2s_runtime::engine::Device;
use s2s_runtime::manifest::Role;

use super::super::compression::Dtype;
use super::super::folder::write_record;
use super::super::tolerances::{Rounding, Tolerances};
use super::engines::Engines;
use super::expected::Expected;
use super::options::VerifyOptions;
use super::report::{Check, EngineEntry, NETWORK, Outcome, Report};
use super::subject::Subject;
use super::texts::texts;
use super::weights::{self, Rebuilt};
use super::{decoding, encoder_step, foreign, graphs, inputs};
use crate::error::{Error, ErrorKind, Result};

/// Verifies a bundle. That a check fails is no error of this function: see [`Report::check`].
///
/// # Errors
/// [`ErrorKind::Engine`] if a required engine is not there or there is none; [`ErrorKind::Data`] if `texts`
/// has no text.
pub fn verify(bundle: &Bundle, options: &VerifyOptions) -> Result<Report> {
    let foreign = decoding::is_foreign(bundle);
    let expected = if foreign { Expected::read(bundle)? } else { None };
    let settings = decoding::settings(bundle, 1)?;
    let (sources, sources_from) = if foreign {
        foreign::sources(bundle, options, expected.as_ref(), &settings)
    } else {
        sources(bundle, options)
    };
    if sources.is_empty() {
        return Err(Error::new(ErrorKind::Data, "there is no text to verify with")
            .help("give one source text a line"));
    }
    let engines = Engines::find(&options.require)?;
    let mut usable: Vec<Subject> = engines.usable.iter().map(|&kind| Subject::Engine(kind)).collect();
    let dtype = weights::decode(bundle).map(|models| Dtype::of(models.values())).unwrap_or_default();
    let mut tolerances = options.tolerances().for_dtype(dtype);
    if foreign && dtype != Dtype::F32 {
        // Some graphs with smaller weights round by what else is in the batch.
        tolerances.score = tolerances.score.max(tolerances.logits);
    }
    let files_are =
        if foreign && bundle.file(file::SELF_TEST).is_none() && bundle.beside(file::MANIFEST)?.is_none() {
            Check::new("folder", "sizes, special ids and wiring", None, Outcome::Passed)
        } else {
            Check::new(file::MANIFEST, "hashes, roles, vocabularies and wiring", None, Outcome::Passed)
        };
    let mut report = Report {
        weights_sha256: bundle.manifest().weights_sha256.clone(),
        sources: sources.len(),
        sources_from,
        dtype,
        checks: vec![files_are.detail(format!("{} graphs", bundle.manifest().graphs.len()))],
        ..engines.report(&bundle.manifest().name, tolerances)
    };
    if let Some(subject) = on_device(bundle, options.device) {
        let (name, version) = (subject.name().to_owned(), None);
        report.engines.push(EngineEntry { name, version, available: true });
        usable.push(subject);
    }
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
                report.push("graphs", "all checks", Some(runtime.name), Err(error));
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
            inputs::sweep(bundle.source().size(), bundle.target().size(), options.seed),
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
                let checks =
                    encoder_step::check(bundle, subject, references, batches, on, &report.tolerances);
                report.push("graphs", &format!("run {on}"), Some(subject.name()), checks);
            }
        }
    }
    if foreign {
        report.push("graphs", "every input that is fed is read", None, foreign::unread(bundle));
        for remark in bundle.remarks() {
            report
                .checks
                .push(Check::new("folder", "all of it is honoured", None, Outcome::Skipped).detail(remark));
        }
        let expected = expected.as_ref();
        report.checks.extend(expected.and_then(|expected| foreign::source_ids(bundle, expected, &settings)));
        foreign::texts(bundle, &usable, &sources, &settings, expected, options, &mut report);
    } else {
        texts(bundle, &usable, &sources, rebuilt.as_ref(), options.beams, &mut report);
    }
    engines.skip_missing("graphs", &mut report);
    Ok(report)
}

/// What is checked on a device beside the engines on the processor: it must work where it was named, and is
/// left out of `auto` where it does not.
fn on_device(bundle: &Bundle, device: Device) -> Option<Subject> {
    match device {
        Device::Cpu => None,
        Device::Cuda | Device::Simulated => Some(Subject::Device(device)),
        Device::Auto => {
            let subject = Subject::Device(Device::Cuda);
            subject.open(bundle).is_ok().then_some(subject)
        }
    }
}

/// Opens the bundle in `path` and verifies it; unless it is a zip, a folder of another program's, or
/// `write` is false, the report becomes its `conformance.json`, also if a check failed.
///
/// # Errors
/// As [`Bundle::open`] and [`verify`].
pub fn verify_path(path: &Path, options: &VerifyOptions, write: bool) -> Result<Report> {
    let bundle = Bundle::open(path)?;
    let report = verify(&bundle, options)?;
    // What is no bundle of ours stays as it is.
    if write && bundle.path().join(file::MANIFEST).is_file() {
        write_record(&bundle, report.to_json()?.as_bytes())?;
    }
    Ok(report)
}

/// Sources as ids, none empty, and where they came from.
fn sources(bundle: &Bundle, options: &VerifyOptions) -> (Vec<Vec<u32>>, String) {
    let Some(texts) = &options.texts else {
        let from = format!("random ids, seed {}", options.seed);
        return (inputs::random_sources(&**bundle.source(), options.random, options.seed), from);
    };
    let framed = texts.iter().map(|text| bundle.source().framed(text));
    (framed.filter(|ids| !ids.is_empty()).collect(), "texts".to_owned())
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
            let detail = "no training graph or no architecture: the model is held against itself only";
            report.checks.push(Check::new("bundle", WHAT, None, Outcome::Skipped).detail(detail));
            None
        }
        Err(error) => {
            report.push(&subject, WHAT, None, Err(error));
            None
        }
    }
}
