//! Networks that amplify rounding: what is allowed then, and what still fails.

use super::*;

/// Weights so large that gates saturate or flip: rounding grows from step to step, as in a network that knows
/// a few texts by heart.
fn amplifying() -> Toy {
    let toy = Toy::new(InputForm::Embedding(5), InputForm::Embedding(6), 32, 1, 3);
    Toy { parameters: toy.parameters.map(|x| 3.0 * x), ..toy }
}

fn options() -> VerifyOptions {
    VerifyOptions { random: 20, ..VerifyOptions::default() }
}

#[test]
fn a_network_that_amplifies_rounding_is_held_to_its_own_rounding() {
    let report = verify(&amplifying().bundle(), &options()).unwrap();
    assert!(report.passed, "{}", report.table());
    let rounding = report.rounding.unwrap();
    assert!(rounding.states > 2e-6, "{rounding:?}");
    assert_eq!(report.tolerances, Tolerances::default().for_rounding(rounding));
    assert!(report.tolerances.states > Tolerances::ATOL && report.tolerances.states <= Tolerances::CEILING);
    assert!(report.checks.iter().any(|check| {
        check.limit.is_some_and(|limit| (limit - f64::from(report.tolerances.states)).abs() < 1e-9)
    }));
    // A bound that somebody names is kept to.
    let fixed = verify(&amplifying().bundle(), &VerifyOptions { atol: Some(1e-7), ..options() }).unwrap();
    assert_eq!(fixed.tolerances.states, 1e-7);
    let error = fixed.check().unwrap_err();
    assert!(!fixed.passed && error.help_text().is_some_and(|help| help.contains("--atol ")), "{error}");
}

#[test]
fn an_ordinary_network_is_held_to_what_it_was_held_to() {
    let report = verify(&Toy::embedded().bundle(), &options()).unwrap();
    let (found, usual) = (report.tolerances, Tolerances::default());
    assert_eq!(
        (found.states, found.probabilities, found.logits, found.loss),
        (usual.states, usual.probabilities, usual.logits, usual.loss)
    );
}

#[test]
fn a_verification_on_another_machine_allows_what_the_record_of_the_bundle_says() {
    let root = tempfile::tempdir().unwrap();
    let (target, toy) = (root.path().join("toy"), amplifying());
    export(&toy.input(), &ExportOptions::default(), &options(), &target, &Replace::AnyBundle).unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(target.join(file::CONFORMANCE)).unwrap()).unwrap();
    let recorded: Rounding = serde_json::from_value(record["rounding"].clone()).unwrap();
    // Another machine, whose own f32 happens to be exact.
    let elsewhere = recorded.max(Rounding::default());
    assert_eq!(elsewhere, recorded);
    let again = verify_path(&target, &VerifyOptions { seed: 9, ..options() }, false).unwrap();
    assert!(again.rounding.unwrap().states >= recorded.states);
    // The record of other weights, and one that is damaged, say nothing; one that says too much meets the
    // ceiling.
    let bundle = Bundle::open(&target).unwrap();
    let weights = bundle.manifest().weights_sha256.as_deref();
    let json = bundle.file(file::CONFORMANCE).unwrap();
    assert_eq!(Rounding::recorded(json, weights), Some(recorded));
    assert_eq!(Rounding::recorded(json, Some("other")), None);
    assert_eq!(Rounding::recorded(b"{", weights), None);
    assert_eq!(Rounding::recorded(br#"{"weights_sha256": null, "rounding": {"states": 1}}"#, None), None);
    let boundless = Rounding { states: f32::INFINITY, probabilities: 1e9, logits: -1.0, loss: 3.0 };
    let bound = Tolerances::default().for_rounding(boundless);
    assert_eq!(
        (bound.states, bound.probabilities, bound.loss),
        (Tolerances::CEILING, Tolerances::CEILING, Tolerances::CEILING)
    );
    assert_eq!(bound.logits, Tolerances::default().logits);
}

#[test]
fn a_real_fault_in_a_network_that_amplifies_rounding_still_fails_by_its_numbers() {
    type Change = fn(&mut [f32], usize);
    let faults: [(&str, &str, Change); 5] = [
        ("gates swapped", "encoder.lstm_0.R", |values, hidden| {
            values[..2 * hidden * hidden].rotate_left(hidden * hidden);
        }),
        ("a bias left out", "encoder.lstm_0.W", |values, hidden| {
            let row = values.len() / (4 * hidden);
            (0..4 * hidden).for_each(|gate| values[gate * row + row - 1] = 0.0);
        }),
        ("weights in half precision", "encoder.lstm_0.R", |values, _| {
            values.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & !0x1fff));
        }),
        ("one weight off by a hundredth", "encoder.lstm_0.R", |values, _| values[7] += 0.01),
        ("one bias of the decoder's table off by a hundredth", "decoder.lstm_0.table", |values, _| {
            values.iter_mut().for_each(|x| *x += 0.01);
        }),
    ];
    for (fault, tensor, change) in faults {
        let toy = amplifying();
        let mut files = toy.files(&ExportOptions::default());
        drop_self_test(&mut files);
        let role = if tensor.starts_with("encoder") { Role::Encoder } else { Role::Decoder };
        let mut model = model(&files, role);
        let tensor = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name == tensor).unwrap();
        let mut values = tensor.floats().unwrap();
        change(&mut values, 32);
        tensor.raw_data = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
        replace(&mut files, role, &model);
        let report = verify(&Bundle::from_files("toy", files).unwrap(), &options()).unwrap();
        let by_number = |check: &&Check| {
            check.engine.is_some()
                && check.what.contains("against the trainer")
                && check.subject != "decoding"
        };
        let found: Vec<&Check> = failed(&report).into_iter().filter(by_number).collect();
        assert!(!found.is_empty(), "{fault}\n{}", report.table());
    }
}
