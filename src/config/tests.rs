#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::callbacks::Monitor;
use super::checked::{DataOrigin, Validation};
use super::experiment::Experiment;
use super::mlp::MlpConfig;
use super::training::{BatchOrder, Optimiser};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::network::{Bridge, GateActivation, InputForm};

const GOOD: &str = "\
name: small
data:
  train: pairs.tsv
  validation: {split: shuffled, fraction: 0.1}
  source: {unit: character, normalisation: [nfc]}
model:
  hidden: 8
  input: {source: one_hot, target: {embedding: 4}}
training:
  epochs: 2
  batch_size: 4
  learning_rate: 1e-3
decoding:
  max_new_tokens: 7
";

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("folder/a.yaml"), &LoadOptions::default())
}

fn with(set: &[&str]) -> Result<Config, Error> {
    let overrides = set.iter().map(|s| (*s).to_owned()).collect();
    Config::parse(GOOD, Path::new("folder/a.yaml"), &LoadOptions { overrides, data: None })
}

#[test]
fn a_config_is_read_with_its_defaults_and_paths() {
    let config = parse(GOOD).unwrap();
    let DataOrigin::Files(files) = &config.data.origin else { panic!("no files") };
    assert_eq!(files.train, PathBuf::from("folder/pairs.tsv"));
    assert_eq!(files.validation, Validation::Shuffled(0.1));
    assert_eq!(
        {
            let a = config.model.architecture(4, 4);
            (a.source_input, a.target_input)
        },
        (InputForm::OneHot, InputForm::Embedding(4))
    );
    assert_eq!(config.training.learning_rate, 1e-3);
    assert_eq!(config.training.optimiser, Optimiser::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 });
    assert_eq!(
        (config.training.batches, config.training.best),
        (BatchOrder::Shuffled, Monitor::ValidationLoss)
    );
    assert_eq!(config.decoding.max_new_tokens, Some(7));
}

#[test]
fn data_paths_start_at_the_flag_then_at_the_folder_key_then_at_the_config() {
    let train = |options: &LoadOptions| match Config::parse(GOOD, Path::new("folder/a.yaml"), options)
        .unwrap()
        .data
        .origin
    {
        DataOrigin::Files(files) => files.train,
        DataOrigin::Dates(_) => panic!("no files"),
    };
    let folder = || vec!["data.folder=../there".to_owned()];
    assert_eq!(
        train(&LoadOptions { overrides: folder(), data: None }),
        PathBuf::from("folder/../there/pairs.tsv")
    );
    assert_eq!(
        train(&LoadOptions { overrides: folder(), data: Some("here".into()) }),
        PathBuf::from("here/pairs.tsv")
    );
}

#[test]
fn an_override_lies_over_the_file_and_is_kept_in_the_copy() {
    let config =
        with(&["training.epochs=9", "data.validation={split: tail, fraction: 0.2}", "model.input=one_hot"])
            .unwrap();
    assert_eq!(config.training.epochs, 9);
    assert_eq!(config.to_json()["data"]["validation"]["split"], "tail");
    assert_eq!(config.model.architecture(4, 4).target_input, InputForm::OneHot);
}

#[test]
fn a_written_copy_reads_as_the_same_config() {
    let mut config = parse(GOOD).unwrap();
    config.settle(2, Some(Path::new("/else where/it's \"here\""))).unwrap();
    let text = serde_yaml::to_string(&config.to_json()).unwrap();
    let again = parse(&text).unwrap();
    assert_eq!(again.to_json(), config.to_json());
    assert_eq!(again.training, config.training);
    assert_eq!(again.fingerprint(), parse(GOOD).unwrap().fingerprint());
}

#[test]
fn every_committed_config_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") && !path.ends_with("decoding.yaml") {
            let options = LoadOptions::default();
            match super::experiment::kind(&path, &options) {
                Some(_) => drop(<MlpConfig as Experiment>::load(&path, &options).unwrap()),
                None => drop(Config::load(&path, &options).unwrap()),
            }
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

/// A good config with one line replaced, what the error says and what its help says.
const WRONG: [(&str, &str, &str, &str); 44] = [
    ("  hidden: 8", "  hiden: 8", "folder/a.yaml:7:model.hiden: unknown key", "did you mean `hidden`?"),
    (
        "  hidden: 8",
        "  hidden: eight",
        "folder/a.yaml:7:model.hidden: this is the text \"eight\"",
        "a whole number",
    ),
    ("  hidden: 8", "  hidden: 8.5", "folder/a.yaml:7:model.hidden: this is 8.5", "a whole number"),
    ("  hidden: 8", "  hidden: 0", "folder/a.yaml:7:model.hidden: this is 0", "from 1"),
    ("  hidden: 8", "  hidden: -3", "folder/a.yaml:7:model.hidden: this is -3", "from 1"),
    ("  hidden: 8", "  layers: 1", "model: `hidden` is missing", "hidden: 256"),
    ("  hidden: 8", "  hidden: [8]", "folder/a.yaml:7:model.hidden: this is a list", "a whole number"),
    ("  hidden: 8", "  hidden: 99999999999999999999", "folder/a.yaml:7:model.hidden", "from 1"),
    (
        "  epochs: 2",
        "  epochs: yes",
        "folder/a.yaml:10:training.epochs: this is the text \"yes\"",
        "a whole number",
    ),
    ("  epochs: 2", "  epochs: true", "folder/a.yaml:10:training.epochs: this is true", "a whole number"),
    ("  epochs: 2", "  epochs: 2\n  seed: -1", "folder/a.yaml:11:training.seed: this is -1", "at least 0"),
    ("  epochs: 2", "  epochs: 2\n  threads: many", "folder/a.yaml:11:training.threads", "`auto` or 2"),
    (
        "  epochs: 2",
        "  epochs: 2\n  clip_norm: 0",
        "folder/a.yaml:11:training.clip_norm: this is 0",
        "above 0",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  best: exact_mach",
        "folder/a.yaml:11:training.best",
        "did you mean `exact_match`?",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  schedule: cosin",
        "folder/a.yaml:11:training.schedule",
        "did you mean `cosine`?",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  schedule: {floor: 0.1}",
        "training.schedule.floor: a constant learning rate",
        "name: cosine",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  schedule: {name: linear, floor: 1}",
        "training.schedule.floor: this is 1",
        "below",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  schedule: {warmup: 5}",
        "training.schedule.warmup: this does not say",
        "{steps: 500}",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  schedule: {warmup: {steps: 5, epochs: 1}}",
        "training.schedule.warmup: one of",
        "{epochs: 2}",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  schedule: cosine\n  reduce_lr_on_plateau: {}",
        "a.yaml:12:training.reduce_lr_on_plateau: `training.schedule` lowers",
        "leave one",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  early_stopping: {patients: 3}",
        "training.early_stopping.patients: unknown key",
        "`patience`",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  early_stopping: {monitor: train_loss, restore_best_weights: true}",
        "training.early_stopping.restore_best_weights: the best weights are those with the best validation_loss",
        "training.best: train_loss",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  early_stopping: {monitor: exact_match}\n  exact_match: {every: 2}",
        "a.yaml:11:training.early_stopping: exact_match is not measured",
        "every: 1",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  best: chrf",
        "folder/a.yaml:11:training.best: chrf is not among",
        "[exact_match, token_error_rate, chrf]",
    ),
    (
        "  epochs: 2",
        "  epochs: 2\n  scores: [bleu, cherf]",
        "folder/a.yaml:11:training.scores[1]: `cherf`",
        "did you mean `chrf`?",
    ),
    ("  epochs: 2", "  epochs: 2\n  optimiser: sgd", "folder/a.yaml:11:training.optimiser: `sgd`", "adam"),
    (
        "  epochs: 2",
        "  epochs: 2\n  optimiser: {name: adam, beta_1: 1}",
        "folder/a.yaml:11:training.optimiser.beta_1",
        "below 1",
    ),
    ("  epochs: 2", "  epochs: 2\n  epochs: 3", "folder/a.yaml:11", "YAML"),
    (
        "  learning_rate: 1e-3",
        "  learning_rate: .nan",
        "folder/a.yaml:12:training.learning_rate: this is NaN",
        "above 0",
    ),
    (
        "  learning_rate: 1e-3",
        "  learning_rate: .inf",
        "folder/a.yaml:12:training.learning_rate: this is inf",
        "above 0",
    ),
    (
        "  learning_rate: 1e-3",
        "  learning_rate: -0.1",
        "folder/a.yaml:12:training.learning_rate: this is -0.1",
        "above 0",
    ),
    (
        "  learning_rate: 1e-3",
        "  learning_rate: 0",
        "folder/a.yaml:12:training.learning_rate: this is 0",
        "above 0",
    ),
    ("  learning_rate: 1e-3", "  learning_rate: 1e-60", "folder/a.yaml:12:training.learning_rate", "above 0"),
    (
        "  learning_rate: 1e-3",
        "  learning_rate: 1e-3\n  best: exact_match\n  exact_match: {sample: 0}",
        "a.yaml:13:training.best",
        "exact_match",
    ),
    (
        "  train: pairs.tsv",
        "  train: pairs.tsv\n  dev: dev.tsv",
        "data.validation: both `dev` and `validation`",
        "keep one",
    ),
    (
        "  train: pairs.tsv",
        "  train: pairs.tsv\n  task: dates",
        "data.train: a task makes its own pairs",
        "leave this key",
    ),
    ("  train: pairs.tsv", "  train: 5", "folder/a.yaml:3:data.train: this is 5", "text"),
    (
        "  train: pairs.tsv",
        "  train: p.tsv\n  columns: {source: 2}",
        "folder/a.yaml:4:data.columns: source and target",
        "count from 1",
    ),
    ("fraction: 0.1", "fraction: 1", "folder/a.yaml:4:data.validation.fraction: this is 1", "below 1"),
    ("split: shuffled", "split: tails", "folder/a.yaml:4:data.validation.split", "did you mean `tail`?"),
    ("[nfc]", "[nfc, nfx]", "folder/a.yaml:5:data.source.normalisation[1]: `nfx`", "did you mean"),
    ("name: small", "name: ../up", "folder/a.yaml:1:name", "letters"),
    (
        "  max_new_tokens: 7",
        "  max_new_token: 7",
        "folder/a.yaml:14:decoding.max_new_token: unknown key",
        "did you mean `max_new_tokens`?",
    ),
    ("model:\n", "model: {\n", "folder/a.yaml:", "YAML"),
];

#[test]
fn a_wrong_value_is_reported_with_file_line_key_and_what_would_be_right() {
    assert!(parse(GOOD).is_ok());
    for (right, wrong, message, help) in WRONG {
        assert!(GOOD.contains(right), "{right}");
        let error = parse(&GOOD.replacen(right, wrong, 1)).map(|_| wrong).unwrap_err();
        let (said, helped) = (error.to_string(), error.help_text().unwrap_or_default().to_owned());
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}: {said}");
        assert!(said.contains(message), "{wrong}\n  said      {said}\n  expected  {message}");
        assert!(helped.contains(help), "{wrong}\n  helped    {helped}\n  expected  {help}");
    }
}

#[test]
fn the_options_of_foreign_networks_reach_the_architecture_and_fit_together() {
    let config = with(&[
        "model.gate_activation=hard_sigmoid_fifth",
        "model.layers=2",
        "model.decoder_layers=3",
        "model.hand_over=[1, null, 0]",
        "model.encoder_hidden=6",
        "model.bridge=relu",
        "model.bridge_source=hidden",
        "model.attention=additive",
        "model.attention_width=5",
        "model.attention_bias=true",
        "model.attention_output=concatenated",
        "model.feeding=context",
    ]);
    let a = config.unwrap().model.architecture(9, 8);
    assert_eq!((a.source_vocabulary, a.target_vocabulary, a.hidden, a.encoder_width()), (9, 8, 8, 6));
    assert_eq!((a.decoder_depth(), a.starts()), (3, vec![Some(1), None, Some(0)]));
    assert_eq!((a.gate_activation, a.bridge), (GateActivation::HardSigmoidFifth, Bridge::Relu));
    assert_eq!((a.score_width(), a.output_width(), a.fed_width()), (5, 14, Some(6)));
    for (set, message) in [
        (&["model.decoder_layers=2"][..], "`hand_over` does not say"),
        (&["model.hand_over=[3]"], "names the encoder layer 3 of 1"),
        (&["model.hand_over=[0, 0]"], "has 2 entries for 1 decoder layers"),
        (&["model.hand_over=[null]"], "nothing reads the encoder's top layer"),
        (&["model.hand_over=[null]", "model.attention=dot", "model.bridge=tanh"], "has nothing to read"),
        (&["model.encoder_hidden=6"], "no `bridge` lies between"),
        (&["model.encoder_hidden=6", "model.bridge=tanh", "model.attention=dot"], "as wide as the decoder"),
        (&["model.bridge_source=hidden"], "is of a `bridge`"),
        (&["model.feeding=context"], "`feeding` is of attention"),
        (&["model.attention=general", "model.attention_width=4"], "is of additive scores"),
        (&["model.attention=dot", "model.attention_output=state"], "nothing reads what attention finds"),
        (
            &["model.attention=dot", "model.attention_output=concatenated", "model.feeding=output"],
            "what the combining layer gives",
        ),
    ] {
        let error = with(set).unwrap_err();
        assert!(error.message().contains(message) && error.help_text().is_some(), "{set:?}: {error}");
    }
}

#[test]
fn a_wrong_override_is_reported_as_one() {
    for (set, message) in [
        ("training.epochs=0", "--set:training.epochs: this is 0"),
        ("training.epoch=1", "--set:training.epoch: unknown key"),
        ("training.epochs", "has no `=`"),
        ("name.first=x", "`name` is a value, not a section"),
        ("=3", "has an empty key"),
        ("training.epochs={", "--set"),
    ] {
        let error = with(&[set]).unwrap_err().to_string();
        assert!(error.contains(message), "{set}: {error}");
    }
}

#[test]
fn a_hundred_thousand_brackets_are_an_error_and_soon() {
    let started = std::time::Instant::now();
    for text in ["[".repeat(100_000), format!("name: {}", "{a: ".repeat(100_000)), "- ".repeat(100_000)] {
        assert_eq!(parse(&text).unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn a_missing_file_and_a_file_that_is_not_utf_8_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let error = Config::load(&path, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a.yaml: no such file"), "{error}");
    std::fs::write(&path, b"name: x\ndata: \xff\n").unwrap();
    let error = Config::load(&path, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a.yaml:2: not valid UTF-8"), "{error}");
}
