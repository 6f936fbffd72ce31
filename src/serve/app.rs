//! [`app`]: every route, without a socket.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use super::access_log::{AccessLog, Answered};
use super::auth::ApiKey;
use super::body::{Bodies, check_coding};
use super::client::Caller;
use super::connection::READ_BUFFER;
use super::document::Translated;
use super::downloads::Downloads;
use super::error::{ApiError, Fault};
use super::hosts::Hosts;
use super::limits::Limits;
use super::listener::ClientAddress;
use super::metrics::Metrics;
use super::scheduler::Scheduler;
use super::split::Split;
use super::{deepl, files, generate, info, libretranslate, oip};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Headers of answers that pages of other origins may read.
const EXPOSED: &str =
    "retry-after, x-generated-tokens, x-inference-time-ms, x-queue-time-ms, x-request-id, x-unknown-symbols";
/// Seconds that a browser may remember what it may ask.
const PREFLIGHT_SECONDS: &str = "600";
/// Symbols that a header names.
const MOST_UNKNOWN: usize = 32;

/// What every handler shares: limits, key, and the models once they are loaded.
pub struct Server {
    limits: Limits,
    key: Option<ApiKey>,
    hosts: Option<Hosts>,
    split: Split,
    access_log: Option<AccessLog>,
    metrics: Arc<Metrics>,
    bodies: Arc<Bodies>,
    downloads: Downloads,
    /// Characters of texts translated so far.
    characters: AtomicU64,
    models: RwLock<Phase>,
    /// Request ids are this and a counter.
    nonce: u64,
    counter: AtomicU64,
}

enum Phase {
    Loading,
    Ready(Arc<[Arc<Scheduler>]>),
    /// Requests that arrived before are still answered.
    Draining(Arc<[Arc<Scheduler>]>),
}

impl Server {
    /// A server that still loads its models.
    pub fn new(limits: Limits, key: Option<ApiKey>) -> Self {
        let nonce = RandomState::new().build_hasher().finish();
        Self {
            bodies: Arc::new(Bodies::new(&limits)),
            downloads: Downloads::new(limits.max_file_memory, limits.file_lifetime),
            limits,
            key,
            hosts: None,
            split: Split::default(),
            access_log: None,
            characters: AtomicU64::new(0),
            metrics: Arc::default(),
            models: RwLock::new(Phase::Loading),
            nonce,
            counter: AtomicU64::new(0),
        }
    }

    /// Answers to these names only.
    #[must_use]
    pub fn at(mut self, hosts: Hosts) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// Takes texts apart like this where a request says nothing else.
    #[must_use]
    pub fn splitting(mut self, split: Split) -> Self {
        self.split = split;
        self
    }

    /// Writes a line for each request.
    #[must_use]
    pub fn logging(mut self, log: Option<AccessLog>) -> Self {
        self.access_log = log;
        self
    }

    /// Begins to write the access log; lines wait until then.
    pub fn begin_access_log(&self) {
        if let Some(log) = &self.access_log {
            log.begin();
        }
    }

    /// Writes what is left of the access log.
    pub fn close_access_log(&self) {
        if let Some(log) = &self.access_log {
            log.close();
        }
    }

    /// The models are loaded.
    pub fn ready(&self, schedulers: impl IntoIterator<Item = Scheduler>) {
        let mut phase = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Loading) {
            *phase = Phase::Ready(schedulers.into_iter().map(Arc::new).collect());
        }
    }

    /// Requests that arrive from now on are refused; gives the schedulers, which the caller closes when the
    /// last request is answered.
    pub fn drain(&self) -> Arc<[Arc<Scheduler>]> {
        let mut phase = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let schedulers: Arc<[Arc<Scheduler>]> = match &*phase {
            Phase::Ready(schedulers) | Phase::Draining(schedulers) => Arc::clone(schedulers),
            Phase::Loading => Arc::new([]),
        };
        *phase = Phase::Draining(Arc::clone(&schedulers));
        schedulers
    }

    fn is_draining(&self) -> bool {
        matches!(*self.models.read().unwrap_or_else(PoisonError::into_inner), Phase::Draining(_))
    }

    /// What one client may ask for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The models.
    ///
    /// # Errors
    /// Loading.
    pub(super) fn schedulers(&self) -> Result<Arc<[Arc<Scheduler>]>, ApiError> {
        match &*self.models.read().unwrap_or_else(PoisonError::into_inner) {
            Phase::Ready(schedulers) | Phase::Draining(schedulers) => Ok(Arc::clone(schedulers)),
            Phase::Loading => Err(ApiError::new(Fault::Loading, "the model is loading")),
        }
    }

    /// The model called `name`.
    pub(super) fn model(&self, name: &str) -> Result<Option<Arc<Scheduler>>, ApiError> {
        Ok(self.schedulers()?.iter().find(|s| s.model().card().name == name).cloned())
    }

    /// Puts a model in the place of the one called `old`, or beside the others. Requests that the old one has
    /// taken are still answered: its workers end when its queue is empty and nobody holds it.
    pub fn replace(&self, old: Option<&str>, scheduler: Scheduler) {
        let mut phase = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if let Phase::Ready(schedulers) = &mut *phase {
            let mut all: Vec<Arc<Scheduler>> = schedulers.to_vec();
            let scheduler = Arc::new(scheduler);
            match all.iter_mut().find(|other| Some(other.model().card().name.as_str()) == old) {
                Some(place) => *place = scheduler,
                None => all.push(scheduler),
            }
            *schedulers = all.into();
        }
    }

    /// What the server has done.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How a request wants its texts taken apart.
    pub(super) fn split_of(&self, asked: Option<&str>) -> Result<Split, ApiError> {
        let split = asked.map_or(Ok(self.split), str::parse);
        split.map_err(|message| ApiError::new(Fault::InvalidParameter, message))
    }

    /// Files that wait to be fetched.
    pub(super) fn downloads(&self) -> &Downloads {
        &self.downloads
    }

    /// Characters of texts translated so far.
    pub(super) fn characters(&self) -> u64 {
        self.characters.load(Ordering::Relaxed)
    }

    /// Texts of so many characters were translated.
    pub(super) fn count_characters(&self, characters: usize) {
        self.characters.fetch_add(characters as u64, Ordering::Relaxed);
    }

    /// The memory of all bodies in flight.
    pub(super) fn bodies(&self) -> &Arc<Bodies> {
        &self.bodies
    }

    /// Who sent the request that has just arrived, and when it must be answered.
    pub(super) fn caller(&self, request: &Request) -> Caller {
        Caller::new(request.extensions(), Instant::now() + self.limits.request_timeout)
    }

    /// Whether requests need a key.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Checks the key of a request.
    pub(super) fn authorise(&self, headers: &HeaderMap, field: Option<&str>) -> Result<(), ApiError> {
        self.key.as_ref().map_or(Ok(()), |key| key.check(headers, field))
    }
}

/// A path as the router writes it, and its methods.
pub(super) type Route = (&'static str, MethodRouter<Arc<Server>>);

/// Every path.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![("/health", get(health))];
    routes.extend(libretranslate::routes());
    routes.extend(files::routes());
    routes.extend(deepl::routes());
    routes.extend(oip::routes());
    routes.extend(generate::routes());
    routes.extend(info::routes());
    routes
}

/// Every route over `server`.
pub fn app(server: Arc<Server>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async |request: Request| {
            let path = request.uri().path();
            let known = path.strip_suffix('/').filter(|bare| routes().iter().any(|(route, _)| route == bare));
            let hint = known.map_or_else(String::new, |bare| format!("; {bare} has no slash at its end"));
            ApiError::new(Fault::NotFound, format!("nothing is at {path}{hint}"))
        })
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::new(
                Fault::MethodNotAllowed,
                format!("{} does not take {}", request.uri().path(), request.method()),
            )
        })
        .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
            tracing::error!(panic = s2s_runtime::panics::message(&*panic), "a handler panicked");
            ApiError::new(Fault::Internal, "the server failed on this request").into_response()
        }))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), envelope))
        .with_state(server)
}

async fn health(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    server.schedulers().map(|_| Json(json!({ "status": "ok" })))
}

/// The headers that say what a request cost, and which symbols the model did not know.
pub(super) fn accounting(answer: &Translated) -> HeaderMap {
    accounts(answer.queued, answer.inference, answer.generated_tokens, answer.unknown())
}

/// The same from its parts.
pub(super) fn accounts<'u>(
    queued: Duration,
    inference: Duration,
    generated_tokens: usize,
    all_unknown: impl Iterator<Item = &'u str>,
) -> HeaderMap {
    let milliseconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64() * 1e3);
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert("x-queue-time-ms", milliseconds(queued));
    insert("x-inference-time-ms", milliseconds(inference));
    insert("x-generated-tokens", generated_tokens.to_string());
    let mut unknown: Vec<&str> = Vec::new();
    for symbol in all_unknown {
        if unknown.len() < MOST_UNKNOWN && symbol.len() <= 64 && !unknown.contains(&symbol) {
            unknown.push(symbol);
        }
    }
    if !unknown.is_empty() {
        let encoded: Vec<String> =
            unknown.iter().map(|symbol| utf8_percent_encode(symbol, NON_ALPHANUMERIC).to_string()).collect();
        insert("x-unknown-symbols", encoded.join(", "));
    }
    headers
}

/// Around every request: its id, refusal of strange hosts, while draining, and of encodings that are not
/// read, what pages may read of the answer, and a line in the log.
async fn envelope(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let (started, at) = (Instant::now(), SystemTime::now());
    let id = request_id(&server, request.headers());
    let (method, path, version) =
        (request.method().clone(), request.uri().path().to_owned(), request.version());
    let client = request.extensions().get::<ClientAddress>().map(|address| address.0);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let _in_flight = server.metrics.enter();
    let reader = server.reader(&request);
    let mut response = match &reader {
        Err(error) => error.clone().into_response(),
        Ok(Some(_)) if is_preflight(&request) => preflight(request.headers()),
        Ok(_) => match server.admit(&request) {
            Err(error) => error.into_response(),
            Ok(()) => next.run(request).await,
        },
    };
    let took = started.elapsed();
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed = ?took, id = ?id, "request");
    let fault = response.extensions().get::<Fault>().map(|fault| fault.entry().1);
    server.metrics.answered(method.as_str(), &route, response.status().as_u16(), fault, took);
    if let Some(log) = &server.access_log {
        let (status, bytes) = (response.status().as_u16(), response.body().size_hint().exact());
        let (method, id) = (method.as_str(), id.to_str().unwrap_or_default());
        let added = log.add(&Answered { at, client, method, path: &path, version, status, bytes, took, id });
        if !added {
            server.metrics.log_line_dropped();
        }
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if server.hosts.is_some() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Ok(Some(reader)) = reader {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, reader);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    // Pages say more themselves; a picture has styles and nothing else.
    let nothing =
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

/// Whether a browser asks what a page may send.
fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a page may send that may use the server: anything that it takes. Keys are headers, never cookies.
fn preflight(asked: &HeaderMap) -> Response {
    const PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    // A page of the internet that asks a server on this machine or network.
    if asked.contains_key(PRIVATE) {
        headers.insert(
            HeaderName::from_static("access-control-allow-private-network"),
            HeaderValue::from_static("true"),
        );
    }
    response
}

impl Server {
    /// Whose page may read the answer to a request; nobody's where no page asks.
    fn reader(&self, request: &Request) -> Result<Option<HeaderValue>, ApiError> {
        let hosts = self.hosts.as_ref();
        hosts.map_or(Ok(None), |hosts| hosts.check(request.version(), request.uri(), request.headers()))
    }

    /// Whether a request may go to its handler.
    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        if self.is_draining() {
            return Err(ApiError::new(Fault::Draining, "the server is shutting down"));
        }
        check_coding(request.headers())
    }

    /// The answer to a head that hyper could not read, in place of hyper's `head`, which has no body.
    pub(super) fn refused_head(&self, head: &[u8]) -> Vec<u8> {
        let head = String::from_utf8_lossy(head);
        let error = match head.split(' ').nth(1) {
            Some("431" | "414") => ApiError::new(
                Fault::HeadTooLarge,
                format!("the head of the request has more than {READ_BUFFER} bytes or 100 headers"),
            ),
            _ => ApiError::new(Fault::BadRequest, "the request is not HTTP/1.1"),
        };
        self.closing(
            &error,
            head.lines().find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("date:"))),
        )
    }

    /// The answer to a client whose address has too many connections.
    pub(super) fn refused_connection(&self) -> Vec<u8> {
        let most = self.limits.max_connections_per_address;
        let message =
            format!("the limit is {most} connections from one address; close some, or try again later");
        self.closing(&ApiError::new(Fault::TooManyConnections, message), None)
    }

    /// The last answer of a connection, as it is sent.
    fn closing(&self, error: &ApiError, date: Option<&str>) -> Vec<u8> {
        let (status, error_type) = error.fault.entry();
        self.metrics.answered("", "other", status.as_u16(), Some(error_type), Duration::ZERO);
        let body = error.body().to_string();
        let mut answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        answer.push_str("connection: close\r\nx-content-type-options: nosniff\r\nx-request-id: ");
        answer.push_str(self.new_id().to_str().unwrap_or("-"));
        if error.fault == Fault::TooManyConnections {
            answer.push_str("\r\nretry-after: 1");
        }
        if let Some(line) = date {
            answer.push_str("\r\n");
            answer.push_str(line);
        }
        (answer + "\r\n\r\n" + &body).into_bytes()
    }

    fn new_id(&self) -> HeaderValue {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}-{count:x}", self.nonce);
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// The client's own id where it is short and printable, else a new one.
fn request_id(server: &Server, headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| id.len() <= 128 && !id.is_empty() && id.to_str().is_ok());
    given.cloned().unwrap_or_else(|| server.new_id())
}
