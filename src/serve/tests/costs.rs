//! What one client asks for is bounded before it is paid, and what it costs falls on nobody else.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::router::{body, post, refused, send};
use super::scripted::{Record, Scripted};
use super::{server, until};
use crate::serve::client::ClientAddress;
use crate::serve::error::Fault;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::server::Server;

fn plain(limits: &Limits) -> (Arc<Server>, Arc<Record>) {
    let card = Card { name: "m".to_owned(), has_attention: true, ..Card::default() };
    server(limits, Scripted { card, ..Scripted::default() }, None)
}

fn generate(text: &str, parameters: &Value) -> Request<Body> {
    let body = json!({ "text_input": text, "parameters": parameters });
    post("/v2/models/m/generate", "application/json", body.to_string())
}

fn ask(client: u8, q: impl Into<Value>) -> Request<Body> {
    let body = json!({ "q": q.into(), "source": "en", "target": "de" });
    let mut request = post("/translate", "application/json", body.to_string());
    request.extensions_mut().insert(ClientAddress(IpAddr::from([10, 0, 0, client])));
    request
}

fn depth(server: &Server) -> usize {
    server.schedulers().unwrap()[0].depth()
}

#[tokio::test]
async fn long_texts_are_encoded_beside_the_event_loop() {
    let (server, record) = plain(&Limits::default());
    let here = std::thread::current().id();
    assert_eq!(send(&server, ask(1, "short")).await.status(), StatusCode::OK);
    assert_eq!(*record.encoded_on.lock().unwrap(), [here], "a short text is not worth a thread");
    let long = ask(1, vec!["x".repeat(500); 9]);
    assert_eq!(send(&server, long).await.status(), StatusCode::OK);
    let threads = record.encoded_on.lock().unwrap();
    assert!(threads.len() == 10 && threads[1..].iter().all(|&thread| thread != here), "{threads:?}");
}

#[tokio::test]
async fn a_text_with_more_characters_than_its_tokens_can_need_is_422_however_it_would_be_cut() {
    let (server, _) = plain(&Limits { max_input_tokens: 10, ..Limits::default() });
    for truncate in ["error", "right", "left"] {
        let parameters = json!({ "truncate": truncate, "max_input_length": 5 });
        refused(send(&server, generate(&"x".repeat(1281), &parameters)).await, Fault::TooLong).await;
    }
}

#[tokio::test]
async fn the_text_at_fault_is_named_by_its_place() {
    let (server, _) = plain(&Limits { max_input_tokens: 3, ..Limits::default() });
    let message = refused(send(&server, ask(1, json!(["abc", "abcd"]))).await, Fault::TooLong).await;
    assert!(message.starts_with("text 1: "), "{message}");
}

#[tokio::test]
async fn an_answer_that_may_become_too_large_is_422_before_a_token_is_decoded() {
    let (server, record) = plain(&Limits::default());
    let most = json!({ "num_beams": 32, "num_return_sequences": 32, "max_new_tokens": 1024, "output": { "attention": true } });
    let message = refused(send(&server, generate(&"x".repeat(400), &most)).await, Fault::TooLong).await;
    assert!(
        message.contains("64 hypotheses")
            && message.contains("400 source tokens")
            && message.contains("32000000"),
        "{message}"
    );
    let scores = json!({ "num_beams": 32, "max_new_tokens": 1024, "patience": 16, "output": { "token_scores": true } });
    refused(send(&server, generate("x", &scores)).await, Fault::TooLong).await;
    let texts = json!({ "do_sample": true, "num_return_sequences": 32, "max_new_tokens": 1024, "output": { "token_scores": true } });
    let raw = |texts: usize| {
        let tensor =
            json!({ "name": "text_input", "datatype": "BYTES", "shape": [texts], "data": vec!["x"; texts] });
        let body = json!({ "inputs": [tensor], "parameters": { "num_beams": 32, "max_new_tokens": 1024, "patience": 4, "output": { "token_scores": true } } });
        post("/v2/models/m/infer", "application/json", body.to_string())
    };
    assert_eq!(send(&server, raw(1)).await.status(), StatusCode::OK);
    refused(send(&server, raw(32)).await, Fault::TooLong).await;
    // A whole text and all of it is well within the limit, and so are a few hypotheses of it.
    assert_eq!(record.admitted.load(Ordering::Relaxed), 1);
    let ordinary = json!({ "max_new_tokens": 1024, "output": { "attention": true, "token_scores": true } });
    assert_eq!(send(&server, generate(&"x".repeat(512), &ordinary)).await.status(), StatusCode::OK);
    assert_eq!(send(&server, generate("x", &texts)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn options_are_counted_and_bounded() {
    let (server, record) = plain(&Limits::default());
    for parameters in [
        json!({ "stop_strings": vec!["x"; 65] }),
        json!({ "stop_strings": "x".repeat(100_000) }),
        json!({ "target_prefix": "x".repeat(1_990_000) }),
        json!({ "repetition_penalty": 1e-38 }),
        json!({ "repetition_penalty": 1e38 }),
        json!({ "length_penalty": -1000 }),
        json!({ "patience": 1e30, "num_beams": 32 }),
        json!({ "max_new_tokens": 1_000_000_000_000_u64 }),
        json!({ "num_beams": 33 }),
    ] {
        let message = refused(send(&server, generate("x", &parameters)).await, Fault::InvalidParameter).await;
        let key = parameters.as_object().unwrap().keys().next().unwrap();
        assert!(
            message.contains(key.as_str())
                || message.contains("strings")
                || message.contains("symbols")
                || message.contains("beams"),
            "{message}"
        );
        assert!(message.len() < 300, "{}", message.len());
    }
    // Lists that are much too long are not even read.
    for parameters in
        [json!({ "stop_strings": vec!["x"; 190_000] }), json!({ "suppress_tokens": vec![7; 500_000] })]
    {
        refused(send(&server, generate("x", &parameters)).await, Fault::TooLong).await;
    }
    assert_eq!(record.admitted.load(Ordering::Relaxed), 0);
}

/// Sends `request` and writes `name` down when its answer is there.
fn noting(
    server: &Arc<Server>,
    name: &'static str,
    done: &Arc<Mutex<Vec<&'static str>>>,
    request: Request<Body>,
) -> tokio::task::JoinHandle<StatusCode> {
    let (server, done) = (Arc::clone(server), Arc::clone(done));
    tokio::spawn(async move {
        let response = send(&server, request).await;
        done.lock().unwrap().push(name);
        response.status()
    })
}

#[tokio::test]
async fn one_who_sends_a_word_does_not_wait_for_all_pages_of_another() {
    let (server, record) = plain(&Limits { max_batch_size: 1, ..Limits::default() });
    let done = Arc::default();
    record.gate.close();
    let mut tasks = vec![noting(&server, "first page", &done, ask(1, "p"))];
    until("the first page is under way", || record.admitted.load(Ordering::Relaxed) == 1).await;
    for (name, at) in [("second page", 1), ("third page", 2)] {
        tasks.push(noting(&server, name, &done, ask(1, "p")));
        until("the page waits", || depth(&server) == at).await;
    }
    tasks.push(noting(&server, "word", &done, ask(2, "w")));
    until("the word waits", || depth(&server) == 3).await;
    record.gate.open();
    for task in tasks {
        assert_eq!(task.await.unwrap(), StatusCode::OK);
    }
    let order = done.lock().unwrap().clone();
    let place = |name| order.iter().position(|&each| each == name).unwrap();
    assert!(place("word") < place("third page"), "{order:?}");
}

#[tokio::test]
async fn a_batch_keeps_room_for_clients_that_have_nothing_in_it() {
    let (server, record) = plain(&Limits { max_batch_size: 4, ..Limits::default() });
    record.gate.close();
    let pages = tokio::spawn({
        let server = Arc::clone(&server);
        async move { send(&server, ask(1, json!(["a", "b", "c", "d"]))).await.status() }
    });
    until("the batch is full", || record.largest_batch.load(Ordering::Relaxed) == 4).await;
    let more = tokio::spawn({
        let server = Arc::clone(&server);
        async move { send(&server, ask(1, json!(["slowly forever", "slowly forever"]))).await.status() }
    });
    let word = tokio::spawn({
        let server = Arc::clone(&server);
        async move { body(send(&server, ask(2, "w")).await).await }
    });
    until("all wait", || depth(&server) == 3).await;
    record.gate.open();
    until("the word is in the batch beside the four", || record.largest_batch.load(Ordering::Relaxed) == 5)
        .await;
    assert_eq!(word.await.unwrap(), json!({ "translatedText": "W" }));
    assert_eq!(pages.await.unwrap(), StatusCode::OK);
    more.abort();
}

#[tokio::test]
async fn a_full_queue_refuses_those_who_fill_it_first() {
    let (server, record) = plain(&Limits { max_queue: 4, max_batch_size: 1, ..Limits::default() });
    let done = Arc::default();
    record.gate.close();
    let running = noting(&server, "running", &done, ask(1, "r"));
    until("one is under way", || record.admitted.load(Ordering::Relaxed) == 1).await;
    let early = noting(&server, "early", &done, ask(1, json!(["a", "b"])));
    until("two wait", || depth(&server) == 2).await;
    let late = noting(&server, "late", &done, ask(1, json!(["c", "d"])));
    until("four wait", || depth(&server) == 4).await;
    let word = noting(&server, "word", &done, ask(2, "w"));
    assert_eq!(late.await.unwrap(), StatusCode::TOO_MANY_REQUESTS);
    let own = send(&server, ask(1, json!(["e", "f"]))).await;
    refused(own, Fault::Overloaded).await;
    record.gate.open();
    for task in [running, early, word] {
        assert_eq!(task.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn long_texts_join_a_batch_a_few_at_a_time_and_short_ones_pass_them() {
    let (server, record) = plain(&Limits::default());
    let running = tokio::spawn({
        let server = Arc::clone(&server);
        async move { send(&server, ask(1, "slowly forever")).await }
    });
    until("one is under way", || record.admitted.load(Ordering::Relaxed) == 1).await;
    record.gate.close();
    let done = Arc::default();
    let long = noting(&server, "long", &done, ask(2, vec!["x".repeat(500); 16]));
    until("the long ones wait", || depth(&server) >= 13).await;
    let short = noting(&server, "short", &done, ask(3, "w"));
    until("the short one waits", || depth(&server) >= 14).await;
    record.gate.open();
    assert_eq!((short.await.unwrap(), long.await.unwrap()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(*done.lock().unwrap(), ["short", "long"]);
    let most = record.largest_join.load(Ordering::Relaxed);
    assert!(most <= 1500, "{most} symbols joined at once");
    running.abort();
}
