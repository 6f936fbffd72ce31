//! Decoding options as YAML and JSON, and the loop itself over a scripted engine.

use std::collections::BTreeMap;
use std::ops::Range;

use s2s::error::Result;
use s2s_runtime::contract::{END, PAD, START};
use s2s_runtime::decoding::{DecodingOptions, FinishReason, Hypothesis, Settings, decode_batch};
use s2s_runtime::engine::{Encoded, Engine, IdMatrix, StateTensor, StepOutput};
use s2s_runtime::vocabulary::{Tokeniser, Unit, Vocabulary};

use super::input::Input;
use super::properties::looked_at;

/// YAML; what is read, is written and read again as the same.
pub(crate) fn decoding_yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(options) = looked_at(DecodingOptions::from_yaml(text, "decoding.yaml")) {
        checked(&options);
    }
}

/// JSON as requests have it.
pub(crate) fn decoding_json(data: &[u8]) {
    if let Ok(options) = serde_json::from_slice::<DecodingOptions>(data) {
        checked(&options);
    }
}

fn checked(options: &DecodingOptions) {
    let merged = DecodingOptions::layered([options, options]);
    assert_eq!(merged, DecodingOptions::layered([options]), "options laid over themselves");
    assert_eq!(
        DecodingOptions::layered([&DecodingOptions::default(), &merged]),
        merged,
        "options laid over nothing"
    );
    let json = serde_json::to_string(options).expect("options are JSON");
    let again: DecodingOptions = serde_json::from_str(&json).expect("what was written can be read");
    // A number that is none is written as null, and equals nothing.
    if !json.contains("null") {
        assert_eq!(&again, options);
    }
    let valid = looked_at(options.check()).is_some();
    let settings = looked_at(Settings::new(options));
    assert!(settings.is_some() || !valid, "options that pass the check give settings");
    let vocabulary: std::sync::Arc<dyn Tokeniser> =
        std::sync::Arc::new(Vocabulary::build(Unit::Character, Vec::new(), ["abcd"]));
    if let Some(settings) = looked_at(Settings::with_symbols(options, &vocabulary)) {
        assert!(settings.num_return_sequences <= DecodingOptions::MOST_BEAMS && settings.most_rows() >= 1);
        assert!(settings.suppress.is_sorted() && settings.max_new_tokens <= DecodingOptions::MOST_TOKENS);
        for tokens in [0, 1, 1024, usize::MAX] {
            looked_at(settings.fit(tokens));
        }
    }
}

/// An engine whose logits are a hash of source and history: whoever else is in the batch changes nothing.
#[derive(Clone)]
pub(crate) struct Hashed {
    vocabulary: usize,
    seed: u64,
    running: Vec<f32>,
    /// The rows of cohorts that are not selected, by their numbers.
    resting: BTreeMap<usize, Vec<f32>>,
    cohort: usize,
}

impl Hashed {
    pub(crate) fn new(vocabulary: usize, seed: u64) -> Self {
        Self { vocabulary, seed, running: Vec::new(), resting: BTreeMap::new(), cohort: 0 }
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let z = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 29)
}

/// Bits of a state that survive a round trip through f32.
const EXACT: u64 = (1 << 24) - 1;

impl Engine for Hashed {
    fn name(&self) -> &str {
        "hashed"
    }

    fn target_vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn select(&mut self, cohort: usize) {
        let rows = self.resting.remove(&cohort).unwrap_or_default();
        if cohort != self.cohort {
            let resting = std::mem::replace(&mut self.running, rows);
            self.resting.insert(self.cohort, resting);
            self.cohort = cohort;
        }
    }

    fn encode(&mut self, source: &IdMatrix) -> Result<Encoded> {
        assert_eq!(source.data.len(), source.rows * source.columns);
        let hash = |row: &[i64]| {
            row.iter()
                .filter(|&&id| id != i64::from(PAD))
                .fold(self.seed, |hash, &id| mix(hash, id.cast_unsigned()))
        };
        let rows: Vec<f32> =
            source.data.chunks_exact(source.columns.max(1)).map(|row| (hash(row) & EXACT) as f32).collect();
        Ok(Encoded::new(source.rows, rows))
    }

    fn join(&mut self, encoded: &Encoded, rows: Range<usize>) -> Result<()> {
        let fresh: &Vec<f32> = encoded.get().expect("it is this engine's own");
        self.running.extend_from_slice(&fresh[rows]);
        Ok(())
    }

    fn keep(&mut self, rows: &[usize]) {
        self.running = rows.iter().map(|&row| self.running[row]).collect();
    }

    fn step(&mut self, tokens: &[i64], output: &mut StepOutput) -> Result<()> {
        assert_eq!(tokens.len(), self.running.len());
        output.logits.clear();
        output.attention.clear();
        for (row, &token) in self.running.iter_mut().zip(tokens) {
            let hash = mix(*row as u64, token.cast_unsigned() + 1);
            *row = (hash & EXACT) as f32;
            // A coarse grid: ties are where orders differ.
            output
                .logits
                .extend((0..self.vocabulary as u64).map(|id| (mix(hash, id) >> 32 & 31) as f32 * 0.25 - 4.0));
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.running.len()
    }

    fn clear(&mut self) {
        self.running.clear();
        self.resting.clear();
        self.cohort = 0;
    }

    fn states(&mut self) -> Result<Vec<StateTensor>> {
        Ok(vec![StateTensor { row_shape: vec![1], data: self.running.clone() }; 2])
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self::new(self.vocabulary, self.seed)))
    }
}

/// Options in JSON up to a NUL, then sources: what comes out keeps the options, and is the same alone and in
/// company.
pub(crate) fn decoding_loop(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(mut options) = serde_json::from_slice::<DecodingOptions>(input.until(0)) else { return };
    // Bounded, so that an input is short work.
    let most = 1 + input.below(16);
    options.max_new_tokens = Some(options.max_new_tokens.unwrap_or(most).min(24));
    options.num_beams = options.num_beams.map(|beams| beams.min(8));
    options.num_return_sequences = options.num_return_sequences.map(|count| count.min(8));
    // Whether time has passed is no property of the input.
    options.time_limit = None;
    options.output = None;
    options.return_attention = None;
    let (vocabulary, seed) = (5 + input.below(12), input.u64());
    let mut sources = Vec::new();
    while !input.is_empty() && sources.len() < 6 {
        sources.push((0..1 + input.below(8)).map(|_| u32::from(input.byte()) % 9).collect::<Vec<u32>>());
    }
    if sources.is_empty() {
        return;
    }
    let mut engine = Hashed::new(vocabulary, seed);
    let Some(settings) = looked_at(Settings::for_ids(&options)) else { return };
    let Some(together) = looked_at(decode_batch(&mut engine, &sources, &options)) else { return };
    assert_eq!(together.len(), sources.len());
    for (source, hypotheses) in sources.iter().zip(&together) {
        assert!(
            (1..=settings.num_return_sequences.max(1)).contains(&hypotheses.len()),
            "{} hypotheses",
            hypotheses.len()
        );
        hypotheses.iter().for_each(|hypothesis| keeps(hypothesis, &settings, vocabulary));
        let alone = looked_at(decode_batch(&mut engine, std::slice::from_ref(source), &options))
            .expect("it went in company");
        assert_eq!(&alone[0], hypotheses, "company changed {source:?}");
    }
}

fn keeps(hypothesis: &Hypothesis, settings: &Settings, vocabulary: usize) {
    assert!(
        hypothesis.generated() <= settings.max_new_tokens,
        "{hypothesis:?} is longer than {}",
        settings.max_new_tokens
    );
    if hypothesis.finish == FinishReason::Eos {
        assert!(
            hypothesis.generated() >= settings.min_new_tokens.min(settings.max_new_tokens),
            "{hypothesis:?} ended too soon"
        );
    }
    assert!(hypothesis.score.is_finite(), "{hypothesis:?} has no score");
    for &id in &hypothesis.ids[hypothesis.prefix..] {
        assert!(
            (id as usize) < vocabulary && id != PAD && id != START && id != END,
            "id {id} in {hypothesis:?}"
        );
        assert!(!settings.suppress.contains(&id), "suppressed id {id} in {hypothesis:?}");
    }
}
