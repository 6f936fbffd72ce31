#![allow(clippy::unwrap_used)]

mod batching;
mod cohorts;
mod generate;
mod options;
mod reference;
pub(crate) mod scripted;
mod search;
mod streaming;
mod transformers;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Symbols of the scripted vocabulary: the special four and three others.
const VOCABULARY: usize = 7;

/// Options without text, valid together; beams, greedy and sampling.
fn any_options(attention: bool) -> impl Strategy<Value = DecodingOptions> {
    let search = (
        1usize..5,
        1usize..4,
        select(vec![-0.5f32, 0.0, 0.6, 1.0, 2.0]),
        select(vec![LengthPenaltyType::Avg, LengthPenaltyType::Gnmt, LengthPenaltyType::None]),
        select(vec![EarlyStopping::True, EarlyStopping::False, EarlyStopping::Never]),
        select(vec![0.6f32, 1.0, 1.5, 2.0]),
        select(vec![0.0f32, 0.4]),
    );
    let rules = (
        1usize..7,
        0usize..4,
        select(vec![0.6f32, 1.0, 1.5]),
        0usize..4,
        prop::collection::vec(2u32..7, 0..3),
        any::<bool>(),
    );
    let sampling = (
        any::<bool>(),
        select(vec![0.5f32, 1.0, 2.0]),
        0usize..5,
        select(vec![0.3f32, 0.8, 1.0]),
        select(vec![0.0f32, 0.2]),
        any::<u64>(),
    );
    (search, rules, sampling).prop_map(move |(search, rules, sampling)| {
        let (beams, returned, a, kind, early, patience, coverage) = search;
        let (most, least, repetition, ngram, suppressed, disable_unk) = rules;
        let (sample, temperature, top_k, top_p, min_p, seed) = sampling;
        let beams = if sample { 1 } else { beams };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let enough = ((beams as f32 * patience).round() as usize).max(1);
        DecodingOptions {
            max_new_tokens: Some(most),
            min_new_tokens: Some(least.min(most)),
            num_beams: Some(beams),
            num_return_sequences: Some(if sample { returned } else { returned.min(beams).min(enough) }),
            length_penalty: Some(a),
            length_penalty_type: Some(kind),
            early_stopping: Some(early),
            patience: Some(patience),
            coverage_penalty: Some(if attention { coverage } else { 0.0 }),
            repetition_penalty: Some(repetition),
            no_repeat_ngram_size: Some(ngram),
            suppress_tokens: Some(suppressed.into_iter().map(SymbolRef::Id).collect()),
            disable_unk: Some(disable_unk),
            do_sample: Some(sample),
            temperature: Some(temperature),
            top_k: Some(top_k),
            top_p: Some(top_p),
            min_p: Some(min_p),
            seed: Some(seed),
            output: Some(OutputOptions {
                scores: Some(true),
                token_scores: Some(true),
                attention: Some(attention),
            }),
            ..DecodingOptions::default()
        }
    })
}

fn any_source() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(3u32..20, 0..6)
}
