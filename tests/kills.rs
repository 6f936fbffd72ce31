//! Writers that are killed at random moments, with SIGKILL: what they write is old or new and whole, and what
//! they leave behind goes.
//!
//! `S2S_KILLS=200 cargo test --release --test all kill` kills each of the four writers (train,
//! export, import, and an export whose bundle a server reloads) fifty times; without it a few times.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::kills;
use crate::common::server::{Running, s2s};
use s2s::families::recurrent::Run;
use s2s::train::Which;
use s2s_kernels::random::Random;
use s2s_runtime::bundle::Bundle;
use serde_json::json;

const CONFIG: &str = "\
name: small
data:
  task: {name: dates, train: 200, dev: 20}
model:
  hidden: 12
  input: {source: one_hot, target: {embedding: 5}}
training: {epochs: 2, batch_size: 16, threads: 1, learning_rate: 3e-3, exact_match: {sample: 0}, examples: 0}
";

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Two runs of one name with other weights.
fn two_runs(folder: &Path) -> [PathBuf; 2] {
    std::fs::write(folder.join("small.yaml"), CONFIG).unwrap();
    [1, 2].map(|seed| {
        let run = folder.join(format!("run-{seed}"));
        finish(
            s2s()
                .arg("train")
                .arg(folder.join("small.yaml"))
                .arg("-o")
                .arg(&run)
                .args(["--set", &format!("training.seed={seed}")]),
        );
        run
    })
}

fn export(run: &Path, bundle: &Path) -> Command {
    let mut command = s2s();
    command.arg("export").arg(run).arg("-o").arg(bundle).args(["--random", "2"]);
    command
}

/// Kills a command after a random part of the time that it takes undisturbed; whether it was still running.
fn kill(command: &mut Command, whole: Duration, random: &mut Random) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 1000.0));
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// How long a command takes, the shortest of three.
fn duration(mut command: impl FnMut() -> Command) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        finish(&mut command());
        begin.elapsed()
    };
    (0..3).map(time).min().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_export_killed_at_any_moment_leaves_the_old_bundle_or_the_new_one_and_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let runs = two_runs(folder.path());
    let weights = |bundle: &Path| Bundle::open(bundle).unwrap().manifest().weights_sha256.clone().unwrap();
    let whole = duration(|| export(&runs[0], &folder.path().join("timed")));
    let known = [0, 1].map(|run| {
        let bundle = folder.path().join(format!("bundle-{run}"));
        finish(&mut export(&runs[run], &bundle));
        weights(&bundle)
    });
    assert_ne!(known[0], known[1]);
    // The first time nothing is there; later the other bundle is.
    let exports = folder.path().join("exports");
    let mut random = Random::new(1, 0);
    let (mut killed, mut seen) = (0, [false; 2]);
    for round in 0.. {
        if killed == kills(4) {
            break;
        }
        let (bundle, run) = (exports.join("b"), round % 2);
        let before = bundle.exists().then(|| weights(&bundle));
        killed += usize::from(kill(&mut export(&runs[run], &bundle), whole, &mut random));
        let after = bundle.exists().then(|| weights(&bundle));
        assert!(
            after == before || after.as_ref() == Some(&known[run]),
            "round {round}: {before:?} became {after:?}"
        );
        if after.as_ref() == Some(&known[run]) {
            seen[run] = true;
        } else if round % 5 == 4 {
            // Now and then one is undisturbed, so that there is something to replace.
            finish(&mut export(&runs[run], &bundle));
        }
        if exports.exists() {
            // One that was killed leaves at most its own folder; the one before it has been cleared away.
            assert!(names(&exports).iter().filter(|name| *name != "b").count() <= 1, "{:?}", names(&exports));
        }
    }
    finish(&mut export(&runs[0], &exports.join("b")));
    assert_eq!(names(&exports), ["b"]);
    assert_eq!(weights(&exports.join("b")), known[0]);
}

#[test]
fn an_import_killed_at_any_moment_leaves_the_old_run_or_the_new_one_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras");
    let import = |model: &str, run: &Path| {
        let mut command = s2s();
        command
            .args(["import", "keras"])
            .arg(fixtures.join(model))
            .arg("--pairs")
            .arg(fixtures.join("pairs.tsv"));
        command.arg("-o").arg(run).arg("--force");
        command
    };
    let models = ["one_hot.h5", "keras2.h5"];
    let result = |run: &Path| {
        let run = Run::open(run).unwrap();
        run.checkpoint(Which::Best).unwrap().expect("a run that can be opened has its weights");
        (run.config.name.clone(), std::fs::read(run.checkpoint_path(Which::Best)).unwrap())
    };
    let whole = duration(|| import(models[0], &folder.path().join("timed")));
    let known = models.map(|model| {
        let run = folder.path().join(model);
        finish(&mut import(model, &run));
        result(&run)
    });
    assert!(known[0] != known[1]);
    let run = folder.path().join("run");
    let mut random = Random::new(2, 0);
    let (mut killed, mut round) = (0, 0);
    while killed < kills(6) {
        killed += usize::from(kill(&mut import(models[round % 2], &run), whole, &mut random));
        if run.join("config.yaml").exists() {
            let found = result(&run);
            assert!(known.contains(&found), "round {round}: {} is a mixture", found.0);
        }
        round += 1;
    }
    finish(&mut import(models[0], &run));
    assert!(result(&run) == known[0]);
    assert_eq!(names(&run), [".lock", "checkpoints", "config.yaml", "vocabulary.json"]);
    assert_eq!(names(&run.join("checkpoints")), ["best.safetensors"]);
}

#[test]
fn a_server_whose_bundle_is_written_anew_by_exports_that_are_killed_answers_with_the_old_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let runs = two_runs(folder.path());
    let bundle = folder.path().join("served/b");
    let whole = duration(|| export(&runs[0], &folder.path().join("timed")));
    let text = json!("3 May 1998");
    let answers = [1, 0].map(|run| {
        finish(&mut export(&runs[run], &bundle));
        let server = Running::start(&bundle, |_| {});
        let (status, answer) = server.translate(&text);
        assert_eq!(status, 200, "{answer}");
        answer
    });
    assert_ne!(answers[0], answers[1], "weights that say the same prove nothing");
    let server = Running::start(&bundle, |command| {
        command.args(["--reload", "0.05"]).stderr(Stdio::null());
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::SeqCst) {
                let (status, answer) = server.translate(&text);
                assert!(status == 200 && answers.contains(&answer), "{status} {answer}");
                asked += 1;
            }
            asked
        });
        let mut random = Random::new(3, 0);
        let (mut killed, mut round) = (0, 0);
        while killed < kills(4) && !asked.is_finished() {
            round += 1;
            killed += usize::from(kill(&mut export(&runs[round % 2], &bundle), whole, &mut random));
            Bundle::open(&bundle).unwrap();
        }
        // The last is whole, and the server comes to it.
        finish(&mut export(&runs[1], &bundle));
        let began = Instant::now();
        while server.translate(&text).1 != answers[0] {
            assert!(began.elapsed() < Duration::from_secs(20), "the server did not load the new bundle");
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::SeqCst);
        assert!(asked.join().unwrap() > 0);
    });
    assert_eq!(names(&folder.path().join("served")), ["b"]);
}
