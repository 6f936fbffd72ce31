//! What stays on a device and what leaves it, and that nothing there is read as if it were here.

#![allow(clippy::unwrap_used)]

use super::bound::traffic;
use super::tensor::{Memory, OrtTensor};
use crate::decoding::{DecodingOptions, OutputOptions, decode_batch};
use crate::engine::tests::{bundle, ways};
use crate::engine::{Device, Engine, IdMatrix, StepOutput, SumOver, Wanted};

/// The engine on a simulated device, unless ONNX Runtime is not there.
fn engine(form: &str) -> Option<Box<dyn Engine>> {
    let way = ways().into_iter().find(|way| way.device == Device::Simulated)?;
    Some(way.open(&bundle(form)).unwrap())
}

fn start(engine: &mut dyn Engine, rows: usize) {
    let sources = IdMatrix { rows, columns: 3, data: (0..rows * 3).map(|at| 4 + at as i64 % 8).collect() };
    let encoded = engine.encode(&sources).unwrap();
    engine.clear();
    engine.join(&encoded, 0..rows).unwrap();
}

#[test]
fn a_step_takes_ids_to_the_device_and_the_best_few_from_it_and_nothing_else() {
    for form in ["ids", "one_hot", "foreign"] {
        let Some(mut engine) = engine(form) else { return };
        let rows = 7;
        start(&mut *engine, rows);
        let mut output = StepOutput::default();
        let wanted = Wanted { best: 2, banned: &[0, 1], sum: SumOver::Open, attention: false };
        // The first step brings what is banned.
        engine.step_best(&vec![1; rows], &wanted, &mut output).unwrap();
        traffic::take();
        engine.step_best(&vec![4; rows], &wanted, &mut output).unwrap();
        let ids = if form == "one_hot" { rows * engine.target_vocabulary() } else { rows };
        // How wide a row is, and how many are wanted: three numbers.
        let [up, down] = traffic::take();
        assert_eq!([up, down], [ids + 3, rows * (2 + 2 + 1)], "{form}");
        assert!(output.attention.is_empty());
        // Beams change places: one number for each row and state, what tables they are and what they become.
        engine.keep(&[1, 1, 0, 3, 2, 2, 6]);
        engine.step_best(&vec![4; rows], &wanted, &mut output).unwrap();
        let [moved, down] = traffic::take();
        let tensors = if form == "foreign" { 3 } else { 2 };
        assert_eq!(down, rows * (2 + 2 + 1), "{form}");
        let numbers = moved - up;
        assert!(
            numbers >= tensors * rows && numbers <= tensors * (rows * 3 + 5),
            "{form}: {numbers} numbers"
        );
    }
}

#[test]
fn the_best_of_the_device_are_those_of_the_host() {
    for form in ["ids", "one_hot", "foreign"] {
        let Some(mut engine) = engine(form) else { return };
        for sum in [SumOver::Nothing, SumOver::Open, SumOver::All] {
            for (best, banned) in [(1, &[0, 1][..]), (4, &[]), (20, &[2, 3, 4, 8])] {
                let wanted = Wanted { best, banned, sum, attention: true };
                let (mut found, mut all) = (StepOutput::default(), StepOutput::default());
                start(&mut *engine, 5);
                engine.step_best(&[1; 5], &wanted, &mut found).unwrap();
                start(&mut *engine, 5);
                engine.step(&[1; 5], &mut all).unwrap();
                assert_eq!(found.attention, all.attention);
                let width = engine.target_vocabulary();
                all.best.take(&mut all.logits, width, &wanted).unwrap();
                let (found, expected) = (found.best, all.best);
                assert_eq!(found.width, expected.width);
                let open = |best: &crate::engine::BestFew| -> Vec<u32> {
                    let ids = best.ids.iter().zip(&best.logits);
                    ids.filter(|(_, logit)| **logit > f32::NEG_INFINITY).map(|(id, _)| *id).collect()
                };
                assert_eq!(open(&found), open(&expected), "{form} {wanted:?}");
                for (a, b) in found.logits.iter().zip(&expected.logits) {
                    assert!(a == b || (a - b).abs() < 1e-5, "{form} {wanted:?}: {a} {b}");
                }
                if sum != SumOver::Nothing {
                    for (a, b) in found.log_sum_exp.iter().zip(&expected.log_sum_exp) {
                        assert!((a - b).abs() < 1e-5, "{form} {wanted:?}: {a} {b}");
                    }
                }
            }
        }
    }
}

#[test]
fn decoding_on_a_device_says_what_decoding_on_the_processor_says() {
    let sources: Vec<Vec<u32>> = vec![vec![4], vec![5, 6, 7, 8], vec![8, 7, 11], vec![6; 9], vec![10, 4]];
    for form in ["ids", "one_hot", "foreign"] {
        let bundle = bundle(form);
        for beams in [1, 3] {
            let scores = OutputOptions { scores: Some(true), ..OutputOptions::default() };
            let options = DecodingOptions {
                num_beams: Some(beams),
                max_new_tokens: Some(12),
                output: Some(scores),
                ..DecodingOptions::default()
            };
            let mut said = ways().into_iter().map(|way| {
                let mut engine = way.open(&bundle).unwrap();
                let found = decode_batch(&mut *engine, &sources, &options).unwrap();
                found.into_iter().map(|hypotheses| (hypotheses[0].ids.clone(), hypotheses[0].score)).collect()
            });
            let first: Vec<(Vec<u32>, f32)> = said.next().unwrap();
            for other in said {
                for ((ids, score), (other_ids, other_score)) in first.iter().zip(&other) {
                    assert_eq!(ids, other_ids, "{form}, {beams} beams");
                    assert!((score - other_score).abs() < 1e-4, "{form}, {beams} beams");
                }
            }
        }
    }
}

#[test]
fn a_tensor_of_a_device_cannot_be_read_as_if_it_were_here() {
    if engine("ids").is_none() {
        return;
    }
    let value = ort::value::Tensor::from_array(([2usize], vec![1f32, 2.0])).unwrap().into_dyn();
    let value = OrtTensor::wrapped(value, Memory::Device).unwrap();
    let mut into = crate::engine::graph::Tensor::default();
    assert!(OrtTensor::of(&value).unwrap().read(&mut into).is_err());
}

#[test]
fn workers_on_one_device_share_the_session_and_keep_their_rows_apart() {
    let Some(mut first) = engine("ids") else { return };
    let mut second = first.fork().unwrap();
    let mut alone = StepOutput::default();
    start(&mut *first, 4);
    first.step(&[1; 4], &mut alone).unwrap();
    std::thread::scope(|scope| {
        for engine in [&mut first, &mut second] {
            let alone = &alone;
            scope.spawn(move || {
                for _ in 0..30 {
                    let mut output = StepOutput::default();
                    start(&mut **engine, 4);
                    engine.step(&[1; 4], &mut output).unwrap();
                    assert_eq!(output.logits, alone.logits);
                }
            });
        }
    });
}
