//! The Open Inference Protocol, version 2, with the binary tensor extension, as Triton and KServe speak it.
//!
//! A bundle `NAME` is four models: `NAME` takes text and gives text; `NAME.encoder`, `NAME.decoder` and
//! `NAME.training` are the graphs as they are.

mod infer;
mod metadata;
mod tensors;
mod wire;

use axum::routing::{get, post};

use super::server::Route;

/// Routes of this protocol.
pub(super) fn routes() -> Vec<Route> {
    vec![
        ("/v2", get(metadata::server)),
        ("/v2/health/live", get(metadata::live)),
        ("/v2/health/ready", get(metadata::ready)),
        ("/v2/repository/index", post(metadata::index)),
        ("/v2/models/{model}", get(metadata::model)),
        ("/v2/models/{model}/versions/{version}", get(metadata::model)),
        ("/v2/models/{model}/ready", get(metadata::model_ready)),
        ("/v2/models/{model}/versions/{version}/ready", get(metadata::model_ready)),
        ("/v2/models/{model}/config", get(metadata::config)),
        ("/v2/models/{model}/versions/{version}/config", get(metadata::config)),
        ("/v2/models/{model}/stats", get(metadata::stats)),
        ("/v2/models/{model}/versions/{version}/stats", get(metadata::stats)),
        ("/v2/models/{model}/infer", post(infer::infer)),
        ("/v2/models/{model}/versions/{version}/infer", post(infer::infer)),
    ]
}
