//! What the documents say: numbers that the project's own layers give, and commands that the command line
//! takes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use s2s::cli::Cli;
use s2s::config::{Config, LoadOptions};
use s2s::families;
use s2s::network::{Network, Parameters, Seq2Seq};
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
    let shapes: Vec<(String, Vec<usize>)> =
        network.exported(&zeros).into_iter().map(|(name, shape, _)| (name, shape)).collect();
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

/// The page that explains the three graphs with numbers, in both languages.
const RETURN_SEQUENCES: [&str; 2] = ["docs/return_sequences.md", "docs/return_sequences.zh.md"];

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
    for page in RETURN_SEQUENCES {
        assert_eq!(numbers(&read(page), "encoder"), expected, "{page}: the block should read\n{expected}");
    }
}

#[test]
fn the_logits_on_the_page_about_return_sequences_are_those_of_the_network() {
    let (network, p) = network();
    let (source, inputs) = (vec![5, 4, 6], [1, 4, 5]);
    let whole = network.forward(&p, std::slice::from_ref(&source), &[inputs.to_vec()]).logits;
    let mut expected =
        "step  reads   whole sequence at once: first three logits   one step after another\n".to_owned();
    let mut largest = 0.0f32;
    let three = |row: &[f32]| row[..3].iter().map(|x| format!("{x:7.4}")).collect::<Vec<_>>().join(" ");
    for (step, reads) in ["START", "x", "y"].into_iter().enumerate() {
        let prefix = network.forward(&p, std::slice::from_ref(&source), &[inputs[..=step].to_vec()]).logits;
        let (row, last) = (&whole[step * 6..][..6], &prefix[step * 6..][..6]);
        largest = row.iter().zip(last).fold(largest, |l, (a, b)| l.max((a - b).abs()));
        let _ = writeln!(
            expected,
            "{:4}  {reads:5}   {}                      {}",
            step + 1,
            three(row),
            three(last)
        );
    }
    assert!(largest < 1e-6);
    for page in RETURN_SEQUENCES {
        assert_eq!(numbers(&read(page), "decoder"), expected, "{page}: the block should read\n{expected}");
    }
}

/// Command lines of s2s in the `sh` blocks of a document, without what the shell does with them.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    // A backslash joins a line to the next.
    for line in text.replace("\\\n", " ").lines() {
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

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "README.zh.md",
    "docs/export.md",
    "docs/tutorial.en.md",
    "docs/tutorial.zh.md",
    "docs/return_sequences.md",
    "docs/return_sequences.zh.md",
    "docs/keras.md",
    "docs/lint.md",
    "docs/pytorch.md",
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
                families::of_config(&path, &options).show(&path, &options).unwrap();
            }
        }
    }
}

#[test]
fn overrides_in_the_documents_name_keys_that_exist() {
    for document in DOCUMENTS {
        for command in commands(&read(document)) {
            let words = words(&command);
            let values = |flag: &str| {
                words.windows(2).filter(|w| w[0] == flag).map(|w| w[1].clone()).collect::<Vec<_>>()
            };
            let Some(config) = words.iter().find(|w| w.starts_with("configs/") && !w.contains("mlp")) else {
                continue;
            };
            let options = LoadOptions { overrides: values("--set"), data: None };
            Config::load(&root().join(config), &options).unwrap();
        }
    }
}

#[test]
fn both_tutorials_have_the_same_commands_and_every_section_of_the_original() {
    let (english, chinese) = (read("docs/tutorial.en.md"), read("docs/tutorial.zh.md"));
    // The Chinese pages have Chinese pictures.
    let of =
        |text: &str| commands(text).into_iter().map(|c| c.replace(" --language zh", "")).collect::<Vec<_>>();
    for [english, chinese] in [[&english, &chinese], [&read(RETURN_SEQUENCES[0]), &read(RETURN_SEQUENCES[1])]]
    {
        assert_eq!(of(english), of(chinese));
    }
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
