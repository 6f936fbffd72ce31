//! Requests of strangers, without a socket: whose page sends them, and what their bodies may cost.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use super::router::{body, post, refused, send};
use super::scripted::{Record, Scripted};
use crate::serve::error::Fault;
use crate::serve::hosts::Hosts;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::scheduler::Scheduler;
use crate::serve::server::Server;

fn served(hosts: Option<Hosts>) -> (Arc<Server>, Arc<Record>) {
    let model = Scripted { card: Card { name: "m".to_owned(), ..Card::default() }, ..Scripted::default() };
    let (record, limits) = (Arc::clone(&model.record), Limits::default());
    let server = Server::new(limits.clone(), None);
    let server = match hosts {
        Some(hosts) => server.at(hosts),
        None => server,
    };
    let metrics = server.metrics().model("");
    server.ready([Scheduler::start(Arc::new(model), 1, &limits, &metrics).unwrap()]);
    (Arc::new(server), record)
}

fn local() -> (Arc<Server>, Arc<Record>) {
    served(Some(Hosts::new([127, 0, 0, 1].into(), &[]).unwrap()))
}

fn form() -> Request<Body> {
    post("/translate", "application/x-www-form-urlencoded", "q=hello&source=en&target=de")
}

fn with(mut request: Request<Body>, headers: &[(header::HeaderName, &str)]) -> Request<Body> {
    for (name, value) in headers {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_name_that_somebody_gave_this_machine_is_421_and_says_how_to_allow_it() {
    let (server, record) = local();
    let rebound =
        with(form(), &[(header::HOST, "evil.example:8080"), (header::ORIGIN, "http://evil.example:8080")]);
    let message = refused(send(&server, rebound).await, Fault::WrongHost).await;
    assert!(message.contains("--allowed-host evil.example"), "{message}");
    let page = with(Request::get("/").body(Body::empty()).unwrap(), &[(header::HOST, "evil.example")]);
    refused(send(&server, page).await, Fault::WrongHost).await;
    assert_eq!(record.admitted.load(Ordering::Relaxed), 0);
    let own = with(Request::get("/").body(Body::empty()).unwrap(), &[(header::HOST, "localhost:8080")]);
    assert_eq!(send(&server, own).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_for_no_host_or_for_two_is_400() {
    let (server, _) = local();
    refused(send(&server, form()).await, Fault::BadRequest).await;
    let two = with(form(), &[(header::HOST, "localhost"), (header::HOST, "evil.example")]);
    refused(send(&server, two).await, Fault::BadRequest).await;
}

#[tokio::test]
async fn the_form_of_another_site_does_not_make_the_model_work() {
    let (server, record) = local();
    for origin in ["https://evil.example", "null"] {
        let cross = with(form(), &[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]);
        refused(send(&server, cross).await, Fault::ForeignOrigin).await;
    }
    assert_eq!(record.admitted.load(Ordering::Relaxed), 0);
    for origin in ["http://localhost:8080", "moz-extension://3f0c"] {
        let own = with(form(), &[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]);
        assert_eq!(send(&server, own).await.status(), StatusCode::OK, "{origin}");
    }
}

#[tokio::test]
async fn no_answer_may_be_taken_for_another_kind_of_content_or_be_framed() {
    let (server, _) = served(None);
    for path in ["/", "/docs", "/health", "/info", "/metrics", "/openapi.json", "/nothing", "/translate"] {
        let response = send(&server, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
    }
    for path in ["/", "/docs"] {
        let response = send(&server, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (&response.headers()[header::REFERRER_POLICY], &response.headers()[header::X_FRAME_OPTIONS]),
            (&"no-referrer".parse().unwrap(), &"DENY".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn both_members_of_a_gzip_body_reach_the_model() {
    let gzip = |part: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let whole = json!({"q": "hello", "source": "en", "target": "de"}).to_string();
    let (first, second) = whole.split_at(whole.len() / 2);
    let (server, _) = served(None);
    let compressed = |bytes: Vec<u8>| {
        with(post("/translate", "application/json", bytes), &[(header::CONTENT_ENCODING, "gzip")])
    };
    let response = send(&server, compressed([gzip(first), gzip(second)].concat())).await;
    assert_eq!(body(response).await, json!({"translatedText": "HELLO"}));
    refused(send(&server, compressed([gzip(&whole), b"more".to_vec()].concat())).await, Fault::BadRequest)
        .await;
    let twice = with(compressed(gzip(&whole)), &[(header::CONTENT_ENCODING, "gzip")]);
    refused(send(&server, twice).await, Fault::UnsupportedMediaType).await;
}

/// Two million bytes that would be 50 to 150 million in memory.
fn many_values() -> Vec<(&'static str, &'static str, String)> {
    let fill = |part: &str| part.repeat(1_990_000 / part.len());
    let keys: String = (0..160_000).map(|n| format!("\"{n:06}\":1,")).collect();
    vec![
        ("/translate", "application/json", format!("{{{}\"q\":\"x\"}}", fill("\"a\":1,"))),
        ("/translate", "application/json", format!("{{{keys}\"q\":\"x\"}}")),
        ("/translate", "application/json", format!("{{\"q\":[{}\"\"]}}", fill("\"\","))),
        ("/translate", "application/json", format!("{{\"q\":[{}0]}}", fill("0,"))),
        ("/translate", "application/x-www-form-urlencoded", fill("a=&")),
        (
            "/translate",
            "application/x-www-form-urlencoded",
            (0..200_000).map(|n| format!("{n:07}=&")).collect(),
        ),
        (
            "/v2/models/m/infer",
            "application/json",
            format!("{{\"inputs\":[],\"parameters\":{{{keys}\"x\":1}}}}"),
        ),
        ("/v2/models/m/infer", "application/json", format!("{{\"inputs\":[{}{{}}]}}", fill("{},"))),
        (
            "/v2/models/m/infer",
            "application/json",
            format!("{{\"inputs\":[{{\"name\":\"a\",\"shape\":[{}0]}}]}}", fill("0,")),
        ),
        (
            "/v2/models/m/generate",
            "application/json",
            format!("{{\"text_input\":\"a\",\"parameters\":{{{keys}\"x\":1}}}}"),
        ),
    ]
}

/// Bodies that take long to read rather than much room.
fn deep_and_long() -> Vec<(&'static str, &'static str, String)> {
    let numbers = format!(
        "{{\"inputs\":[{{\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[{}0]}}]}}",
        "0,".repeat(900_000)
    );
    vec![
        ("/translate", "application/json", "[".repeat(1_990_000)),
        ("/translate", "application/json", "{\"a\":".repeat(330_000)),
        ("/translate", "application/json", format!("{{\"q\":{}}}", "1".repeat(1_990_000))),
        ("/v2/models/m/infer", "application/json", numbers),
        (
            "/translate",
            "application/json",
            format!("{{\"q\":\"{}\",\"alternatives\":\"a\"}}", "\\u0041".repeat(330_000)),
        ),
        (
            "/translate",
            "application/x-www-form-urlencoded",
            format!("q={}&alternatives=a", "%41".repeat(660_000)),
        ),
    ]
}

#[tokio::test]
async fn a_body_of_many_small_values_is_refused_before_they_are_kept() {
    let (server, _) = served(None);
    for (path, content_type, bytes) in many_values() {
        let message = refused(send(&server, post(path, content_type, bytes)).await, Fault::TooLong).await;
        assert!(message.contains("more than 16384 values"), "{message}");
    }
}

#[tokio::test]
async fn a_body_that_is_deep_or_long_is_refused_with_a_short_sentence() {
    let (server, _) = served(None);
    let key = format!("{{\"{}\":1}}", "x".repeat(1_900_000));
    let more = [
        ("/v2/models/m/generate", "application/json", key),
        ("/detect", "application/json", "\"".to_owned()),
    ];
    for (path, content_type, bytes) in deep_and_long().into_iter().chain(more) {
        let message = refused(send(&server, post(path, content_type, bytes)).await, Fault::BadRequest).await;
        assert!(message.len() < 1100, "{} bytes", message.len());
    }
}

#[tokio::test]
async fn a_tensor_of_many_numbers_is_read_without_a_value_for_each() {
    let (server, _) = served(None);
    let numbers = "0,".repeat(900_000);
    let request = format!(
        "{{\"inputs\":[{{\"name\":\"text_input\",\"shape\":[900001],\"datatype\":\"INT64\",\"data\":[{numbers}0]}}]}}"
    );
    let message = refused(
        send(&server, post("/v2/models/m/infer", "application/json", request)).await,
        Fault::BadRequest,
    )
    .await;
    assert!(message.contains("takes one tensor, text_input of BYTES"), "{message}");
}
