//! [`app`]: every route, without a socket.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use super::envelope::envelope;
use super::error::{ApiError, Fault};
use super::server::{Route, Server};
use super::{deepl, files, generate, info, libretranslate, oip};

/// Every path that is answered, with its methods.
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
