//! Texts of several lines and pages of HTML: taken apart, within the bounds of one request, and put together
//! again.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::router::{body, post, refused, send};
use super::scripted::{Record, Scripted};
use super::{server, until};
use crate::serve::app::app;
use crate::serve::client::ClientAddress;
use crate::serve::error::Fault;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::server::Server;

fn plain(limits: &Limits) -> (Arc<Server>, Arc<Record>) {
    let card = Card { name: "m".to_owned(), has_attention: true, ..Card::default() };
    server(limits, Scripted { card, ..Scripted::default() }, None)
}

fn json_to(path: &str, value: &Value) -> Request<Body> {
    post(path, "application/json", value.to_string())
}

fn ask(q: impl Into<Value>, more: &Value) -> Request<Body> {
    let mut request = json!({ "q": q.into(), "source": "en", "target": "de" });
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    json_to("/translate", &request)
}

async fn translated(server: &Arc<Server>, request: Request<Body>) -> Value {
    body(send(server, request).await).await["translatedText"].clone()
}

#[tokio::test]
async fn lines_are_translated_one_by_one_and_breaks_and_blank_lines_stay() {
    let (server, record) = plain(&Limits::default());
    assert_eq!(
        translated(&server, ask("one\r\n\r\n two. Three \n", &json!({}))).await,
        "ONE\r\n\r\n TWO. THREE \n"
    );
    assert_eq!(record.admitted.load(Ordering::Relaxed), 2);
    let cases = [("sentences", 3), ("none", 1), ("lines", 2)];
    for (split, reads) in cases {
        let before = record.admitted.load(Ordering::Relaxed);
        let answer = translated(&server, ask("one\n two.  Three", &json!({ "split": split }))).await;
        assert_eq!(
            (answer, record.admitted.load(Ordering::Relaxed) - before),
            (json!("ONE\n TWO.  THREE"), reads),
            "{split}"
        );
    }
    refused(send(&server, ask("a", &json!({"split": "words"}))).await, Fault::InvalidParameter).await;
    for (sentences, expected, reads) in
        [("0", "A B. C\nD", 2), ("1", "A B. C\nD", 3), ("nonewlines", "A B. C D", 2)]
    {
        let before = record.admitted.load(Ordering::Relaxed);
        let request = json!({"text": "a b. C\nd", "target_lang": "DE", "split_sentences": sentences});
        let answer = body(send(&server, json_to("/v2/translate", &request)).await).await;
        assert_eq!(answer["translations"][0]["text"], expected);
        assert_eq!(record.admitted.load(Ordering::Relaxed) - before, reads, "{sentences}");
    }
}

#[tokio::test]
async fn alternatives_of_several_lines_are_whole_texts() {
    let (server, _) = plain(&Limits::default());
    let answer = body(send(&server, ask("a\nb", &json!({"alternatives": 2}))).await).await;
    assert_eq!(
        (&answer["translatedText"], &answer["alternatives"]),
        (&json!("A\nB"), &json!(["A'\nB'", "A''\nB''"]))
    );
    let tensor = json!({"name": "text_input", "shape": [2], "datatype": "BYTES", "data": ["a\nb", "c"]});
    let answer = body(send(&server, json_to("/v2/models/m/infer", &json!({"inputs": [tensor]}))).await).await;
    assert_eq!(answer["outputs"][0]["data"], json!(["A\nB", "C"]));
}

#[tokio::test]
async fn more_lines_than_may_wait_are_translated_a_few_at_a_time() {
    let (server, record) =
        plain(&Limits { max_client_batch: 3, max_queue: 4, max_batch_size: 2, ..Limits::default() });
    let text: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
    let text = text.join("\n");
    record.gate.close();
    let running = tokio::spawn(app(Arc::clone(&server)).oneshot(ask(text.as_str(), &json!({}))));
    let depth = || server.schedulers().unwrap()[0].depth();
    until("a few are there", || depth() + record.largest_batch.load(Ordering::Relaxed) >= 3).await;
    assert!(depth() <= 3, "{} lines wait at once", depth());
    record.gate.open();
    let answer = body(running.await.unwrap().unwrap()).await;
    assert_eq!(answer["translatedText"], json!(text.to_uppercase()));
}

#[tokio::test]
async fn lines_of_a_request_that_has_begun_wait_for_room_in_the_queue() {
    let (server, record) =
        plain(&Limits { max_client_batch: 1, max_queue: 1, max_batch_size: 1, ..Limits::default() });
    let from = |client: u8, mut request: Request<Body>| {
        request.extensions_mut().insert(ClientAddress(IpAddr::from([10, 0, 0, client])));
        tokio::spawn(app(Arc::clone(&server)).oneshot(request))
    };
    let long = from(1, ask("slowly a\nslowly b\nslowly c\nslowly d", &json!({})));
    until("the first line is decoded", || record.steps.load(Ordering::Relaxed) > 0).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(from(2, ask("slowly other", &json!({}))));
    }
    let answer = body(long.await.unwrap().unwrap()).await;
    assert_eq!(answer["translatedText"], "SLOWLY A\nSLOWLY B\nSLOWLY C\nSLOWLY D");
    for other in others {
        let status = other.await.unwrap().unwrap().status();
        assert!([StatusCode::OK, StatusCode::TOO_MANY_REQUESTS].contains(&status), "{status}");
    }
}

#[tokio::test]
async fn all_lines_of_a_request_count_together_before_any_is_decoded() {
    let (server, record) = plain(&Limits { max_lines: 5, max_input_tokens: 4, ..Limits::default() });
    let refused_for = async |request: Request<Body>, fault: Fault| {
        let message = refused(send(&server, request).await, fault).await;
        assert_eq!(record.admitted.load(Ordering::Relaxed), 0, "{message}");
        message
    };
    let message = refused_for(ask(json!(["a\nb\nc", "d\ne\nf"]), &json!({})), Fault::TooLong).await;
    assert!(message.contains("more than 5 lines"), "{message}");
    refused_for(ask("<b>a</b>".repeat(6), &json!({"format": "html"})), Fault::TooLong).await;
    refused_for(json_to("/v2/models/m/generate", &json!({"text_input": "a\n".repeat(6)})), Fault::TooLong)
        .await;
    let message = refused_for(ask("a\n\nabcde", &json!({})), Fault::TooLong).await;
    assert!(message.starts_with("line 3: "), "{message}");
    let message = refused_for(ask(json!(["a", "b\n\u{fffd}"]), &json!({})), Fault::InvalidParameter).await;
    assert!(message.starts_with("text 1: line 2: "), "{message}");
    // What the answers may take counts together, too.
    let (server, record) = plain(&Limits { max_answer: 12 * 1024 * 3, ..Limits::default() });
    let most = json!({"max_new_tokens": 1024});
    let generate =
        |text: &str| json_to("/v2/models/m/generate", &json!({"text_input": text, "parameters": most}));
    assert_eq!(send(&server, generate("a\nb\nc")).await.status(), StatusCode::OK);
    let before = record.admitted.load(Ordering::Relaxed);
    refused(send(&server, generate("a\nb\nc\nd")).await, Fault::TooLong).await;
    assert_eq!(record.admitted.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_page_of_html_is_translated_between_its_tags_and_hostile_ones_take_no_time() {
    let (server, _) = plain(&Limits::default());
    let html = "<!DOCTYPE html><html><head><title>a &amp; b</title><style>p > a {}</style><script>if (1 < 2) {}</script></head>\n\
                <body class=\"x\"><!-- note --><p>one <a href=\"?a=1&amp;b=2\">two</a>.</p>\n</body></html>";
    let expected =
        html.replace("a &amp; b<", "A &amp; B<").replace(">one ", ">ONE ").replace(">two<", ">TWO<");
    assert_eq!(translated(&server, ask(html, &json!({"format": "html"}))).await, expected);
    let started = Instant::now();
    for hostile in ["<", "<b ", "<b>", "</b>", "&amp", "<!--", "<script>", "<b translate=no>"] {
        let page = hostile.repeat(1_000_000 / hostile.len());
        let answer = translated(&server, ask(page.as_str(), &json!({"format": "html"}))).await;
        assert_eq!(answer, json!(page), "{hostile}");
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn generate_answers_a_text_of_several_lines_as_one_and_line_by_line() {
    let (server, _) = plain(&Limits::default());
    let request = json!({"text_input": "a\n\nbc", "parameters": {"num_beams": 2, "num_return_sequences": 2}});
    let answer = body(send(&server, json_to("/v2/models/m/generate", &request)).await).await;
    assert_eq!(
        (&answer["text_output"], &answer["generated_tokens"], &answer["source_tokens"]),
        (&json!("A\n\nBC"), &json!(5), &json!(3))
    );
    assert_eq!(
        (&answer["finish_reason"], &answer["model_name"], &answer["score"]),
        (&json!("eos"), &json!("m"), &json!(-0.5))
    );
    assert_eq!(answer["lines"][1]["text_output"], "BC");
    assert_eq!(answer["lines"][1]["alternatives"][0]["text_output"], "BC'");
    let whole = body(
        send(&server, json_to("/v2/models/m/generate", &json!({"text_input": "a\nb", "split": "none"})))
            .await,
    )
    .await;
    assert_eq!((&whole["text_output"], whole.get("lines")), (&json!("A\nB"), None));
}

#[tokio::test]
async fn a_stream_of_several_lines_comes_in_their_order() {
    let (server, _) = plain(&Limits { max_client_batch: 3, ..Limits::default() });
    let stream = |text: &str| json_to("/v2/models/m/generate_stream", &json!({ "text_input": text }));
    let response = send(&server, stream("first line\n\nb\n c \n")).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let all = String::from_utf8(bytes.to_vec()).unwrap();
    let events: Vec<Value> = all
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let together: String = events.iter().map(|event| event["text_output"].as_str().unwrap()).collect();
    assert_eq!(together, "FIRST LINE\n\nB\n C \n");
    let last = events.last().unwrap();
    assert_eq!((&last["generated_text"], &last["finish_reason"]), (&json!(together), &json!("eos")));
    assert_eq!(last["lines"].as_array().map(Vec::len), Some(3));
    assert!(events.iter().enumerate().all(|(at, event)| event["index"] == json!(at)));
    refused(send(&server, stream("a\nb\nc\nd")).await, Fault::TooLong).await;
}
