//! Clients that others wrote, unchanged, against the server: LibreTranslate's, DeepL's, Triton's, KServe's,
//! and schemathesis on the document of the interface.
//!
//! Needs the packages of `tests/python/clients.txt`, which `scripts/test` installs into `.venv`. Without them
//! these tests print why and check nothing, unless `S2S_REQUIRE_ORT` is set (as `scripts/test` does): then
//! they fail. KServe's client wants an environment of its own, because its dependencies exclude others:
//! `S2S_KSERVE_PYTHON` names its Python.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::server::Running;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::EngineKind;
use s2s_runtime::translator::Translator;
use serde_json::json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MODULES: &str =
    "import deep_translator, deepl, libretranslatepy, numpy, schemathesis, tritonclient.http";

fn imports(python: &Path, modules: &str) -> bool {
    Command::new(python).args(["-c", modules]).output().is_ok_and(|output| output.status.success())
}

/// A Python with the clients, or `None` after printing why the test is skipped.
fn python() -> Option<PathBuf> {
    let candidates =
        [std::env::var_os("S2S_PYTHON").map(PathBuf::from), Some(Path::new(ROOT).join(".venv/bin/python"))];
    let found = candidates.into_iter().flatten().find(|python| imports(python, MODULES));
    let required = std::env::var_os("S2S_REQUIRE_ORT").is_some_and(|value| !value.is_empty());
    assert!(
        found.is_some() || !required,
        "no Python with the packages of tests/python/clients.txt; run scripts/test"
    );
    if found.is_none() {
        crate::common::skipped(
            "no Python with the packages of tests/python/clients.txt; scripts/test makes one in .venv",
        );
    }
    found
}

/// Runs one client of `tests/python/clients.py`, on a server without a key and on one with.
fn check(python: &Path, client: &str, keys: &[Option<&str>]) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let texts = ["abc", "hello there", "a", "123", "caf\u{e9} \u{4f60}\u{597d}", "zzzz zzzz"];
    let model =
        json!({"model": "random", "texts": translations(&bundle, &texts, &DecodingOptions::default())});
    check_with(python, client, keys, &bundle, &model);
}

/// Texts and what the model makes of them.
fn translations(bundle: &Path, texts: &[&str], options: &DecodingOptions) -> serde_json::Value {
    let mut translator = Translator::open(bundle, EngineKind::Auto).unwrap();
    let translations = translator.translate(texts, options).unwrap();
    texts.iter().zip(translations).map(|(text, made)| ((*text).to_owned(), json!(made.text))).collect()
}

/// Runs a client on a server of `bundle`; it reads `model`.
fn check_with(python: &Path, client: &str, keys: &[Option<&str>], bundle: &Path, model: &serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("expected.json");
    std::fs::write(&expected, model.to_string()).unwrap();
    for key in keys {
        let server = Running::start(bundle, |command| {
            key.map(|key| command.env("S2S_API_KEY", key));
        });
        let mut command = Command::new(python);
        command
            .current_dir(ROOT)
            .args(["tests/python/clients.py", client])
            .arg(format!("http://{}", server.address))
            .arg(&expected)
            .args(*key);
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{client} with key {key:?}: {}\n{out}\n{err}", output.status);
        server.signal("TERM");
        let (code, stderr) = server.ended();
        assert_eq!(code, 0, "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn libretranslatepy_translates() {
    let Some(python) = python() else { return };
    check(&python, "libretranslate", &[None, Some("secret")]);
}

#[test]
fn libretranslatepy_chooses_between_the_languages_of_a_model() {
    let Some(python) = python() else { return };
    let bundle = Path::new(ROOT).join("tests/optimum/m2m100.zip");
    let texts = ["Music", "The old house."];
    let to = |target: &str| {
        let options = DecodingOptions {
            source_language: Some("en".to_owned()),
            target_language: Some(target.to_owned()),
            ..DecodingOptions::default()
        };
        translations(&bundle, &texts, &options)
    };
    let pairs = json!({"zh": to("zh"), "fr": to("fr")});
    assert_ne!(pairs["zh"], pairs["fr"], "the target language makes no difference");
    check_with(&python, "languages", &[None], &bundle, &json!({"model": "m2m100", "pairs": pairs}));
}

#[test]
fn deep_translator_translates() {
    let Some(python) = python() else { return };
    check(&python, "deep_translator", &[None, Some("secret")]);
}

#[test]
fn deepls_own_client_translates() {
    let Some(python) = python() else { return };
    check(&python, "deepl", &[None, Some("secret")]);
}

#[test]
fn tritons_client_infers_texts_and_graphs() {
    let Some(python) = python() else { return };
    check(&python, "triton", &[None]);
}

#[test]
fn kserves_client_infers_texts() {
    let Some(python) = std::env::var_os("S2S_KSERVE_PYTHON").map(PathBuf::from) else {
        crate::common::skipped(
            "S2S_KSERVE_PYTHON names no Python with kserve; S2S_TEST_KSERVE=1 scripts/test makes one",
        );
        return;
    };
    check(&python, "kserve", &[None, Some("secret")]);
}

#[test]
fn schemathesis_finds_no_answer_that_the_document_does_not_describe() {
    let Some(python) = python() else { return };
    check(&python, "schemathesis", &[None]);
}

/// The page at `address` as it is when its scripts have run for a while.
fn page(browser: &Path, address: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]);
    command.args([
        "--disable-component-update",
        "--disable-sync",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    let output = command.arg(address).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_translates_in_a_browser_and_shows_hypotheses_and_graphs() {
    let Some(browser) = crate::common::chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let mut translator = Translator::open(&bundle, EngineKind::Auto).unwrap();
    let beams =
        DecodingOptions { num_beams: Some(4), num_return_sequences: Some(4), ..DecodingOptions::default() };
    let made = translator.translate(&["hello there"], &beams).unwrap().remove(0);
    let server = Running::start(&bundle, |_| {});
    let page = page(&browser, &format!("http://{}/#text=hello%20there&method=beam&graphs", server.address));
    assert!(
        page.contains(&format!(">{}</p>", made.text)),
        "the output {:?} is not there:\n{page}",
        made.text
    );
    for hypothesis in std::iter::once(&made.best).chain(&made.alternatives) {
        assert!(
            page.contains(&format!(">{}</td>", hypothesis.text)),
            "{:?} is not there:\n{page}",
            hypothesis.text
        );
    }
    assert!(page.contains("src=\"blob:"), "the picture of the graphs is not there:\n{page}");
    assert!(page.contains("lstm") && page.contains("encoder.onnx"), "the model card is not there:\n{page}");
}
