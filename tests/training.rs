//! `s2s train` as a process that is killed, stopped, or finds no room on the disk.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::server::s2s;
use s2s::families::recurrent::Run;
use s2s::train::Which;
use s2s_kernels::random::Random;

const CONFIG: &str = "\
name: small
data:
  task: {name: dates, train: 400, dev: 30}
model:
  hidden: 12
  input: {source: one_hot, target: {embedding: 5}}
training:
  epochs: 60
  batch_size: 16
  threads: 2
  learning_rate: 3e-3
  schedule: {name: cosine, warmup: {epochs: 2}}
  early_stopping: {monitor: train_loss, patience: 50}
  dropout: 0.1
  exact_match: {sample: 5, every: 10}
  examples: 0
  csv_logger: true
  tensorboard: true
";

/// A folder with the config, and the command that trains by it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("small.yaml"), CONFIG).unwrap();
        Self { folder }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Begins a run, or goes on with one that can be opened.
    fn command(&self, name: &str) -> Command {
        let mut command = s2s();
        command.arg("train").arg(self.folder.path().join("small.yaml")).arg("--output").arg(self.run(name));
        command.arg(if self.run(name).join("config.yaml").exists() { "--resume" } else { "--force" });
        command
    }

    fn finish(&self, name: &str) {
        let output = self.command(name).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What equal trainings have in common: checkpoints to the byte, figures but for their timings, and the
    /// length of the logs.
    fn result(&self, name: &str) -> (Vec<u8>, Vec<u8>, Vec<serde_json::Value>, [u64; 2]) {
        let run = Run::open(&self.run(name)).unwrap();
        let bytes = |which| std::fs::read(run.checkpoint_path(which)).unwrap();
        let events = ["train", "validation"].map(|set| {
            std::fs::metadata(run.folder.join("tensorboard").join(set).join("events.out.tfevents.s2s"))
                .unwrap()
                .len()
        });
        let figures = run.metrics().unwrap().iter().map(|m| m.scores()).collect();
        (bytes(Which::Last), bytes(Which::Best), figures, events)
    }
}

fn quietly(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The checkpoint of a run that can be opened, if it has one, is whole.
fn check_last(folder: &Path) {
    if folder.join("config.yaml").exists() {
        Run::open(folder).unwrap().checkpoint(Which::Last).unwrap();
    }
}

#[test]
fn a_training_killed_at_random_moments_ends_as_an_undisturbed_one() {
    let bench = Bench::new();
    let started = Instant::now();
    bench.finish("undisturbed");
    let whole = started.elapsed();
    let mut random = Random::new(20, 0);
    let (mut kills, mut round) = (0, 0);
    while kills < crate::common::kills(20) {
        let mut child = quietly(&mut bench.command(&format!("killed-{round}")));
        // Long enough that epochs are saved, short enough that a training takes several kills before it ends.
        std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 8_000.0));
        if child.try_wait().unwrap().is_some() {
            // It was done before: the next kills are for another training.
            round += 1;
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        check_last(&bench.run(&format!("killed-{round}")));
    }
    let expected = bench.result("undisturbed");
    for round in 0..=round {
        let name = format!("killed-{round}");
        bench.finish(&name);
        assert!(bench.result(&name) == expected, "{name} differs from an undisturbed training");
    }
}

#[test]
fn a_run_folder_is_written_by_one_process_at_a_time_and_read_by_any() {
    let bench = Bench::new();
    // Until it is killed.
    let mut first = quietly(bench.command("run").args([
        "--set",
        "training.epochs=100000",
        "--set",
        "training.schedule=constant",
    ]));
    let (started, best) = (Instant::now(), bench.run("run").join("checkpoints/best.safetensors"));
    while !best.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not train");
        std::thread::sleep(Duration::from_millis(2));
    }
    let config = bench.folder.path().join("small.yaml");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras");
    for arguments in [
        vec!["train".into(), config.clone().into_os_string(), "--force".into()],
        vec!["train".into(), config.into_os_string(), "--resume".into()],
        vec![
            "import".into(),
            "keras".into(),
            fixtures.join("one_hot.h5").into_os_string(),
            "--force".into(),
            "--pairs".into(),
            fixtures.join("pairs.tsv").into_os_string(),
        ],
    ] {
        let output = s2s().args(&arguments).arg("--output").arg(bench.run("run")).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        let said =
            format!("another training or import (process {}) is writing to this run folder", first.id());
        assert!(stderr.contains(&said) && stderr.contains("--output"), "{stderr}");
    }
    let export = s2s()
        .arg("export")
        .arg(bench.run("run"))
        .arg("-o")
        .arg(bench.run("bundle"))
        .args(["--random", "2"])
        .output()
        .unwrap();
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    assert!(first.try_wait().unwrap().is_none(), "the first training was disturbed");
    first.kill().unwrap();
    first.wait().unwrap();
    // The system has given the lock back.
    let mut second = quietly(bench.command("run").args([
        "--set",
        "training.epochs=100000",
        "--set",
        "training.schedule=constant",
    ]));
    let bytes = || std::fs::read(bench.run("run").join("checkpoints/last.safetensors")).unwrap();
    let before = bytes();
    while bytes() == before {
        assert!(
            second.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    second.kill().unwrap();
    second.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_says_how_to_go_on() {
    let bench = Bench::new();
    bench.finish("undisturbed");
    for (name, signal) in [("int", "INT"), ("term", "TERM")] {
        let child = bench.command(name).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (started, metrics) = (Instant::now(), bench.run(name).join("metrics.jsonl"));
        // The first line of metrics says that it trains.
        while std::fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not train");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(
            Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success()
        );
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(
            stderr.contains("stopped and saved") && stderr.contains("--resume") && !stderr.contains("error"),
            "{stderr}"
        );
        bench.finish(name);
        assert!(bench.result(name) == bench.result("undisturbed"), "{signal}");
    }
}

/// A folder where the next checkpoint is to be written: it cannot be, as on a disk without room.
#[test]
fn a_checkpoint_that_cannot_be_written_is_named_with_what_to_do_and_the_last_one_stays() {
    let bench = Bench::new();
    bench.finish("undisturbed");
    let run = bench.run("full");
    let child = bench
        .command("full")
        .args(["--set", "training.epochs=60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let last = run.join("checkpoints/last.safetensors");
    while !last.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let temporary = run.join("checkpoints/.last.safetensors.part");
    while std::fs::create_dir(&temporary).is_err() {
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("last.safetensors") && stderr.contains("--resume"), "{stderr}");
    check_last(&run);
    std::fs::remove_dir(&temporary).unwrap();
    bench.finish("full");
    assert!(bench.result("full") == bench.result("undisturbed"));
}

/// A limit on the size of files stops a write in its middle, as a disk does that becomes full.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_stops_in_its_middle_leaves_the_older_file() {
    let bench = Bench::new();
    bench.finish("undisturbed");
    let last =
        std::fs::metadata(bench.run("undisturbed").join("checkpoints/last.safetensors")).unwrap().len();
    // Begin, so that there is a checkpoint; then go on with room for half of one.
    let mut child = quietly(&mut bench.command("limited"));
    while !bench.run("limited").join("checkpoints/last.safetensors").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let command = bench.command("limited");
    // `ulimit -f` counts 512 bytes, in some shells 1024; without the trap the system would end the process by
    // a signal.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &(last / 2048).to_string()]);
    limited.arg(command.get_program()).args(command.get_args()).env("RUST_BACKTRACE", "0");
    let output = limited.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("safetensors")
            && stderr.contains("larger than the system allows")
            && stderr.contains("--resume"),
        "{stderr}"
    );
    check_last(&bench.run("limited"));
    bench.finish("limited");
    assert!(bench.result("limited") == bench.result("undisturbed"));
}

#[test]
fn a_config_beside_its_pairs_trains_in_the_working_folder_and_goes_on_from_another() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pairs.tsv"), "a b\tB A\nc d\tD C\na d\tD A\nc b\tB C\n").unwrap();
    let config = CONFIG
        .replace(
            "  task: {name: dates, train: 400, dev: 30}\n",
            "  train: pairs.tsv\n  validation: {split: tail, fraction: 0.25}\n",
        )
        .replace("epochs: 60", "epochs: 4");
    std::fs::write(folder.path().join("own.yaml"), config).unwrap();
    let output = s2s().current_dir(folder.path()).args(["train", "own.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = folder.path().join("runs/small");
    let output =
        s2s().args(["train", "--resume", "--set", "training.examples=1"]).arg(&run).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Another run from its weights, with a word that it does not know.
    std::fs::write(folder.path().join("pairs.tsv"), "a b\tB A\nc d\tD C\na d\tD A\nx b\tB X\n".repeat(2))
        .unwrap();
    let mut command = s2s();
    command.current_dir(folder.path()).args([
        "train",
        "own.yaml",
        "-o",
        "runs/tuned",
        "--init-from",
        "runs/small",
        "--extend-vocabulary",
    ]);
    let output = command.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        stdout.contains(
            "weights of small after epoch 4; 1 source and 1 target symbols are new, which have got ids"
        ),
        "{stdout}"
    );
    for wrong in [["--resume", "--init-from", "runs/small"].as_slice(), &["--extend-vocabulary"]] {
        let output =
            s2s().current_dir(folder.path()).args(["train", "own.yaml"]).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
