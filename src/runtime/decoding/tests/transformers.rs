//! The rules against the logits processors of transformers, on rows that `testdata/make_transformers.py`
//! wrote down.

use serde::Deserialize;

use crate::contract::SpecialIds;
use crate::decoding::filters::{Context, Scratch, apply_rules, apply_sampling};
use crate::decoding::{DecodingOptions, Settings};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    logits: Vec<f32>,
    history: Vec<u32>,
    options: DecodingOptions,
    /// Relative to the best; `None` is -inf.
    expected: Vec<Option<f32>>,
}

#[test]
fn rows_come_out_as_the_processors_of_transformers_leave_them() {
    let file: File = serde_json::from_str(include_str!("../../testdata/transformers.json")).unwrap();
    assert!(file.cases.len() >= 200);
    let mut scratch = Scratch::default();
    for (number, case) in file.cases.into_iter().enumerate() {
        let settings =
            Settings::new(&DecodingOptions { do_sample: Some(true), ..case.options.clone() }).unwrap();
        let mut row = case.logits.clone();
        let special = SpecialIds::default();
        let context = Context {
            settings: &settings,
            special,
            never: &[special.pad, special.start],
            ends: &[special.end],
            source: &[],
            ids: &case.history,
            generated: case.history.len(),
        };
        apply_rules(&mut row, context, 0.0, &mut scratch);
        apply_sampling(&mut row, &settings, &mut scratch);
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (id, (&found, expected)) in row.iter().zip(&case.expected).enumerate() {
            let found = (found > f32::NEG_INFINITY).then_some(found - best);
            let near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                (None, None) => true,
                _ => false,
            };
            assert!(
                near,
                "case {number}, symbol {id}: {found:?} instead of {expected:?}; {:?}",
                case.options
            );
        }
    }
}
