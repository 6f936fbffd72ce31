//! What else runs, and when it joined, changes nothing.

use std::sync::Arc;

use super::scripted::Scripted;
use super::*;
use crate::engine::{Joins, Lengths};
use crate::error::ErrorKind;

fn alone(engine: &mut Scripted, source: &[u32], options: &DecodingOptions) -> Vec<Hypothesis> {
    decode_batch(engine, &[source.to_vec()], options).unwrap().remove(0)
}

fn request(id: u64, source: &[u32], options: &DecodingOptions) -> Request {
    Request {
        id,
        source: source.to_vec(),
        settings: Arc::new(Settings::for_ids(options).unwrap()),
        stream: false,
    }
}

fn any_lengths() -> impl Strategy<Value = Lengths> {
    prop::sample::select(vec![Lengths::Any, Lengths::OneToEncode, Lengths::Alone, Lengths::One])
}

proptest! {
    #[test]
    fn a_request_gives_the_same_whatever_runs_beside_it_and_whenever_it_joins(
        seed: u64,
        attention: bool,
        same_age: bool,
        lengths in any_lengths(),
        jobs in prop::collection::vec((any_source(), any_options(false), 0usize..8, prop::collection::vec(3u32..7, 0..3)), 1..7),
    ) {
        let joins = if same_age { Joins::SameAge } else { Joins::AnyAge };
        let mut engine = Scripted { attention, joins, lengths, ..Scripted::new(VOCABULARY, seed) };
        let mut jobs = jobs;
        for (at, job) in jobs.iter_mut().enumerate() {
            job.1.output.as_mut().unwrap().attention = Some(attention);
            job.1.coverage_penalty = (attention && at % 2 == 0).then_some(0.4);
        }
        let with_prefix = |id: usize| {
            let (source, options, _, prefix) = &jobs[id];
            let mut request = request(id as u64, source, options);
            Arc::make_mut(&mut request.settings).prefix.clone_from(prefix);
            request
        };
        let mut expected = Vec::new();
        for id in 0..jobs.len() {
            let mut decoding = DecodingLoop::new(&mut engine);
            decoding.admit([with_prefix(id)]);
            expected.push(decoding.events().find_map(|e| if let Event::Finished { hypotheses, .. } = e { Some(hypotheses) } else { None }).unwrap());
        }
        let mut decoding = DecodingLoop::new(&mut engine);
        let mut found = vec![None; jobs.len()];
        for now in 0.. {
            let due: Vec<Request> = (0..jobs.len()).filter(|&i| jobs[i].2 == now).map(with_prefix).collect();
            decoding.admit(due);
            for event in decoding.step() {
                if let Event::Finished { request, hypotheses } = event {
                    prop_assert!(found[usize::try_from(request).unwrap()].replace(hypotheses).is_none());
                }
            }
            if now > 8 && decoding.is_idle() {
                break;
            }
        }
        for (found, expected) in found.into_iter().zip(expected) {
            prop_assert_eq!(found.unwrap(), expected);
        }
    }

    #[test]
    fn a_batch_gives_what_each_source_gives_alone_in_the_order_of_the_sources(
        seed: u64, sources in prop::collection::vec(any_source(), 0..20), options in any_options(true), rows in 1usize..9,
        lengths in any_lengths(),
    ) {
        let joins = if seed.is_multiple_of(2) { Joins::SameAge } else { Joins::AnyAge };
        let mut engine = Scripted { attention: true, joins, lengths, ..Scripted::new(VOCABULARY, seed) };
        let settings = Arc::new(Settings::for_ids(&options).unwrap());
        let found = decode_each(&mut engine, sources.clone(), &settings, rows);
        let widest = engine.steps.iter().max().copied().unwrap_or(0);
        prop_assert!(widest <= rows.max(settings.most_rows()), "{} rows", widest);
        for (found, source) in found.into_iter().zip(&sources) {
            prop_assert_eq!(found.unwrap(), alone(&mut engine, source, &options));
        }
    }

    #[test]
    fn cancelling_a_request_at_any_step_leaves_the_others_as_they_were(
        seed: u64, sources in prop::collection::vec(any_source(), 2..5), options in any_options(true), after in 0usize..6
    ) {
        let mut engine = Scripted { attention: true, ..Scripted::new(VOCABULARY, seed) };
        let expected: Vec<_> = sources.iter().map(|s| alone(&mut engine, s, &options)).collect();
        let mut decoding = DecodingLoop::new(&mut engine);
        decoding.admit((0u64..).zip(&sources).map(|(id, s)| request(id, s, &options)));
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..after {
            events.extend(decoding.step());
        }
        let was_running = decoding.cancel(0);
        let rows = decoding.rows();
        events.extend(decoding.step());
        prop_assert!(!was_running || decoding.rows() < rows || decoding.rows() > 0 || decoding.is_idle());
        prop_assert!(!decoding.cancel(0));
        events.extend(decoding.events());
        prop_assert_eq!(events.len(), sources.len());
        for event in events {
            let Event::Finished { request, hypotheses } = event else { panic!("{event:?}") };
            if request == 0 && was_running {
                prop_assert!(hypotheses.iter().any(|h| h.finish == FinishReason::Cancelled) || !hypotheses.is_empty());
                prop_assert!(hypotheses.iter().all(|h| h.ids.len() <= after));
            } else {
                prop_assert_eq!(&hypotheses, &expected[usize::try_from(request).unwrap()]);
            }
        }
    }
}

#[test]
fn a_cancelled_greedy_request_reports_the_tokens_so_far() {
    let options =
        DecodingOptions { max_new_tokens: Some(50), min_new_tokens: Some(50), ..DecodingOptions::default() };
    let mut engine = Scripted::new(VOCABULARY, 1);
    let whole = alone(&mut engine, &[4, 5], &options);
    let mut decoding = DecodingLoop::new(&mut engine);
    decoding.admit([request(9, &[4, 5], &options)]);
    for _ in 0..3 {
        assert_eq!(decoding.step().count(), 0);
    }
    assert!(decoding.cancel(9));
    assert!(!decoding.cancel(10));
    let events: Vec<Event> = decoding.step().collect();
    let [Event::Finished { request: 9, hypotheses }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(hypotheses[0].finish, FinishReason::Cancelled);
    assert_eq!(hypotheses[0].ids, whole[0].ids[..3]);
    assert!(decoding.is_idle());
}

#[test]
fn finished_rows_leave_the_batch_at_once_and_waiting_sources_take_their_place() {
    let mut engine = Scripted::new(VOCABULARY, 3);
    let settings = Arc::new(
        Settings::for_ids(&DecodingOptions { max_new_tokens: Some(30), ..DecodingOptions::default() })
            .unwrap(),
    );
    let results =
        decode_each(&mut engine, (0..100).map(|i| vec![4 + i % 9, 5, 4 + i / 9]).collect(), &settings, 8);
    let tokens: usize = results.iter().map(|r| r.as_ref().unwrap()[0].generated()).sum();
    assert_eq!(engine.steps.iter().sum::<usize>(), tokens, "a row-step for each token and no other");
    assert_eq!(engine.steps.iter().max(), Some(&8));
    let full = engine.steps.iter().filter(|&&rows| rows >= 6).count();
    assert!(full * 10 > engine.steps.len() * 8, "the batch is kept full: {:?}", engine.steps);
}

#[test]
fn a_source_that_the_engine_refuses_or_that_gives_nan_fails_alone() {
    let mut engine = Scripted { refused: Some(66), poisoned: Some(77), ..Scripted::new(VOCABULARY, 3) };
    let settings = Arc::new(Settings::for_ids(&DecodingOptions::default()).unwrap());
    let results = decode_each(&mut engine, vec![vec![4], vec![66], vec![5, 77], vec![4, 5]], &settings, 8);
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Input);
    let nan = results[2].as_ref().unwrap_err();
    assert_eq!(
        (nan.kind(), nan.message()),
        (ErrorKind::Engine, "the decoder gave logits that are not numbers")
    );
    for (index, source) in [(0, vec![4]), (3, vec![4, 5])] {
        assert_eq!(
            results[index].as_ref().unwrap(),
            &alone(&mut engine, &source, &DecodingOptions::default())
        );
    }
}

#[test]
fn a_source_that_is_too_long_is_refused_or_cut_as_asked() {
    let mut engine = Scripted::new(VOCABULARY, 3);
    let mut options = DecodingOptions { max_input_length: Some(2), ..DecodingOptions::default() };
    let error = decode_batch(&mut engine, &[vec![4, 5, 6]], &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
    assert!(
        error.message().contains("3 tokens") && error.message().contains("max_input_length (2)"),
        "{error}"
    );
    let expected: Vec<_> = [&[4, 5], &[5, 6]].map(|s| alone(&mut engine, s, &options)).into();
    options.truncate = Some(Truncate::Right);
    assert_eq!(alone(&mut engine, &[4, 5, 6], &options), expected[0]);
    options.truncate = Some(Truncate::Left);
    assert_eq!(alone(&mut engine, &[4, 5, 6], &options), expected[1]);
}

#[test]
fn time_is_up_after_the_limit_with_what_there_is() {
    let mut engine = Scripted::new(VOCABULARY, 3);
    let most = 1 << 20;
    let options = DecodingOptions {
        time_limit: Some(0.05),
        max_new_tokens: Some(most),
        min_new_tokens: Some(most),
        ..DecodingOptions::default()
    };
    let found = alone(&mut engine, &[4], &options);
    assert_eq!(found[0].finish, FinishReason::Timeout);
    assert!(!found[0].ids.is_empty() && found[0].ids.len() < most);
}

#[test]
fn attention_that_the_model_does_not_have_is_an_error_that_names_the_key() {
    let mut engine = Scripted::new(VOCABULARY, 3);
    let beams =
        DecodingOptions { num_beams: Some(2), coverage_penalty: Some(0.2), ..DecodingOptions::default() };
    let replacing = DecodingOptions { replace_unknowns: Some(true), ..DecodingOptions::default() };
    for (options, key) in [(beams, "coverage_penalty"), (replacing, "replace_unknowns")] {
        let error = decode_batch(&mut engine, &[vec![4]], &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.message(), format!("`{key}`: the model has no attention"));
    }
}

#[test]
fn attention_weights_are_those_of_the_source_without_padding() {
    let mut engine = Scripted { attention: true, ..Scripted::new(VOCABULARY, 4) };
    let output = Some(OutputOptions { attention: Some(true), ..OutputOptions::default() });
    let options = DecodingOptions { output, max_new_tokens: Some(4), ..DecodingOptions::default() };
    for hypotheses in decode_batch(&mut engine, &[vec![4], vec![4, 5, 6], vec![9; 8]], &options).unwrap() {
        assert_eq!(hypotheses[0].attention.len(), hypotheses[0].ids.len());
        for weights in &hypotheses[0].attention {
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn ids_outside_the_vocabulary_are_an_error_that_names_the_key() {
    let mut engine = Scripted::new(VOCABULARY, 3);
    let options = DecodingOptions {
        suppress_tokens: Some(Symbols(vec![SymbolRef::Id(7)])),
        ..DecodingOptions::default()
    };
    let error = decode_batch(&mut engine, &[vec![4]], &options).unwrap_err();
    assert_eq!(error.message(), "`suppress_tokens`: id 7 is outside the target vocabulary of 7 symbols");
}

#[test]
fn when_the_rules_leave_no_token_the_hypothesis_ends_there() {
    let suppress_tokens = Some((2..7).map(SymbolRef::Id).collect());
    for num_beams in [1, 3] {
        let options = DecodingOptions {
            suppress_tokens: suppress_tokens.clone(),
            num_beams: Some(num_beams),
            ..DecodingOptions::default()
        };
        let found = alone(&mut Scripted::new(VOCABULARY, 3), &[4], &options);
        assert_eq!((found[0].ids.len(), found[0].finish, found.len()), (0, FinishReason::Stop, 1));
    }
}
