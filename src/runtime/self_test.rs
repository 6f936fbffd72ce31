//! Self-test vectors: a few sources with the states, scores and ids that they must give in every engine.
//!
//! Engines fail silently now and then (a node computed otherwise than ONNX says); a bundle that carries its
//! own vectors finds out when it is opened. All cases go through as one ragged batch, because a batch of one
//! hides padding faults; but for engines that take sources of one length alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::SpecialIds;
use crate::engine::{Engine, IdMatrix, Lengths, StateTensor, StepOutput};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Wiring;

/// The file `self_test.json` of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Greatest error: |found - expected| / (1 + |expected|).
    pub tolerance: f32,
    /// Sources and what becomes of them.
    pub cases: Vec<Case>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Ids, neither START nor END, no padding.
    pub source_ids: Vec<u32>,
    /// The encoder's recurrent states by output name, f32 (hidden) each.
    pub states: BTreeMap<String, Vec<f32>>,
    /// The highest scores of the first step, highest first: id and value.
    pub first_logits: Vec<(u32, f32)>,
    /// What greedy decoding gives: START left out; ends with END where that was reached.
    pub output_ids: Vec<u32>,
}

/// Cases of a self test; `s2s export` writes four.
const MOST_CASES: usize = 64;
/// Ids of a source or an output; `s2s export` writes 24 at most.
const LONGEST_CASE: usize = 1024;
/// Cases times the ids of the longest source: what an engine encodes at once, some kilobytes for each in a
/// large model.
const MOST_IDS: usize = 8192;

/// Scores that are kept of a row.
const KEPT_SCORES: usize = 16;
/// Scores further below the highest are not compared: as probabilities they are next to nothing.
const COMPARED_NATS: f32 = 10.0;

impl SelfTest {
    /// A tolerance that all engines keep, float rounding in a chain of steps included.
    pub const TOLERANCE: f32 = 1e-4;

    /// Reads `self_test.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`].
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let wrong = |message: String| Error::new(ErrorKind::Bundle, message).help("export the bundle again");
        let test: Self =
            serde_json::from_slice(json).map_err(|e| wrong(format!("the self test cannot be read: {e}")))?;
        if !(test.tolerance.is_finite() && test.tolerance > 0.0) {
            return Err(wrong(format!("the self test has the tolerance {}", test.tolerance)));
        }
        test.check_size().map_err(wrong)?;
        Ok(test)
    }

    /// What running it costs is bounded before it is run.
    fn check_size(&self) -> Result<(), String> {
        let cases = self.cases.len();
        let longest = |ids: fn(&Case) -> usize| self.cases.iter().map(ids).max().unwrap_or_default();
        let (source, output) = (longest(|case| case.source_ids.len()), longest(|case| case.output_ids.len()));
        if cases > MOST_CASES {
            return Err(format!("the self test has {cases} cases; at most {MOST_CASES} are run"));
        }
        if source.max(output) > LONGEST_CASE {
            return Err(format!(
                "the self test has a case of {} ids; at most {LONGEST_CASE} are run",
                source.max(output)
            ));
        }
        match cases * source {
            ..=MOST_IDS => Ok(()),
            ids => Err(format!(
                "the self test has {cases} cases with up to {source} ids, {ids} together; at most {MOST_IDS} \
                 are run"
            )),
        }
    }

    /// The text of `self_test.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if a value is not finite.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let finite = |case: &Case| {
            let mut values =
                case.states.values().flatten().chain(case.first_logits.iter().map(|(_, value)| value));
            values.all(|value| value.is_finite())
        };
        if !self.cases.iter().all(finite) {
            return Err(Error::new(ErrorKind::Internal, "a self-test vector is not finite"));
        }
        serde_json::to_vec(self)
            .map_err(|e| Error::new(ErrorKind::Internal, "the self test cannot be written").caused_by(e))
    }

    /// Runs `sources` through `engine` and writes down what comes out.
    ///
    /// - `sources`: ids without START and END, none empty; of several lengths.
    /// - `longest`: output ids after which decoding stops.
    ///
    /// # Errors
    /// What the engine gives.
    pub fn record(
        engine: &mut dyn Engine,
        wiring: &Wiring,
        sources: &[Vec<u32>],
        longest: usize,
    ) -> Result<Self> {
        let mut cases: Vec<Case> =
            sources.iter().map(|ids| Case { source_ids: ids.clone(), ..Case::default() }).collect();
        if cases.is_empty() {
            return Ok(Self { tolerance: Self::TOLERANCE, cases });
        }
        for batch in batches(&cases, engine.lengths()) {
            let taken = batch.iter().map(|&at| std::mem::take(&mut cases[at])).collect();
            let recorded = Self::record_batch(engine, wiring, taken, longest)?;
            batch.into_iter().zip(recorded).for_each(|(at, case)| cases[at] = case);
        }
        Ok(Self { tolerance: Self::TOLERANCE, cases })
    }

    fn record_batch(
        engine: &mut dyn Engine,
        wiring: &Wiring,
        mut cases: Vec<Case>,
        longest: usize,
    ) -> Result<Vec<Case>> {
        let ids = engine.special_ids();
        for (name, tensor) in first_states(engine, wiring, &cases.iter().collect::<Vec<_>>())? {
            for (case, row) in cases.iter_mut().zip(tensor.data.chunks_exact(tensor.row_len().max(1))) {
                case.states.insert(name.to_owned(), row.to_vec());
            }
        }
        let mut output = StepOutput::default();
        let mut tokens = vec![i64::from(ids.start); cases.len()];
        for step in 0..longest {
            engine.step(&tokens, &mut output)?;
            for ((case, scores), token) in
                cases.iter_mut().zip(output.logits.chunks_exact(engine.target_vocabulary())).zip(&mut tokens)
            {
                if step == 0 {
                    case.first_logits = highest(scores, KEPT_SCORES);
                }
                if case.output_ids.last() != Some(&ids.end) {
                    let (best, _) = best(scores, ids);
                    case.output_ids.push(best);
                    *token = i64::from(best);
                }
            }
            if cases.iter().all(|case| case.output_ids.last() == Some(&ids.end)) {
                break;
            }
        }
        engine.clear();
        Ok(cases)
    }

    /// Holds `engine` against the vectors.
    ///
    /// - `wiring`: of the same bundle; gives the states their names.
    ///
    /// # Errors
    /// [`ErrorKind::Parity`] naming the case and the first value that is off; what the engine gives.
    pub fn run(&self, engine: &mut dyn Engine, wiring: &Wiring) -> Result<()> {
        let width = engine.target_vocabulary();
        for (i, case) in self.cases.iter().enumerate() {
            let known = case
                .output_ids
                .iter()
                .chain(case.first_logits.iter().map(|(id, _)| id))
                .all(|&id| (id as usize) < width);
            if case.source_ids.is_empty() || !known {
                return Err(Error::new(
                    ErrorKind::Bundle,
                    format!("self-test case {i} is empty, or has ids outside the vocabulary"),
                ));
            }
        }
        batches(&self.cases, engine.lengths())
            .into_iter()
            .try_for_each(|batch| self.run_batch(engine, wiring, &batch))
    }

    /// - `batch`: positions of cases that go through together.
    fn run_batch(&self, engine: &mut dyn Engine, wiring: &Wiring, batch: &[usize]) -> Result<()> {
        let width = engine.target_vocabulary();
        let name = engine.name().to_owned();
        let cases: Vec<&Case> = batch.iter().map(|&at| &self.cases[at]).collect();
        let numbered = || batch.iter().copied().zip(&cases);
        let failed = |case: usize, what: String| {
            Error::new(
                ErrorKind::Parity,
                format!(
                    "the self test fails with the engine {name}: case {case}: \
                {what}"
                ),
            )
            .help(
                "this engine computes something else than the one that wrote the bundle: try another engine, \
                 or export the bundle again",
            )
        };
        let ids = engine.special_ids();
        for (name, tensor) in first_states(engine, wiring, &cases)? {
            for ((i, case), found) in numbered().zip(tensor.data.chunks_exact(tensor.row_len().max(1))) {
                let Some(expected) = case.states.get(name) else { continue };
                if expected.len() != found.len() {
                    return Err(failed(
                        i,
                        format!("{name} has {} values, {} are expected", found.len(), expected.len()),
                    ));
                }
                if let Some(at) = (0..found.len()).find(|&at| !self.agrees(found[at], expected[at])) {
                    return Err(failed(
                        i,
                        format!("{name}[{at}] is {}, {} is expected", found[at], expected[at]),
                    ));
                }
            }
        }
        let mut output = StepOutput::default();
        let longest = cases.iter().map(|case| case.output_ids.len()).max().unwrap_or_default().max(1);
        for step in 0..longest {
            // The expected ids are fed, so that a tie that falls otherwise does not make all later steps
            // differ.
            let token = |case: &&Case| {
                let fed =
                    if step == 0 { ids.start } else { *case.output_ids.get(step - 1).unwrap_or(&ids.end) };
                i64::from(fed)
            };
            let tokens: Vec<i64> = cases.iter().map(token).collect();
            engine.step(&tokens, &mut output)?;
            for ((i, case), scores) in numbered().zip(output.logits.chunks_exact(width)) {
                if step == 0 {
                    let floor = case
                        .first_logits
                        .first()
                        .map_or(f32::NEG_INFINITY, |&(_, highest)| highest - COMPARED_NATS);
                    let mut compared = case.first_logits.iter().filter(|&&(_, value)| value >= floor);
                    if let Some(&(id, expected)) =
                        compared.find(|&&(id, expected)| !self.agrees(scores[id as usize], expected))
                    {
                        return Err(failed(
                            i,
                            format!(
                                "the first score of id {id} is {}, {expected} is expected",
                                scores[id as usize]
                            ),
                        ));
                    }
                }
                let Some(&expected) = case.output_ids.get(step) else { continue };
                let (best, score) = best(scores, ids);
                let kept = scores[expected as usize];
                // Not `kept < ...`: NaN must fail.
                if !self.agrees(kept, score) {
                    return Err(failed(i, format!("output {step} is id {best}, {expected} is expected")));
                }
            }
        }
        engine.clear();
        Ok(())
    }

    fn agrees(&self, found: f32, expected: f32) -> bool {
        (found - expected).abs() <= self.tolerance * (1.0 + expected.abs())
    }
}

/// Lets the cases run, as all that runs, and gives the states that the encoder names.
fn first_states<'w>(
    engine: &mut dyn Engine,
    wiring: &'w Wiring,
    cases: &[&Case],
) -> Result<Vec<(&'w str, StateTensor)>> {
    engine.clear();
    let encoded = engine.encode(&left_padded(cases, engine.special_ids().pad))?;
    engine.join(&encoded, 0..encoded.rows)?;
    let states = wiring.states.iter().zip(engine.states()?);
    Ok(states.filter_map(|(wire, state)| Some((wire.from_encoder()?, state))).collect())
}

/// Positions of cases that go through together.
fn batches(cases: &[Case], lengths: Lengths) -> Vec<Vec<usize>> {
    let mut batches: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        let company = match lengths {
            Lengths::Any => 0,
            Lengths::OneToEncode | Lengths::One => case.source_ids.len(),
            Lengths::Alone | Lengths::Apart => at,
        };
        batches.entry(company).or_default().push(at);
    }
    batches.into_values().collect()
}

fn left_padded(cases: &[&Case], pad: u32) -> IdMatrix {
    IdMatrix::left_padded(cases.iter().map(|case| case.source_ids.as_slice()), pad)
}

/// The token that greedy decoding takes, the lower id among equals: padding and START are never generated.
fn best(scores: &[f32], ids: SpecialIds) -> (u32, f32) {
    let mut best: Option<(u32, f32)> = None;
    for (id, &score) in (0..).zip(scores).filter(|(id, _)| *id != ids.pad && *id != ids.start) {
        if best.is_none_or(|(_, highest)| score.total_cmp(&highest).is_gt()) {
            best = Some((id, score));
        }
    }
    best.unwrap_or((ids.end, f32::NEG_INFINITY))
}

/// The `count` highest scores, highest first, the lower id first among equals.
fn highest(scores: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_self_test_costs_is_bounded_before_it_is_run() {
        let case = |source: usize, output: usize| Case {
            source_ids: vec![4; source],
            output_ids: vec![4; output],
            ..Case::default()
        };
        let read = |cases: Vec<Case>| {
            let json = SelfTest { tolerance: SelfTest::TOLERANCE, cases }.to_json().unwrap_or_default();
            SelfTest::from_json(&json).map_err(|error| (error.kind(), error.to_string()))
        };
        for (cases, said) in [
            (vec![case(200_000, 1)], "a case of 200000 ids"),
            (vec![case(1, 200_000)], "a case of 200000 ids"),
            (vec![case(1, 1); 65], "65 cases"),
            // One long source makes every row as long.
            ([vec![case(1024, 1)], vec![case(1, 1); 8]].concat(), "9216 together"),
        ] {
            let (kind, message) = read(cases).err().unwrap_or((ErrorKind::Internal, String::new()));
            assert!(kind == ErrorKind::Bundle && message.contains(said), "{message}");
        }
        assert!(read(vec![case(24, 24); 4]).is_ok());
    }
}
