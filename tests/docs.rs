//! What the documents say: numbers that the project's own layers give, and commands that the command line takes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use s2s::cli::Cli;
use s2s::config::{Config, LoadOptions, mlp};
use s2s::network::{Parameters, Seq2Seq};
use serde_json::json;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// A network whose weights anyone can compute: value j of a tensor is 0.9 sin(1.7 j + 1).
fn network() -> (Seq2Seq, Parameters<f32>) {
    let architecture = json!({
        "source_vocabulary": 7, "target_vocabulary": 6, "source_input": "one_hot", "target_input": "one_hot",
        "cell": "lstm", "hidden": 2, "layers": 1,
    });
    let network = Seq2Seq::new(serde_json::from_value(architecture).unwrap()).unwrap();
    let zeros = network.parameters::<f32>();
    let shapes: Vec<(String, Vec<usize>)> = network.exported(&zeros).into_iter().map(|(name, shape, _)| (name, shape)).collect();
    let values = |name: &str| {
        let shape = shapes.iter().find(|s| s.0 == name)?.1.clone();
        let count = shape.iter().product::<usize>();
        Some((shape, (0..count).map(|j| 0.9 * (1.7 * j as f32 + 1.0).sin()).collect()))
    };
    let parameters = network.import(values).unwrap();
    (network, parameters)
}

/// The block below `<!-- numbers: NAME -->`.
fn numbers(text: &str, name: &str) -> String {
    let (_, rest) = text.split_once(&format!("<!-- numbers: {name} -->\n```text\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_states_on_the_page_about_return_sequences_are_those_of_the_layer() {
    let (network, p) = network();
    // a, c, t are the ids 4, 5, 6: symbols in order of their code points, after the four special ones.
    let word = [("c", 5), ("a", 4), ("t", 6)];
    let mut expected = "step  reads   h                  c\n".to_owned();
    for step in 1..=3 {
        let prefix: Vec<u32> = word[..step].iter().map(|w| w.1).collect();
        let states = network.forward(&p, &[prefix], &[vec![1]]).states;
        let pair = |i: usize| format!("{:7.4} {:7.4}", states[i].1[0], states[i].1[1]);
        let _ = writeln!(expected, "{step:4}  {:5}  {}    {}", word[step - 1].0, pair(0), pair(1));
    }
    assert_eq!(numbers(&read("docs/return_sequences.md"), "encoder"), expected, "the block should read\n{expected}");
}

#[test]
fn the_logits_on_the_page_about_return_sequences_are_those_of_the_network() {
    let (network, p) = network();
    let (source, inputs) = (vec![5, 4, 6], [1, 4, 5]);
    let whole = network.forward(&p, std::slice::from_ref(&source), &[inputs.to_vec()]).logits;
    let mut expected = "step  reads   whole sequence at once: first three logits   one step after another\n".to_owned();
    let mut largest = 0.0f32;
    let three = |row: &[f32]| row[..3].iter().map(|x| format!("{x:7.4}")).collect::<Vec<_>>().join(" ");
    for (step, reads) in ["START", "x", "y"].into_iter().enumerate() {
        let prefix = network.forward(&p, std::slice::from_ref(&source), &[inputs[..=step].to_vec()]).logits;
        let (row, last) = (&whole[step * 6..][..6], &prefix[step * 6..][..6]);
        largest = row.iter().zip(last).fold(largest, |l, (a, b)| l.max((a - b).abs()));
        let _ = writeln!(expected, "{:4}  {reads:5}   {}                      {}", step + 1, three(row), three(last));
    }
    assert!(largest < 1e-6);
    assert_eq!(numbers(&read("docs/return_sequences.md"), "decoder"), expected, "the block should read\n{expected}");
}

/// Command lines of s2s in the `sh` blocks of a document, without what the shell does with them.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                let line = line.replace("cargo run --release -- ", "s2s ");
                for part in line.split('#').next().unwrap().split(['|', ';']).flat_map(|p| p.split("&&")) {
                    let part = part.split(['<', '>']).next().unwrap().trim();
                    if let Some(at) = part.strip_prefix("s2s ").map(|_| part) {
                        found.push(at.trim_end_matches('&').trim().to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Words as a shell splits them; quotes keep words together.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quote, mut word, mut some) = (Vec::new(), None, String::new(), false);
    for c in command.chars() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, some) = (Some(c), true),
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => {
                if some || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                some = false;
            }
            (c, _) => word.push(c),
        }
    }
    if some || !word.is_empty() {
        words.push(word);
    }
    words
}

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "docs/export.md",
    "docs/tutorial.en.md",
    "docs/tutorial.zh.md",
    "docs/return_sequences.md",
    "docs/keras.md",
    "docs/lint.md",
];

#[test]
fn every_command_in_the_documents_is_one_that_the_command_line_takes() {
    for document in DOCUMENTS {
        let commands = commands(&read(document));
        assert!(!commands.is_empty(), "{document}");
        for command in commands {
            let parsed = Cli::try_parse_from(words(&command));
            assert!(parsed.is_ok(), "{document}: {command}\n{}", parsed.unwrap_err());
            for config in words(&command).iter().filter(|w| w.starts_with("configs/")) {
                let path = root().join(config);
                let options = LoadOptions::default();
                match mlp::is_mlp(&path, &options) {
                    true => drop(mlp::MlpConfig::load(&path, &options).unwrap()),
                    false => drop(Config::load(&path, &options).unwrap()),
                }
            }
        }
    }
}

/// Data in the places where the tutorial's configs look for it, a few lines of each kind.
fn small_data(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let letters = |i: usize| ["cold", "warm", "late", "here", "well"][i % 5];
    let pair = |i: usize| format!("I am {} {i}.\t我{}{i}。\n", letters(i), ["冷", "暖", "迟", "在", "好"][i % 5]);
    write("manythings/cmn-tw.txt", (0..60).map(pair).collect::<String>().as_bytes());
    let words = (0..60).map(|i| format!("{0} {1}\t{1} {0}\n", letters(i), letters(i / 5))).collect::<String>();
    write("pairs_10k.tsv", words.as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for i in 0..60 {
        let pixels = (0..784).map(|p| format!("{},", (p * (i % 10 + 1)) % 256)).collect::<String>();
        std::io::Write::write_all(&mut gzip, format!("{pixels}{}\n", i % 10).as_bytes()).unwrap();
    }
    write("mnist/mnist_5k.csv.gz", &gzip.finish().unwrap());
}

/// Lines of the `sh` blocks of a document.
fn shell_lines(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[test]
fn the_commands_of_the_tutorial_work_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    small_data(&data);
    let configs = folder.path().join("configs");
    std::fs::create_dir(&configs).unwrap();
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, configs.join(path.file_name().unwrap())).unwrap();
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_s2s")).parent().unwrap().to_owned();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap()))).unwrap();
    // Small enough for a test; the rest of each command is as the reader types it.
    let smaller = |line: &str| {
        let sizes = match line {
            "s2s demo" => " --set training.epochs=1 --set model.hidden=16 --set data.task.train=200 --set data.task.dev=20",
            line if !line.starts_with("s2s train configs/") => "",
            line if line.contains("mlp") => " --set training.epochs=1 --set 'model.hidden=[16]'",
            _ => " --set training.epochs=2 --set model.hidden=16 --set training.batch_size=8 --set training.exact_match.sample=4",
        };
        format!("{}{sizes}", line.replace("DIR", &data.to_string_lossy()))
    };
    let mut ran = 0;
    for line in shell_lines(&read("docs/tutorial.en.md")) {
        // Full-size steps are a bench's, and the server does not end by itself.
        if ["s2s bench", "s2s serve-local"].iter().any(|skipped| line.starts_with(skipped)) {
            continue;
        }
        let command = smaller(&line);
        let output = std::process::Command::new("sh")
            .args(["-e", "-c", &command])
            .current_dir(folder.path())
            .env("PATH", &path)
            .env_remove("S2S_DATA")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 20, "{ran}");
    for picture in ["three_graphs.svg", "network.png", "decoder.svg"] {
        assert!(folder.path().join(picture).metadata().unwrap().len() > 1000, "{picture}");
    }
}

#[test]
fn overrides_in_the_documents_name_keys_that_exist() {
    for document in DOCUMENTS {
        for command in commands(&read(document)) {
            let words = words(&command);
            let values = |flag: &str| words.windows(2).filter(|w| w[0] == flag).map(|w| w[1].clone()).collect::<Vec<_>>();
            let Some(config) = words.iter().find(|w| w.starts_with("configs/") && !w.contains("mlp")) else { continue };
            let options = LoadOptions { overrides: values("--set"), data: None };
            Config::load(&root().join(config), &options).unwrap();
        }
    }
}

#[test]
fn both_tutorials_have_the_same_commands_and_every_section_of_the_original() {
    let (english, chinese) = (read("docs/tutorial.en.md"), read("docs/tutorial.zh.md"));
    let set = |text: &str| commands(text).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(&english), set(&chinese));
    let sections = ["1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "7. ", "8. ", "9. ", "10. "];
    for text in [&english, &chinese] {
        for section in sections {
            assert!(text.lines().any(|l| l.starts_with(&format!("## {section}"))), "{section}");
        }
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = Path::new(document).parent().unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !target.starts_with("http") && !target.starts_with('#') {
                let path = root().join(folder).join(target.split('#').next().unwrap());
                assert!(path.exists(), "{document}: {target}");
            }
        }
    }
}
