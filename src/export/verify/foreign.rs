//! Whole texts of models that no trainer of ours is behind: batches against single texts, engine against
//! engine, the greedy loop against a search with one beam, the step that keeps a state against the graph that
//! reads all tokens again, and what another program makes of the same texts.

use s2s_runtime::bundle::{Bundle, Stateless};
use s2s_runtime::contract::{SpecialIds, file};
use s2s_runtime::decoding::{EarlyStopping, FinishReason, Settings, decode_each};
use s2s_runtime::engine::{Engine, IdMatrix, StepOutput};
use s2s_runtime::manifest::Role;
use s2s_runtime::translator::{SourceText, TextCoder};
use s2s_runtime::vocabulary::Encoded;
use std::sync::Arc;

use super::super::compression::Dtype;
use super::super::tolerances::Tolerances;
use super::decoding::{self, BATCH, Output, Scored, near};
use super::error::{Largest, scale};
use super::expected::{EXPECTED, Expected, Source, Way, bare};
use super::options::VerifyOptions;
use super::report::{Check, Outcome, Report, said_of};
use super::subject::Subject;
use super::whole::Whole;
use crate::error::{Error, ErrorKind, Result};
use s2s_kernels::random::Random;

/// Texts of unequal lengths that are decoded: those of `expected.json`, and random ones up to so many.
const TEXTS: usize = 32;
/// Texts whose logits are compared number by number.
const COMPARED: usize = 8;
/// Tokens of the longest random source of a model that does not say how long its own were.
const LONGEST: usize = 24;

/// Sources as ids, none empty, and where they came from.
pub(super) fn sources(
    bundle: &Bundle,
    options: &VerifyOptions,
    expected: Option<&Expected>,
    settings: &Settings,
) -> (Vec<Vec<u32>>, String) {
    let coder = TextCoder::new(bundle);
    let read = |text: &String| coder.encode(text, settings).map(|source| source.ids).unwrap_or_default();
    let (mut sources, mut from): (Vec<Vec<u32>>, Vec<String>) = match (&options.texts, expected) {
        (Some(texts), _) => {
            return (texts.iter().map(read).filter(|ids| !ids.is_empty()).collect(), "texts".to_owned());
        }
        (None, Some(expected)) => {
            let ids = |source: &Source| match source {
                Source::Text(text) => read(text),
                Source::Ids(ids) => ids.clone(),
            };
            (expected.sources.iter().map(ids).collect(), vec![EXPECTED.to_owned()])
        }
        (None, None) => (Vec::new(), Vec::new()),
    };
    sources.retain(|ids| !ids.is_empty());
    let missing = options.random.min(TEXTS).saturating_sub(sources.len());
    if missing > 0 {
        sources.extend(random(bundle, settings, missing, options.seed));
        from.push(format!("random ids, seed {}", options.seed));
    }
    (sources, from.join(", "))
}

/// Sources of random lengths and ids, special ones left out, framed as texts are.
fn random(bundle: &Bundle, settings: &Settings, count: usize, seed: u64) -> Vec<Vec<u32>> {
    let source = bundle.source();
    let SpecialIds { pad, start, end, .. } = source.special_ids();
    let mut special = vec![pad, start, end];
    special.sort_unstable();
    special.dedup();
    special.retain(|&id| (id as usize) < source.size());
    let ordinary = source.size() - special.len();
    if ordinary == 0 {
        return Vec::new();
    }
    let longest = match source.spec().longest {
        0 => LONGEST,
        longest => longest.min(64),
    };
    let mut random = Random::new(seed, 2);
    let symbol = |random: &mut Random| {
        let mut id = random.below(ordinary) as u32;
        for &special in &special {
            id += u32::from(id >= special);
        }
        id
    };
    let framed = |ids: Vec<u32>| {
        let symbols = ids.iter().map(|_| "").collect();
        let mut encoded = Encoded { ids, symbols, unknown: Vec::new() };
        source.frame(&mut encoded, settings.languages);
        encoded.ids
    };
    (0..count)
        .map(|_| {
            let length = 1 + random.below(longest);
            framed((0..length).map(|_| symbol(&mut random)).collect())
        })
        .collect()
}

/// Names inputs that the wiring feeds and that no node reads: what is fed there changes nothing.
pub(super) fn unread(bundle: &Bundle) -> Result<Vec<Check>> {
    let wiring = &bundle.manifest().wiring;
    let mut checks = Vec::new();
    for (role, inputs) in [(Role::Encoder, wiring.encoder_inputs()), (Role::Decoder, wiring.decoder_inputs())]
    {
        let name = bundle.graph_name(role);
        let of_graph = &bundle.graph_info(role)?.unread;
        let unread: Vec<&str> =
            inputs.into_iter().filter(|input| of_graph.iter().any(|name| name == input)).collect();
        let (outcome, detail) = if unread.is_empty() {
            (Outcome::Passed, String::new())
        } else {
            (
                Outcome::Skipped,
                format!("no node reads {}: what is fed there changes nothing", unread.join(", ")),
            )
        };
        checks.push(Check::new(name, "every input that is fed is read", None, outcome).detail(detail));
    }
    Ok(checks)
}

/// Decodes `sources` in every engine and adds what came of it to the report.
pub(super) fn texts(
    bundle: &Bundle,
    engines: &[Subject],
    sources: &[Vec<u32>],
    settings: &Arc<Settings>,
    expected: Option<&Expected>,
    options: &VerifyOptions,
    report: &mut Report,
) {
    const CACHED: &str = "logits of a step against all tokens at once";
    let stateless = match bundle.stateless() {
        Ok(stateless) => stateless,
        Err(error) => {
            report.push("graphs", CACHED, None, Err(error));
            None
        }
    };
    let tolerances = report.tolerances;
    let mut others = Others::default();
    let mut refused = Vec::new();
    for subject in engines {
        let name = subject.name();
        let mut engine = match subject.open(bundle) {
            Ok(engine) => engine,
            Err(error) => {
                refused.push((name, error));
                continue;
            }
        };
        others.opened = true;
        if bundle.file(file::SELF_TEST).is_some() {
            report.checks.push(Check::new(file::SELF_TEST, "vectors", Some(name), Outcome::Passed));
        }
        let dtype = report.dtype;
        let mut run = Run { bundle, name, engine: &mut *engine, sources, tolerances: &tolerances, dtype };
        let mut written = Vec::new();
        let greedy = run.greedy(settings, &mut others, &mut written);
        report.push("decoding", "whole texts", Some(name), greedy);
        if let Some(stateless) = &stateless {
            let cached = run.against_stateless(subject, stateless, &written, CACHED);
            report.push("graphs", CACHED, Some(name), cached.map(|check| vec![check]));
        }
        if let Some(beams) = options.beams {
            let checks = run.beams(beams, &mut others);
            report.push("decoding", "beams", Some(name), checks);
        }
        let Some(expected) = expected else { continue };
        for way in &expected.ways {
            let checks = run.expected(expected, way);
            report.push(EXPECTED, &way.name, Some(name), checks);
        }
    }
    for (name, error) in refused {
        // What another engine runs is no fault of the model.
        if others.opened && !options.require.iter().any(|kind| kind.as_str() == name) {
            let check = Check::new("decoding", "whole texts", Some(name), Outcome::Skipped);
            report.checks.push(check.detail(said_of(&error)));
        } else {
            report.push("decoding", "whole texts", Some(name), Err(error));
        }
    }
}

/// What the first engine wrote.
#[derive(Default)]
struct Others {
    /// Whether an engine runs the graphs.
    opened: bool,
    greedy: Option<(&'static str, Vec<Output>)>,
    beams: Option<(&'static str, Vec<Scored>)>,
}

/// One engine and what it is to decode.
struct Run<'a> {
    bundle: &'a Bundle,
    name: &'static str,
    engine: &'a mut dyn Engine,
    sources: &'a [Vec<u32>],
    tolerances: &'a Tolerances,
    /// What the graphs compute in.
    dtype: Dtype,
}

impl Run<'_> {
    /// - `written`: takes what the engine writes.
    fn greedy(
        &mut self,
        settings: &Arc<Settings>,
        others: &mut Others,
        written: &mut Vec<Output>,
    ) -> Result<Vec<Check>> {
        let batched = decoding::greedy(self.engine, self.sources, BATCH, settings)?;
        let single = decoding::greedy(self.engine, self.sources, 1, settings)?;
        let mut one_beam = Settings::clone(settings);
        (one_beam.search, one_beam.early_stopping) = (true, EarlyStopping::True);
        // The greedy loop has its rules work on logits.
        one_beam.renormalize_logits = None;
        let searched = decoding::greedy(self.engine, self.sources, BATCH, &Arc::new(one_beam))?;
        let batch = format!("greedy tokens, batch {BATCH} against batch 1");
        let mut checks = vec![
            self.compare(&batch, [&batched, &single]),
            self.compare("greedy tokens against a search with one beam", [&batched, &searched]),
        ];
        written.clone_from(&batched);
        match &others.greedy {
            None => others.greedy = Some((self.name, batched)),
            Some((other, outputs)) => {
                let what = format!("greedy tokens, {} against {other}", self.name);
                let check = self.compare(&what, [outputs, &batched]);
                checks.push(self.between_engines(Check { engine: None, ..check }));
            }
        }
        Ok(checks)
    }

    fn compare(&mut self, what: &str, outputs: [&[Output]; 2]) -> Check {
        let (engine, tolerances) = (&mut *self.engine, self.tolerances);
        let mut is_tie = |source: &[u32], prefix: &[u32], [a, b]: [u32; 2]| {
            let width = engine.target_vocabulary();
            logits_after(engine, source, prefix).is_ok_and(|logits| {
                let last = &logits[logits.len() - width..];
                near(last[a as usize], last[b as usize], tolerances)
            })
        };
        decoding::compare(what, Some(self.name), self.sources, outputs, &mut is_tie)
    }

    /// Feeds the engine with what it wrote, a token a step, and the graph that keeps no state with all of
    /// it at once: the logits must be the same.
    fn against_stateless(
        &mut self,
        subject: &Subject,
        stateless: &Stateless,
        written: &[Output],
        what: &str,
    ) -> Result<Check> {
        let mut whole = match Whole::load(subject, stateless)? {
            Ok(whole) => whole,
            Err(why) => {
                let check = Check::new(&stateless.decoder.0, what, Some(self.name), Outcome::Skipped);
                return Ok(check.detail(why));
            }
        };
        let mut largest = Largest::default();
        for (source, ids) in self.sources.iter().zip(written).take(COMPARED) {
            let fed = &ids[..ids.len().saturating_sub(1)];
            let steps = logits_after(self.engine, source, fed)?;
            let start = self.engine.special_ids().start;
            let tokens: Vec<i64> = [start].iter().chain(fed).map(|&id| i64::from(id)).collect();
            let expected = whole.logits(source, &tokens)?;
            let width = self.engine.target_vocabulary();
            if expected.len() != steps.len() {
                let message = format!("{} logits of {} are expected", expected.len(), steps.len());
                return Err(Error::new(ErrorKind::Parity, message).in_graph(&stateless.decoder.0, None));
            }
            for (step, expected) in steps.chunks_exact(width).zip(expected.chunks_exact(width)) {
                largest.relative_to_row(step, expected, scale(expected));
            }
        }
        let check =
            Check::measured(&stateless.decoder.0, what, Some(self.name), largest.0, self.tolerances.logits);
        Ok(check.detail(format!("of {} texts", self.sources.len().min(COMPARED))))
    }

    fn beams(&mut self, beams: usize, others: &mut Others) -> Result<Vec<Check>> {
        let settings = decoding::settings(self.bundle, beams)?;
        let batched = decoding::beam(self.engine, self.sources, BATCH, &settings)?;
        let single = decoding::beam(self.engine, self.sources, 1, &settings)?;
        let compare = |what: &str, engine, outputs| {
            decoding::compare_beams(what, engine, self.bundle, self.sources, outputs, self.tolerances)
        };
        let what = format!("{beams} beams, batch {BATCH} against batch 1");
        let mut checks = vec![compare(&what, Some(self.name), [&batched, &single])];
        match &others.beams {
            None => others.beams = Some((self.name, batched)),
            Some((other, outputs)) => {
                let what = format!("{beams} beams, {} against {other}", self.name);
                checks.push(self.between_engines(compare(&what, None, [outputs, &batched])));
            }
        }
        Ok(checks)
    }

    /// Engines round numbers of 16 and 8 bits at different places, so that a hypothesis may end otherwise:
    /// that is said, and is no fault of the model.
    fn between_engines(&self, check: Check) -> Check {
        if self.dtype == Dtype::F32 || check.outcome != Outcome::Failed {
            return check;
        }
        let detail =
            format!("{}; the graphs are in {}, and engines round otherwise", check.detail, self.dtype);
        Check { outcome: Outcome::Skipped, ..check }.detail(detail)
    }

    /// Decodes the sources of `expected.json` in one of its ways.
    fn expected(&mut self, expected: &Expected, way: &Way) -> Result<Vec<Check>> {
        let options = match &way.options {
            Ok(options) => options,
            Err(why) => {
                let check = Check::new(EXPECTED, &*way.name, Some(self.name), Outcome::Skipped);
                return Ok(vec![check.detail(why)]);
            }
        };
        let coder = TextCoder::new(self.bundle);
        let settings = coder.settings(options)?;
        let sources = expected.sources.iter().map(|source| match source {
            Source::Text(text) => coder.encode(text, &settings),
            Source::Ids(ids) => Ok(SourceText { ids: ids.clone(), ..SourceText::default() }),
        });
        let sources: Vec<SourceText> = sources.collect::<s2s_runtime::Result<_>>()?;
        let ids = sources.iter().map(|source| source.ids.clone()).collect();
        let found = decode_each(self.engine, ids, &settings, BATCH);
        let special = self.engine.special_ids();
        let ends = if settings.eos.is_empty() { vec![special.end] } else { settings.eos.clone() };
        let (mut of_ids, mut of_text) = (Differences::default(), Differences::default());
        for ((source, found), output) in sources.iter().zip(found).zip(&way.outputs) {
            // An empty text is not decoded.
            let found = if source.ids.is_empty() { Vec::new() } else { found? };
            let best = found.first().map(|best| (best.ids.clone(), best.finish == FinishReason::Eos));
            if let Some(expected) = &output.ids {
                let (ids, ended) = bare(expected, special.start, &ends, special.pad);
                let (own, own_ended) = best.unwrap_or_default();
                // A list of ids that has no END may have left it out.
                let same = own == ids && (own_ended == ended || !ended);
                of_ids.add(same, || format!("source ids {:?}: {own:?} instead of {ids:?}", source.ids));
            }
            if let Some(expected) = &output.text {
                let translation = coder.translation(source, found, &settings);
                let own = &translation.text;
                of_text.add(own == expected, || format!("{own:?} instead of {expected:?}"));
            }
        }
        let checks = [("ids", of_ids), ("text", of_text)].into_iter().filter_map(|(what, differences)| {
            let what = format!("{}, {what}", way.name);
            differences.check(what, Some(self.name), expected.approximate.as_deref())
        });
        Ok(checks.collect())
    }
}

/// Whether the tokeniser makes of the texts of `expected.json` the ids that stand there.
pub(super) fn source_ids(bundle: &Bundle, expected: &Expected, settings: &Settings) -> Option<Check> {
    let coder = TextCoder::new(bundle);
    let mut differences = Differences::default();
    for (source, ids) in expected.sources.iter().zip(expected.source_ids.as_ref()?) {
        let Source::Text(text) = source else { continue };
        let own = coder.encode(text, settings).map(|source| source.ids).unwrap_or_default();
        differences.add(own == *ids, || format!("{text:?}: {own:?} instead of {ids:?}"));
    }
    differences.check("source ids".to_owned(), None, None)
}

/// Outputs that are not as expected.
#[derive(Default)]
struct Differences {
    compared: usize,
    differing: usize,
    first: Option<String>,
}

impl Differences {
    fn add(&mut self, same: bool, example: impl FnOnce() -> String) {
        self.compared += 1;
        if !same {
            self.differing += 1;
            self.first.get_or_insert_with(example);
        }
    }

    /// None where nothing was compared.
    ///
    /// - `approximate`: why they may differ; then it is no failure.
    fn check(self, what: String, engine: Option<&str>, approximate: Option<&str>) -> Option<Check> {
        if self.compared == 0 {
            return None;
        }
        let mut check = Check::measured(EXPECTED, what, engine, self.differing as f64, 0.0);
        let mut detail = format!("of {} texts", self.compared);
        if let Some(first) = self.first {
            detail = format!("{detail}; the first: {first}");
            if let Some(why) = approximate {
                check.outcome = Outcome::Skipped;
                detail = format!("{detail}; {why}");
            }
        }
        Some(check.detail(detail))
    }
}

/// Logits of an engine after START and after each token of `prefix`, for one source.
fn logits_after(engine: &mut dyn Engine, source: &[u32], prefix: &[u32]) -> Result<Vec<f32>> {
    let SpecialIds { pad, start, .. } = engine.special_ids();
    engine.clear();
    let encoded = engine.encode(&IdMatrix::left_padded([source], pad))?;
    engine.join(&encoded, 0..1)?;
    let (mut output, mut all) = (StepOutput::default(), Vec::new());
    for &token in [start].iter().chain(prefix) {
        engine.step(&[i64::from(token)], &mut output)?;
        all.extend_from_slice(&output.logits);
    }
    engine.clear();
    Ok(all)
}
