//! The module that `s2s export --format pytorch` writes: its tensors come home as they were, and PyTorch
//! computes with it what we compute.
//!
//! What needs PyTorch runs where a Python has torch and safetensors: `S2S_TORCH` names one; else `.venv` and
//! the system's are asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::server::s2s;
use s2s::export::{ExportInput, ExportOptions, Replace, bundle_files, write_bundle, write_pytorch};
use s2s::families::recurrent::Run;
use s2s::import::pytorch;
use s2s::network::{Architecture, Cell, Example, Network, Parameters, Seq2Seq};
use s2s::train::Which;
use s2s_kernels::random::Random;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::EngineKind;
use s2s_runtime::translator::{Translator, TranslatorPool};
use s2s_runtime::vocabulary::{Padding, PaddingSide, Unit, Vocabulary, VocabularySpec};
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A network of every option, each option with some of the others.
fn architectures() -> Vec<(&'static str, Value)> {
    vec![
        ("one_hot_lstm", json!({})),
        ("lstm", json!({"source_input": {"embedding": 4}, "target_input": {"embedding": 5}, "layers": 2})),
        ("both_ways", json!({"source_input": {"embedding": 4}, "layers": 2, "bidirectional": true})),
        ("gru", json!({"cell": "gru", "target_input": {"embedding": 5}, "layers": 2})),
        (
            "gru_reset_bias",
            json!({
                "cell": "gru_reset_bias", "source_input": {"embedding": 4}, "bidirectional": true,
                "layers": 2,
            }),
        ),
        (
            "gru_reset_before",
            json!({
                "cell": "gru_reset_before", "target_input": {"embedding": 5}, "bidirectional": true,
                "layers": 2,
            }),
        ),
        ("hard_lstm", json!({"gate_activation": "hard_sigmoid_fifth", "bidirectional": true})),
        ("hard_gru", json!({"cell": "gru", "gate_activation": "hard_sigmoid_sixth", "layers": 2})),
        (
            "hard_gru_reset_bias",
            json!({
                "cell": "gru_reset_bias", "gate_activation": "hard_sigmoid_fifth",
                "source_input": {"embedding": 3},
            }),
        ),
        (
            "hard_gru_reset_before",
            json!({"cell": "gru_reset_before", "gate_activation": "hard_sigmoid_sixth", "attention": "dot"}),
        ),
        ("dot", json!({"attention": "dot", "source_input": {"embedding": 4}})),
        (
            "general",
            json!({
                "attention": "general", "encoder_hidden": 10, "bidirectional": true, "bridge": "tanh",
                "attention_output": "concatenated", "layers": 2,
            }),
        ),
        (
            "additive",
            json!({"cell": "gru", "attention": "additive", "attention_width": 7, "attention_bias": true}),
        ),
        (
            "additive_linear",
            json!({
                "attention": "additive", "attention_output": "combined_linear", "encoder_hidden": 6,
                "bridge": "relu", "bridge_source": "hidden", "layers": 2,
            }),
        ),
        (
            "fed_output",
            json!({
                "attention": "general", "feeding": "output", "layers": 2, "attention_bias": true,
                "source_input": {"embedding": 4}, "target_input": {"embedding": 5},
            }),
        ),
        (
            "fed_output_one_hot",
            json!({
                "cell": "gru_reset_before", "attention": "dot", "feeding": "output",
                "attention_output": "combined_linear",
            }),
        ),
        (
            "fed_context",
            json!({
                "cell": "gru_reset_bias", "attention": "additive", "feeding": "context", "encoder_hidden": 6,
                "attention_output": "state", "bridge": "linear", "target_input": {"embedding": 5},
            }),
        ),
        (
            "fed_context_concatenated",
            json!({
                "attention": "general", "feeding": "context", "attention_output": "concatenated",
                "layers": 2, "bidirectional": true, "gate_activation": "hard_sigmoid_sixth",
            }),
        ),
        ("tied", json!({"tied_embeddings": true, "target_input": {"embedding": 8}, "attention": "dot"})),
        (
            "top_and_zeros",
            json!({
                "layers": 2, "decoder_layers": 3, "hand_over": [1, null, 0], "bridge": "tanh",
                "encoder_hidden": 6,
            }),
        ),
        ("from_zeros", json!({"hand_over": [null], "attention": "general", "encoder_hidden": 6})),
    ]
}

/// A network with weights that matter, and what belongs to it.
struct Model {
    name: &'static str,
    network: Seq2Seq,
    parameters: Parameters<f32>,
    source: Vocabulary,
    target: Vocabulary,
}

impl Model {
    fn of(name: &'static str, options: &Value, padding: Option<Padding>, seed: u64) -> Self {
        let [source, target] =
            ["abcdefgh", "uvwxyz123"].map(|text| Vocabulary::build(Unit::Character, Vec::new(), [text]));
        let source = Vocabulary::from_spec(&VocabularySpec { padding, ..source.spec().clone() }).unwrap();
        let mut architecture = serde_json::to_value(Architecture {
            source_vocabulary: source.len(),
            target_vocabulary: target.len(),
            hidden: 8,
            ..Architecture::default()
        })
        .unwrap();
        architecture.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let network = Seq2Seq::new(serde_json::from_value(architecture).unwrap()).unwrap();
        let mut parameters = network.parameters::<f32>();
        let mut random = Random::new(seed, 0);
        parameters.data_mut().iter_mut().for_each(|x| *x = random.symmetric(1.2));
        for side in ["encoder", "decoder"] {
            if let Some(id) = parameters.find(&format!("{side}.embedding")) {
                let width = parameters.entry(id).exported_shape()[1];
                parameters.get_mut(id)[..width].fill(0.0);
            }
        }
        Self { name, network, parameters, source, target }
    }

    fn input(&self) -> ExportInput<'_> {
        ExportInput {
            network: &self.network,
            parameters: &self.parameters,
            source: &self.source,
            target: &self.target,
            name: self.name,
            decoding: DecodingOptions { max_new_tokens: Some(12), ..DecodingOptions::default() },
            provenance: None,
        }
    }

    /// What our greedy decoding makes of texts, by graphs in the folder `bundle`.
    fn said(&self, bundle: &Path, texts: &[String]) -> Vec<String> {
        let options = ExportOptions { graphs_only: true, ..ExportOptions::default() };
        write_bundle(bundle, &bundle_files(&self.input(), &options).unwrap(), &Replace::AnyBundle).unwrap();
        let translator = Translator::open(bundle, EngineKind::Tract).unwrap();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut pool = TranslatorPool::new(translator, 1).unwrap();
        let said = pool.translate_each(&texts, &DecodingOptions::default()).unwrap();
        said.into_iter().map(|said| said.unwrap().text.clone()).collect()
    }
}

/// Each of [`architectures`], and sources that are filled up on either side.
fn kinds() -> Vec<(&'static str, Value, Option<Padding>)> {
    let mut kinds: Vec<_> =
        architectures().into_iter().map(|(name, options)| (name, options, None)).collect();
    for (name, side) in [("filled_behind", PaddingSide::Right), ("filled_before", PaddingSide::Left)] {
        let padding = Padding { symbol: "b".to_owned(), length: 5, least: 1, side };
        kinds.push((name, json!({"source_input": {"embedding": 4}}), Some(padding)));
    }
    kinds
}

fn home(folder: &Path, run: &Path) -> Run {
    let options = pytorch::Options {
        checkpoints: vec![(String::new(), folder.to_owned())],
        mapping: None,
        vocabularies: [None, None],
        name: None,
        max_new_tokens: None,
        licence: None,
        attribution: None,
    };
    pytorch::import(&options, Some(run), false).unwrap().run
}

#[test]
fn every_network_comes_home_from_its_module_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, padding) in kinds() {
        let model = Model::of(name, &options, padding, 7);
        let (module, run) =
            (folder.path().join(model.name), folder.path().join(format!("{}-run", model.name)));
        write_pytorch(&module, &model.input(), false).unwrap();
        let run = home(&module, &run);
        assert_eq!(run.network.architecture(), model.network.architecture(), "{}", model.name);
        let parameters = run.parameters(Which::Best).unwrap();
        for ((entry, ours), (_, theirs)) in model.parameters.iter().zip(parameters.iter()) {
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(ours), bits(theirs), "{}: {}", model.name, entry.name);
        }
        for (ours, theirs) in [(&model.source, &run.record.source), (&model.target, &run.record.target)] {
            assert_eq!(ours.spec().symbols, theirs.spec().symbols, "{}", model.name);
            assert_eq!(ours.spec().padding, theirs.spec().padding, "{}", model.name);
        }
        assert_eq!((run.config.name.as_str(), run.config.decoding.max_new_tokens), (model.name, Some(12)));
    }
}

#[test]
fn a_folder_with_files_of_others_stays_and_flags_of_graphs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (module, run) = (folder.path().join("module"), folder.path().join("run"));
    let model = Model::of("plain", &json!({}), None, 7);
    write_pytorch(&module, &model.input(), false).unwrap();
    home(&module, &run);
    let export = |arguments: &[&str]| {
        let output = s2s().arg("export").arg(&run).arg("-o").arg(&module).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let pytorch = ["--format", "pytorch"];
    // The same again replaces it; a file of the user's, or graphs, do not.
    assert_eq!(export(&pytorch).0, Some(0));
    std::fs::write(module.join("notes.txt"), "mine").unwrap();
    for (arguments, expected) in [
        (&pytorch[..], "holds more than the module of plain"),
        (&[], "module"),
        (&["--format", "pytorch", "--dtype", "f16", "--force"], "--dtype is of ONNX graphs"),
        (&["--format", "pytorch", "--fused"], "--fused is of ONNX graphs"),
        (&["--format", "pytorch", "--target", "rten"], "--target is of ONNX graphs"),
    ] {
        let (code, said) = export(arguments);
        assert!(code == Some(2) && said.contains(expected), "{arguments:?}: {code:?} {said}");
        assert!(module.join("notes.txt").exists());
    }
    assert_eq!(export(&["--format", "pytorch", "--force"]).0, Some(0));
    assert!(!module.join("notes.txt").exists() && module.join("train.py").exists());
}

/// A Python that has torch and safetensors.
fn torch() -> Option<PathBuf> {
    let candidates = [
        std::env::var_os("S2S_TORCH").map(PathBuf::from),
        Some(Path::new(ROOT).join(".venv/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    let found = candidates.into_iter().flatten().find(|python| {
        let probe = Command::new(python).args(["-c", "import torch, safetensors.torch"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        crate::common::skipped("no Python with torch and safetensors; S2S_TORCH names one");
    }
    found
}

fn succeed(command: &mut Command) -> String {
    let output = command.env("OMP_NUM_THREADS", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn texts(random: &mut Random, symbols: &str, count: usize) -> Vec<String> {
    let symbols: Vec<char> = symbols.chars().collect();
    let mut text = |length| (0..length).map(|_| symbols[random.below(symbols.len())]).collect();
    (0..count).map(|at| text(1 + at % 7)).collect()
}

#[test]
fn pytorch_computes_with_every_module_what_we_compute_and_decodes_the_same_characters() {
    let Some(python) = torch() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(3, 0);
    let mut asked = texts(&mut random, "abcdefgh?", 20);
    asked.push(String::new());
    for (name, options, padding) in kinds() {
        // Weights of which the text, and not only the last token, decides what comes.
        let lively = (1..200).find_map(|seed| {
            let model = Model::of(name, &options, padding.clone(), seed);
            let said = model.said(&folder.path().join(format!("{name}-bundle")), &asked);
            (said.iter().collect::<BTreeSet<_>>().len() > 4).then_some((model, said))
        });
        let (model, said) = lively.unwrap_or_else(|| panic!("{name}: the outputs are too much alike"));
        let module = folder.path().join(model.name);
        write_pytorch(&module, &model.input(), false).unwrap();
        let mut sources: Vec<Vec<u32>> =
            texts(&mut random, "abcdefgh", 9).iter().map(|text| model.source.encode(text)).collect();
        // Nothing to read, and nothing but START to say.
        sources.push(Vec::new());
        let inputs: Vec<Vec<u32>> = texts(&mut random, "uvwxyz123", 10)
            .iter()
            .enumerate()
            .map(|(at, text)| [vec![1], model.target.encode(&text[at.min(1)..])].concat())
            .collect();
        let exact = model.network.forward(&model.parameters.map(f64::from), &sources, &inputs);
        let rounded = model.network.forward(&model.parameters, &sources, &inputs);
        let case = json!({
            "sources": sources, "inputs": inputs, "logits": exact.logits, "rounded": rounded.logits,
            "texts": asked, "said": said,
        });
        std::fs::write(module.join("case.json"), case.to_string()).unwrap();
    }
    let names = kinds().into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    let said = succeed(
        Command::new(&python)
            .arg(Path::new(ROOT).join("tests/pytorch/check_module.py"))
            .args(names.iter().map(|name| folder.path().join(name))),
    );
    assert_eq!(said.lines().count(), names.len(), "{said}");
    println!("{said}");
}

#[test]
fn two_processes_of_pytorch_train_a_module_on_and_it_comes_home_better() {
    let Some(python) = torch() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (module, trained) = (folder.path().join("module"), folder.path().join("trained"));
    let options = json!({
        "attention": "general", "feeding": "output", "source_input": {"embedding": 8},
        "target_input": {"embedding": 8}, "bidirectional": true,
    });
    let mut model = Model::of("copying", &options, None, 7);
    model.parameters = model.network.initialise(1);
    write_pytorch(&module, &model.input(), false).unwrap();
    // Each letter by another one.
    let mut random = Random::new(5, 0);
    for (file, count) in [("train.tsv", 200), ("dev.tsv", 40)] {
        let lines = texts(&mut random, "abcdefgh", count).into_iter().map(|source| {
            let target: String =
                source.bytes().map(|b| char::from(b"uvwxyz12"[usize::from(b - b'a')])).collect();
            format!("{source}\t{target}\n")
        });
        std::fs::write(folder.path().join(file), lines.collect::<String>()).unwrap();
    }
    let said = succeed(
        Command::new(&python)
            .args(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])
            .arg(module.join("train.py"))
            .args([folder.path().join("train.tsv"), "--dev".into(), folder.path().join("dev.tsv")])
            .args(["--epochs", "6", "--tokens", "256", "--learning-rate", "0.02", "--device", "cpu", "-o"])
            .arg(&trained),
    );
    println!("{said}");
    let run = home(&trained, &folder.path().join("run"));
    let pairs = s2s::data::formats::read(&folder.path().join("dev.tsv"), None).unwrap();
    let encoded: Vec<(Vec<u32>, Vec<u32>)> = pairs
        .iter()
        .map(|(source, target)| (model.source.encode(source), model.target.encode(target)))
        .collect();
    let examples: Vec<_> = encoded.iter().map(|(source, target)| Example { source, target }).collect();
    let loss = |network: &Seq2Seq, p: &Parameters<f32>| {
        let sums = network.evaluate(p, &network.prepare(p, 64, false), &examples, &mut Default::default());
        sums.nats / sums.tokens as f64
    };
    // What PyTorch said of the weights that it began with and of those that it kept.
    let losses = said.lines().filter_map(|line| {
        let number = line.split_once("dev loss ")?.1.split([' ', '\n']).next()?;
        number.parse::<f64>().ok()
    });
    let losses: Vec<f64> = losses.collect();
    let (before, best) = (losses[0], losses.iter().copied().fold(f64::INFINITY, f64::min));
    let (ours_before, ours) =
        (loss(&model.network, &model.parameters), loss(&run.network, &run.parameters(Which::Best).unwrap()));
    // Six decimals are printed, of sums in f32.
    assert!(
        (ours_before - before).abs() < 2e-6 && (ours - best).abs() < 2e-6,
        "{ours_before} {ours}\n{said}"
    );
    assert!(ours < 0.8 * ours_before, "{ours_before} {ours}");
    // PyTorch's second bias of a GRU's candidate would make it another cell; an LSTM stays one.
    assert_eq!(run.network.architecture().cell, Cell::Lstm);
}
