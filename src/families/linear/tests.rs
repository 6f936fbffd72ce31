#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use s2s_runtime::engine::EngineKind;
use s2s_runtime::manifest::Io;

use super::Linear;
use crate::config::LoadOptions;
use crate::error::{Error, ErrorKind};
use crate::export::{Dtype, EncoderForm, FeatureBundle, VerifyOptions, best};
use crate::families::{self, Export, Format, Layout, Training};
use crate::network::perceptron::Sample;
use crate::network::traits::tests::check_gradients;
use crate::network::{Network, Parameters};
use crate::train::{Event, Mode, Report, Run, Which};

const CONFIG: &str = "\
name: lines
data: {train: points.csv, validation: {split: shuffled, fraction: 0.2}}
model: {kind: linear, inputs: 2, classes: 3}
training: {epochs: 6, batch_size: 16, learning_rate: 0.1, threads: 2, csv_logger: true}
";

/// Three clouds of points that straight lines part.
fn points() -> String {
    let mut text = String::new();
    for i in 0..240u32 {
        let (label, x, y) = (i % 3, f64::from(i * 7 % 10) / 10.0, f64::from(i * 3 % 10) / 10.0);
        let [right, up] = [[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]][label as usize];
        writeln!(text, "{},{},{label}", right + x, up + y).unwrap();
    }
    text
}

/// Counts the steps, and stops the training after some of them, as a signal would.
struct Listener<'a> {
    stop: &'a AtomicBool,
    left: usize,
}

impl Report for Listener<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { .. } = event {
            self.left = self.left.saturating_sub(1);
            self.stop.store(self.left == 0, Ordering::SeqCst);
        }
    }
}

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lines.yaml"), CONFIG).unwrap();
        std::fs::write(folder.path().join("points.csv"), points()).unwrap();
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn train(&self, run: &str, mode: Mode, steps: usize, set: &[&str]) -> Result<(), Error> {
        let overrides = set.iter().map(|&s| s.to_owned()).collect();
        let (config, load) = (self.at("lines.yaml"), LoadOptions { overrides, data: None });
        let stop = AtomicBool::new(false);
        let output = Some(self.at(run));
        let training = Training { config: &config, load: &load, output, mode, init_from: None, stop: &stop };
        families::of_config(&config, &load).train(&training, &mut Listener { stop: &stop, left: steps })
    }

    fn weights(&self, run: &str) -> [Vec<u8>; 2] {
        let run = Run::<Linear>::open(&self.at(run)).unwrap();
        [Which::Last, Which::Best].map(|which| std::fs::read(run.checkpoint_path(which)).unwrap())
    }
}

fn export(output: PathBuf) -> Export {
    Export {
        output: Some(output),
        format: Format::Onnx,
        layout: Layout::Bundle,
        io: Io::Ids,
        opset: None,
        target: None,
        dtype: Dtype::F32,
        encoder_form: EncoderForm::Whole,
        fused: false,
        dev: None,
        max_loss: 0.0,
        checkpoint: Which::Best,
        examples: None,
        force: false,
        verification: VerifyOptions::default(),
    }
}

#[test]
fn a_new_family_is_trained_stopped_and_resumed_bit_for_bit() {
    let bench = Bench::new();
    bench.train("straight", Mode::New, usize::MAX, &[]).unwrap();
    // In the middle of the second epoch of twelve batches, and of the fourth.
    let error = bench.train("parts", Mode::New, 17, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.message().contains("after 1 epochs and 5 batches"), "{error}");
    bench.train("parts", Mode::Resume, 20, &[]).unwrap_err();
    bench.train("parts", Mode::Resume, usize::MAX, &[]).unwrap();
    assert_eq!(bench.weights("straight"), bench.weights("parts"));
    let metrics = Run::<Linear>::open(&bench.at("parts")).unwrap().metrics().unwrap();
    assert!(metrics.len() == 6 && metrics[5].validation_loss < metrics[0].validation_loss, "{metrics:?}");
    assert!(bench.at("parts").join("metrics.csv").exists() && bench.at("parts").join("curves.svg").exists());

    // The rules of runs are its rules.
    let error = bench.train("parts", Mode::New, usize::MAX, &[]).unwrap_err();
    assert!(error.message().contains("a run in this folder already"), "{error}");
    let error = bench.train("parts", Mode::Resume, usize::MAX, &["training.seed=7"]).unwrap_err();
    assert!(error.message().contains("`training.seed` differs"), "{error}");
    std::fs::write(bench.at("points.csv"), points() + "1,1,1\n").unwrap();
    let error = bench.train("parts", Mode::Resume, usize::MAX, &[]).unwrap_err();
    assert!(error.message().contains("points.csv has changed"), "{error}");
    let early = ["training.early_stopping={min_delta: 9, patience: 1}"];
    bench.train("early", Mode::New, usize::MAX, &early).unwrap();
    assert_eq!(Run::<Linear>::open(&bench.at("early")).unwrap().metrics().unwrap().len(), 2);
    let error = bench.train("x", Mode::New, usize::MAX, &["model.clases=3"]).unwrap_err();
    assert!(error.to_string().contains("model.clases"), "{error}");
}

#[test]
fn a_new_family_is_exported_verified_and_run_in_the_engines() {
    let bench = Bench::new();
    bench.train("run", Mode::New, usize::MAX, &["training.epochs=20"]).unwrap();
    let bundle = bench.at("bundle");
    let family = families::of_run(&bench.at("run"));
    assert_eq!(family.kind(), "linear");
    let exported = family.export(&bench.at("run"), &export(bundle.clone()), &mut |_| ()).unwrap();
    let report = exported.report.unwrap();
    let said = report.table();
    assert!(report.passed && said.contains("tract"), "{said}");
    let family = families::of_bundle(&bundle);
    assert_eq!(family.kind(), "linear");
    assert!(family.verify(&bundle, &VerifyOptions::default(), false).unwrap().passed);

    // What the engine says of the points is what they are labelled with.
    let opened = FeatureBundle::<Linear>::open(&bundle).unwrap();
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for line in points().lines() {
        let numbers: Vec<f32> = line.split(',').map(|n| n.parse().unwrap()).collect();
        features.extend_from_slice(&numbers[..2]);
        labels.push(numbers[2] as usize);
    }
    let mut graph = opened.load(EngineKind::Tract).unwrap();
    let found = best(&opened.run(&mut *graph, &features).unwrap()[0], 3);
    let right = found.iter().zip(&labels).filter(|(a, b)| a == b).count();
    assert!(right > 230, "{right} of 240");

    // A weight that is changed is found.
    damage(&bundle.join("model.onnx"));
    let error = family.verify(&bundle, &VerifyOptions::default(), false).unwrap_err();
    assert!(error.to_string().contains("model.onnx"), "{error}");
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn gradients_of_a_new_family_are_those_of_finite_differences() {
    let network = Linear::new(serde_json::from_str("{\"inputs\": 2, \"classes\": 3}").unwrap()).unwrap();
    let p: Parameters<f64> = network.initialise(3).map(f64::from);
    let features = [[0.5, -1.0], [2.0, 0.25], [-1.5, 1.0], [0.0, 3.0]];
    let samples: Vec<Sample<'_>> =
        features.iter().zip([0, 2, 1, 2]).map(|(features, label)| Sample { features, label }).collect();
    check_gradients(&network, &p, &samples);
}
