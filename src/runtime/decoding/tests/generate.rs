//! The loop against `generate()` of transformers, on a model that `testdata/make_generate.py` has too: its
//! logits are a function of the source and the tokens so far.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use super::*;
use crate::contract::SpecialIds;
use crate::engine::{Encoded, Engine, IdMatrix, Joins, StateTensor, StepOutput};
use crate::error::Result;

#[derive(Deserialize)]
struct File {
    vocabulary: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: Special,
    source: Vec<u32>,
    options: DecodingOptions,
    expected: Vec<Expected>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Special {
    start: u32,
    pad: u32,
    eos: u32,
}

#[derive(Deserialize)]
struct Expected {
    /// END last where it came.
    ids: Vec<u32>,
    score: Option<f32>,
}

/// The model; its rows must be of one age, so that texts come in cohorts.
struct Table {
    vocabulary: usize,
    special: Special,
    cohorts: Vec<Vec<Row>>,
    selected: usize,
}

#[derive(Clone)]
struct Row {
    source: Vec<u64>,
    ids: Vec<u64>,
}

fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x7f4a_7c15);
    z = (z ^ (z >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 29)
}

impl Table {
    fn running(&mut self) -> &mut Vec<Row> {
        &mut self.cohorts[self.selected]
    }
}

impl Engine for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn target_vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn special_ids(&self) -> SpecialIds {
        let Special { start, pad, eos } = self.special;
        SpecialIds { pad, start, end: eos, unk: 3 }
    }

    fn joins(&self) -> Joins {
        Joins::SameAge
    }

    fn select(&mut self, cohort: usize) {
        self.cohorts.resize(self.cohorts.len().max(cohort + 1), Vec::new());
        self.selected = cohort;
    }

    fn encode(&mut self, sources: &IdMatrix) -> Result<Encoded> {
        // Every source has the same length, and may have PAD in it.
        let row =
            |ids: &[i64]| Row { source: ids.iter().map(|id| id.cast_unsigned()).collect(), ids: Vec::new() };
        let rows: Vec<Row> = sources.data.chunks_exact(sources.columns).map(row).collect();
        Ok(Encoded::new(sources.rows, rows))
    }

    fn join(&mut self, encoded: &Encoded, rows: Range<usize>) -> Result<()> {
        assert!(self.running().iter().all(|row| row.ids.is_empty()));
        let fresh: &Vec<Row> = encoded.get().unwrap();
        self.running().extend_from_slice(&fresh[rows]);
        Ok(())
    }

    fn keep(&mut self, rows: &[usize]) {
        let running = self.running();
        *running = rows.iter().map(|&row| running[row].clone()).collect();
    }

    fn step(&mut self, tokens: &[i64], output: &mut StepOutput) -> Result<()> {
        let (vocabulary, eos) = (self.vocabulary, self.special.eos as usize);
        output.logits.clear();
        for (row, token) in self.running().iter_mut().zip(tokens) {
            row.ids.push(token.cast_unsigned());
            let length = row.ids.len();
            let mut hash = row.source.iter().fold(7, |hash, &id| mix(hash, id));
            hash = mix(hash, if length > 1 { row.ids[length - 2] } else { 99 });
            hash = mix(mix(hash, row.ids[length - 1]), length as u64 / 3);
            let first = output.logits.len();
            let logit = |id| (mix(hash, id as u64) >> 44) as f32 / 65536.0 - 8.0;
            output.logits.extend((0..vocabulary).map(logit));
            output.logits[first + eos] += length as f32 / 4.0;
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.cohorts[self.selected].len()
    }

    fn clear(&mut self) {
        self.cohorts = vec![Vec::new()];
        self.selected = 0;
    }

    fn states(&mut self) -> Result<Vec<StateTensor>> {
        Ok(Vec::new())
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        let Self { vocabulary, special, .. } = *self;
        Ok(Box::new(Self { vocabulary, special, cohorts: vec![Vec::new()], selected: 0 }))
    }
}

/// Decodes cases of one model, a few of them beginning before each step.
fn decode(vocabulary: usize, special: Special, cases: &[&Case]) -> Vec<Vec<Hypothesis>> {
    let mut engine = Table { vocabulary, special, cohorts: vec![Vec::new()], selected: 0 };
    let mut decoding = DecodingLoop::new(&mut engine);
    let mut requests = cases.iter().enumerate().map(|(id, case)| {
        let mut settings = Settings::for_ids(&case.options).unwrap();
        settings.never_generated = Some(Vec::new());
        Request { id: id as u64, source: case.source.clone(), settings: Arc::new(settings), stream: false }
    });
    let mut found = vec![Vec::new(); cases.len()];
    loop {
        decoding.admit(requests.by_ref().take(5));
        if decoding.is_idle() && requests.len() == 0 {
            return found;
        }
        for event in decoding.step() {
            match event {
                Event::Finished { request, hypotheses } => {
                    found[usize::try_from(request).unwrap()] = hypotheses;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn compare(json: &str) {
    let File { vocabulary, cases } = serde_json::from_str(json).unwrap();
    let mut models: Vec<Special> = cases.iter().map(|case| case.model).collect();
    models.sort_unstable();
    models.dedup();
    let mut wrong = Vec::new();
    for model in models {
        let cases: Vec<&Case> = cases.iter().filter(|case| case.model == model).collect();
        for (case, found) in cases.iter().zip(decode(vocabulary, model, &cases)) {
            let ends = case.options.eos_token_id.clone().map_or(vec![model.eos], |ends| ends.0);
            assert_eq!(found.len(), case.expected.len());
            for (found, expected) in found.iter().zip(&case.expected) {
                let (ids, finish) = match expected.ids.split_last() {
                    Some((last, before)) if ends.contains(last) => (before, FinishReason::Eos),
                    _ => (&expected.ids[..], FinishReason::Length),
                };
                let near = expected
                    .score
                    .is_none_or(|score| (found.score - score).abs() <= 2e-6 * score.abs().max(10.0));
                if found.ids != ids || found.finish != finish || !near {
                    let options = serde_json::to_string(&case.options).unwrap();
                    let (ids, score) = (&expected.ids, expected.score);
                    wrong.push(format!("{options}: {found:?} instead of {ids:?} ({score:?})"));
                }
            }
        }
    }
    let first = &wrong[..wrong.len().min(5)];
    assert!(wrong.is_empty(), "{} of {} cases: {first:#?}", wrong.len(), cases.len());
}

#[test]
fn ids_and_scores_are_those_of_generate_in_transformers() {
    compare(include_str!("../../testdata/generate.json"));
    // Many more, where `make_generate.py --out` has written them.
    if let Some(file) = std::env::var_os("S2S_GENERATE") {
        compare(&std::fs::read_to_string(file).unwrap());
    }
}
