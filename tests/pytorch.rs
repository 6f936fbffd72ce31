//! Models that PyTorch saved (tests/pytorch/make.py), imported, exported and decoded: the tokens of their
//! makers' own loops.

use std::path::{Path, PathBuf};

use crate::common::server::s2s;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::translator::{Translator, TranslatorPool};
use serde_json::Value;

const WORDS: &[&str] =
    &["--source-vocabulary", "tutorial_source.json", "--target-vocabulary", "tutorial_target.json"];

/// Where the makers' loops of the fixtures stop.
const LIMIT: &[&str] = &["--max-new-tokens", "20"];
const JOEYNMT: &[&str] = &[
    "--source-vocabulary",
    "joeynmt_source.txt",
    "--target-vocabulary",
    "joeynmt_target.txt",
    LIMIT[0],
    LIMIT[1],
];

/// Checkpoints, the mapping, what their maker said, further arguments.
const MODELS: &[(&[&str], &str, &str, &[&str])] = &[
    (&["g2p.npz"], "g2p-en", "g2p", &[]),
    (&["tutorial.pt"], "tutorial", "tutorial", WORDS),
    (&["tutorial_before_1.6.pt"], "tutorial", "tutorial", WORDS),
    (&["tutorial.safetensors"], "tutorial", "tutorial", WORDS),
    (&["tutorial.npz"], "tutorial", "tutorial", WORDS),
    (&["encoder=tutorial_encoder.pt", "decoder=tutorial_decoder_module.pt"], "tutorial", "tutorial", WORDS),
    (&["opennmt_plain.pt"], "opennmt_plain.yaml", "opennmt_plain", LIMIT),
    (&["tutorial_attention.pt"], "tutorial-attention", "tutorial_attention", WORDS),
    (&["opennmt.pt"], "opennmt", "opennmt", LIMIT),
    (&["opennmt_bridge.pt"], "opennmt_bridge.yaml", "opennmt_bridge", LIMIT),
    (&["opennmt_bridge_2.pt"], "opennmt_bridge_2.yaml", "opennmt_bridge_2", LIMIT),
    (&["opennmt_mlp.pt"], "opennmt_mlp.yaml", "opennmt_mlp", LIMIT),
    (&["joeynmt.ckpt"], "joeynmt", "joeynmt", JOEYNMT),
    (&["joeynmt_bahdanau.ckpt"], "joeynmt-bahdanau", "joeynmt_bahdanau", JOEYNMT),
    // Trained by two processes of PyTorch from an export of ours; its mapping lies beside it.
    (&["module"], "module/mapping.yaml", "module", &[]),
    (&["joeynmt_tied.safetensors"], "joeynmt_tied.yaml", "joeynmt_tied", JOEYNMT),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch")
}

/// Sources and what they become.
fn cases(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(fixtures().join(format!("{name}.json"))).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    golden["cases"].as_array().unwrap().iter().map(|c| (text(&c["source"]), text(&c["target"]))).collect()
}

/// The exit code of an import, and what it said.
fn import(run: &Path, checkpoints: &[&str], mapping: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = s2s()
        .current_dir(fixtures())
        .args(["import", "pytorch"])
        .args(checkpoints)
        .args(["--mapping", mapping])
        .args(arguments)
        .arg("--output")
        .arg(run)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn kinds() -> Vec<EngineKind> {
    let present = engine::available().into_iter().filter(|report| report.problem.is_none());
    present.map(|report| report.name.parse().unwrap()).collect()
}

#[test]
fn every_model_says_what_its_maker_says_in_every_engine() {
    let folder = tempfile::tempdir().unwrap();
    for (at, (checkpoints, mapping, golden, arguments)) in MODELS.iter().enumerate() {
        let (run, bundle) = (folder.path().join(format!("run{at}")), folder.path().join(format!("{at}")));
        let (code, said) = import(&run, checkpoints, mapping, arguments);
        assert_eq!(code, Some(0), "{checkpoints:?}: {said}");
        let config = std::fs::read_to_string(run.join("config.yaml")).unwrap();
        assert_eq!(config.contains("tied_embeddings: true"), *golden == "joeynmt_tied", "{config}");
        // The export proves the graphs in every engine before it writes them.
        let output = s2s()
            .arg("export")
            .arg(&run)
            .arg("--output")
            .arg(&bundle)
            .args(["--random", "8", "--quiet"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{checkpoints:?}: {}", String::from_utf8_lossy(&output.stderr));
        let cases = cases(golden);
        assert_eq!(cases.len(), 30);
        let sources: Vec<&str> = cases.iter().map(|(source, _)| source.as_str()).collect();
        for kind in kinds() {
            for rows in [1, 7] {
                let translator = Translator::open(&bundle, kind).unwrap().with_max_batch(rows);
                let mut pool = TranslatorPool::new(translator, 1).unwrap();
                let said = pool.translate_each(&sources, &DecodingOptions::default()).unwrap();
                for ((source, target), said) in cases.iter().zip(said) {
                    let said = said.unwrap();
                    assert_eq!(said.text, *target, "{checkpoints:?} in {kind:?}, {rows} rows: {source:?}");
                }
            }
        }
    }
}

#[test]
fn the_command_says_what_is_wrong_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let shipped =
        s2s().args(["import", "pytorch", "--mapping", "tutorial", "--show-mapping"]).output().unwrap();
    let shipped = String::from_utf8(shipped.stdout).unwrap();
    let mapping = |name: &str, from: &str, to: &str| {
        assert!(shipped.contains(from), "{shipped}");
        std::fs::write(path(name), shipped.replace(from, to)).unwrap();
        path(name)
    };
    let cut = std::fs::read(fixtures().join("tutorial.pt")).unwrap();
    std::fs::write(path("cut.pt"), &cut[..cut.len() / 2]).unwrap();
    std::fs::write(path("pickle.pt"), b"\x80\x02}q\x00.").unwrap();
    for (checkpoint, mapping, arguments, code, expected) in [
        ("tutorial.pt", "tutorials", WORDS, 2, "neither a file nor a mapping that comes with the program"),
        ("tutorial.pt", "tutorial", &[], 2, "nothing says what the rows of the source stand for"),
        ("no.pt", "tutorial", WORDS, 1, "no.pt: no such file or folder"),
        ("make.py", "tutorial", WORDS, 4, "neither a .safetensors, a .pt of torch.save, nor an .npz"),
        (&path("cut.pt"), "tutorial", WORDS, 4, "the list of files in it cannot be read"),
        (&path("pickle.pt"), "tutorial", WORDS, 4, "neither a .safetensors"),
        (
            "tutorial.pt",
            &mapping("other.yaml", "recurrent: encoder.gru", "recurrent: encoder.lstm"),
            WORDS,
            4,
            "tutorial.pt: there is no tensor encoder.lstm.weight_ih_l0",
        ),
        (
            "tutorial.pt",
            &mapping("unread.yaml", "encoder.embedding.weight", "decoder.embedding.weight"),
            WORDS,
            4,
            "the mapping says nothing about encoder.embedding.weight",
        ),
        (
            "tutorial.pt",
            &mapping("key.yaml", "max_new_tokens", "max_tokens"),
            WORDS,
            3,
            "unknown key `max_tokens`",
        ),
        (
            "tutorial.pt",
            &mapping("beside.yaml", "source:\n", "source:\n  file: ../symbols.json\n"),
            &[],
            3,
            "`file` is no name of a file beside the mapping",
        ),
        (
            "tutorial.pt",
            &mapping("twice.yaml", "source:\n", "source:\n  file: a.json\n  symbols: [a]\n"),
            &[],
            3,
            "`symbols`, `file` and `saved_as` all name the symbols",
        ),
        (
            "tutorial.pt",
            &mapping(
                "reset.yaml",
                "recurrent: encoder.gru",
                "recurrent: {module: encoder.gru, reset: before}",
            ),
            WORDS,
            4,
            "encoder and decoder have different `reset` or `gate_activation`",
        ),
        (
            "tutorial.pt",
            "tutorial",
            &["--source-vocabulary", "make.py", "--target-vocabulary", "tutorial_target.json"],
            4,
            "the source embedding has 12 rows",
        ),
    ] {
        let run = folder.path().join("run");
        let (found, said) = import(&run, &[checkpoint], mapping, arguments);
        assert!(found == Some(code) && said.contains(expected), "{checkpoint} {mapping}: {found:?} {said}");
        assert!(!run.join("config.yaml").exists(), "{said}");
    }
    // Without a mapping, and none beside the checkpoint.
    let output = s2s()
        .current_dir(fixtures())
        .args(["import", "pytorch", "tutorial.pt", "-o"])
        .arg(folder.path().join("run"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("no mapping.yaml lies beside"), "{said}");
}
