//! HTTP requests over every route, without a socket, over a scripted model.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use s2s::error::{Error, ErrorKind, Result};
use s2s::serve::app::app;
use s2s::serve::auth::ApiKey;
use s2s::serve::limits::Limits;
use s2s::serve::metrics::ModelMetrics;
use s2s::serve::model::{Card, Model, Worker};
use s2s::serve::scheduler::Scheduler;
use s2s::serve::server::Server;
use s2s_runtime::decoding::{DecodingOptions, FinishReason, Settings};
use s2s_runtime::translator::{Alternative, SourceText, TextEvent, Token, Translation};
use tower::ServiceExt as _;

use super::input::Input;

/// Requests of one input.
const MOST_REQUESTS: usize = 8;

/// A model that upper-cases, one character a step.
struct Upper(Card);

impl Model for Upper {
    fn card(&self) -> &Card {
        &self.0
    }

    fn settings(&self, request: &DecodingOptions) -> Result<Arc<Settings>> {
        Settings::new(request).map(Arc::new)
    }

    fn encode(&self, text: &str, settings: &Settings, most_characters: usize) -> Result<SourceText> {
        if text.contains('\u{fffd}') {
            return Err(Error::new(ErrorKind::Input, "unknown symbol").help("leave it out"));
        }
        if text.chars().nth(most_characters.min(settings.most_source_tokens())).is_some() {
            return Err(Error::new(ErrorKind::TooLong, "a long text").help("cut it"));
        }
        Ok(SourceText { ids: text.chars().map(u32::from).collect(), ..SourceText::default() })
    }

    fn worker(&self, _metrics: &Arc<ModelMetrics>) -> Result<Box<dyn Worker>> {
        Ok(Box::new(Batch(Vec::new())))
    }
}

/// A text under way: what it becomes, and how much of that is done.
struct Row {
    id: u64,
    settings: Arc<Settings>,
    stream: bool,
    source_tokens: usize,
    text: Vec<char>,
    done: usize,
}

struct Batch(Vec<Row>);

impl Worker for Batch {
    fn admit(&mut self, id: u64, source: SourceText, settings: Arc<Settings>, stream: bool) {
        let upper = source.ids.iter().filter_map(|&id| char::from_u32(id)).flat_map(char::to_uppercase);
        let text = upper.take(settings.max_new_tokens).collect();
        let source_tokens = source.ids.len();
        self.0.push(Row { id, settings, stream, source_tokens, text, done: 0 });
    }

    fn step(&mut self, events: &mut Vec<TextEvent>) -> Result<()> {
        self.0.retain_mut(|row| {
            if let Some(&next) = row.text.get(row.done) {
                row.done += 1;
                if row.stream {
                    events.push(TextEvent::Token {
                        id: row.id,
                        token: Token { id: next.into(), text: next.to_string(), log_p: Some(-0.5) },
                    });
                }
                return true;
            }
            let hypothesis = Alternative {
                text: row.text.iter().collect(),
                score: -0.5,
                finish: FinishReason::Eos,
                generated_tokens: row.text.len() + 1,
                tokens: Vec::new(),
                token_scores: Vec::new(),
                attention: Vec::new(),
            };
            let translation = Translation {
                best: hypothesis.clone(),
                source_tokens: row.source_tokens,
                unknown: Vec::new(),
                alternatives: vec![hypothesis; row.settings.num_return_sequences.saturating_sub(1)],
            };
            events.push(TextEvent::Done { id: row.id, translation: Box::new(translation) });
            false
        });
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.0.retain(|row| row.id != id);
    }
}

/// A server that stays: with a key, or without one.
fn routes(with_key: bool) -> &'static Router {
    static OPEN: OnceLock<Router> = OnceLock::new();
    static LOCKED: OnceLock<Router> = OnceLock::new();
    let made = || {
        let limits =
            Limits { max_input_tokens: 64, max_new_tokens: 64, max_payload: 1 << 16, ..Limits::default() };
        let server = Server::new(limits.clone(), with_key.then(|| ApiKey::new("secret")));
        let cards = [("plain", None, None), ("fr", Some("en"), Some("fr"))].map(
            |(name, source, target): (&str, Option<&str>, Option<&str>)| Card {
                name: name.to_owned(),
                source_language: source.map(str::to_owned),
                target_language: target.map(str::to_owned),
                ..Card::default()
            },
        );
        server.ready(cards.map(|card| {
            let metrics = server.metrics().model(&card.name);
            Scheduler::start(Arc::new(Upper(card)), 1, &limits, &metrics).expect("threads can be started")
        }));
        app(Arc::new(server))
    };
    if with_key { LOCKED.get_or_init(made) } else { OPEN.get_or_init(made) }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime can be made")
    })
}

/// What every answer keeps; gives its body.
fn answer(routes: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let said = format!("{} {}", request.method(), request.uri());
    let is_head = request.method() == Method::HEAD;
    let (status, head, body) = runtime().block_on(async {
        let response = routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap_or_else(|error| panic!("{said}: the body broke off: {error}"));
        (head.status, head.headers, body.to_bytes().to_vec())
    });
    assert!(head.contains_key("x-request-id"), "{said}: an answer without x-request-id");
    assert!(body.len() <= 8 << 20, "{said}: {} bytes of answer", body.len());
    let kind =
        head.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().expect("a content type is ASCII"));
    let json = (kind.starts_with("application/json") && !is_head).then(|| {
        let read = serde_json::from_slice::<serde_json::Value>(&body);
        read.unwrap_or_else(|error| {
            panic!("{said}: {status} is no JSON: {error}: {:?}", String::from_utf8_lossy(&body))
        })
    });
    if (status.is_client_error() || status.is_server_error()) && !is_head {
        let json = json.unwrap_or_else(|| panic!("{said}: {status} without a JSON body ({kind})"));
        for key in ["error", "message", "error_type"] {
            assert!(
                json[key].as_str().is_some_and(|text| !text.is_empty()),
                "{said}: {status} without {key}: {json}"
            );
        }
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{said}: {json}");
        assert!(body.len() <= 100_000, "{said}: {status} with {} bytes of error", body.len());
    }
    (status, body)
}

/// Requests one after the other: method, path, headers and body as the input has them. NULs lie between
/// requests.
pub(crate) fn http(data: &[u8]) {
    let mut input = Input::new(data);
    let with_key = input.flag();
    let mut answered = Vec::new();
    for _ in 0..MOST_REQUESTS {
        if input.is_empty() {
            break;
        }
        let mut one = Input::new(input.until(0));
        let Some(request) = request(&mut one) else { continue };
        answered.push(answer(routes(with_key), request).0);
    }
    // Whatever came before, the server is there.
    let health = Request::get("/health")
        .header(header::HOST, "localhost")
        .body(Body::empty())
        .expect("a plain request");
    assert_eq!(answer(routes(with_key), health).0, StatusCode::OK, "after {answered:?}");
}

/// `METHOD PATH`, lines of headers, an empty line, a body; what HTTP's own reader would refuse is left out.
fn request(input: &mut Input<'_>) -> Option<Request<Body>> {
    let first = input.until(b'\n');
    let (method, path) = std::str::from_utf8(first).ok()?.split_once(' ')?;
    let mut request =
        Request::builder().method(Method::from_bytes(method.as_bytes()).ok()?).uri(path.parse::<Uri>().ok()?);
    loop {
        let line = input.until(b'\n');
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { break };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        request = request.header(name.ok()?, value.ok()?);
    }
    if !request.headers_ref()?.contains_key(header::HOST) {
        request = request.header(header::HOST, "localhost");
    }
    request.body(Body::from(input.rest().to_vec())).ok()
}

/// An inference of the Open Inference Protocol: JSON up to a NUL, then the bytes of tensors.
pub(crate) fn oip(data: &[u8]) {
    let mut input = Input::new(data);
    let path = *input.pick(&[
        "/v2/models/plain/infer",
        "/v2/models/fr/versions/1/infer",
        "/v2/models/plain.encoder/infer",
    ]);
    // Now and then the length is not that of the JSON.
    let off = [0, 0, 0, 0, 0, 1, -1, i64::MAX, i64::MIN][input.below(9)];
    let json = input.until(0);
    let length = (json.len() as i64).saturating_add(off);
    let body = [json, input.rest()].concat();
    let request = Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header("inference-header-content-length", length.to_string())
        .body(Body::from(body))
        .expect("a plain request");
    let (status, body) = answer(routes(false), request);
    if status == StatusCode::OK {
        assert!(!body.is_empty());
    }
}
