//! The loop against the reference.

use super::reference::{Plain, Reference};
use super::scripted::Scripted;
use super::*;
use crate::contract::SpecialIds;

fn same(found: &[Hypothesis], expected: &[Plain]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        prop_assert_eq!(&found.ids, &expected.ids);
        prop_assert_eq!(found.finish == FinishReason::Eos, expected.ended);
        prop_assert!(
            (f64::from(found.score) - expected.score).abs() < 1e-3,
            "{} against {}",
            found.score,
            expected.score
        );
        let sum: f32 = found.token_scores.iter().sum();
        prop_assert!((f64::from(sum) - expected.sum).abs() < 1e-4);
        prop_assert_eq!(found.token_scores.len(), found.generated());
    }
    Ok(())
}

/// The usual special ids, or others, the highest among them.
fn any_ids(seed: u64) -> SpecialIds {
    if seed.is_multiple_of(2) {
        SpecialIds::default()
    } else {
        SpecialIds { pad: 2, start: 6, end: 3, unk: 0 }
    }
}

proptest! {
    #[test]
    fn greedy_takes_the_best_allowed_token_and_the_lower_id_of_equal_ones(
        seed: u64, source in any_source(), mut options in any_options(false), grain in prop::option::of(0.5f32..2.0)
    ) {
        options.do_sample = Some(false);
        options.num_beams = Some(1);
        options.num_return_sequences = Some(1);
        options.patience = None;
        // With a penalty, equal logits may be divided and differ in the last place.
        if grain.is_some() {
            options.repetition_penalty = None;
        }
        let mut engine = Scripted { grain, ids: any_ids(seed), ..Scripted::new(VOCABULARY, seed) };
        let found = decode_batch(&mut engine, std::slice::from_ref(&source), &options).unwrap();
        let expected = Reference { engine: &mut engine, source: &source, options: &options, close: false }.greedy();
        same(&found[0], &[expected])?;
    }

    #[test]
    fn beam_search_gives_the_hypotheses_of_the_reference(
        seed: u64, source in any_source(), options in any_options(true), attention: bool
    ) {
        let mut options = DecodingOptions { do_sample: Some(false), ..options };
        if !attention {
            options.coverage_penalty = None;
            options.output.as_mut().unwrap().attention = None;
        }
        options.num_return_sequences = Some(1);
        options.num_beams = Some(options.num_beams.unwrap().max(2));
        if let Some(returned) = Settings::for_ids(&options).ok().map(|s| s.enough.min(s.num_beams)) {
            options.num_return_sequences = Some(returned);
        }
        let mut engine = Scripted { attention, ids: any_ids(seed), ..Scripted::new(VOCABULARY, seed) };
        let mut reference = Reference { engine: &mut engine, source: &source, options: &options, close: false };
        let expected = reference.beams();
        prop_assume!(!reference.close);
        let found = decode_batch(&mut engine, std::slice::from_ref(&source), &options).unwrap();
        same(&found[0], &expected)?;
    }

    #[test]
    fn enough_beams_find_every_sequence_in_the_order_of_its_score(
        seed: u64, source in any_source(), options in any_options(true), most in 1usize..4
    ) {
        let options = DecodingOptions {
            do_sample: Some(false),
            num_beams: Some(200),
            num_return_sequences: Some(200),
            patience: None,
            max_new_tokens: Some(most),
            min_new_tokens: options.min_new_tokens.map(|least| least.min(most)),
            ..options
        };
        let mut engine = Scripted { attention: true, ids: any_ids(seed), ..Scripted::new(VOCABULARY, seed) };
        let mut reference = Reference { engine: &mut engine, source: &source, options: &options, close: false };
        let expected = reference.exhaustive();
        prop_assume!(!reference.close && !expected.is_empty());
        let found = decode_batch(&mut engine, std::slice::from_ref(&source), &options).unwrap();
        // Beams that the rules stop early have no continuation in the enumeration.
        let found: Vec<Hypothesis> = found[0].iter().filter(|h| h.finish != FinishReason::Stop).cloned().collect();
        same(&found, &expected)?;
    }

    #[test]
    fn drawn_tokens_are_allowed_and_their_scores_are_log_p_before_temperature(
        seed: u64, source in any_source(), options in any_options(false)
    ) {
        let options = DecodingOptions { do_sample: Some(true), num_beams: Some(1), num_return_sequences: Some(3), ..options };
        let mut engine = Scripted { ids: any_ids(seed), ..Scripted::new(VOCABULARY, seed) };
        let end = engine.ids.end;
        let found = decode_batch(&mut engine, std::slice::from_ref(&source), &options).unwrap();
        prop_assert_eq!(found[0].len(), 3);
        for hypothesis in &found[0] {
            let mut reference = Reference { engine: &mut engine, source: &source, options: &options, close: false };
            for (at, log_p) in hypothesis.token_scores.iter().enumerate() {
                let id = hypothesis.ids.get(at).copied().unwrap_or(end);
                let expected = reference.log_p(&hypothesis.ids[..at])[id as usize];
                prop_assert!((f64::from(*log_p) - expected).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn frequencies_of_drawn_tokens_follow_temperature_top_k_top_p_and_min_p_in_this_order() {
    for (temperature, top_k, top_p, min_p) in
        [(1.0, 0, 1.0, 0.0), (0.7, 4, 1.0, 0.0), (1.5, 0, 0.7, 0.0), (2.0, 4, 0.9, 0.5)]
    {
        let options = DecodingOptions {
            do_sample: Some(true),
            num_return_sequences: Some(1000),
            max_new_tokens: Some(1),
            temperature: Some(temperature),
            top_k: Some(top_k),
            top_p: Some(top_p),
            min_p: Some(min_p),
            ..DecodingOptions::default()
        };
        let mut engine = Scripted::new(VOCABULARY, 5);
        let log_p =
            Reference { engine: &mut engine, source: &[5], options: &options, close: false }.log_p(&[]);
        let mut ranked: Vec<(usize, f64)> =
            log_p.iter().map(|x| (x / f64::from(temperature)).exp()).enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        if top_k > 0 {
            ranked.truncate(top_k);
        }
        let total: f64 = ranked.iter().map(|r| r.1).sum();
        let mut mass = 0.0;
        let nucleus = ranked.iter().take_while(|r| {
            let goes_on = mass < f64::from(top_p) * total;
            mass += r.1;
            goes_on
        });
        let mut kept: Vec<(usize, f64)> = nucleus.copied().collect();
        let best = kept[0].1;
        kept.retain(|r| r.1 >= f64::from(min_p) * best);
        let total: f64 = kept.iter().map(|r| r.1).sum();
        let mut counts = [0f64; VOCABULARY];
        for hypothesis in &decode_batch(&mut engine, &[vec![5]], &options).unwrap()[0] {
            counts[hypothesis.ids.first().map_or(2, |&id| id as usize)] += 1.0;
        }
        for (id, count) in counts.iter().enumerate() {
            let p = kept.iter().find(|r| r.0 == id).map_or(0.0, |r| r.1 / total);
            let deviation = (1000.0 * p * (1.0 - p)).sqrt();
            assert!(
                (count - 1000.0 * p).abs() <= 5.0 * deviation,
                "{id}: {count} of 1000, p {p}, top_k {top_k}"
            );
        }
    }
}
