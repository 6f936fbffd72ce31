#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::Run;
use crate::config::LoadOptions;
use crate::error::Error;
use crate::families::{self, Training};
use crate::train::{Console, Mode, Which};

const CONFIG: &str = "\
name: points
data: {train: points.csv, validation: {split: tail, fraction: 0.25}, scale: 255}
model: {kind: mlp, inputs: 2, hidden: [4], classes: 2}
training: {epochs: 6, batch_size: 32, learning_rate: 1.0e-2, threads: 2, early_stopping: {patience: 50}}
";

/// A folder with a config and its data, for runs.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("points.yaml"), CONFIG).unwrap();
        let mut points = String::new();
        (0..128).for_each(|i| writeln!(points, "{},{},{}", i % 2 * 90 + i % 50, i * 7 % 255, i % 2).unwrap());
        std::fs::write(folder.path().join("points.csv"), points).unwrap();
        Self(folder)
    }

    fn run(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn train(&self, run: &str, mode: Mode, epochs: usize) -> Result<(), Error> {
        let config = self.run("points.yaml");
        let load = LoadOptions { overrides: vec![format!("training.epochs={epochs}")], data: None };
        let (stop, output) = (AtomicBool::new(false), Some(self.run(run)));
        let training = Training { config: &config, load: &load, output, mode, init_from: None, stop: &stop };
        families::of_config(&config, &load).train(&training, &mut Console::new(false, true))
    }
}

/// Rewrites a run as the first versions wrote it: no `samples.json`, and checkpoints with a header of their own.
fn age(folder: &Path) {
    let run = Run::open(folder).unwrap();
    for which in [Which::Best, Which::Last] {
        let path = run.checkpoint_path(which);
        let whole = std::fs::read(&path).unwrap();
        let (_, about) = SafeTensors::read_metadata(&whole).unwrap();
        let header: Value =
            serde_json::from_str(&about.metadata().as_ref().unwrap()["s2s.checkpoint"]).unwrap();
        let (progress, data) = (&header["progress"], &run.record.data[0]);
        let loss = f64::from_bits(progress["best"]["validation_loss_bits"].as_u64().unwrap());
        let older = json!({
            "architecture": header["architecture"],
            "config": header["config"],
            "data": { "file": data.file, "sha256": data.sha256, "pairs": data.pairs },
            "epoch": progress["epoch"],
            "step": progress["step"],
            "best": [progress["best"]["epoch"], loss],
            "callbacks": progress["callbacks"],
        });
        let tensors = SafeTensors::deserialize(&whole).unwrap();
        let metadata = [("s2s.mlp_checkpoint".to_owned(), older.to_string())];
        std::fs::write(&path, safetensors::serialize(tensors.iter(), Some(metadata.into())).unwrap())
            .unwrap();
    }
    std::fs::remove_file(folder.join("samples.json")).unwrap();
}

#[test]
fn runs_of_the_first_versions_open_and_go_on_bit_for_bit() {
    let bench = Bench::new();
    bench.train("straight", Mode::New, 6).unwrap();
    bench.train("old", Mode::New, 3).unwrap();
    let before = Run::open(&bench.run("old")).unwrap();
    age(&bench.run("old"));
    let old = Run::open(&bench.run("old")).unwrap();
    assert_eq!(old.record, before.record);
    assert_eq!(old.parameters(Which::Best).unwrap(), before.parameters(Which::Best).unwrap());
    assert_eq!(old.provenance(Which::Last).unwrap(), before.provenance(Which::Last).unwrap());

    // Data that have changed are known by the hash in the old header.
    let (csv, whole) = (bench.run("points.csv"), std::fs::read(bench.run("points.csv")).unwrap());
    std::fs::write(&csv, [&whole[..], b"1,1,1\n"].concat()).unwrap();
    let error = bench.train("old", Mode::Resume, 6).unwrap_err();
    assert!(error.message().contains("points.csv has changed"), "{error}");
    std::fs::write(&csv, whole).unwrap();

    bench.train("old", Mode::Resume, 6).unwrap();
    let straight = Run::open(&bench.run("straight")).unwrap();
    for which in [Which::Best, Which::Last] {
        let bytes = |run: &Run| std::fs::read(run.checkpoint_path(which)).unwrap();
        assert!(bytes(&old) == bytes(&straight), "{which:?}");
    }
    let record = |run: &str| std::fs::read(bench.run(run).join("samples.json")).unwrap();
    assert_eq!(record("old"), record("straight"));
}

#[test]
fn a_run_of_the_first_versions_that_never_ended_an_epoch_begins_again() {
    let bench = Bench::new();
    bench.train("straight", Mode::New, 2).unwrap();
    bench.train("old", Mode::New, 2).unwrap();
    age(&bench.run("old"));
    std::fs::remove_dir_all(bench.run("old").join("checkpoints")).unwrap();
    std::fs::create_dir(bench.run("old").join("checkpoints")).unwrap();
    bench.train("old", Mode::Resume, 2).unwrap();
    let [old, straight] = ["old", "straight"].map(|run| Run::open(&bench.run(run)).unwrap());
    assert_eq!(old.parameters(Which::Last).unwrap(), straight.parameters(Which::Last).unwrap());
    assert_eq!(old.record, straight.record);
}
