//! [`Server`]: what every request shares, and what the server says where no handler can.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::routing::MethodRouter;

use super::access_log::AccessLog;
use super::auth::ApiKey;
use super::body::{Bodies, check_coding};
use super::client::Caller;
use super::downloads::Downloads;
use super::error::{ApiError, Fault};
use super::hosts::Hosts;
use super::limits::{Limits, READ_BUFFER};
use super::metrics::Metrics;
use super::scheduler::Scheduler;
use super::split::Split;

/// A path as the router writes it, and its methods.
pub(super) type Route = (&'static str, MethodRouter<Arc<Server>>);

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

    /// Takes the loaded models; requests for them are answered from now on.
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

    /// The queues of all models, in the order in which they were named.
    ///
    /// # Errors
    /// `Loading` while the models are read.
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

    /// Where a line for each request goes.
    pub(super) fn access_log(&self) -> Option<&AccessLog> {
        self.access_log.as_ref()
    }

    /// Whether pages of some other origins may read answers, so that an answer depends on who asks.
    pub(super) fn has_hosts(&self) -> bool {
        self.hosts.is_some()
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

    /// Whose page may read the answer to a request; nobody's where no page asks.
    pub(super) fn reader(&self, request: &Request) -> Result<Option<HeaderValue>, ApiError> {
        let hosts = self.hosts.as_ref();
        hosts.map_or(Ok(None), |hosts| hosts.check(request.version(), request.uri(), request.headers()))
    }

    /// Whether a request may go to its handler.
    pub(super) fn admit(&self, request: &Request) -> Result<(), ApiError> {
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

    pub(super) fn new_id(&self) -> HeaderValue {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}-{count:x}", self.nonce);
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"))
    }
}
