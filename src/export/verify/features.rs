//! The verification of a bundle from features to scores.

use std::path::Path;

use s2s_runtime::contract::file::{CONFORMANCE, MANIFEST, MODEL};
use s2s_runtime::engine::EngineKind;

use super::super::feature_bundle::{FeatureBundle, best};
use super::super::tolerances::Tolerances;
use super::engines::Engines;
use super::error::Largest;
use super::options::VerifyOptions;
use super::report::{Check, Outcome, Report};
use crate::error::Result;
use crate::files::write_atomically;
use crate::network::Parameters;
use crate::network::features::{FeatureNetwork, Measure};
use s2s_kernels::random::Random;

/// Rows of each batch that is run.
const BATCHES: [usize; 4] = [1, 2, 7, 64];

/// Holds the graph in every engine against the network's own pass; if `write` is set, the report becomes the
/// bundle's `conformance.json`, also if a check failed.
///
/// # Errors
/// As [`FeatureBundle::open`]; [`ErrorKind::Engine`](crate::error::ErrorKind::Engine) if an engine is
/// required and missing, or none is there.
pub fn verify_features<N: FeatureNetwork>(
    folder: &Path,
    options: &VerifyOptions,
    write: bool,
) -> Result<Report> {
    let bundle = FeatureBundle::<N>::open(folder)?;
    let exact = bundle.parameters()?.map(f64::from);
    let engines = Engines::find(&options.require)?;
    let tolerances = options.tolerances();
    let mut report = Report {
        weights_sha256: Some(bundle.manifest.weights_sha256.clone()),
        sources_from: format!("random features, seed {}", options.seed),
        checks: vec![Check::new(MANIFEST, "hashes and weights", None, Outcome::Passed)],
        ..engines.report(&bundle.manifest.name, tolerances)
    };
    for &kind in &engines.usable {
        let checks = run(&bundle, &exact, kind, options.seed, &tolerances);
        report.push(MODEL, "run on every size", Some(kind.as_str()), checks);
    }
    engines.skip_missing(MODEL, &mut report);
    if write {
        write_atomically(&folder.join(CONFORMANCE), report.to_json()?.as_bytes())?;
    }
    Ok(report)
}

/// What was found of one output.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    error: Largest,
    /// Rows whose largest value is another one than the network's.
    differing: usize,
    /// Rows whose largest value is another one alone than in the batch.
    alone: usize,
    /// How far a row alone is from the same row in the batch.
    apart: Largest,
}

/// Runs batches of every size against the network, and each row alone against its batch.
fn run<N: FeatureNetwork>(
    bundle: &FeatureBundle<N>,
    exact: &Parameters<f64>,
    kind: EngineKind,
    seed: u64,
    tolerances: &Tolerances,
) -> Result<Vec<Check>> {
    let network = bundle.network();
    let (input, outputs) = (network.input(), network.outputs());
    let mut graph = bundle.load(kind)?;
    let mut random = Random::new(seed, 0);
    let mut found = vec![Found::default(); outputs.len()];
    for batch in BATCHES {
        let features: Vec<f32> = (0..batch).flat_map(|_| network.draw(&mut random)).collect();
        let rows: Vec<&[f32]> = features.chunks_exact(input.width).collect();
        let expected = network.forward_exact(exact, &rows);
        let together = bundle.run(&mut *graph, &features)?;
        for (((found, (port, measure)), values), expected) in
            found.iter_mut().zip(&outputs).zip(&together).zip(&expected)
        {
            match measure {
                Measure::Probabilities => found.error.absolute_exact(values, expected),
                Measure::Logits | Measure::Values => found.error.relative_exact(values, expected),
            }
            let narrowed: Vec<f32> = expected.iter().map(|&x| x as f32).collect();
            let pairs = best(values, port.width).into_iter().zip(best(&narrowed, port.width));
            found.differing += pairs.filter(|(found, expected)| found != expected).count();
        }
        for (at, row) in rows.iter().enumerate() {
            let single = bundle.run(&mut *graph, row)?;
            for (((found, (port, _)), values), single) in
                found.iter_mut().zip(&outputs).zip(&together).zip(&single)
            {
                let values = &values[at * port.width..][..port.width];
                found.alone += usize::from(best(single, port.width) != best(values, port.width));
                found.apart.relative(single, values);
            }
        }
    }
    let engine = Some(kind.as_str());
    let errors = outputs.iter().zip(&found).map(|((port, measure), found)| {
        let limit = match measure {
            Measure::Logits => tolerances.logits,
            Measure::Probabilities => tolerances.probabilities,
            Measure::Values => tolerances.states,
        };
        Check::measured(MODEL, format!("{} against the trainer", port.name), engine, found.error.0, limit)
    });
    let rows = outputs.iter().zip(&found).flat_map(|((port, measure), found)| {
        let count = |what: &str, rows: usize| Check::measured(MODEL, what, engine, rows as f64, 0.0);
        match measure {
            Measure::Logits => vec![
                count("classes that differ from the trainer's", found.differing),
                count("classes that depend on the batch", found.alone),
            ],
            Measure::Probabilities => Vec::new(),
            Measure::Values => {
                let what = format!("{}, each row alone against its batch", port.name);
                vec![Check::measured(MODEL, what, engine, found.apart.0, tolerances.states)]
            }
        }
    });
    Ok(errors.chain(rows).collect())
}
