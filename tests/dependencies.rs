//! What a build is made of. The crates that `s2s-runtime` brings into a program, for each engine, are those
//! of a committed list: whoever adds one sees it here. Unsafe code is where it is said to be.
//!
//! `S2S_RENEW=1 cargo test --test all dependencies` writes the lists anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of all crates in the tree; one target, so that the list is the same on every machine.
fn crates(features: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--locked",
            "--package",
            "s2s-runtime",
            "--no-default-features",
            "--features",
            features,
        ])
        .args([
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--target",
            "x86_64-unknown-linux-gnu",
        ])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn compare(features: &str) {
    let found = crates(features);
    let name = if features.is_empty() { "no-engine" } else { features };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/dependencies/{name}.txt"));
    if std::env::var("S2S_RENEW").is_ok_and(|value| value == "1") {
        let lines: String = found.iter().map(|name| format!("{name}\n")).collect();
        fs::write(&path, lines).expect("the list can be written");
    }
    let listed: BTreeSet<String> =
        fs::read_to_string(&path).expect("the list is there").lines().map(str::to_owned).collect();
    let (new, gone): (Vec<_>, Vec<_>) =
        (found.difference(&listed).collect(), listed.difference(&found).collect());
    assert!(
        new.is_empty() && gone.is_empty(),
        "{name}: new {new:?}, gone {gone:?}; if that is meant, S2S_RENEW=1 renews the list"
    );
    assert!(!found.contains("s2s"), "the runtime knows nothing of the trainer");
}

#[test]
fn without_an_engine_the_runtime_brings_in_the_listed_crates_only() {
    compare("");
}

#[test]
fn with_tract_the_runtime_brings_in_the_listed_crates_only() {
    compare("tract");
}

#[test]
fn with_onnx_runtime_the_runtime_brings_in_the_listed_crates_only() {
    compare("ort");
}

/// Every Rust file of a folder, targets of builds left out.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = name
            .to_str()
            .is_none_or(|name| name.starts_with('.') || ["target", "node_modules", "runs"].contains(&name));
        if path.is_dir() && !skipped {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_is_allowed_in_the_kernels_and_in_the_fuzzers_allocator_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(root, &mut found);
    let allows = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("sources are UTF-8");
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default().replace(' ', ""));
        code.filter(|line| line.contains("(unsafe_code"))
            .any(|line| !line.contains("forbid(") && line.starts_with('#'))
    };
    let mut allowing: Vec<_> =
        found.iter().filter(|path| allows(path)).filter_map(|path| path.strip_prefix(root).ok()).collect();
    allowing.sort();
    assert_eq!(allowing, [Path::new("fuzz/src/memory.rs"), Path::new("src/kernels/lib.rs")]);
    for forbidding in ["src/lib.rs", "src/main.rs", "src/runtime/lib.rs"] {
        let text = fs::read_to_string(root.join(forbidding)).expect("it is there");
        assert!(
            text.lines().any(|line| line == "#![forbid(unsafe_code)]"),
            "{forbidding} no longer forbids unsafe code"
        );
    }
}
