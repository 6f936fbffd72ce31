//! What applications send that others wrote, as they send it, and what they expect.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::router::{body, post, refused, send};
use super::scripted::{Record, Scripted};
use super::server;
use crate::serve::access_log::{AccessLog, LogFormat};
use crate::serve::auth::ApiKey;
use crate::serve::error::Fault;
use crate::serve::hosts::Hosts;
use crate::serve::languages::spoken;
use crate::serve::limits::Limits;
use crate::serve::model::Card;
use crate::serve::scheduler::Scheduler;
use crate::serve::server::Server;

const FORM: &str = "application/x-www-form-urlencoded";

/// Models called as in `models`, each with its source and target; "" is none.
fn models(
    models: &[(&str, &str, &str)],
    change: impl FnOnce(Server) -> Server,
) -> (Arc<Server>, Vec<Arc<Record>>) {
    let server = change(Server::new(Limits::default(), None));
    let (mut schedulers, mut records) = (Vec::new(), Vec::new());
    for (name, source, target) in models {
        let language = |code: &str| Some(code.to_owned()).filter(|code| !code.is_empty());
        let card = Card {
            name: (*name).to_owned(),
            source_language: language(source),
            target_language: language(target),
            ..Card::default()
        };
        let model = Scripted { card, ..Scripted::default() };
        records.push(Arc::clone(&model.record));
        schedulers.push(
            Scheduler::start(Arc::new(model), 1, server.limits(), &server.metrics().model(name)).unwrap(),
        );
    }
    server.ready(schedulers);
    (Arc::new(server), records)
}

fn french() -> Arc<Server> {
    models(&[("m", "en", "fr")], |server| server).0
}

fn json_to(path: &str, value: &Value) -> Request<Body> {
    post(path, "application/json", value.to_string())
}

async fn translated(server: &Arc<Server>, request: Request<Body>) -> Value {
    let response = send(server, request).await;
    let status = response.status();
    let body = body(response).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["translatedText"].clone()
}

#[tokio::test]
async fn a_status_of_mastodon_keeps_its_html_and_what_must_not_be_translated() {
    let server = french();
    let status = "<p>Hello <span class=\"h-card\" translate=\"no\"><a href=\"https://a.example/@b\" class=\"u-url mention\">@<span>b</span>\
                  </a></span>, caf&eacute; &amp; tea &lt;3<br />see you <span translate=\"no\">:wave:</span></p><p></p>";
    let request = json!({"q": [status, "a warning", ""], "source": "auto", "target": "fr", "format": "html", "api_key": null});
    let answer = body(send(&server, json_to("/translate", &request)).await).await;
    let expected = "<p>HELLO <span class=\"h-card\" translate=\"no\"><a href=\"https://a.example/@b\" class=\"u-url mention\">@<span>b</span>\
                    </a></span>, CAFÉ &amp; TEA &lt;3<br />SEE YOU <span translate=\"no\">:wave:</span></p><p></p>";
    assert_eq!(answer["translatedText"], json!([expected, "A WARNING", ""]));
    assert_eq!(answer["detectedLanguage"][0]["language"], "en");
    // It asks for the languages first.
    let languages = body(send(&server, Request::get("/languages").body(Body::empty()).unwrap()).await).await;
    assert_eq!(languages[0], json!({"code": "en", "name": "en", "targets": ["fr"]}));
}

#[tokio::test]
async fn a_subtitle_keeps_its_lines_in_both_protocols_that_subtitle_edit_speaks() {
    let server = french();
    let libre = r#"{"q": "- <i>You?<\/i>\r\n- Me.", "source": "en", "target": "fr"}"#;
    assert_eq!(
        translated(&server, post("/translate", "application/json", libre)).await,
        "- <I>YOU?</I>\r\n- ME."
    );
    let deepl = "text=-+You%3F%0D%0A-+Me.&target_lang=fr&source_lang=en&formality=default";
    let answer = body(send(&server, post("/v2/translate", FORM, deepl)).await).await;
    assert_eq!(
        answer["translations"],
        json!([{"detected_source_language": "EN", "text": "- YOU?\r\n- ME.", "billed_characters": 13}])
    );
}

/// A server on loopback with pages of other origins.
fn with_origins(origins: &[&str]) -> Arc<Server> {
    let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
    let hosts = Hosts::new([127, 0, 0, 1].into(), &[]).unwrap().with_origins(&origins).unwrap();
    models(&[("m", "en", "fr")], |server| server.at(hosts)).0
}

fn from(origin: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(header::HOST, "localhost:8080".parse().unwrap());
    request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
    request
}

async fn preflight(server: &Arc<Server>, origin: &str) -> Response {
    let mut request = from(
        origin,
        Request::builder().method(Method::OPTIONS).uri("/translate").body(Body::empty()).unwrap(),
    );
    let headers = request.headers_mut();
    headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, "POST".parse().unwrap());
    headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type".parse().unwrap());
    headers.insert("access-control-request-private-network", "true".parse().unwrap());
    send(server, request).await
}

fn allowed(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap())
}

#[tokio::test]
async fn a_browser_extension_may_ask_before_and_reads_answer_and_error() {
    let server = with_origins(&[]);
    for origin in [
        "moz-extension://6b6f2a1c-0000-4000-8000-000000000000",
        "chrome-extension://abcdefghijklmnop",
        "http://localhost:5173",
    ] {
        let response = preflight(&server, origin).await;
        assert_eq!((response.status(), allowed(response.headers())), (StatusCode::NO_CONTENT, Some(origin)));
        let headers = response.headers();
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization,content-type");
        assert!(headers[header::ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap().contains("POST"));
        assert_eq!(headers["access-control-allow-private-network"], "true");
        let ask = |q: &str| {
            from(
                origin,
                json_to("/translate", &json!({"q": q, "source": "auto", "target": "fr", "format": "text"})),
            )
        };
        let response = send(&server, ask("a\u{bf}")).await;
        assert_eq!((response.status(), allowed(response.headers())), (StatusCode::OK, Some(origin)));
        assert!(
            response.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS]
                .to_str()
                .unwrap()
                .contains("x-unknown-symbols")
        );
        assert!(response.headers().get_all(header::VARY).iter().any(|vary| vary == "origin"));
        let response = send(&server, ask("")).await;
        assert_eq!((response.status(), allowed(response.headers())), (StatusCode::BAD_REQUEST, Some(origin)));
    }
}

#[tokio::test]
async fn pages_of_other_sites_may_ask_where_the_server_says_so_and_nowhere_else() {
    let closed = with_origins(&["https://app.example"]);
    let response = preflight(&closed, "https://other.example").await;
    assert_eq!(allowed(response.headers()), None);
    let message = refused(response, Fault::ForeignOrigin).await;
    assert!(message.contains("--cors-origin https://other.example"), "{message}");
    assert_eq!(
        allowed(preflight(&closed, "https://app.example").await.headers()),
        Some("https://app.example")
    );
    let any = with_origins(&["*"]);
    for origin in ["https://other.example", "null"] {
        assert_eq!(allowed(preflight(&any, origin).await.headers()), Some("*"));
    }
    // Who only asks which methods there are is no browser.
    let options = from(
        "https://app.example",
        Request::builder().method(Method::OPTIONS).uri("/translate").body(Body::empty()).unwrap(),
    );
    refused(send(&closed, options).await, Fault::MethodNotAllowed).await;
    // A name that is not the server's own is refused whatever the page.
    let mut request = from("https://app.example", json_to("/translate", &json!({"q": "a"})));
    request.headers_mut().insert(header::HOST, "app.example".parse().unwrap());
    refused(send(&closed, request).await, Fault::WrongHost).await;
}

#[tokio::test]
async fn source_and_target_may_be_left_out_in_json_form_and_query() {
    let server = french();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let requests = || {
        [
            json_to("/translate", &json!({"q": "hi"})),
            json_to("/translate", &json!({"q": "hi", "source": "", "target": null})),
            post("/translate", FORM, "q=hi"),
            post("/translate", FORM, "q=hi&source=auto"),
            get("/translate?q=hi"),
            get("/translate?q=hi&source=en&target=fr"),
        ]
    };
    for request in requests() {
        assert_eq!(translated(&server, request).await, "HI");
    }
    let answer = body(send(&server, json_to("/v2/translate", &json!({"text": "hi"}))).await).await;
    assert_eq!(answer["translations"][0]["text"], "HI");
    let (several, _) = models(&[("a", "en", "fr"), ("b", "de", "fr")], |server| server);
    for request in requests().into_iter().take(5) {
        refused(send(&several, request).await, Fault::AmbiguousModel).await;
    }
    // The target is the only one, and the source decides.
    assert_eq!(translated(&several, json_to("/translate", &json!({"q": "hi", "source": "de"}))).await, "HI");
}

#[tokio::test]
async fn of_several_models_the_closest_answers_or_the_one_that_is_named() {
    let all = [
        ("any", "", ""),
        ("en-fr", "en", "fr"),
        ("pt", "en", "pt"),
        ("brazil", "en", "pt-BR"),
        ("twin", "en", "pt-BR"),
    ];
    let (server, records) = models(&all, |server| server);
    let admitted =
        || records.iter().map(|record| record.admitted.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut expected = vec![0; all.len()];
    let cases = [
        (json!({"source": "en", "target": "fr"}), "/translate", 1),
        (json!({"source": "en-US", "target": "FR-ca"}), "/translate", 1),
        (json!({"source": "auto", "target": "pt"}), "/translate", 2),
        (json!({"source": "ja", "target": "ko"}), "/translate", 0),
        (json!({"source": "en", "target": "pt-BR", "model": "brazil"}), "/translate", 3),
        (json!({"model": "any"}), "/translate", 0),
        (json!({}), "/translate?model=twin", 4),
        (json!({"source": "en", "target": "fr"}), "/models/any/translate", 0),
    ];
    for (fields, path, which) in cases {
        let mut request = fields.clone();
        request["q"] = json!("hi");
        assert_eq!(translated(&server, json_to(path, &request)).await, "HI", "{fields}");
        expected[which] += 1;
        assert_eq!(admitted(), expected, "{fields}");
        let mut deepl = json!({"text": ["hi"]});
        for (ours, theirs) in [("source", "source_lang"), ("target", "target_lang"), ("model", "model")] {
            if let Some(value) = fields.get(ours) {
                deepl[theirs] = value.clone();
            }
        }
        let path = path.replace("/translate", "/v2/translate");
        assert_eq!(send(&server, json_to(&path, &deepl)).await.status(), StatusCode::OK, "{deepl}");
        expected[which] += 1;
        assert_eq!(admitted(), expected, "{deepl}");
    }
    let ask = |fields: Value| {
        let mut request = fields;
        request["q"] = json!("hi");
        json_to("/translate", &request)
    };
    let message =
        refused(send(&server, ask(json!({"source": "en", "target": "pt-BR"}))).await, Fault::AmbiguousModel)
            .await;
    assert!(
        message.contains("brazil (en to pt-BR), twin (en to pt-BR)") && !message.contains("en-fr"),
        "{message}"
    );
    let message = refused(send(&server, ask(json!({"model": "nothing"}))).await, Fault::UnknownModel).await;
    assert!(message.contains("any (any language to any language), en-fr (en to fr)"), "{message}");
    let message = refused(
        send(&server, ask(json!({"model": "en-fr", "target": "de"}))).await,
        Fault::UnsupportedLanguage,
    )
    .await;
    assert!(message.contains("en-fr (en to fr)"), "{message}");
    let languages =
        body(send(&server, Request::get("/models/en-fr/languages").body(Body::empty()).unwrap()).await).await;
    assert_eq!(languages.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_model_of_several_languages_is_told_which_in_its_own_words() {
    let card = Card {
        name: "nllb".to_owned(),
        languages: spoken(["eng_Latn", "fra_Latn", "zho_Hans", "zho_Hant"]),
        ..Card::default()
    };
    let (server, record) = server(&Limits::default(), Scripted { card, ..Scripted::default() }, None);
    let listed = body(send(&server, Request::get("/languages").body(Body::empty()).unwrap()).await).await;
    assert_eq!(listed.as_array().unwrap().len(), 4);
    let expected =
        json!({"code": "zh-Hant", "name": "zh-Hant", "targets": ["en", "fr", "zh-Hans", "zh-Hant"]});
    assert_eq!(listed[3], expected);
    let told = async |source: &str, target: &str| {
        let request = json!({"q": "a", "source": source, "target": target});
        translated(&server, json_to("/translate", &request)).await;
        record.languages.lock().unwrap().last().cloned().unwrap()
    };
    let codes = |source: &str, target: &str| [Some(source.to_owned()), Some(target.to_owned())];
    assert_eq!(told("en", "zh-Hant").await, codes("eng_Latn", "zho_Hant"));
    assert_eq!(told("fra_Latn", "zh").await, codes("fra_Latn", "zho_Hans"));
    assert_eq!(told("auto", "en-GB").await, [None, Some("eng_Latn".to_owned())]);
    let request = json!({"q": "a", "source": "en", "target": "xx"});
    refused(send(&server, json_to("/translate", &request)).await, Fault::UnsupportedLanguage).await;
    let form = post("/v2/translate", FORM, "text=a&target_lang=FR&source_lang=EN");
    send(&server, form).await;
    assert_eq!(record.languages.lock().unwrap().last(), Some(&codes("eng_Latn", "fra_Latn")));
}

#[tokio::test]
async fn deepls_clients_send_arrays_in_every_way_and_tags_to_be_kept() {
    let server = french();
    let texts = async |request: Request<Body>| {
        let answer = body(send(&server, request).await).await;
        answer["translations"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .map(|t| t["text"].clone())
            .collect::<Vec<_>>()
    };
    for form in
        ["text[0]=a&text[1]=&text[2]=c", "text%5B%5D=a&text%5B%5D=&text%5B%5D=c", "text=a&text=&text=c"]
    {
        let form = post("/v2/translate", FORM, format!("{form}&target_lang=FR"));
        assert_eq!(texts(form).await, ["A", "", "C"]);
    }
    assert_eq!(texts(post("/v2/translate", FORM, "text[0]=a&target_lang=FR")).await, ["A"]);
    let xml = "a <mrk>keep</mrk> b<x/> &amp; c<code>d</code>";
    let request = json!({"text": [xml, "e < f"], "target_lang": "FR", "tag_handling": "xml", "ignore_tags": ["mrk"], "preserve_formatting": true});
    assert_eq!(
        texts(json_to("/v2/translate", &request)).await,
        ["A <mrk>keep</mrk> B<x/> &amp; C<code>D</code>", "E &lt; F"]
    );
    let form = post("/v2/translate", FORM, "text=a<b>c</b>&target_lang=FR&tag_handling=html&ignore_tags=i,b");
    assert_eq!(texts(form).await, ["A<b>c</b>"]);
    let many = json!({"text": vec!["a"; 50], "target_lang": "FR"});
    assert_eq!(texts(json_to("/v2/translate", &many)).await.len(), 50);
}

#[tokio::test]
async fn usage_counts_characters_of_every_protocol_and_has_no_limit() {
    let server = french();
    let usage =
        async || body(send(&server, Request::get("/v2/usage").body(Body::empty()).unwrap()).await).await;
    assert_eq!(usage().await["character_count"], 0);
    translated(&server, json_to("/translate", &json!({"q": ["né", "abc"]}))).await;
    send(&server, json_to("/v2/translate", &json!({"text": ["ab"], "target_lang": "FR"}))).await;
    send(&server, json_to("/v2/models/m/generate", &json!({"text_input": "abcd"}))).await;
    let usage = usage().await;
    assert_eq!(usage["character_count"], 11);
    assert!(usage["character_limit"].as_u64() > Some(1_000_000_000));
}

#[tokio::test]
async fn unknown_symbols_are_named_in_every_protocol_and_in_a_header() {
    let server = french();
    let requests = [
        (json_to("/translate", &json!({"q": ["a", "b¿\nc¿"]})), "/unknown", json!([[], ["¿"]])),
        (json_to("/translate", &json!({"q": "¿"})), "/unknown", json!(["¿"])),
        (
            json_to("/v2/translate", &json!({"text": "¿", "target_lang": "FR"})),
            "/translations/0/unknown",
            json!(["¿"]),
        ),
        (json_to("/v2/models/m/generate", &json!({"text_input": "¿"})), "/unknown", json!(["¿"])),
        (
            json_to(
                "/v2/models/m/infer",
                &json!({"inputs": [{"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["¿"]}]}),
            ),
            "/outputs/0/data",
            json!(["¿"]),
        ),
    ];
    for (request, at, expected) in requests {
        let response = send(&server, request).await;
        assert_eq!(response.headers()["x-unknown-symbols"], "%C2%BF", "{at}");
        assert_eq!(body(response).await.pointer(at), Some(&expected), "{at}");
    }
    let response = send(&server, json_to("/translate", &json!({"q": "a"}))).await;
    assert!(!response.headers().contains_key("x-unknown-symbols"));
    assert_eq!(body(response).await.get("unknown"), None);
}

#[tokio::test]
async fn lists_in_json_in_a_form_and_marks_of_windows_are_read() {
    let server = french();
    assert_eq!(
        translated(&server, post("/translate", FORM, "q=%5B%22a%22%2C+%22b%22%5D&target=fr")).await,
        json!(["A", "B"])
    );
    assert_eq!(translated(&server, json_to("/translate", &json!({"q": "[\"a\"]"}))).await, "[\"A\"]");
    assert_eq!(
        translated(&server, post("/translate", "application/json", "\u{feff}{\"q\": \"a\"}")).await,
        "A"
    );
    let message = refused(
        send(&server, json_to("/translate", &json!({"text": "a", "target_lang": "FR"}))).await,
        Fault::BadRequest,
    )
    .await;
    assert!(message.contains("/v2/translate"), "{message}");
    let message =
        refused(send(&server, json_to("/translate/", &json!({"q": "a"}))).await, Fault::NotFound).await;
    assert!(message.contains("/translate has no slash"), "{message}");
}

/// Bytes that a log has written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_no_text() {
    for format in [LogFormat::Common, LogFormat::Json] {
        let written = Written::default();
        let log = AccessLog::new(format, written.clone()).unwrap();
        let (server, _) = models(&[("m", "en", "fr")], |server| server.logging(Some(log)));
        send(&server, Request::get("/translate?q=secret").body(Body::empty()).unwrap()).await;
        send(&server, json_to("/translate", &json!({"q": "secret", "target": "xx"}))).await;
        let started = Instant::now();
        server.close_access_log();
        assert!(started.elapsed() < Duration::from_secs(2), "the log does not end");
        let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(lines.lines().count() == 2 && !lines.to_lowercase().contains("secret"), "{lines}");
        let [first, second] = lines.lines().collect::<Vec<_>>().try_into().unwrap();
        match format {
            LogFormat::Common => {
                assert!(first.contains("] \"GET /translate HTTP/1.1\" 200 "), "{first}");
                assert!(second.contains("] \"POST /translate HTTP/1.1\" 400 "), "{second}");
            }
            LogFormat::Json => {
                let line: Value = serde_json::from_str(second).unwrap();
                assert_eq!(
                    (&line["method"], &line["path"], &line["status"]),
                    (&json!("POST"), &json!("/translate"), &json!(400))
                );
            }
        }
    }
}

#[tokio::test]
async fn the_key_is_wanted_for_a_preflight_never_and_for_what_follows_always() {
    let hosts = Hosts::new([127, 0, 0, 1].into(), &[]).unwrap();
    let server = Arc::new(Server::new(Limits::default(), Some(ApiKey::new("secret"))).at(hosts));
    assert_eq!(preflight(&server, "http://localhost:3000").await.status(), StatusCode::NO_CONTENT);
    let response =
        send(&server, from("http://localhost:3000", json_to("/translate", &json!({"q": "a"})))).await;
    assert_eq!(allowed(response.headers()), Some("http://localhost:3000"));
    refused(response, Fault::MissingKey).await;
}
