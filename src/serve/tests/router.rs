//! Every status of the table, and the protocol, without a socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::scripted::{Record, Scripted};
use super::{server, until};
use crate::serve::app::app;
use crate::serve::error::Fault;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::server::Server;

pub(super) async fn send(server: &Arc<Server>, request: Request<Body>) -> Response {
    app(Arc::clone(server)).oneshot(request).await.unwrap()
}

pub(super) async fn body(response: Response) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}"))
}

pub(super) fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap()
}

fn translate(value: &Value) -> Request<Body> {
    post("/translate", "application/json", value.to_string())
}

fn ask(q: impl Into<Value>) -> Request<Body> {
    translate(&json!({ "q": q.into(), "source": "en", "target": "de" }))
}

fn plain(limits: &Limits) -> (Arc<Server>, Arc<Record>) {
    server(limits, Scripted::default(), None)
}

/// The answer has the status and the name of `fault`, and the body that every error has.
pub(super) async fn refused(response: Response, fault: Fault) -> String {
    let status = response.status();
    let id = response.headers().contains_key("x-request-id");
    let body = body(response).await;
    assert_eq!((status, &body["error_type"]), (fault.entry().0, &json!(fault.entry().1)), "{body}");
    assert_eq!(body["error"], body["message"]);
    assert!(id, "an answer without x-request-id");
    body["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_string_gives_a_string_and_an_array_gives_an_array_in_order() {
    let (server, _) = plain(&Limits::default());
    let response = send(&server, ask("hello")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-generated-tokens"], "6");
    for name in ["x-queue-time-ms", "x-inference-time-ms"] {
        assert!(response.headers()[name].to_str().unwrap().parse::<f64>().unwrap() >= 0.0);
    }
    assert_eq!(body(response).await, json!({"translatedText": "HELLO"}));
    let response = send(&server, ask(json!(["a longer one", "b", ""]))).await;
    assert_eq!(body(response).await, json!({"translatedText": ["A LONGER ONE", "B", ""]}));
}

#[tokio::test]
async fn a_form_and_a_query_string_are_read_like_json() {
    let (server, _) = plain(&Limits::default());
    let form = post(
        "/translate",
        "application/x-www-form-urlencoded",
        "q=h%C3%A9+you&source=en&target=de&format=text",
    );
    assert_eq!(body(send(&server, form).await).await, json!({"translatedText": "HÉ YOU"}));
    let query =
        Request::post("/translate?q=hi&source=en&target=de&alternatives=1").body(Body::empty()).unwrap();
    assert_eq!(
        body(send(&server, query).await).await,
        json!({"translatedText": "HI", "alternatives": ["HI'"]})
    );
}

#[tokio::test]
async fn alternatives_and_the_detected_language_come_only_where_they_are_asked_for() {
    let (server, _) = plain(&Limits::default());
    let request = json!({"q": ["a", "b"], "source": "auto", "target": "de", "alternatives": 2});
    let detected = json!({"confidence": 100.0, "language": "und"});
    let expected = json!({
        "detectedLanguage": [detected, detected],
        "alternatives": [["A'", "A''"], ["B'", "B''"]],
        "translatedText": ["A", "B"],
    });
    assert_eq!(body(send(&server, translate(&request)).await).await, expected);
}

#[tokio::test]
async fn a_bundle_that_names_its_languages_refuses_others() {
    let card = Card {
        name: "m".to_owned(),
        source_language: Some("en".to_owned()),
        target_language: Some("fr".to_owned()),
        ..Card::default()
    };
    let (server, _) = server(&Limits::default(), Scripted { card, ..Scripted::default() }, None);
    refused(send(&server, ask("x")).await, Fault::UnsupportedLanguage).await;
    let request = json!({"q": "x", "source": "auto", "target": "fr"});
    let answer = body(send(&server, translate(&request)).await).await;
    assert_eq!(answer["detectedLanguage"], json!({"confidence": 100.0, "language": "en"}));
    let languages = body(send(&server, Request::get("/languages").body(Body::empty()).unwrap()).await).await;
    assert_eq!(
        languages,
        json!([{"code": "en", "name": "en", "targets": ["fr"]}, {"code": "fr", "name": "fr", "targets": []}])
    );
    let found = body(send(&server, post("/detect", "application/json", r#"{"q":"x"}"#)).await).await;
    assert_eq!(found, json!([{"confidence": 100.0, "language": "en"}]));
    let settings =
        body(send(&server, Request::get("/frontend/settings").body(Body::empty()).unwrap()).await).await;
    assert_eq!(settings["language"]["target"]["code"], "fr");
}

#[tokio::test]
async fn bad_json_and_bad_fields_are_400() {
    let (server, _) = plain(&Limits::default());
    let deep = "[".repeat(100_000);
    let cases = [
        "{".to_owned(),
        "[]".to_owned(),
        deep.clone(),
        format!("{{\"q\": {deep}"),
        "{\"q\": \"\\ud800\", \"source\": \"a\", \"target\": \"b\"}".to_owned(),
        json!({"source": "en", "target": "de"}).to_string(),
        json!({"q": "", "source": "en", "target": "de"}).to_string(),
        json!({"q": [], "source": "en", "target": "de"}).to_string(),
        json!({"q": 3, "source": "en", "target": "de"}).to_string(),
        json!({"q": ["a", 3], "source": "en", "target": "de"}).to_string(),
        json!({"q": "a", "source": ["en"], "target": "de"}).to_string(),
        json!({"q": "a", "source": "en", "target": "de", "alternatives": -1}).to_string(),
        json!({"q": "a", "source": "en", "target": "de", "alternatives": "x"}).to_string(),
    ];
    for case in cases {
        refused(
            send(&server, post("/translate", "application/json; charset=utf-8", case)).await,
            Fault::BadRequest,
        )
        .await;
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_is_405_with_allow() {
    let (server, _) = plain(&Limits::default());
    refused(send(&server, Request::get("/nothing").body(Body::empty()).unwrap()).await, Fault::NotFound)
        .await;
    let response = send(&server, Request::get("/detect").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()[header::ALLOW], "POST");
    refused(response, Fault::MethodNotAllowed).await;
    let response = send(&server, Request::delete("/health").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
}

/// A body that gives one byte and then nothing.
fn stuck() -> Body {
    struct Stuck(bool);
    impl axum::body::HttpBody for Stuck {
        type Data = axum::body::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<axum::body::Bytes>, Self::Error>>> {
            if std::mem::replace(&mut self.0, true) {
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data("{".into()))))
        }
    }
    Body::new(Stuck(false))
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let (server, _) = plain(&Limits { body_timeout: Duration::from_millis(20), ..Limits::default() });
    let response = send(&server, post("/translate", "application/json", stuck())).await;
    assert_eq!(response.headers()[header::CONNECTION], "close");
    refused(response, Fault::SlowBody).await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gzipped(bytes: Vec<u8>) -> Request<Body> {
    let mut request = post("/translate", "application/json", bytes);
    request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    request
}

#[tokio::test]
async fn a_body_is_measured_after_decompression() {
    let (server, _) = plain(&Limits { max_payload: 1000, ..Limits::default() });
    let small = gzip(json!({"q": "hi", "source": "en", "target": "de"}).to_string().as_bytes());
    assert_eq!(body(send(&server, gzipped(small.clone())).await).await, json!({"translatedText": "HI"}));
    let bomb = gzip(&vec![b' '; 1_000_000]);
    assert!(bomb.len() < 1100, "{}", bomb.len());
    refused(send(&server, gzipped(bomb)).await, Fault::PayloadTooLarge).await;
    refused(send(&server, gzipped(small[..small.len() - 12].to_vec())).await, Fault::BadRequest).await;
    refused(
        send(&server, post("/translate", "application/json", vec![b' '; 1001])).await,
        Fault::PayloadTooLarge,
    )
    .await;
}

#[tokio::test]
async fn content_that_is_not_read_here_is_415() {
    let (server, _) = plain(&Limits::default());
    for content_type in ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=latin-1"]
    {
        refused(send(&server, post("/translate", content_type, "{}")).await, Fault::UnsupportedMediaType)
            .await;
    }
    refused(
        send(&server, Request::post("/translate").body(Body::from("q=a")).unwrap()).await,
        Fault::UnsupportedMediaType,
    )
    .await;
    let mut request = ask("x");
    request.headers_mut().insert(header::CONTENT_ENCODING, "br".parse().unwrap());
    refused(send(&server, request).await, Fault::UnsupportedMediaType).await;
}

#[tokio::test]
async fn too_long_texts_and_too_many_are_422_and_say_the_limit() {
    let (server, _) = plain(&Limits { max_input_tokens: 5, max_client_batch: 2, ..Limits::default() });
    assert!(refused(send(&server, ask("123456")).await, Fault::TooLong).await.contains('5'));
    assert!(refused(send(&server, ask(json!(["1", "2", "3"]))).await, Fault::TooLong).await.contains('2'));
    assert_eq!(send(&server, ask("12345")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_422() {
    let (server, _) = plain(&Limits::default());
    let form = post("/translate", "application/x-www-form-urlencoded", "q=%FF&source=en&target=de");
    refused(send(&server, form).await, Fault::InvalidUtf8).await;
    let query = Request::post("/translate?q=%FF&source=en&target=de").body(Body::empty()).unwrap();
    refused(send(&server, query).await, Fault::InvalidUtf8).await;
    let raw = b"{\"q\": \"\xff\", \"source\": \"en\", \"target\": \"de\"}".to_vec();
    refused(send(&server, post("/translate", "application/json", raw)).await, Fault::InvalidUtf8).await;
}

#[tokio::test]
async fn parameters_out_of_range_are_422() {
    let (server, _) = plain(&Limits::default());
    let html = json!({"q": "a", "source": "en", "target": "de", "format": "markdown"});
    refused(send(&server, translate(&html)).await, Fault::InvalidParameter).await;
    let many = json!({"q": "a", "source": "en", "target": "de", "alternatives": 1_000_000});
    refused(send(&server, translate(&many)).await, Fault::InvalidParameter).await;
    let message = refused(send(&server, ask("\u{fffd}")).await, Fault::InvalidParameter).await;
    assert_eq!(message, "unknown symbol; leave it out");
}

#[tokio::test]
async fn a_full_queue_is_429_with_retry_after_and_empties_again() {
    let (server, record) = plain(&Limits { max_queue: 2, max_batch_size: 1, ..Limits::default() });
    record.gate.close();
    let running = tokio::spawn(app(Arc::clone(&server)).oneshot(ask("a")));
    let depth = |server: &Server| server.schedulers().unwrap()[0].depth();
    until("the first is being decoded", || {
        record.largest_batch.load(Ordering::Relaxed) == 1 && depth(&server) == 0
    })
    .await;
    let waiting: Vec<_> = ["b", "c"].map(|q| tokio::spawn(app(Arc::clone(&server)).oneshot(ask(q)))).into();
    until("two wait", || depth(&server) == 2).await;
    let response = send(&server, ask("d")).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    refused(response, Fault::Overloaded).await;
    // A client that goes away leaves its place to another.
    for task in waiting {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    let late = tokio::spawn(app(Arc::clone(&server)).oneshot(ask("e")));
    until("the late one waits alone", || depth(&server) == 1).await;
    record.gate.open();
    assert_eq!(body(running.await.unwrap().unwrap()).await, json!({"translatedText": "A"}));
    assert_eq!(body(late.await.unwrap().unwrap()).await, json!({"translatedText": "E"}));
}

#[tokio::test]
async fn a_worker_that_panics_or_fails_costs_one_request_a_500_and_its_company_nothing() {
    let (server, record) = plain(&Limits::default());
    for bad in ["panic", "fail"] {
        record.gate.close();
        let (engines, admitted) =
            (record.engines.load(Ordering::Relaxed), record.admitted.load(Ordering::Relaxed));
        let tasks: Vec<_> =
            ["one", bad, "three"].map(|q| tokio::spawn(app(Arc::clone(&server)).oneshot(ask(q)))).into();
        let depth = || server.schedulers().unwrap()[0].depth();
        until("all three are there", || record.admitted.load(Ordering::Relaxed) + depth() == admitted + 3)
            .await;
        record.gate.open();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap().unwrap());
        }
        let [one, worst, three] = answers.try_into().unwrap();
        assert_eq!(body(one).await, json!({"translatedText": "ONE"}));
        assert_eq!(body(three).await, json!({"translatedText": "THREE"}));
        let message = refused(worst, Fault::Internal).await;
        assert!(!message.contains("scripted"), "the client is told about the inside: {message}");
        // The session of all three failed, then the bad text alone; each time the engine was replaced.
        assert_eq!(record.engines.load(Ordering::Relaxed), engines + 2);
    }
    assert_eq!(body(send(&server, ask("after")).await).await, json!({"translatedText": "AFTER"}));
}

#[tokio::test]
async fn loading_and_draining_are_503_on_health_and_on_translate() {
    let server = Arc::new(Server::new(Limits::default(), None));
    let health = || Request::get("/health").body(Body::empty()).unwrap();
    refused(send(&server, health()).await, Fault::Loading).await;
    refused(send(&server, ask("x")).await, Fault::Loading).await;
    let (server, _) = plain(&Limits::default());
    assert_eq!(body(send(&server, health()).await).await, json!({"status": "ok"}));
    server.drain();
    refused(send(&server, health()).await, Fault::Draining).await;
    refused(send(&server, ask("x")).await, Fault::Draining).await;
}

#[tokio::test]
async fn the_deadline_is_504_and_the_text_is_cancelled() {
    let (server, record) = plain(&Limits { request_timeout: Duration::from_millis(30), ..Limits::default() });
    refused(send(&server, ask("forever")).await, Fault::Deadline).await;
    until("the text is cancelled", || record.cancelled.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_text() {
    let (server, record) = plain(&Limits::default());
    let task = tokio::spawn(app(Arc::clone(&server)).oneshot(ask("forever")));
    until("it is being decoded", || record.steps.load(Ordering::Relaxed) > 0).await;
    task.abort();
    until("the text is cancelled", || record.cancelled.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_key_is_asked_for_and_compared() {
    let (server, _) = server(&Limits::default(), Scripted::default(), Some("secret"));
    let response = send(&server, ask("x")).await;
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    refused(response, Fault::MissingKey).await;
    let with = |value: &str| {
        let mut request = ask("x");
        request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
        request
    };
    refused(send(&server, with("Bearer secre")).await, Fault::WrongKey).await;
    refused(send(&server, with("Basic secret")).await, Fault::MissingKey).await;
    assert_eq!(send(&server, with("bearer secret")).await.status(), StatusCode::OK);
    let in_body = json!({"q": "x", "source": "en", "target": "de", "api_key": "secret"});
    assert_eq!(send(&server, translate(&in_body)).await.status(), StatusCode::OK);
    let health = Request::get("/health").body(Body::empty()).unwrap();
    assert_eq!(send(&server, health).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let (server, _) = plain(&Limits::default());
    let mut request = ask("x");
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    assert_eq!(send(&server, request).await.headers()["x-request-id"], "mine");
    let mut made = Vec::new();
    for _ in 0..2 {
        made.push(send(&server, ask("x")).await.headers()["x-request-id"].clone());
    }
    assert_ne!(made[0], made[1]);
    let mut request = ask("x");
    request.headers_mut().insert("x-request-id", "x".repeat(129).parse().unwrap());
    assert_ne!(send(&server, request).await.headers()["x-request-id"].len(), 129);
}

#[tokio::test]
async fn requests_that_wait_together_are_decoded_together_and_change_nothing() {
    let texts: Vec<String> =
        (0..40).map(|n| format!("text {}", "x".repeat(n % 7) + &n.to_string())).collect();
    let (alone, _) = plain(&Limits { max_batch_size: 1, ..Limits::default() });
    let (together, record) = plain(&Limits { max_batch_size: 8, ..Limits::default() });
    let mut expected = Vec::new();
    for text in &texts {
        expected.push(body(send(&alone, ask(text.as_str())).await).await);
    }
    record.gate.close();
    let tasks: Vec<_> = texts
        .iter()
        .map(|text| tokio::spawn(app(Arc::clone(&together)).oneshot(ask(text.as_str()))))
        .collect();
    until("the others wait", || together.schedulers().unwrap()[0].depth() >= 32).await;
    record.gate.open();
    for (task, expected) in tasks.into_iter().zip(expected) {
        assert_eq!(body(task.await.unwrap().unwrap()).await, expected);
    }
    assert_eq!(record.largest_batch.load(Ordering::Relaxed), 8);
}
