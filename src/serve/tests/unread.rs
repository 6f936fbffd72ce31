//! Bodies that nobody reads, heads that nobody can read, and connections that are used again after them.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::{Running, answer, connect, request, rest, start, start_with};
use crate::serve::limits::Limits;

fn head(request_line: &str, headers: &str) -> String {
    format!("{request_line} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

/// Status, head in lower case, and JSON of an answer.
fn parts(answer: &str) -> (u16, String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        head.to_ascii_lowercase(),
        serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {body:?}")),
    )
}

fn closes(head: &str) -> bool {
    head.lines().any(|line| line == "connection: close")
}

#[tokio::test]
async fn after_a_refusal_that_read_no_body_the_next_request_is_answered() {
    let running = start_with(Limits::default(), Some("secret")).await;
    let body = "x".repeat(1000);
    let refusals = [
        ("POST /nothing", "", 404),
        ("PUT /translate", "", 405),
        ("POST /translate", "content-type: text/plain\r\n", 415),
        ("POST /translate", "content-encoding: br\r\n", 415),
        ("POST /v2/models/m/infer", "", 401),
        ("POST /v2/models/m/infer", "authorization: Bearer wrong\r\n", 403),
        ("GET /health", "", 200),
    ];
    // All on one connection, body and next head in one piece and in two.
    let mut stream = connect(&running, "").await;
    for (at, (line, headers, status)) in refusals.into_iter().cycle().take(28).enumerate() {
        stream
            .write_all(head(line, &format!("{headers}content-length: {}\r\n", body.len())).as_bytes())
            .await
            .unwrap();
        if at % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.write_all(body.as_bytes()).await.unwrap();
        let (found, head, _) = parts(&answer(&mut stream).await);
        assert_eq!((found, closes(&head)), (status, false), "{line}: {head}");
    }
}

#[tokio::test]
async fn an_answer_that_leaves_a_large_or_endless_body_unread_says_that_the_connection_closes() {
    let running = start(Limits::default()).await;
    for headers in ["content-length: 1000000\r\n", "transfer-encoding: chunked\r\n"] {
        let stream = connect(&running, &(head("POST /nothing", headers) + "5\r\nhello\r\n")).await;
        let (status, head, _) = parts(&rest(stream).await);
        assert_eq!((status, closes(&head)), (404, true), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_ten_megabytes_reads_its_413() {
    let running = start(Limits::default()).await;
    for at in 0..20 {
        let headers = match at % 2 {
            0 => "content-type: application/json\r\ncontent-length: 10000000\r\n",
            _ => "content-type: application/json\r\ntransfer-encoding: chunked\r\n",
        };
        let mut stream = connect(&running, &head("POST /translate", headers)).await;
        if at % 2 == 1 {
            stream.write_all(b"989680\r\n").await.unwrap();
        }
        // It looks for an answer only when everything is sent.
        for _ in 0..100 {
            stream.write_all(&[b' '; 100_000]).await.expect("the server stops reading");
        }
        let (status, head, body) = parts(&rest(stream).await);
        assert_eq!(
            (status, closes(&head), &body["error_type"]),
            (413, true, &"payload_too_large".into()),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_refusal_does_not_ask_for_a_body_that_is_held_back() {
    let running = start(Limits::default()).await;
    for (line, length, status) in
        [("POST /nothing", 100, 404), ("POST /translate", 100, 415), ("POST /translate", 5_000_000, 413)]
    {
        let content_type = if status == 413 { "application/json" } else { "text/plain" };
        let headers =
            format!("expect: 100-continue\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n");
        let (found, head, _) = parts(&rest(connect(&running, &head(line, &headers)).await).await);
        assert_eq!((found, closes(&head)), (status, true), "{head}");
    }
}

#[tokio::test]
async fn a_body_that_is_held_back_is_asked_for_when_it_is_wanted() {
    let running = start(Limits::default()).await;
    let whole = request("hello").replace("\r\nhost", "\r\nexpect: 100-continue\r\nhost");
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let mut stream = connect(&running, &format!("{head}\r\n\r\n")).await;
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.ends_with(r#"{"translatedText":"HELLO"}"#));
}

/// The answer to bytes that are no request, and to the same after a good request.
async fn refused(running: &Running, bytes: &str) -> Vec<(u16, String, Value)> {
    let alone = rest(connect(running, bytes).await).await;
    let mut stream = connect(running, &request("good")).await;
    assert!(answer(&mut stream).await.ends_with(r#"{"translatedText":"GOOD"}"#));
    stream.write_all(bytes.as_bytes()).await.unwrap();
    vec![parts(&alone), parts(&rest(stream).await)]
}

#[tokio::test]
async fn a_head_that_is_not_http_is_told_so_like_any_other_error() {
    let running = start(Limits::default()).await;
    for bytes in [
        "\u{1}\u{2}\u{3}\r\n\r\n",
        "GET /health HTTP/1.1\r\nhost x\r\n\r\n",
        "GET /health HTTP/3.0\r\n\r\n",
        "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET  /two spaces HTTP/1.1\r\n\r\n",
    ] {
        for (status, head, body) in refused(&running, bytes).await {
            assert_eq!(
                (status, closes(&head), &body["error_type"]),
                (400, true, &"bad_request".into()),
                "{bytes:?}: {head}"
            );
            assert!(
                head.contains("x-request-id: ")
                    && head.contains("x-content-type-options: nosniff")
                    && head.contains("\r\ndate: ")
            );
            assert_eq!(body["error"], body["message"]);
        }
    }
    let page = rest(connect(&running, &head("GET /metrics", "connection: close\r\n")).await).await;
    assert!(
        page.contains("s2s_http_requests_total{method=\"OTHER\",path=\"other\",status=\"400\"} 12\n"),
        "{page}"
    );
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_so_even_while_it_is_still_being_sent() {
    let running = start(Limits::default()).await;
    let long = format!("GET /health HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(1_000_000));
    let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    for bytes in [long, many] {
        for (status, head, body) in refused(&running, &bytes).await {
            assert_eq!(
                (status, closes(&head), &body["error_type"]),
                (431, true, &"head_too_large".into()),
                "{head}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_neither_reads_nor_closes_after_its_refusal_is_closed_in_the_end() {
    let running = start(Limits::default()).await;
    let mut stream: TcpStream =
        connect(&running, &head("POST /nothing", "content-length: 1000000\r\n")).await;
    let mut all = Vec::new();
    // The server's side is closed at once,
    tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut all))
        .await
        .expect("no end of the answer")
        .unwrap();
    // and stopping does not wait for a connection that only lingers.
    running.stop.notify_one();
    let ended = tokio::time::timeout(Duration::from_secs(3), running.ended)
        .await
        .expect("a lingering connection holds the server");
    assert_eq!(ended.unwrap(), crate::serve::listener::Ended::Drained);
}
