//! Pages about the server: `/info`, `/metrics`, `/openapi.json`, `/docs`, and the page for people at `/`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::error::{ApiError, Fault};
use super::metrics;
use super::offload;
use super::page;
use super::paths::Named;
use super::server::{Route, Server};

/// Routes of these pages.
pub(super) fn routes() -> [Route; 6] {
    [
        ("/", get(async || page::TRANSLATE.response())),
        ("/docs", get(async || page::DOCUMENT.response())),
        ("/openapi.json", get(openapi)),
        ("/info", get(info)),
        ("/metrics", get(scrape)),
        ("/v2/models/{model}/graph.svg", get(picture)),
    ]
}

async fn openapi() -> Response {
    let document = include_str!("openapi.json").replace("$VERSION", env!("CARGO_PKG_VERSION"));
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

async fn info(State(server): State<Arc<Server>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    server.authorise(&headers, None)?;
    let mut models = Vec::new();
    for scheduler in &*server.schedulers()? {
        let card = scheduler.model().card();
        models.push(json!({
            "name": card.name,
            "source_language": card.source_language,
            "target_language": card.target_language,
            "languages": card.languages.iter().map(|of| json!({ "code": of.code, "tag": of.tag })).collect::<Vec<_>>(),
            "has_attention": card.has_attention,
            "details": card.details,
        }));
    }
    let limits = server.limits();
    Ok(Json(json!({
        "name": "s2s",
        "version": env!("CARGO_PKG_VERSION"),
        "models": models,
        "limits": {
            "max_queue": limits.max_queue,
            "max_batch_size": limits.max_batch_size,
            "max_client_batch": limits.max_client_batch,
            "max_lines": limits.max_lines,
            "max_input_tokens": limits.max_input_tokens,
            "max_new_tokens": limits.max_new_tokens,
            "max_payload": limits.max_payload,
            "max_body_memory": limits.max_body_memory,
            "max_connections": limits.max_connections,
            "request_timeout": limits.request_timeout.as_secs_f64(),
        },
    })))
}

/// A graph as a picture; without a role, the network with its three graphs.
async fn picture(named: Named) -> Result<Response, ApiError> {
    let (scheduler, role) = (Arc::clone(&named.scheduler), named.role);
    // Laying out a graph takes a while; what is drawn is kept.
    let drawn = offload::run(move || scheduler.graphs().picture(role)).await?;
    let missing = || ApiError::new(Fault::NotFound, format!("there is no picture of {}", named.name));
    let svg = drawn.ok_or_else(missing)?.map_err(|error| ApiError::from_runtime(&error))?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

async fn scrape(State(server): State<Arc<Server>>, headers: HeaderMap) -> Result<Response, ApiError> {
    server.authorise(&headers, None)?;
    // While models load there are none, and the rest is still worth telling.
    let schedulers = server.schedulers();
    let depths: Vec<(String, usize)> = schedulers
        .iter()
        .flat_map(|all| all.iter())
        .map(|s| (s.model().card().name.clone(), s.depth()))
        .collect();
    Ok((
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        server.metrics().render(depths, server.bodies().held()),
    )
        .into_response())
}
