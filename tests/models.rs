//! Models that can be seen, configs that can be checked, and the perceptron from its data to its classes, as
//! users run them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::server::{run, s2s};
use serde_json::Value;

fn ok(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!(code, 0, "{command:?}: {stderr}");
    stdout
}

/// The data folder that is not part of the project; `None` with a printed reason where it is absent.
fn shared_data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let found = std::env::var_os("S2S_DATA")
        .map(PathBuf::from)
        .into_iter()
        .chain([beside])
        .find(|p| p.join("mnist").is_dir());
    if found.is_none() {
        crate::common::skipped("no folder with mnist/mnist_5k.csv.gz (S2S_DATA, ../shared/data)");
    }
    found
}

#[test]
fn a_bundle_a_zip_of_nothing_and_a_lone_graph_can_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let table = ok(s2s().arg("summary").arg(&bundle));
    for text in [
        "encoder.lstm_0 (LSTM)",
        "decoder.dense (Dense)",
        "Total parameters:",
        "what Keras counts for",
        "training.onnx",
    ] {
        assert!(table.contains(text), "{text}\n{table}");
    }
    let json: Value =
        serde_json::from_str(&ok(s2s().args(["inspect", "--json", "--tensors"]).arg(&bundle))).unwrap();
    let graphs = json["graphs"].as_array().unwrap();
    let layers: u64 =
        graphs[0]["layers"].as_array().unwrap().iter().map(|l| l["parameters"].as_u64().unwrap()).sum();
    assert_eq!((graphs.len(), json["parameters"].as_u64()), (3, Some(layers)), "layers add up to the total");
    let bytes: u64 = graphs[0]["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["type"] == "float32")
        .map(|t| t["bytes"].as_u64().unwrap())
        .sum();
    assert!(bytes >= json["bytes"].as_u64().unwrap());

    let lone = ok(s2s().arg("show").arg(bundle.join("decoder.onnx")));
    assert!(lone.contains("next_state_h_0") && lone.contains("opset 17"), "{lone}");
    let (code, _, stderr) = run(s2s().arg("inspect").arg(bundle.join("s2s.yaml")));
    assert_eq!(code, 5, "{stderr}");
    assert_eq!(run(s2s().arg("inspect").arg(folder.path().join("nothing"))).0, 1);
}

#[test]
fn pictures_are_written_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let file = folder.path().join("a.svg");
    for view in ["overview", "network", "encoder", "decoder", "training"] {
        ok(s2s().arg("inspect").arg(&bundle).args(["--graph", "svg", "--view", view, "-o"]).arg(&file));
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("batch"),
            "{view}"
        );
    }
    assert!(ok(s2s().arg("inspect").arg(&bundle).args(["--graph", "dot"])).starts_with("digraph"));
    assert!(
        ok(s2s().arg("inspect").arg(&bundle).args(["--graph", "mermaid", "--view", "decoder"]))
            .starts_with("flowchart TD")
    );
    // PNG needs no fonts of the machine; a build without it says what to do.
    let png = run(s2s()
        .arg("inspect")
        .arg(&bundle)
        .args(["--graph", "png", "-o"])
        .arg(folder.path().join("a.png")));
    if cfg!(feature = "png") {
        assert!(std::fs::read(folder.path().join("a.png")).unwrap().starts_with(b"\x89PNG"), "{png:?}");
    } else {
        assert!(png.0 == 2 && png.2.contains("--graph svg"), "{png:?}");
    }
}

#[test]
fn a_config_is_started_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.yaml");
    ok(s2s().args(["config", "init"]).arg(&file));
    assert_eq!(
        run(s2s().args(["config", "init"]).arg(&file)).0,
        2,
        "a file that is there is not overwritten"
    );
    assert!(ok(s2s().args(["config", "check"]).arg(&file)).contains("ok"));
    let shown: Value = serde_json::from_str(&ok(s2s()
        .args(["config", "show", "--json", "--set", "training.epochs=3"])
        .arg(&file)))
    .unwrap();
    assert_eq!(shown["training"]["epochs"], 3);
    let wrong = std::fs::read_to_string(&file).unwrap().replace("hidden:", "hiden:");
    std::fs::write(&file, wrong).unwrap();
    let (code, stdout, stderr) = run(s2s().args(["config", "check"]).arg(&file));
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("model.hiden") && stderr.contains("did you mean `hidden`?"), "{stderr}");
    let schema: Value = serde_json::from_str(&ok(s2s().args(["config", "schema"]))).unwrap();
    assert_eq!(schema["$defs"]["seq2seq"]["properties"]["model"]["properties"]["hidden"]["type"], "integer");
    let configs = [
        "dates",
        "cmn_chars",
        "cmn_attention",
        "cmn_embedding",
        "cmn_first",
        "cmudict",
        "cmudict_small",
        "embedding_10k",
        "mlp_mnist",
        "sigmorphon",
        "template",
    ]
    .map(|c| format!("configs/{c}.yaml"));
    assert_eq!(ok(s2s().args(["config", "check"]).args(&configs)).lines().count(), configs.len());
}

#[test]
fn help_completions_and_manuals_know_every_command() {
    let help = ok(s2s().arg("--help"));
    for text in ["inspect", "summary, show", "Exit codes:", "130", "NO_COLOR"] {
        assert!(help.contains(text), "{text}\n{help}");
    }
    assert!(ok(s2s().args(["completions", "bash"])).contains("serve-local"));
    assert!(ok(s2s().arg("man")).contains(".TH"));
    let (code, _, stderr) = run(s2s().arg("inspct"));
    assert!(code == 2 && stderr.contains("inspect"), "{stderr}");
}

/// Two clouds of points, told apart by their first feature.
fn points(count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        let label = i % 2;
        let _ = writeln!(text, "{},{},{label}", label * 200 + i % 50, (i * 7) % 255);
    }
    text
}

#[test]
fn a_perceptron_is_trained_resumed_exported_verified_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("points.csv"), points(400)).unwrap();
    let config = "name: points\ndata: {train: points.csv, validation: {split: shuffled, fraction: 0.2}, scale: 255}\n\
        model: {kind: mlp, inputs: 2, hidden: [16, 8], classes: 2}\n\
        training: {epochs: 30, batch_size: 32, learning_rate: 1.0e-2, threads: 2}\n";
    std::fs::write(at("points.yaml"), config).unwrap();
    let said = ok(s2s().arg("train").arg(at("points.yaml")).arg("-o").arg(at("whole")));
    let metrics = std::fs::read_to_string(at("whole").join("metrics.jsonl")).unwrap();
    let curves = std::fs::read_to_string(at("whole").join("curves.svg")).unwrap();
    // Its own units: a sample is no token, and has no padding.
    assert!(said.contains(" samples/s") && said.contains(", accuracy ") && !said.contains("token"), "{said}");
    assert!(
        metrics.contains("\"samples_per_second\":")
            && !metrics.contains("token")
            && !metrics.contains("padded"),
        "{metrics}"
    );
    assert!(curves.contains("nats a sample") && !curves.contains("token"), "{curves}");
    assert_eq!(
        run(s2s().arg("train").arg(at("points.yaml")).arg("-o").arg(at("whole"))).0,
        2,
        "a run is not overwritten"
    );
    ok(s2s()
        .arg("train")
        .arg(at("points.yaml"))
        .args(["--set", "training.epochs=11", "-o"])
        .arg(at("parts")));
    ok(s2s().arg("train").arg(at("points.yaml")).args(["--resume", "-o"]).arg(at("parts")));
    let weights = |run: &str| std::fs::read(at(run).join("checkpoints/last.safetensors")).unwrap();
    assert!(
        weights("whole") == weights("parts"),
        "a resumed run has other weights than one that never stopped"
    );

    ok(s2s().args(["export", "--format", "onnx"]).arg(at("whole")).arg("-o").arg(at("bundle")));
    assert!(ok(s2s().arg("verify").arg(at("bundle"))).contains("classes that depend on the batch"));
    assert!(ok(s2s().arg("summary").arg(at("bundle"))).contains("dense_2 (Dense)"));
    let (code, stdout, stderr) = run(s2s().arg("predict").arg(at("bundle")).arg(at("points.csv")));
    assert_eq!((code, stdout.lines().count()), (0, 400));
    assert!(stderr.contains("400 of 400 labels are right"), "{stderr}");
    // That these are the rows that it knows is said, from a file and from a pipe, and of others it is not.
    let warning = "these are the rows that it was trained on (points.csv)";
    assert!(stderr.contains(warning), "{stderr}");
    let piped = |rows: String| {
        std::fs::write(at("piped.csv"), rows).unwrap();
        let stdin = std::fs::File::open(at("piped.csv")).unwrap();
        run(s2s().arg("predict").arg(at("bundle")).stdin(stdin)).2
    };
    assert!(piped(points(400)).contains(warning));
    assert!(!piped(points(399)).contains(warning));
    std::fs::write(at("wrong.csv"), "1,2\n3,x\n").unwrap();
    let (code, _, stderr) = run(s2s().arg("predict").arg(at("bundle")).arg(at("wrong.csv")));
    assert!(code == 4 && stderr.contains("wrong.csv:2"), "{stderr}");

    let manifest = at("bundle").join("s2s.yaml");
    let sound = std::fs::read_to_string(&manifest).unwrap();
    for (key, wrong, said) in [
        ("inputs: 2", "inputs: 0", "s2s.yaml:architecture: `inputs` is 0"),
        ("classes: 2", "classes: 100000000000", "s2s.yaml:architecture: `classes` is 100000000000"),
        ("inputs: 2", "inputs: 9000000", "s2s.yaml:architecture: the architecture asks for"),
    ] {
        std::fs::write(&manifest, sound.replace(key, wrong)).unwrap();
        let (code, _, stderr) = run(s2s().args(["verify", "--no-write"]).arg(at("bundle")));
        assert!(code == 5 && stderr.contains(said), "{wrong}: {code} {stderr}");
        let (code, _, stderr) = run(s2s().arg("predict").arg(at("bundle")).arg(at("points.csv")));
        assert!(matches!(code, 4 | 5), "{wrong}: {code} {stderr}");
    }
    std::fs::write(&manifest, sound).unwrap();

    let model = at("bundle").join("model.onnx");
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&model, bytes).unwrap();
    let (code, _, stderr) = run(s2s().arg("verify").arg(at("bundle")));
    assert!(code == 5 && stderr.contains("model.onnx"), "{stderr}");
}

#[test]
fn samples_that_unpack_to_more_than_a_line_of_numbers_can_be_are_refused_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = "name: points\ndata: {train: points.csv.gz, validation: {split: shuffled, fraction: 0.2}}\n\
        model: {kind: mlp, inputs: 2, hidden: [16], classes: 2}\n\
        training: {epochs: 1, batch_size: 32, learning_rate: 1.0e-2, threads: 1}\n";
    std::fs::write(at("points.yaml"), config).unwrap();
    // One line of 200 MB, in 200 kB.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(points(20).as_bytes()).unwrap();
    (0..200).for_each(|_| packed.write_all(&[b'1'; 1 << 20]).unwrap());
    std::fs::write(at("points.csv.gz"), packed.finish().unwrap()).unwrap();
    let (code, _, stderr) = run(s2s().arg("train").arg(at("points.yaml")).arg("-o").arg(at("run")));
    assert!(
        code == 4
            && stderr
                .contains("points.csv.gz:21: the line is longer than 1152 bytes, where 2 features belong"),
        "{stderr}"
    );
    assert!(!at("run").exists(), "nothing is written");
}

#[test]
fn the_committed_perceptron_reads_held_out_digits() {
    let Some(data) = shared_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    ok(s2s()
        .args(["train", "configs/mlp_mnist.yaml", "--set", "training.epochs=6", "--data"])
        .arg(data)
        .arg("-o")
        .arg(&run));
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let best = metrics
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .rfind(|m| m["best"] == true)
        .unwrap();
    assert!(best["validation_accuracy"].as_f64().unwrap() >= 0.93, "{best}");
}

#[test]
fn the_variant_with_words_trains_and_translates_at_a_small_size() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut pairs = String::new();
    for i in 0..300usize {
        let words: Vec<String> = (0..2 + i % 3).map(|j| format!("w{}", (i * 31 + j * 17) % 23)).collect();
        let reversed: Vec<&str> = words.iter().rev().map(String::as_str).collect();
        let _ = writeln!(pairs, "{}\t{}", words.join(" "), reversed.join(" "));
    }
    std::fs::write(at("pairs_10k.tsv"), pairs).unwrap();
    let small = [
        "model.hidden=48",
        "model.input={embedding: 16}",
        "training.epochs=25",
        "training.batch_size=16",
        "training.learning_rate=1.0e-2",
    ];
    let mut train = s2s();
    train.args(["train", "configs/embedding_10k.yaml", "--data"]).arg(folder.path()).arg("-o").arg(at("run"));
    train.args(small.iter().flat_map(|set| ["--set", set]));
    ok(&mut train);
    let metrics = std::fs::read_to_string(at("run").join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["train_loss"].as_f64().unwrap())
        .collect();
    assert!(losses[losses.len() - 1] < 0.3 * losses[0], "{losses:?}");
    let table = ok(s2s().arg("summary").arg(at("run")));
    assert!(
        table.contains("encoder.embedding (Embedding)") && table.contains("(batch, source_time, 16)"),
        "{table}"
    );
    // Cells trained this hard leave the range in which the usual limit of absolute errors is meant.
    ok(s2s()
        .args(["export", "--format", "onnx", "--atol", "1.0e-4"])
        .arg(at("run"))
        .arg("-o")
        .arg(at("bundle")));
    let out = ok(s2s().arg("translate").arg(at("bundle")).arg("w1 w2"));
    assert!(out.split_whitespace().all(|w| w.starts_with('w')), "{out}");
}
