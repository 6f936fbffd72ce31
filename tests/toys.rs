//! Small data, trained until it is known by heart: every such run exports, whatever its width and learning
//! rate.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::server::s2s;
use serde_json::Value;

/// 45 pairs: 15 phrases, each with three endings.
fn phrases() -> String {
    let phrases = "ten dix,run cours,walk marche,read lis,sing chante,open ouvre,close ferme,look regarde,write \u{e9}cris,sleep dors,\
                   eat mange,drink bois,thanks merci,night nuit,come viens";
    let mut pairs = String::new();
    for phrase in phrases.split(',') {
        let (source, target) = phrase.split_once(' ').unwrap();
        for ending in [".", "!", "?"] {
            let space = if ending == "." { "" } else { " " };
            writeln!(pairs, "{source}{ending}\t{target}{space}{ending}").unwrap();
        }
    }
    pairs
}

/// 30 words and how they are pronounced, in ARPAbet.
const WORDS: &str = "cat\tK AE T
dog\tD AO G
fish\tF IH SH
bird\tB ER D
tree\tT R IY
house\tHH AW S
water\tW AO T ER
stone\tS T OW N
light\tL AY T
night\tN AY T
right\tR AY T
knee\tN IY
knife\tN AY F
thumb\tTH AH M
phone\tF OW N
queen\tK W IY N
music\tM Y UW Z IH K
apple\tAE P AH L
orange\tAO R AH N JH
lemon\tL EH M AH N
garden\tG AA R D AH N
winter\tW IH N T ER
summer\tS AH M ER
river\tR IH V ER
mountain\tM AW N T AH N
bridge\tB R IH JH
church\tCH ER CH
school\tS K UW L
letter\tL EH T ER
number\tN AH M B ER
";

fn config(target_unit: &str) -> String {
    format!(
        "name: toy\ndata:\n  train: pairs.tsv\n  validation: {{split: shuffled, fraction: 0.2}}\n  source: {{unit: character}}\n  \
         target: {{unit: {target_unit}}}\nmodel: {{cell: lstm, layers: 1, hidden: 64, input: {{embedding: 8}}}}\n\
         training: {{epochs: 150, batch_size: 16, seed: 1, learning_rate: 1.0e-2}}\ndecoding: {{max_new_tokens: 24}}\n"
    )
}

/// A folder with pairs and config.
fn folder(pairs: &str, target_unit: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pairs.tsv"), pairs).unwrap();
    std::fs::write(folder.path().join("toy.yaml"), config(target_unit)).unwrap();
    folder
}

fn said(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn ok(command: &mut Command) -> String {
    let (code, out, err) = said(command);
    assert_eq!(code, 0, "{out}\n{err}");
    out
}

fn train_and_export(folder: &Path, hidden: usize, learning_rate: &str) -> PathBuf {
    let (run, bundle) = (
        folder.join(format!("run-{hidden}-{learning_rate}")),
        folder.join(format!("bundle-{hidden}-{learning_rate}")),
    );
    let mut train = s2s();
    train.arg("train").arg(folder.join("toy.yaml")).arg("-o").arg(&run).arg("--quiet");
    train.args([
        "--set",
        &format!("model.hidden={hidden}"),
        "--set",
        &format!("training.learning_rate={learning_rate}"),
    ]);
    ok(&mut train);
    // The bound is made from a sweep over all sizes, whatever the number of texts that are decoded.
    ok(s2s().arg("export").arg(&run).arg("-o").arg(&bundle).args(["--quiet", "--random", "16"]));
    bundle
}

fn record(bundle: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(bundle.join("conformance.json")).unwrap()).unwrap()
}

#[test]
fn forty_five_pairs_export_whatever_the_width_and_the_learning_rate_and_a_later_verification_allows_as_much()
{
    let folder = folder(&phrases(), "character");
    let mut widened = 0;
    for hidden in [32, 64, 128] {
        for learning_rate in ["1e-3", "3e-3", "1e-2"] {
            let bundle = train_and_export(folder.path(), hidden, learning_rate);
            let record = record(&bundle);
            let again: Value = serde_json::from_str(&ok(s2s().arg("verify").arg(&bundle).args([
                "--no-write",
                "--json",
                "--random",
                "16",
            ])))
            .unwrap();
            let bound = |record: &Value| record["tolerances"]["states"].as_f64().unwrap();
            assert_eq!(bound(&again), bound(&record), "{hidden} {learning_rate}");
            assert!(record["rounding"]["states"].as_f64().is_some_and(|states| states > 0.0), "{record}");
            widened += usize::from(bound(&record) > 1.01e-5);
        }
    }
    assert!(widened >= 3, "{widened} of 9 amplify rounding: the others prove little");
}

#[test]
fn thirty_pronunciations_export_at_every_learning_rate() {
    let folder = folder(WORDS, "token");
    for learning_rate in ["1e-3", "3e-3", "1e-2", "3e-2"] {
        train_and_export(folder.path(), 64, learning_rate);
    }
}

#[test]
fn an_export_goes_to_exported_name_says_so_and_never_takes_a_place_that_is_taken() {
    let folder = folder(WORDS, "token");
    let mut train = s2s();
    train.current_dir(folder.path()).args([
        "train",
        "toy.yaml",
        "--quiet",
        "--set",
        "training.epochs=1",
        "--set",
        "model.hidden=8",
    ]);
    ok(&mut train);
    let export = |arguments: &[&str]| {
        said(s2s().current_dir(folder.path()).args(["export", "runs/toy", "--random", "2"]).args(arguments))
    };
    let bundle = folder.path().join("exported/toy");
    let (code, _, err) = export(&[]);
    assert!(code == 0 && err.contains("Wrote exported/toy"), "{err}");
    let before = std::fs::read(bundle.join("conformance.json")).unwrap();
    let (code, _, err) = export(&["--seed", "5"]);
    assert!(
        code == 2 && err.contains("exported/toy") && err.contains("--force") && err.contains("-o "),
        "{err}"
    );
    assert_eq!(std::fs::read(bundle.join("conformance.json")).unwrap(), before);
    let (code, _, err) = export(&["--seed", "5", "--force"]);
    assert_eq!(code, 0, "{err}");
    assert_ne!(std::fs::read(bundle.join("conformance.json")).unwrap(), before);
    // A bound that rounding cannot meet: what is left to do is said.
    let (code, _, err) = export(&["--atol", "1e-12", "-o", "strict"]);
    assert!(code == 5 && err.contains("--atol ") && err.contains("every decoded text agrees"), "{err}");
    assert!(!folder.path().join("strict").exists());
}
