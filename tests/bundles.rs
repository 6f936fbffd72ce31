//! The server over bundles on disk: several at once, graphs as they are, and a bundle that is replaced while
//! it is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::Random;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use s2s::error::ErrorKind;
use s2s::export::write_repository;
use s2s::serve::app::app;
use s2s::serve::library::{Library, Shelf, find};
use s2s::serve::limits::Limits;
use s2s::serve::server::Server;
use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::EngineKind;
use s2s_runtime::manifest::Role;
use s2s_runtime::translator::Translator;
use serde_json::{Value, json};
use tower::ServiceExt;

fn library(paths: &[&Path]) -> Library {
    Library { paths: paths.iter().map(PathBuf::from).collect(), workers: 1, ..Library::default() }
}

fn open(library: &Library, limits: Limits) -> (Arc<Server>, Shelf) {
    let server = Server::new(limits, None);
    let (shelf, schedulers) = library.open(&server).unwrap();
    server.ready(schedulers);
    (Arc::new(server), shelf)
}

async fn ask(server: &Arc<Server>, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = app(Arc::clone(server)).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// What the runtime alone says.
fn alone(bundle: &Path, text: &str) -> String {
    let mut translator = Translator::open(bundle, EngineKind::Auto).unwrap();
    translator.translate(&[text], &DecodingOptions::default()).unwrap()[0].text.clone()
}

#[tokio::test]
async fn a_folder_of_bundles_is_served_whole_and_chosen_by_language_or_name() {
    let folder = tempfile::tempdir().unwrap();
    let french = Random { name: "french", seed: 1, languages: Some(("en", "fr")), ..Random::default() }
        .write(&folder.path().join("b1"));
    let german = Random { name: "german", seed: 2, languages: Some(("en", "de")), ..Random::default() }
        .write(&folder.path().join("b2"));
    std::fs::create_dir(folder.path().join("something else")).unwrap();
    let library = library(&[folder.path()]);
    let (server, _) = open(&library, Limits::default());
    let (expected_french, expected_german) = (alone(&french, "hello there"), alone(&german, "hello there"));
    assert_ne!(expected_french, expected_german, "two models that say the same prove nothing");
    for (target, expected) in [("fr", &expected_french), ("de", &expected_german)] {
        let request = json!({"q": "hello there", "source": "en", "target": target});
        assert_eq!(
            ask(&server, "/translate", &request).await,
            (StatusCode::OK, json!({"translatedText": expected}))
        );
    }
    for (name, expected) in [("french", &expected_french), ("german", &expected_german)] {
        let (_, answer) =
            ask(&server, &format!("/v2/models/{name}/generate"), &json!({"text_input": "hello there"})).await;
        assert_eq!(answer["text_output"], json!(expected));
    }
    let (status, error) =
        ask(&server, "/translate", &json!({"q": "x", "source": "en", "target": "it"})).await;
    assert_eq!((status, &error["error_type"]), (StatusCode::BAD_REQUEST, &json!("unsupported_language")));
}

#[tokio::test]
async fn one_bad_bundle_of_several_is_named_and_the_others_are_served_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let good = Random { name: "good", ..Random::default() }.write(&folder.path().join("good"));
    let bad = Random { name: "bad", seed: 3, ..Random::default() }.write(&folder.path().join("bad"));
    let whole = std::fs::read(bad.join("decoder.onnx")).unwrap();
    std::fs::write(bad.join("decoder.onnx"), &whole[..whole.len() / 2]).unwrap();
    let missing = folder.path().join("missing");
    let library = library(&[&good, &bad, &missing]);
    let (server, mut shelf) = open(&library, Limits::default());
    let failed: Vec<&Path> = shelf.failed().iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(failed, [bad.as_path(), missing.as_path()]);
    assert!(
        shelf
            .failed()
            .iter()
            .all(|(path, error)| error.contains(&*path.file_name().unwrap().to_string_lossy())),
        "{shelf:?}"
    );
    let text = json!({"text_input": "hello there"});
    let (status, answer) = ask(&server, "/v2/models/good/generate", &text).await;
    assert_eq!((status, &answer["text_output"]), (StatusCode::OK, &json!(alone(&good, "hello there"))));
    assert_eq!(ask(&server, "/v2/models/bad/generate", &text).await.0, StatusCode::NOT_FOUND);
    // What has not changed is not tried again, and what was mended is.
    library.look(&mut shelf, &server);
    assert_eq!(ask(&server, "/v2/models/bad/generate", &text).await.0, StatusCode::NOT_FOUND);
    std::fs::write(bad.join("decoder.onnx"), &whole).unwrap();
    library.look(&mut shelf, &server);
    library.look(&mut shelf, &server);
    assert_eq!(ask(&server, "/v2/models/bad/generate", &text).await.0, StatusCode::OK);
    // Alone it is an error, and so are several of which none is good.
    for paths in [&[&*missing][..], &[&*missing, &*folder.path().join("gone")]] {
        assert!(self::library(paths).open(&Server::new(Limits::default(), None)).is_err());
    }
}

#[test]
fn a_bundle_that_is_named_twice_is_served_once_and_two_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Random::default().write(&folder.path().join("first"));
    assert_eq!(find(&[first.clone(), folder.path().to_owned()]).unwrap(), [first]);
    Random { seed: 9, ..Random::default() }.write(&folder.path().join("second"));
    let error = library(&[folder.path()]).open(&Server::new(Limits::default(), None)).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Usage && error.to_string().contains("two bundles are called random"),
        "{error}"
    );
}

#[tokio::test]
async fn the_graphs_of_a_bundle_are_models_of_their_own_and_check_what_they_are_fed() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let (server, _) =
        open(&library(&[&bundle]), Limits { max_batch_size: 4, max_input_tokens: 8, ..Limits::default() });
    let ids = |shape: [usize; 2], data: &[i64]| json!({"inputs": [{"name": "encoder_input", "shape": shape, "datatype": "INT64", "data": data}]});
    let (status, answer) =
        ask(&server, "/v2/models/random.encoder/infer", &ids([2, 3], &[4, 5, 6, 0, 0, 7])).await;
    assert_eq!((status, answer["outputs"].as_array().unwrap().len()), (StatusCode::OK, 2), "{answer}");
    assert_eq!(answer["outputs"][0]["shape"], json!([2, 24]));
    let wrong = [
        (ids([1, 1], &[-1]), "ids are from 0"),
        (ids([1, 1], &[1_000_000]), "ids are from 0"),
        (ids([5, 1], &[4; 5]), "the limit is 4"),
        (ids([1, 9], &[4; 9]), "the limit is 8"),
        (ids([1, 0], &[]), "values"),
        (
            json!({"inputs": [{"name": "encoder_input", "shape": [1], "datatype": "INT64", "data": [4]}]}),
            "axes",
        ),
        (
            json!({"inputs": [{"name": "encoder_input", "shape": [1, 1], "datatype": "FP32", "data": [4]}]}),
            "INT64",
        ),
        (
            json!({"inputs": [{"name": "encoder", "shape": [1, 1], "datatype": "INT64", "data": [4]}]}),
            "encoder_input",
        ),
    ];
    for (request, said) in wrong {
        let (status, error) = ask(&server, "/v2/models/random.encoder/infer", &request).await;
        assert_eq!(
            (status, &error["error_type"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid_parameter")),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(said), "{error} should say {said}");
    }
    for name in ["random", "random.encoder", "random.decoder", "random.training"] {
        let request = Request::get(format!("/v2/models/{name}/graph.svg")).body(Body::empty()).unwrap();
        let response = app(Arc::clone(&server)).oneshot(request).await.unwrap();
        assert_eq!(
            (response.status(), response.headers()["content-type"].to_str().unwrap()),
            (StatusCode::OK, "image/svg+xml")
        );
        let picture = response.into_body().collect().await.unwrap().to_bytes();
        assert!(picture.starts_with(b"<svg") || picture.starts_with(b"<?xml"), "{:?}", &picture[..20]);
    }
    let (status, error) = ask(&server, "/v2/models/random.decoder/infer", &json!({"inputs": []})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    let (status, _) = ask(&server, "/v2/models/random.encoder/generate", &json!({"text_input": "a"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn outputs_of_a_graph_that_are_larger_than_an_answer_may_be_are_refused_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    // Two states of 2 x 24 numbers: 8 bytes each as bytes, 29 as JSON.
    let (server, _) = open(&library(&[&bundle]), Limits { max_answer: 1000, ..Limits::default() });
    let request = |binary: bool| {
        let input = json!({"name": "encoder_input", "shape": [2, 3], "datatype": "INT64", "data": [[4, 5, 6], [0, 0, 7]]});
        json!({"inputs": [input], "parameters": {"binary_data_output": binary}})
    };
    let (status, error) = ask(&server, "/v2/models/random.encoder/infer", &request(false)).await;
    assert_eq!(
        (status, &error["error_type"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("too_long")),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains("would take 2784 bytes; the limit is 1000"),
        "{error}"
    );
    let body = Body::from(request(true).to_string());
    let asked = Request::post("/v2/models/random.encoder/infer")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let response = app(Arc::clone(&server)).oneshot(asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_replaced_is_loaded_anew_and_no_request_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    Random { seed: 1, ..Random::default() }.write(&path);
    let old = alone(&path, "hello there");
    let library = Arc::new(library(&[&path]));
    let (server, shelf) = open(&library, Limits::default());
    let watching = tokio::spawn(Arc::clone(&library).watch(
        shelf,
        Arc::clone(&server),
        Duration::from_millis(20),
        Arc::default(),
    ));

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (server, stop, answered) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (status, answer) = ask(
                        &server,
                        "/translate",
                        &json!({"q": "hello there", "source": "a", "target": "b"}),
                    )
                    .await;
                    assert_eq!(status, StatusCode::OK, "{answer}");
                    answered.fetch_add(1, Ordering::Relaxed);
                    let text = answer["translatedText"].as_str().unwrap().to_owned();
                    if seen.last() != Some(&text) {
                        seen.push(text);
                    }
                }
                seen
            })
        })
        .collect();
    until("some requests are answered", || answered.load(Ordering::Relaxed) >= 50).await;
    Random { seed: 2, ..Random::default() }.write(&path);
    let new = alone(&path, "hello there");
    assert_ne!(old, new, "two models that say the same prove nothing");
    let started = Instant::now();
    while ask(&server, "/translate", &json!({"q": "hello there", "source": "a", "target": "b"})).await.1["translatedText"]
        != json!(new)
    {
        assert!(started.elapsed() < Duration::from_secs(60), "the bundle is not loaded anew");
    }
    let before = answered.load(Ordering::Relaxed);
    until("the new one answers", || answered.load(Ordering::Relaxed) >= before + 50).await;

    // A damaged bundle leaves the one that is served in its place.
    let damaged = std::fs::read(path.join("decoder.onnx")).unwrap();
    std::fs::write(path.join("decoder.onnx"), &damaged[1..]).unwrap();
    let before = answered.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    until("the server goes on", || answered.load(Ordering::Relaxed) >= before + 50).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        // Each client saw the old one and then the new one, and nothing else.
        assert_eq!(client.await.unwrap(), [old.clone(), new.clone()]);
    }
    watching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_added_to_a_folder_is_served_too() {
    let folder = tempfile::tempdir().unwrap();
    Random::default().write(&folder.path().join("one"));
    let library = Arc::new(library(&[folder.path()]));
    let (server, shelf) = open(&library, Limits::default());
    let watching = tokio::spawn(Arc::clone(&library).watch(
        shelf,
        Arc::clone(&server),
        Duration::from_millis(20),
        Arc::default(),
    ));
    Random { name: "two", seed: 3, ..Random::default() }.write(&folder.path().join("two"));
    let started = Instant::now();
    while ask(&server, "/v2/models/two/generate", &json!({"text_input": "hello"})).await.0 != StatusCode::OK {
        assert!(started.elapsed() < Duration::from_secs(60), "the bundle is not found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, _) = ask(&server, "/v2/models/random/generate", &json!({"text_input": "hello"})).await;
    assert_eq!(status, StatusCode::OK);
    watching.abort();
}

/// Waits until `holds`, which must come true well before a minute.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_triton_repository_holds_each_graph_as_a_model_and_replaces_only_its_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = crate::common::bundle(folder.path());
    let bundle = Bundle::open(&path).unwrap();
    let repository = folder.path().join("repository");
    for _ in 0..2 {
        write_repository(&repository, &bundle, false).unwrap();
    }
    for (role, batch) in [(Role::Encoder, 64), (Role::Decoder, 64), (Role::Training, 0)] {
        let model = repository.join(format!("random.{role}"));
        assert_eq!(std::fs::read(model.join("1/model.onnx")).unwrap(), bundle.graph(role).unwrap());
        let config = std::fs::read_to_string(model.join("config.pbtxt")).unwrap();
        let heading = format!("name: \"random.{role}\"\nbackend: \"onnxruntime\"\nmax_batch_size: {batch}\n");
        assert!(config.starts_with(&heading), "{config}");
        for tensor in
            bundle.graph_info(role).unwrap().inputs.iter().chain(&bundle.graph_info(role).unwrap().outputs)
        {
            assert!(config.contains(&format!("name: \"{}\"", tensor.name)), "{config}");
        }
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "something is left beside them: {left:?}");
    // Neither a bundle nor somebody's own folder is lost.
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/file"), "x").unwrap();
    for taken in [path.as_path(), &folder.path().join("mine"), &folder.path().join("mine/file")] {
        let error = write_repository(taken, &bundle, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    assert!(Bundle::open(&path).is_ok());
}

#[test]
fn a_manifest_cannot_ask_for_a_network_that_its_graphs_do_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let manifest = bundle.join("s2s.yaml");
    let sound = std::fs::read_to_string(&manifest).unwrap();
    for (key, wrong, said) in [
        (
            "  layers: 1\n",
            "  layers: 100000000000\n",
            "s2s.yaml:architecture: `layers` is 100000000000, and can be 1 to 64",
        ),
        ("  hidden: 24\n", "  hidden: 65536\n", "s2s.yaml:architecture: a network of these sizes has"),
        ("  hidden: 24\n", "  hidden: 4096\n", "s2s.yaml:architecture: the architecture asks for"),
    ] {
        assert!(sound.contains(key), "{sound}");
        std::fs::write(&manifest, sound.replace(key, wrong)).unwrap();
        let output = crate::common::server::s2s().arg("verify").arg(&bundle).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(5) && stderr.contains(said), "{wrong}: {stderr}");
    }
}
