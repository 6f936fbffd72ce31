#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::config::{Config, LoadOptions};
use crate::error::{Error, ErrorKind};
use crate::network::{Network, Seq2Seq};
use crate::train::{Event, InitFrom, Mode, Report, TrainOptions, Which, checkpoint};

type Outcome = crate::train::Outcome<Seq2Seq>;

const SMALL: &str = "\
name: small
data:
  task: {name: dates, train: 150, dev: 30}
model:
  hidden: 12
  input: {source: one_hot, target: {embedding: 5}}
training:
  epochs: 4
  batch_size: 32
  threads: 2
  learning_rate: 3e-3
  clip_norm: 1
  exact_match: {sample: 10}
  examples: 2
decoding:
  max_new_tokens: 12
";

fn config(set: &[&str]) -> Config {
    let overrides = set.iter().map(|s| (*s).to_owned()).collect();
    Config::parse(SMALL, Path::new("small.yaml"), &LoadOptions { overrides, data: None }).unwrap()
}

/// Listens, and stops the training after some steps, as a signal would.
struct Listener<'a> {
    stop: &'a AtomicBool,
    stop_after: Option<usize>,
    steps: usize,
    examples: usize,
}

impl Report for Listener<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Step { .. } => {
                self.steps += 1;
                if self.stop_after == Some(self.steps) {
                    self.stop.store(true, Ordering::SeqCst);
                }
            }
            Event::Examples { decoded, .. } => self.examples += decoded.len(),
            _ => {}
        }
    }
}

/// Trains; gives the outcome, and the steps and decoded examples that were reported.
fn run(
    folder: &Path,
    set: &[&str],
    mode: Mode,
    stop_after: Option<usize>,
) -> (Result<Outcome, Error>, usize, usize) {
    let stop = AtomicBool::new(false);
    let mut listener = Listener { stop: &stop, stop_after, steps: 0, examples: 0 };
    let options = TrainOptions { output: folder.to_owned(), mode, init_from: None, stop: &stop };
    let outcome = train(config(set), &options, &mut listener);
    (outcome, listener.steps, listener.examples)
}

/// Trains on from another run.
fn tune(
    folder: &Path,
    from: &Path,
    extend_vocabulary: bool,
    set: &[&str],
    stop_after: Option<usize>,
) -> Result<Outcome, Error> {
    let stop = AtomicBool::new(false);
    let mut listener = Listener { stop: &stop, stop_after, steps: 0, examples: 0 };
    let init_from = Some(InitFrom { path: from.to_owned(), extend_vocabulary });
    train(
        config(set),
        &TrainOptions { output: folder.to_owned(), mode: Mode::New, init_from, stop: &stop },
        &mut listener,
    )
}

/// What must be equal in equal trainings: the checkpoints to the byte, and the metrics but for their timings.
fn result(folder: &Path) -> (Vec<u8>, Vec<u8>, Vec<serde_json::Value>) {
    let run = Run::open(folder).unwrap();
    let bytes = |which| std::fs::read(run.checkpoint_path(which)).unwrap();
    (bytes(Which::Last), bytes(Which::Best), run.metrics().unwrap().iter().map(|m| m.scores()).collect())
}

#[test]
fn a_run_folder_holds_what_an_export_needs() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    let (outcome, steps, examples) = run(&folder, &[], Mode::New, None);
    let outcome = outcome.unwrap();
    assert_eq!((steps, examples), (4 * 5, 4));
    let opened = Run::open(&folder).unwrap();
    let losses: Vec<f64> = opened.metrics().unwrap().iter().map(|m| m.validation_loss).collect();
    assert!(losses.len() == 4 && losses[3] < losses[0], "{losses:?}");
    assert_eq!(opened.parameters(Which::Last).unwrap(), outcome.run.parameters(Which::Last).unwrap());
    assert_eq!(opened.record.source.len(), opened.network.architecture().source_vocabulary);
    let provenance = opened.provenance(Which::Best).unwrap();
    assert_eq!(provenance.scores.unwrap()["epoch"], outcome.best.epoch);
    assert_eq!(provenance.data[0].pairs, 180);
    assert_eq!(opened.record.examples.len(), 24.min(opened.record.statistics.validation));
    assert!(
        opened.metrics().unwrap().iter().all(|m| m.exact_match.is_some() && m.token_error_rate.is_some())
    );
}

#[test]
fn four_epochs_equal_two_and_two_resumed_bit_for_bit() {
    let temporary = tempfile::tempdir().unwrap();
    let (straight, parts) = (temporary.path().join("straight"), temporary.path().join("parts"));
    run(&straight, &[], Mode::New, None).0.unwrap();
    run(&parts, &["training.epochs=2"], Mode::New, None).0.unwrap();
    run(&parts, &["training.epochs=4"], Mode::Resume, None).0.unwrap();
    assert_eq!(result(&straight), result(&parts));
}

#[test]
fn schedules_and_callbacks_resume_bit_for_bit() {
    let temporary = tempfile::tempdir().unwrap();
    let plateau = "training.reduce_lr_on_plateau={monitor: train_loss, min_delta: 9, patience: 1, factor: 0.5, cooldown: 2}";
    let cases = [
        [
            "training.schedule={name: cosine, warmup: {epochs: 1.5}, floor: 1e-4}",
            "training.best=token_error_rate",
        ],
        [
            "training.schedule={name: linear, warmup: {steps: 3}, decay: {steps: 9}}",
            "training.early_stopping={min_delta: 9, patience: 2}",
        ],
        ["training.schedule={warmup: {steps: 2}}", plateau],
    ];
    for (i, set) in cases.iter().enumerate() {
        let (straight, parts) =
            (temporary.path().join(format!("straight-{i}")), temporary.path().join(format!("parts-{i}")));
        run(&straight, set, Mode::New, None).0.unwrap();
        run(&parts, set, Mode::New, Some(2)).0.unwrap_err();
        run(&parts, set, Mode::Resume, Some(6)).0.unwrap_err();
        run(&parts, set, Mode::Resume, None).0.unwrap();
        assert_eq!(result(&straight), result(&parts), "{set:?}");
        let rates: Vec<f64> =
            Run::open(&parts).unwrap().metrics().unwrap().iter().map(|m| m.learning_rate.unwrap()).collect();
        match i {
            0 => assert!(
                rates[0] < 3e-3 && rates[1] > rates[2] && rates[3] > 1e-4 && rates[3] < 3e-4,
                "{rates:?}"
            ),
            // 3 of 4 epochs: the second and the third are no better by 9 nats.
            1 => assert!(rates.len() == 3 && rates[2] == 0.0, "{rates:?}"),
            // Lower after the second epoch, then one that is not watched, then lower after the last.
            _ => assert_eq!(rates, [3e-3, 3e-3, 1.5e-3, 1.5e-3]),
        }
    }
}

#[test]
fn a_run_that_stopped_early_goes_on_with_more_patience_and_ends_with_its_best_weights() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    let stopping = |patience: usize| {
        format!("training.early_stopping={{min_delta: 9, patience: {patience}, restore_best_weights: true}}")
    };
    let epochs = || Run::open(&folder).unwrap().metrics().unwrap().len();
    let (outcome, ..) = run(&folder, &[&stopping(1)], Mode::New, None);
    assert_eq!((epochs(), outcome.unwrap().last.epoch), (2, 2));
    // With the same patience there is nothing left to do.
    let (outcome, steps, examples) = run(&folder, &[&stopping(1)], Mode::Resume, None);
    assert_eq!((outcome.unwrap().last.epoch, steps, examples), (2, 0, 4));
    run(&folder, &[&stopping(2)], Mode::Resume, None).0.unwrap();
    assert_eq!(epochs(), 3);
    let straight = temporary.path().join("straight");
    run(&straight, &["training.epochs=3"], Mode::New, None).0.unwrap();
    let weights = |folder: &Path| Run::open(folder).unwrap().parameters(Which::Last).unwrap();
    assert_eq!(weights(&folder), weights(&straight));
}

#[test]
fn a_rate_that_falls_until_the_last_epoch_fixes_the_number_of_epochs() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    run(&folder, &["training.epochs=2", "training.schedule=cosine"], Mode::New, None).0.unwrap();
    let error =
        run(&folder, &["training.epochs=3", "training.schedule=cosine"], Mode::Resume, None).0.unwrap_err();
    assert!(error.to_string().contains("`training.epochs` differs"), "{error}");
    let error = run(&folder, &["training.schedule={name: cosine, warmup: {epochs: 4}}"], Mode::Force, None)
        .0
        .unwrap_err();
    assert!(error.to_string().contains("the warm-up of 20 steps takes the whole training of 20"), "{error}");
}

#[test]
fn a_run_stopped_anywhere_resumes_bit_for_bit() {
    let temporary = tempfile::tempdir().unwrap();
    let straight = temporary.path().join("straight");
    run(&straight, &[], Mode::New, None).0.unwrap();
    let expected = result(&straight);
    // 5 steps an epoch: in the first, at the end of one, in the middle of another; then stop after stop.
    for (i, stops) in [&[1][..], &[5], &[13], &[2, 1, 1, 9]].into_iter().enumerate() {
        let folder = temporary.path().join(format!("stopped-{i}"));
        for (nth, &stop) in stops.iter().enumerate() {
            let mode = if nth == 0 { Mode::New } else { Mode::Resume };
            let (outcome, steps, _) = run(&folder, &[], mode, Some(stop));
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), steps), (ErrorKind::Interrupted, stop));
            assert!(error.help_text().unwrap().contains("--resume"), "{error}");
        }
        run(&folder, &[], Mode::Resume, None).0.unwrap();
        assert_eq!(result(&folder), expected, "stopped after {stops:?}");
    }
}

#[test]
fn a_crash_between_the_files_of_an_epoch_is_made_good_by_resuming() {
    let temporary = tempfile::tempdir().unwrap();
    let (straight, crashed) = (temporary.path().join("straight"), temporary.path().join("crashed"));
    run(&straight, &["training.epochs=3"], Mode::New, None).0.unwrap();
    run(&crashed, &["training.epochs=2"], Mode::New, None).0.unwrap();
    // As if epoch 3 had written its best checkpoint and half a line of metrics, and then the power went.
    std::fs::copy(
        straight.join("checkpoints/best.safetensors"),
        crashed.join("checkpoints/best.safetensors"),
    )
    .unwrap();
    std::fs::write(crashed.join("checkpoints/.last.safetensors.part"), b"half").unwrap();
    let metrics = crashed.join("metrics.jsonl");
    let whole = std::fs::read_to_string(straight.join("metrics.jsonl")).unwrap();
    std::fs::write(&metrics, &whole[..whole.len() - 10]).unwrap();
    run(&crashed, &["training.epochs=3"], Mode::Resume, None).0.unwrap();
    assert_eq!(result(&straight), result(&crashed));
}

#[test]
fn a_run_is_neither_overwritten_nor_resumed_by_accident() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    let fails = |set: &[&str], mode, kind, message: &str| {
        let error = run(&folder, set, mode, None).0.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message) && error.help_text().is_some(), "{error}");
    };
    fails(&[], Mode::Resume, ErrorKind::Usage, "this is no run folder");
    run(&folder, &["training.epochs=1"], Mode::New, None).0.unwrap();
    let before = result(&folder);
    fails(&[], Mode::New, ErrorKind::Usage, "there is a run in this folder already");
    fails(&["model.hidden=13"], Mode::Resume, ErrorKind::Config, "`model.hidden` differs");
    fails(
        &["training.learning_rate=1e-3"],
        Mode::Resume,
        ErrorKind::Config,
        "`training.learning_rate` differs",
    );
    assert_eq!(result(&folder), before);
    run(&folder, &["training.epochs=1", "training.seed=2"], Mode::Force, None).0.unwrap();
    assert_ne!(result(&folder).0, before.0);
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    run(&folder, &["training.epochs=1"], Mode::New, None).0.unwrap();
    let path = folder.join("checkpoints/last.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() - 1], &whole[..100], &whole[..0], b"not a checkpoint at all"] {
        std::fs::write(&path, damaged).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("last.safetensors: "), "{error}");
        assert!(run(&folder, &[], Mode::Resume, None).0.is_err());
    }
}

/// The checkpoint with its header changed, and its tensors.
fn forged(
    whole: &[u8],
    change: impl Fn(&mut serde_json::Value),
    tensor: impl Fn(&str, Vec<u8>) -> (Dtype, Vec<u8>),
) -> Vec<u8> {
    let (_, about) = SafeTensors::read_metadata(whole).unwrap();
    let mut header = serde_json::from_str(&about.metadata().as_ref().unwrap()[checkpoint::METADATA]).unwrap();
    change(&mut header);
    let tensors: Vec<_> = SafeTensors::deserialize(whole)
        .unwrap()
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec(), tensor(name, view.data().to_vec())))
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, (dtype, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, Some([(checkpoint::METADATA.to_owned(), header.to_string())].into()))
        .unwrap()
}

#[test]
fn a_checkpoint_cannot_ask_for_more_than_it_holds() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    run(&folder, &["training.epochs=1"], Mode::New, None).0.unwrap();
    let path = folder.join("checkpoints/best.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let same = |_: &str, bytes| (Dtype::F32, bytes);
    for (key, value, said) in [
        (
            "layers",
            serde_json::json!(100_000_000_000_u64),
            "best.safetensors:s2s.checkpoint.architecture: `layers` is 100000000000",
        ),
        ("hidden", serde_json::json!(u64::MAX), "`hidden` is 18446744073709551615"),
        ("hidden", serde_json::json!(60_000), "parameters, and can have 536870912"),
        ("source_vocabulary", serde_json::json!(10_000_001), "`source_vocabulary` is 10000001"),
        ("target_input", serde_json::json!({ "embedding": 1_u64 << 40 }), "`target_input` is 1099511627776"),
        ("hidden", serde_json::json!(4000), "best.safetensors: the architecture asks for"),
        ("layers", serde_json::json!(2), "best.safetensors: the architecture asks for"),
        ("cell", serde_json::json!("gru"), "best.safetensors: no tensor named encoder.gru_0.W"),
    ] {
        std::fs::write(&path, forged(&whole, |header| header["architecture"][key] = value.clone(), same))
            .unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        assert!(
            error.to_string().contains(said) && error.to_string().contains("best.safetensors"),
            "{error}"
        );
        assert!(error.help_text().is_some());
    }
    std::fs::write(&path, forged(&whole, |_| (), same)).unwrap();
    Checkpoint::load(&path).unwrap();
}

#[test]
fn tensors_of_another_type_and_weights_that_are_not_finite_are_named() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    run(&folder, &["training.epochs=1"], Mode::New, None).0.unwrap();
    let path = folder.join("checkpoints/best.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let integers = |name: &str, bytes: Vec<u8>| {
        (if name == "decoder.dense.bias" { Dtype::I32 } else { Dtype::F32 }, bytes)
    };
    let infinite = |name: &str, mut bytes: Vec<u8>| {
        if name == "decoder.dense.bias" {
            bytes[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }
        (Dtype::F32, bytes)
    };
    let not_f32 = "best.safetensors: tensor decoder.dense.bias is of type I32, not F32";
    let not_finite = "best.safetensors: value 1 of decoder.dense.bias is inf";
    for (bytes, said) in
        [(forged(&whole, |_| (), integers), not_f32), (forged(&whole, |_| (), infinite), not_finite)]
    {
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert!(error.kind() == ErrorKind::Data && error.to_string().ends_with(said), "{error}");
    }
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_with_epoch_and_step() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    let error = run(&folder, &["training.learning_rate=1e38", "training.clip_norm=1e30"], Mode::New, None)
        .0
        .unwrap_err();
    assert!(error.to_string().contains("not a finite number: epoch 1, batch"), "{error}");
    assert!(error.help_text().unwrap().contains("learning_rate"));
}

#[test]
fn a_batch_whose_loss_is_not_finite_may_be_left_out() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    let wild = ["training.learning_rate=1e38", "training.clip_norm=1e30", "training.terminate_on_nan=false"];
    // The first step runs away, and every later batch is left out; the run ends with the validation loss.
    let error = run(&folder, &wild, Mode::New, None).0.unwrap_err();
    assert!(
        error.to_string().contains("the validation loss is not a finite number: epoch 1, batch 5, step 2"),
        "{error}"
    );
}

#[test]
fn logs_of_a_run_stopped_anywhere_are_those_of_an_undisturbed_one() {
    let temporary = tempfile::tempdir().unwrap();
    let set = ["training.csv_logger=true", "training.tensorboard=true"];
    let (straight, parts) = (temporary.path().join("straight"), temporary.path().join("parts"));
    run(&straight, &set, Mode::New, None).0.unwrap();
    run(&parts, &set, Mode::New, Some(12)).0.unwrap_err();
    run(&parts, &set, Mode::Resume, None).0.unwrap();
    let lines = |folder: &Path| std::fs::read_to_string(folder.join("metrics.csv")).unwrap().lines().count();
    let events = |folder: &Path| {
        std::fs::metadata(folder.join("tensorboard/validation/events.out.tfevents.s2s")).unwrap().len()
    };
    assert_eq!((lines(&straight), events(&straight)), (lines(&parts), events(&parts)));
    assert!(std::fs::read_to_string(parts.join("curves.svg")).unwrap().contains("best epoch 4"));
    // A run that starts over takes the old logs away.
    run(&parts, &["training.epochs=1"], Mode::Force, None).0.unwrap();
    assert!(!parts.join("metrics.csv").exists() && !parts.join("tensorboard").exists());
}

/// Overrides for pairs of a file, written to `folder`, whose first symbols no date has.
fn other_pairs(folder: &Path) -> Vec<String> {
    let path = folder.join("other.tsv");
    std::fs::write(
        &path,
        "may 1\t2001-05-01\n\u{e4}pril 2, 1999\t~1999\njune\t?\nmay 3\t2003-05-03\n".repeat(8),
    )
    .unwrap();
    let data = serde_json::json!({ "train": path, "validation": { "split": "tail", "fraction": 0.25 } });
    vec![format!("data={data}"), "training.epochs=2".to_owned()]
}

#[test]
fn another_runs_weights_still_know_the_old_sentences_and_new_symbols_come_after_the_old_ones() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = |name: &str| temporary.path().join(name);
    let set = other_pairs(temporary.path());
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    // One-hot sources with both directions, an embedded target, attention: every tensor that a vocabulary
    // widens.
    let network = [
        "model={hidden: 12, bidirectional: true, attention: dot, input: {source: one_hot, target: {embedding: 5}}}",
        "model={hidden: 12, cell: gru, tied_embeddings: true, input: {source: {embedding: 4}, target: {embedding: 12}}}",
    ];
    for (i, network) in network.into_iter().enumerate() {
        let old = run(&folder(&format!("old-{i}")), &[network, "training.epochs=2"], Mode::New, None)
            .0
            .unwrap()
            .run;
        let new = folder(&format!("new-{i}"));
        let set = [&set[..], &[network]].concat();
        tune(&new, &old.folder, true, &set, Some(1)).unwrap_err();
        let stopped = Run::open(&new).unwrap();
        for (old, new) in
            [(&old.record.source, &stopped.record.source), (&old.record.target, &stopped.record.target)]
        {
            let (old, new) = (&old.spec().symbols, &new.spec().symbols);
            assert!(new.len() > old.len() && new[..old.len()] == old[..], "{old:?} {new:?}");
        }
        let initial = super::initial::Initial::open(
            &InitFrom { path: old.folder.clone(), extend_vocabulary: true },
            &stopped.config,
            &crate::data::corpus::Corpus::load(&stopped.config.data, 1, &mut |_, _, _| ()).unwrap(),
        );
        let initial = initial.unwrap().parameters(&stopped.network, 1).unwrap();
        let (sources, inputs) = (
            [old.record.source.encode("may 1, 1990"), old.record.source.encode("7")],
            [vec![1, 4, 5], vec![1]],
        );
        let before = old.network.forward(&old.parameters(Which::Best).unwrap(), &sources, &inputs);
        let after = stopped.network.forward(&initial, &sources, &inputs);
        let (narrow, wide) = (old.record.target.len(), stopped.record.target.len());
        for (before, after) in before.logits.chunks_exact(narrow).zip(after.logits.chunks_exact(wide)) {
            assert!(before.iter().zip(after).all(|(a, b)| (a - b).abs() < 1e-5), "{before:?} {after:?}");
        }
        // The optimiser's step moved them; the run goes on and ends as one that was not stopped.
        run(&new, &set, Mode::Resume, None).0.unwrap();
        let straight = folder(&format!("straight-{i}"));
        let outcome = tune(&straight, &old.checkpoint_path(Which::Best), true, &set, None).unwrap();
        assert_eq!(result(&new), result(&straight));
        let provenance = outcome.run.provenance(Which::Best).unwrap().config.unwrap();
        assert_eq!(provenance["init_from"]["run"], "small");
        assert_eq!(provenance["init_from"]["new_symbols"], serde_json::json!([1, 2]));
    }
}

#[test]
fn vocabularies_stay_as_they_were_unless_they_are_extended() {
    let temporary = tempfile::tempdir().unwrap();
    let (old, new) = (temporary.path().join("old"), temporary.path().join("new"));
    run(&old, &["training.epochs=1"], Mode::New, None).0.unwrap();
    let set = other_pairs(temporary.path());
    let outcome = tune(&new, &old, false, &set.iter().map(String::as_str).collect::<Vec<_>>(), None).unwrap();
    let old = Run::open(&old).unwrap();
    assert_eq!(
        (&outcome.run.record.source.spec().symbols, &outcome.run.record.target.spec().symbols),
        (&old.record.source.spec().symbols, &old.record.target.spec().symbols)
    );
    assert_eq!(outcome.run.record.init_from.map(|o| (o.new_symbols, o.extended)), Some(([1, 2], false)));
}

#[test]
fn weights_of_a_network_that_differs_are_refused_by_the_key_that_differs() {
    let temporary = tempfile::tempdir().unwrap();
    let (old, new) = (temporary.path().join("old"), temporary.path().join("new"));
    run(&old, &["training.epochs=1"], Mode::New, None).0.unwrap();
    for (set, key) in [
        ("model.hidden=13", "model.hidden"),
        ("model.cell=gru", "model.cell"),
        ("model.attention=dot", "model.attention"),
        ("model.input=one_hot", "model.input"),
        ("data.target={unit: token}", "data.target"),
        ("data.source={normalisation: [nfc]}", "data.source"),
    ] {
        let error = tune(&new, &old, true, &[set], None).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Config && error.to_string().contains(&format!("`{key}` differs")),
            "{error}"
        );
        assert!(error.help_text().unwrap().contains("copy"), "{error}");
    }
    let stray = temporary.path().join("stray.safetensors");
    std::fs::copy(old.join("checkpoints/last.safetensors"), &stray).unwrap();
    for (from, message) in
        [(&stray, "does not lie in a run folder"), (&temporary.path().join("none"), "no such file")]
    {
        let error = tune(&new, from, false, &[], None).unwrap_err();
        assert!(error.to_string().contains(message) && error.help_text().is_some(), "{error}");
    }
    assert!(!new.exists());
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = |name: &str| temporary.path().join(name);
    for (name, set) in [
        ("a", &["training.epochs=1"][..]),
        ("b", &["training.epochs=1"]),
        ("c", &["training.epochs=1", "training.seed=2"]),
    ] {
        run(&folder(name), set, Mode::New, None).0.unwrap();
    }
    assert_eq!(result(&folder("a")), result(&folder("b")));
    assert_ne!(result(&folder("a")).0, result(&folder("c")).0);
}
