//! What surrounds every request, whoever answers it: its id, whose page may read the answer, a line in the
//! log.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access_log::Answered;
use super::client::ClientAddress;
use super::error::Fault;
use super::server::Server;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Headers of answers that pages of other origins may read.
const EXPOSED: &str =
    "retry-after, x-generated-tokens, x-inference-time-ms, x-queue-time-ms, x-request-id, x-unknown-symbols";
/// Seconds that a browser may remember what it may ask.
const PREFLIGHT_SECONDS: &str = "600";

/// Around every request: its id, refusal of strange hosts, while draining, and of encodings that are not
/// read, what pages may read of the answer, and a line in the log.
pub(super) async fn envelope(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let (started, at) = (Instant::now(), SystemTime::now());
    let id = request_id(&server, request.headers());
    let (method, path, version) =
        (request.method().clone(), request.uri().path().to_owned(), request.version());
    let client = request.extensions().get::<ClientAddress>().map(|address| address.0);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let _in_flight = server.metrics().enter();
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
    server.metrics().answered(method.as_str(), &route, response.status().as_u16(), fault, took);
    if let Some(log) = server.access_log() {
        let (status, bytes) = (response.status().as_u16(), response.body().size_hint().exact());
        let (method, id) = (method.as_str(), id.to_str().unwrap_or_default());
        let added = log.add(&Answered { at, client, method, path: &path, version, status, bytes, took, id });
        if !added {
            server.metrics().log_line_dropped();
        }
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if server.has_hosts() {
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

/// The client's own id where it is short and printable, else a new one.
fn request_id(server: &Server, headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| id.len() <= 128 && !id.is_empty() && id.to_str().is_ok());
    given.cloned().unwrap_or_else(|| server.new_id())
}
