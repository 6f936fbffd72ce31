//! [`app`]: every route, without a socket.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use super::auth::ApiKey;
use super::body::{Bodies, check_coding};
use super::client::Caller;
use super::connection::READ_BUFFER;
use super::error::{ApiError, Fault};
use super::hosts::Hosts;
use super::limits::Limits;
use super::metrics::Metrics;
use super::panics::panic_message;
use super::scheduler::{Answer, Scheduler};
use super::{deepl, generate, info, libretranslate, oip};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every handler shares: limits, key, and the models once they are loaded.
pub struct Server {
    limits: Limits,
    key: Option<ApiKey>,
    hosts: Option<Hosts>,
    metrics: Arc<Metrics>,
    bodies: Arc<Bodies>,
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
            limits,
            key,
            hosts: None,
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

    /// The models are loaded.
    pub fn ready(&self, schedulers: impl IntoIterator<Item = Scheduler>) {
        let mut phase = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Loading) {
            *phase = Phase::Ready(schedulers.into_iter().map(Arc::new).collect());
        }
    }

    /// Requests that arrive from now on are refused; gives the schedulers, which the caller closes when the last
    /// request is answered.
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

    /// The first model from `source` to `target`; a model that names no language takes any, no `source` is any source.
    ///
    /// A region is passed over where the model names none: `EN-US` is `en`.
    pub(super) fn find(&self, source: Option<&str>, target: &str) -> Result<Arc<Scheduler>, ApiError> {
        if let Some(strange) = source.into_iter().chain([target]).find(|code| !is_code(code)) {
            let message = format!("{strange:?} is no language code; send one such as en or zh-Hans");
            return Err(ApiError::new(Fault::UnsupportedLanguage, message));
        }
        let all = self.schedulers()?;
        let speaks = |s: &&Arc<Scheduler>| {
            let card = s.model().card();
            source.is_none_or(|source| is_language(card.source_language.as_deref(), source))
                && is_language(card.target_language.as_deref(), target)
        };
        all.iter().find(speaks).cloned().ok_or_else(|| {
            let source = source.unwrap_or("any language");
            let message = format!("no model here translates from {source} to {target}; GET /languages names those that there are");
            ApiError::new(Fault::UnsupportedLanguage, message)
        })
    }

    /// The model called `name`.
    pub(super) fn model(&self, name: &str) -> Result<Option<Arc<Scheduler>>, ApiError> {
        Ok(self.schedulers()?.iter().find(|s| s.model().card().name == name).cloned())
    }

    /// Puts a model in the place of the one called `old`, or beside the others. Requests that the old one has taken are
    /// still answered: its workers end when its queue is empty and nobody holds it.
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

fn is_code(code: &str) -> bool {
    let rest = code.strip_prefix(|c: char| c.is_ascii_alphabetic());
    code.len() <= 32 && rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
}

/// Whether a model of the language `own` serves the language `asked`.
fn is_language(own: Option<&str>, asked: &str) -> bool {
    own.is_none_or(|own| {
        let primary = if own.contains('-') { asked } else { asked.split(['-', '_']).next().unwrap_or(asked) };
        own.eq_ignore_ascii_case(asked) || own.eq_ignore_ascii_case(primary)
    })
}

/// A path as the router writes it, and its methods.
pub(super) type Route = (&'static str, MethodRouter<Arc<Server>>);

/// Every path.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![("/health", get(health))];
    routes.extend(libretranslate::routes());
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
        .fallback(async |request: Request| ApiError::new(Fault::NotFound, format!("nothing is at {}", request.uri().path())))
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::new(Fault::MethodNotAllowed, format!("{} does not take {}", request.uri().path(), request.method()))
        })
        .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
            tracing::error!(panic = panic_message(&*panic), "a handler panicked");
            ApiError::new(Fault::Internal, "the server failed on this request").into_response()
        }))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), envelope))
        .with_state(server)
}

async fn health(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    server.schedulers().map(|_| Json(json!({ "status": "ok" })))
}

/// The headers that say what a request cost.
pub(super) fn accounting(answer: &Answer) -> [(HeaderName, String); 3] {
    let milliseconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64() * 1e3);
    [
        (HeaderName::from_static("x-queue-time-ms"), milliseconds(answer.queued)),
        (HeaderName::from_static("x-inference-time-ms"), milliseconds(answer.inference)),
        (HeaderName::from_static("x-generated-tokens"), answer.generated_tokens.to_string()),
    ]
}

/// Around every request: its id, refusal of strange hosts, while draining, and of encodings that are not read, a line in the
/// log.
async fn envelope(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&server, request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let _in_flight = server.metrics.enter();
    let mut response = match server.admit(&request) {
        Err(error) => error.into_response(),
        Ok(()) => next.run(request).await,
    };
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed = ?started.elapsed(), id = ?id, "request");
    let fault = response.extensions().get::<Fault>().map(|fault| fault.entry().1);
    server.metrics.answered(method.as_str(), &route, response.status().as_u16(), fault, started.elapsed());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Pages say more themselves; a picture has styles and nothing else.
    let nothing = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

impl Server {
    /// Whether a request may go to its handler.
    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        if let Some(hosts) = &self.hosts {
            hosts.check(request.version(), request.uri(), request.headers())?;
        }
        if self.is_draining() {
            return Err(ApiError::new(Fault::Draining, "the server is shutting down"));
        }
        check_coding(request.headers())
    }

    /// The answer to a head that hyper could not read, in place of hyper's `head`, which has no body.
    pub(super) fn refused_head(&self, head: &[u8]) -> Vec<u8> {
        let head = String::from_utf8_lossy(head);
        let error = match head.split(' ').nth(1) {
            Some("431" | "414") => {
                ApiError::new(Fault::HeadTooLarge, format!("the head of the request has more than {READ_BUFFER} bytes or 100 headers"))
            }
            _ => ApiError::new(Fault::BadRequest, "the request is not HTTP/1.1"),
        };
        self.closing(&error, head.lines().find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("date:"))))
    }

    /// The answer to a client whose address has too many connections.
    pub(super) fn refused_connection(&self) -> Vec<u8> {
        let most = self.limits.max_connections_per_address;
        let message = format!("the limit is {most} connections from one address; close some, or try again later");
        self.closing(&ApiError::new(Fault::TooManyConnections, message), None)
    }

    /// The last answer of a connection, as it is sent.
    fn closing(&self, error: &ApiError, date: Option<&str>) -> Vec<u8> {
        let (status, error_type) = error.fault.entry();
        self.metrics.answered("", "other", status.as_u16(), Some(error_type), Duration::ZERO);
        let body = error.body().to_string();
        let mut answer = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
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
