//! Rows of one age run together, and those of other ages take turns with them.

use std::sync::Arc;

use super::scripted::Scripted;
use super::*;
use crate::decoding::decoding_loop::{FEW_COHORTS, MOST_COHORTS, PATIENCE};
use crate::engine::Joins;

fn engine() -> Scripted {
    Scripted { joins: Joins::SameAge, ..Scripted::new(VOCABULARY, 3) }
}

/// A greedy request of exactly `tokens` tokens.
fn request(id: u64, tokens: usize) -> Request {
    let options = DecodingOptions {
        max_new_tokens: Some(tokens),
        min_new_tokens: Some(tokens),
        ..DecodingOptions::default()
    };
    let settings = Arc::new(Settings::for_ids(&options).unwrap());
    Request { id, source: vec![4, 5 + u32::try_from(id % 9).unwrap()], settings, stream: false }
}

fn finished(event: &Event) -> u64 {
    match event {
        Event::Finished { request, .. } => *request,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn texts_that_come_at_any_time_are_decoded_as_alone_and_cohorts_are_few(
        seed: u64, jobs in prop::collection::vec((0usize..120, any_source(), 1usize..70), 1..40)
    ) {
        let mut engine = Scripted { joins: Joins::SameAge, ..Scripted::new(VOCABULARY, seed) };
        let options = |most| DecodingOptions {
            max_new_tokens: Some(most),
            suppress_tokens: (most % 3 > 0).then(|| Symbols(vec![SymbolRef::Id(2)])),
            num_beams: Some(1 + most % 2),
            ..DecodingOptions::default()
        };
        let mut decoding = DecodingLoop::new(&mut engine);
        let mut found = vec![None; jobs.len()];
        let mut turn = 0;
        while turn < 120 || !decoding.is_idle() {
            let due = (0..jobs.len()).filter(|&at| jobs[at].0 == turn).map(|at| Request {
                id: at as u64,
                source: jobs[at].1.clone(),
                settings: Arc::new(Settings::for_ids(&options(jobs[at].2)).unwrap()),
                stream: false,
            });
            decoding.admit(due.collect::<Vec<_>>());
            for event in decoding.step() {
                let Event::Finished { request, hypotheses } = event else { panic!("{event:?}") };
                prop_assert!(found[usize::try_from(request).unwrap()].replace(hypotheses).is_none());
            }
            prop_assert!(decoding.cohorts() <= MOST_COHORTS);
            turn += 1;
            prop_assert!(turn < 40 * 70 + 120, "every text ends");
        }
        for ((_, source, most), found) in jobs.iter().zip(found) {
            let alone = decode_batch(&mut engine, std::slice::from_ref(source), &options(*most)).unwrap();
            prop_assert_eq!(found.unwrap(), alone[0].clone());
        }
    }
}

#[test]
fn what_comes_between_two_steps_runs_together_and_what_comes_later_takes_turns_with_it() {
    let mut engine = engine();
    let mut decoding = DecodingLoop::new(&mut engine);
    decoding.admit([request(0, 9)]);
    decoding.admit([request(1, 9)]);
    assert_eq!(decoding.step().count(), 0);
    decoding.admit([request(2, 3), request(3, 3)]);
    let ended: Vec<u64> = decoding.events().map(|event| finished(&event)).collect();
    assert_eq!(ended, [2, 3, 0, 1]);
    // A step of the first two alone, three turns of both, and what the first two still had to do.
    assert_eq!(engine.steps, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn long_texts_hold_short_ones_for_a_few_turns_only() {
    let mut engine = engine();
    let mut decoding = DecodingLoop::new(&mut engine);
    // One more long text in each turn than there are cohorts for in the beginning.
    for id in 0..FEW_COHORTS as u64 + 1 {
        decoding.admit([request(id, 500)]);
        assert_eq!(decoding.step().count(), 0);
    }
    for id in 100..120 {
        decoding.admit([request(id, 3)]);
        let turns = (1..).find(|_| decoding.step().any(|event| finished(&event) == id)).unwrap();
        assert!(turns <= PATIENCE + 4, "{turns} turns");
    }
}

#[test]
fn what_waits_joins_as_one_cohort_when_another_ends() {
    let mut engine = engine();
    let mut decoding = DecodingLoop::new(&mut engine);
    decoding.admit([request(0, 50)]);
    decoding.step();
    decoding.admit([request(1, 5)]);
    let mut ended = Vec::new();
    for id in 10..20 {
        ended.extend(decoding.step().map(|event| finished(&event)));
        decoding.admit([request(id, 5)]);
    }
    assert_eq!(decoding.cohorts(), FEW_COHORTS);
    ended.extend(decoding.events().map(|event| finished(&event)));
    assert_eq!(ended, [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0]);
    assert!(engine.steps.contains(&5), "those that came while the second ran: {:?}", engine.steps);
}

#[test]
fn a_cohort_whose_step_fails_takes_no_other_with_it() {
    let mut engine = Scripted { broken: Some(77), ..engine() };
    let mut decoding = DecodingLoop::new(&mut engine);
    decoding.admit([request(0, 6)]);
    decoding.step();
    decoding.admit([Request { source: vec![4, 77], ..request(1, 6) }, request(2, 6)]);
    let mut failed = Vec::new();
    let mut ended = Vec::new();
    for event in decoding.events() {
        match event {
            Event::Failed { request, error } => failed.push((request, error.message().to_owned())),
            other => ended.push(finished(&other)),
        }
    }
    assert!(decoding.lost_together() && !decoding.lost_together());
    assert_eq!(failed, [(1, "broken".to_owned()), (2, "broken".to_owned())]);
    assert_eq!(ended, [0]);
    assert!(engine.running.is_empty() && engine.resting.values().all(Vec::is_empty));
}

#[test]
fn a_request_that_waits_can_be_cancelled_and_its_time_passes() {
    let mut engine = engine();
    let mut decoding = DecodingLoop::new(&mut engine);
    for id in 0..2 {
        decoding.admit([request(id, 12)]);
        assert_eq!(decoding.step().count(), 0);
    }
    let mut hasty = request(3, 5);
    Arc::make_mut(&mut hasty.settings).time_limit = Some(std::time::Duration::from_nanos(1));
    decoding.admit([request(2, 5), hasty, request(4, 5)]);
    assert_eq!((decoding.requests(), decoding.rows()), (5, 2));
    assert!(decoding.cancel(2) && !decoding.cancel(2));
    let ends: Vec<(u64, FinishReason)> = decoding
        .events()
        .map(|event| match event {
            Event::Finished { request, hypotheses } => (request, hypotheses[0].finish),
            other => panic!("{other:?}"),
        })
        .collect();
    let of = |id| ends.iter().find(|(request, _)| *request == id).map(|(_, finish)| *finish);
    let expected = [
        (0, FinishReason::Length),
        (1, FinishReason::Length),
        (2, FinishReason::Cancelled),
        (3, FinishReason::Timeout),
    ];
    for (id, finish) in expected {
        assert_eq!(of(id), Some(finish), "{id}");
    }
    assert_eq!(of(4), Some(FinishReason::Length));
}
