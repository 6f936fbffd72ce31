//! The documents, run as a reader would run them: every block of commands and of Python in README, `docs`,
//! the loops to copy and the shipped bundle, in order, in a folder of its own, and what a block is said to
//! print is compared.
//!
//! A document is written for readers; what only this test must know stands in HTML comments in front of a
//! block (`documents/block.rs` lists them). `S2S_DATA` names the public data sets: without it a small
//! stand-in of the same form is used, and what the blocks that need the real data print is not compared.
//! `S2S_DOCUMENTS=full` trains as long as the text says, and compares what only full trainings print.
#![cfg(unix)]

#[path = "documents/block.rs"]
mod block;
#[path = "documents/pattern.rs"]
mod pattern;
#[path = "documents/runner.rs"]
mod runner;
#[path = "documents/stand_in.rs"]
mod stand_in;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use block::Block;
use runner::Runner;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every document for users, relative to the project.
fn documents() -> Vec<String> {
    let mut found =
        vec!["README.md".to_owned(), "README.zh.md".to_owned(), "examples/loops/README.md".to_owned()];
    let markdown = |folder: &Path| {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "md")).collect::<Vec<PathBuf>>()
    };
    let mut paths = markdown(&Path::new(ROOT).join("docs"));
    for bundle in std::fs::read_dir(Path::new(ROOT).join("exported")).unwrap() {
        paths.extend(markdown(&bundle.unwrap().path()));
    }
    found.extend(
        paths.into_iter().map(|path| path.strip_prefix(ROOT).unwrap().to_string_lossy().into_owned()),
    );
    found.retain(|name| Path::new(ROOT).join(name).exists());
    found.sort();
    found
}

fn run(document: &str) {
    let text = std::fs::read_to_string(Path::new(ROOT).join(document)).unwrap();
    let blocks = block::parse(document, &text);
    let mut runner = Runner::new(document);
    for block in &blocks {
        if let Err(fault) = runner.run(block) {
            panic!("{document}, line {}:\n{}\n{fault}", block.line, block.code);
        }
    }
}

/// One test a document, so that a failure names it; [`every_document_has_a_test`] holds the list.
macro_rules! documents {
    ($($name:ident: $path:literal;)*) => {
        $(#[test]
        fn $name() {
            run($path);
        })*

        #[test]
        fn every_document_has_a_test() {
            let tested: BTreeSet<String> = [$($path.to_owned()),*].into();
            assert_eq!(tested, documents().into_iter().collect());
        }
    };
}

documents! {
    the_readme_runs: "README.md";
    the_chinese_readme_runs: "README.zh.md";
    the_page_about_models_of_others_runs: "docs/any-model.md";
    the_page_about_millions_of_texts_runs: "docs/bulk.md";
    the_page_about_data_runs: "docs/data.md";
    the_page_about_exports_runs: "docs/export.md";
    the_page_about_gpus_runs: "docs/gpu.md";
    the_page_about_keras_runs: "docs/keras.md";
    the_page_about_lint_runs: "docs/lint.md";
    the_page_about_python_runs: "docs/python.md";
    the_page_about_pytorch_runs: "docs/pytorch.md";
    the_page_about_return_sequences_runs: "docs/return_sequences.md";
    the_chinese_page_about_return_sequences_runs: "docs/return_sequences.zh.md";
    the_page_about_serving_runs: "docs/serving.md";
    the_page_about_training_with_pytorch_runs: "docs/train-with-pytorch.md";
    the_english_tutorial_runs: "docs/tutorial.en.md";
    the_chinese_tutorial_runs: "docs/tutorial.zh.md";
    the_loops_run: "examples/loops/README.md";
    the_shipped_bundle_runs: "exported/dates/README.md";
}

/// Bundles of each kind write a README of their own; what it says runs in their folder.
#[test]
fn the_readmes_of_exported_bundles_run() {
    let small =
        "--set training.epochs=1 --set model.hidden=16 --set data.task.train=300 --set data.task.dev=30 -q";
    let train =
        |set: &str| format!("s2s train configs/dates.yaml {small} {set} -o run && s2s export run -o bundle");
    let keras = format!("{ROOT}/tests/keras");
    let kinds = [
        ("a GRU", train("--set model.cell=gru")),
        ("attention", train("--set model.attention=general --set model.bidirectional=true")),
        ("one-hot rows", train("") + " --io one-hot"),
        ("a fused graph", train("") + " --fused"),
        (
            "Keras",
            format!(
                "s2s import keras {keras}/one_hot.h5 --pairs {keras}/pairs.tsv -o run && s2s export run -o bundle"
            ),
        ),
    ];
    for (kind, commands) in kinds {
        let mut runner = Runner::new("README.md");
        let set_up = |code: &str| block::parse("the set-up", &format!("```sh\n{code}\n```\n")).remove(0);
        runner.run(&set_up(&commands)).unwrap_or_else(|fault| panic!("{kind}: {fault}"));
        runner.enter("bundle");
        let blocks = block::parse(kind, &std::fs::read_to_string(runner.folder().join("README.md")).unwrap());
        assert!(blocks.len() >= 2, "{kind}: commands and a program");
        for block in &blocks {
            runner.run(block).unwrap_or_else(|fault| {
                panic!("README.md of a bundle ({kind}), line {}:\n{}\n{fault}", block.line, block.code)
            });
        }
    }
}

/// Runs a document of a few lines and gives the fault.
fn fault(text: &str) -> Option<String> {
    let mut runner = Runner::new("README.md");
    block::parse("a document", text).iter().find_map(|block: &Block| runner.run(block).err())
}

#[test]
fn a_wrong_command_a_wrong_output_and_a_wrong_program_are_found() {
    assert_eq!(fault("```sh\ns2s list exported\n```\n"), None);
    let wrong = fault("```sh\ns2s lst exported\n```\n").unwrap();
    assert!(wrong.contains("exit status: 2"), "{wrong}");
    // The first command of a block counts as much as the last, and so does the first of a pipe.
    assert!(fault("```sh\ns2s lst exported\ntrue\n```\n").is_some());
    assert!(fault("```sh\ns2s lst exported | cat\n```\n").is_some());
    let says = |date: &str| {
        format!(
            "```sh\necho '3 April 1999' | s2s translate exported/dates\n```\n\n<!-- prints -->\n```text\n{date}\n```\n"
        )
    };
    assert_eq!(fault(&says("1999-04-03")), None);
    assert_eq!(fault(&says("1999-...-03")), None);
    assert!(fault(&says("1999-04-04")).unwrap().contains("1999-04-03"));
    if Path::new(ROOT).join(".venv/bin/python").exists() {
        assert_eq!(fault("```python\nimport yaml\n```\n"), None);
        assert!(fault("```python\nimport yaml\nyaml.no_such_name\n```\n").unwrap().contains("no_such_name"));
    }
}

#[test]
fn a_block_that_asks_a_server_has_one() {
    let ask = "<!-- server: exported/dates -->\n```sh\ncurl localhost:8080/health\n```\n\n<!-- prints -->\n```text\n{\"status\":\"ok\"}...\n```\n";
    assert_eq!(fault(ask), None);
    assert_eq!(fault("```sh\ns2s serve-local exported/dates\n```\n"), None);
    assert!(
        fault("<!-- server: exported/dates -->\n```sh\ncurl localhost:8080/none\n```\n")
            .unwrap()
            .contains("404")
    );
    assert!(fault("```sh\ns2s serve-local exported/none\n```\n").is_some());
}

#[test]
fn what_is_not_run_says_why() {
    let parse = |text: &str| std::panic::catch_unwind(|| block::parse("a document", text).len());
    assert_eq!(parse("<!-- not run: needs Triton -->\n```sh\ntritonserver\n```\n").unwrap(), 1);
    assert!(parse("<!-- not run -->\n```sh\ntritonserver\n```\n").is_err());
    assert!(parse("<!-- sever: exported/dates -->\n```sh\ncurl localhost:8080\n```\n").is_err());
    assert!(parse("<!-- prints -->\n```text\nnothing stands before\n```\n").is_err());
}
