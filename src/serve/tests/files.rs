//! Files of text, as LibreTranslate's clients send and fetch them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::json;

use super::router::{body, post, refused, send};
use super::scripted::Scripted;
use super::server;
use crate::serve::error::Fault;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::server::Server;

fn plain(limits: &Limits, key: Option<&str>) -> Arc<Server> {
    let card = Card { name: "m".to_owned(), target_language: Some("fr".to_owned()), ..Card::default() };
    server(limits, Scripted { card, ..Scripted::default() }, key).0
}

/// A form as browsers and Python's requests write it.
fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Request<Body> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .into_bytes(),
        );
    }
    if let Some((name, bytes)) = file {
        body.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/plain\r\n\r\n")
                .into_bytes(),
        );
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    let mut request = post("/translate_file", "multipart/form-data; boundary=edge", body);
    request.headers_mut().insert(header::HOST, "localhost:8080".parse().unwrap());
    request
}

async fn fetch(server: &Arc<Server>, url: &str) -> Response {
    let path = url.strip_prefix("http://localhost:8080").unwrap_or_else(|| panic!("{url}"));
    send(server, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_file_is_translated_line_by_line_and_fetched_where_the_answer_says() {
    let server = plain(&Limits::default(), None);
    let text = "\u{feff}one\r\n\r\n two\r\n";
    let request = form(&[("source", "en"), ("target", "fr")], Some(("My notes.txt", text.as_bytes())));
    let answer = body(send(&server, request).await).await;
    let url = answer["translatedFileUrl"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let response = fetch(&server, url).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "attachment; filename=\"My_notes_fr.txt\"");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes, text.to_uppercase().as_bytes());
    refused(fetch(&server, &url.replace(".My", "0.My")).await, Fault::NotFound).await;
    // Without source and target, and a page keeps its tags; a browser must not show it as a page of this
    // server.
    let answer = body(send(&server, form(&[], Some(("a.HTML", b"<p>x &lt; y</p>")))).await).await;
    let response = fetch(&server, answer["translatedFileUrl"].as_str().unwrap()).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/octet-stream");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&bytes[..], b"<p>X &lt; Y</p>");
}

#[tokio::test]
async fn forms_that_are_wrong_say_what_would_be_right() {
    let server = plain(
        &Limits { max_payload: 10_000, max_lines: 3, max_file_memory: 3000, ..Limits::default() },
        None,
    );
    let file = Some(("a.txt", &b"a"[..]));
    let message = refused(send(&server, form(&[("target", "fr")], None)).await, Fault::BadRequest).await;
    assert_eq!(message, "Invalid request: missing file parameter");
    refused(send(&server, form(&[("target", "de")], file)).await, Fault::UnsupportedLanguage).await;
    refused(send(&server, form(&[("model", "x")], file)).await, Fault::UnknownModel).await;
    let message = refused(send(&server, form(&[], Some(("a.docx", b"PK")))).await, Fault::BadRequest).await;
    assert!(message.contains(".txt"), "{message}");
    refused(send(&server, form(&[], Some(("", b"a")))).await, Fault::BadRequest).await;
    refused(send(&server, form(&[], Some(("a.txt", b"\xff\xfea\0")))).await, Fault::InvalidUtf8).await;
    refused(send(&server, form(&[], Some(("a.txt", b"a\nb\nc\nd")))).await, Fault::TooLong).await;
    refused(send(&server, form(&[], Some(("a.txt", &[b'\n'; 2500])))).await, Fault::TooLong).await;
    refused(send(&server, form(&[], Some(("a.txt", &[b'a'; 20_000])))).await, Fault::PayloadTooLarge).await;
    refused(send(&server, form(&[("x", "y"); 40], file)).await, Fault::TooLong).await;
    for (kind, sent) in
        [("multipart/form-data", "--edge"), ("multipart/form-data; boundary=edge", "--edge\r\nContent-Disp")]
    {
        refused(send(&server, post("/translate_file", kind, sent)).await, Fault::BadRequest).await;
    }
    refused(send(&server, post("/translate_file", "text/plain", "a")).await, Fault::UnsupportedMediaType)
        .await;
    let settings =
        body(send(&server, Request::get("/frontend/settings").body(Body::empty()).unwrap()).await).await;
    assert_eq!(
        (&settings["filesTranslation"], &settings["supportedFilesFormat"][0]),
        (&json!(true), &json!(".txt"))
    );
}

#[tokio::test]
async fn a_file_wants_the_key_and_its_address_is_one() {
    let server = plain(&Limits::default(), Some("secret"));
    let file = Some(("a.txt", &b"a"[..]));
    refused(send(&server, form(&[], file)).await, Fault::MissingKey).await;
    let answer = body(send(&server, form(&[("api_key", "secret")], file)).await).await;
    assert_eq!(fetch(&server, answer["translatedFileUrl"].as_str().unwrap()).await.status(), StatusCode::OK);
}
