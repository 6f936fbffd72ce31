//! Checks of whole texts: one by one against batches, engine against engine, and against the network.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::file;
use s2s_runtime::manifest::Role;

use super::report::{Check, Outcome, Report};
use super::subject::Subject;
use super::weights::Rebuilt;
use super::{decoding, fused};

/// Decodes `sources` in every engine and adds what came of it to the report.
pub(super) fn texts(
    bundle: &Bundle,
    engines: &[Subject],
    sources: &[Vec<u32>],
    rebuilt: Option<&Rebuilt>,
    beams: Option<usize>,
    report: &mut Report,
) {
    let tolerances = &report.tolerances.clone();
    let settings = decoding::settings(bundle, 1)
        .and_then(|greedy| Ok((greedy, decoding::settings(bundle, beams.unwrap_or(1))?)));
    let (greedy, search) = match settings {
        Ok(settings) => settings,
        Err(error) => return report.push("decoding", "whole texts", None, Err(error)),
    };
    let longest = greedy.max_new_tokens;
    let mut is_tie = |source: &[u32], prefix: &[u32], tokens: [u32; 2]| {
        decoding::is_tie(rebuilt, source, prefix, tokens, tolerances)
    };
    let mut first: Option<(&str, Vec<decoding::Output>)> = None;
    let mut first_beams: Option<(&str, Vec<decoding::Scored>)> = None;
    for subject in engines {
        let name = subject.name();
        let result = subject.open(bundle).and_then(|mut engine| {
            let batched = decoding::greedy(&mut *engine, sources, decoding::BATCH, &greedy)?;
            let single = decoding::greedy(&mut *engine, sources, 1, &greedy)?;
            Ok((single, batched))
        });
        let mut fused = None;
        let result = result.map(|(single, batched)| {
            let mut checks = vec![];
            if bundle.file(file::SELF_TEST).is_some() {
                checks.push(Check::new(file::SELF_TEST, "vectors", Some(name), Outcome::Passed));
            }
            let what = format!("greedy tokens, batch {} against batch 1", decoding::BATCH);
            checks.push(decoding::compare(&what, Some(name), sources, [&batched, &single], &mut is_tie));
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
                    checks.push(decoding::compare(&what, None, sources, [outputs, &batched], &mut is_tie));
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
            let batched = decoding::beam(&mut *engine, sources, decoding::BATCH, &search)?;
            let single = decoding::beam(&mut *engine, sources, 1, &search)?;
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
