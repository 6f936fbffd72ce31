//! What the protocol tells about the server and its models.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use s2s_runtime::graph_info::{Dimension, TensorInfo};
use s2s_runtime::manifest::Role;
use serde_json::{Value, json};

use super::infer::{SCORE, TEXT_INPUT, TEXT_OUTPUT};
use super::tensors::DataType;
use crate::serve::error::ApiError;
use crate::serve::paths::{Named, VERSION};
use crate::serve::server::Server;

/// Says what server this is: `GET /v2`.
pub(super) async fn server() -> Json<Value> {
    let extensions =
        ["binary_tensor_data", "model_configuration", "model_repository(index)", "statistics", "generate"];
    Json(json!({ "name": "s2s", "version": env!("CARGO_PKG_VERSION"), "extensions": extensions }))
}

fn health(server: &Server, status: impl Fn(bool) -> StatusCode) -> Response {
    let ready = server.schedulers().is_ok();
    // Clients of both kinds read the same body.
    (status(ready), Json(json!({ "live": true, "ready": ready }))).into_response()
}

/// Says that the process answers: `GET /v2/health/live`.
pub(super) async fn live(State(server): State<Arc<Server>>) -> Response {
    health(&server, |_| StatusCode::OK)
}

/// Says whether the models are loaded: `GET /v2/health/ready`.
pub(super) async fn ready(State(server): State<Arc<Server>>) -> Response {
    health(&server, |ready| if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

/// Lists the models and their state: `POST /v2/repository/index`.
pub(super) async fn index(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Json<Vec<Value>>, ApiError> {
    server.authorise(&headers, None)?;
    let entry = |name: String| json!({ "name": name, "version": VERSION, "state": "READY", "reason": "" });
    let mut models = Vec::new();
    for scheduler in &*server.schedulers()? {
        let name = &scheduler.model().card().name;
        models.push(entry(name.clone()));
        let graphs = Role::ALL.into_iter().filter(|&role| scheduler.graphs().raw(role).is_some());
        models.extend(graphs.map(|role| entry(format!("{name}.{role}"))));
    }
    Ok(Json(models))
}

/// A tensor of a model: name, type, axes (`None` is free).
struct Outside {
    name: String,
    data_type: DataType,
    axes: Vec<Option<usize>>,
}

fn outside(tensor: &TensorInfo) -> Option<Outside> {
    let fixed = |axis: &Dimension| match axis {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbol(_) | Dimension::Unknown => None,
    };
    let axes = tensor.shape.iter().flatten().map(fixed).collect();
    Some(Outside { name: tensor.name.clone(), data_type: DataType::of_onnx(tensor.element_type)?, axes })
}

/// Inputs and outputs.
fn sides(named: &Named) -> (Vec<Outside>, Vec<Outside>) {
    if let Some(raw) = named.raw() {
        let info = raw.info();
        return (
            info.inputs.iter().filter_map(outside).collect(),
            info.outputs.iter().filter_map(outside).collect(),
        );
    }
    let tensor = |name: &str, data_type| Outside { name: name.to_owned(), data_type, axes: vec![None] };
    let outputs = vec![tensor(TEXT_OUTPUT, DataType::Bytes), tensor(SCORE, DataType::Float32)];
    (vec![tensor(TEXT_INPUT, DataType::Bytes)], outputs)
}

fn platform(named: &Named) -> &'static str {
    if named.role.is_some() { "onnxruntime_onnx" } else { "s2s" }
}

fn axis(axis: &Option<usize>) -> Value {
    axis.map_or(json!(-1), |size| json!(size))
}

/// Describes the inputs and outputs of a model: `GET /v2/models/{model}`.
pub(super) async fn model(named: Named) -> Json<Value> {
    let (inputs, outputs) = sides(&named);
    let describe = |tensors: Vec<Outside>| -> Value {
        let describe = |t: Outside| json!({ "name": t.name, "datatype": t.data_type.as_str(), "shape": t.axes.iter().map(axis).collect::<Value>() });
        tensors.into_iter().map(describe).collect()
    };
    Json(json!({
        "name": named.name, "versions": [VERSION], "platform": platform(&named),
        "inputs": describe(inputs), "outputs": describe(outputs),
    }))
}

/// Says whether a model takes requests: `GET /v2/models/{model}/ready`.
pub(super) async fn model_ready(named: Named) -> Json<Value> {
    Json(json!({ "name": named.name, "ready": true }))
}

/// `GET /v2/models/{model}/config`, in Triton's form.
pub(super) async fn config(State(server): State<Arc<Server>>, named: Named) -> Json<Value> {
    let (inputs, outputs) = sides(&named);
    let describe = |tensors: Vec<Outside>| -> Value {
        let describe = |t: Outside| json!({ "name": t.name, "data_type": t.data_type.in_config(), "dims": t.axes.iter().map(axis).collect::<Value>() });
        tensors.into_iter().map(describe).collect()
    };
    // Axes are written out, batch among them, so that the server adds none.
    let _ = server;
    Json(json!({
        "name": named.name, "platform": platform(&named), "backend": "s2s", "max_batch_size": 0,
        "version_policy": { "latest": { "num_versions": 1 } },
        "input": describe(inputs), "output": describe(outputs),
    }))
}

/// Counts what a model has done, and how long it took: `GET /v2/models/{model}/stats`.
pub(super) async fn stats(named: Named) -> Json<Value> {
    let metrics = named.scheduler.metrics();
    let nanoseconds = |(count, seconds): (u64, f64)| json!({ "count": count, "ns": (seconds * 1e9).round() });
    let none = nanoseconds((0, 0.0));
    let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let (queue, compute) = (metrics.queue.totals(), metrics.inference.totals());
    let (last, inferences, executions, statistics) = match named.role {
        None => (
            count(&metrics.last),
            count(&metrics.inferences),
            metrics.step.totals().0,
            json!({
                "success": { "count": count(&metrics.inferences), "ns": ((queue.1 + compute.1) * 1e9).round() },
                "fail": { "count": count(&metrics.failures), "ns": 0 },
                "queue": nanoseconds(queue), "compute_input": none, "compute_infer": nanoseconds(compute), "compute_output": none,
            }),
        ),
        // Of graphs nothing is counted but their requests, in /metrics.
        Some(_) => (
            0,
            0,
            0,
            json!({ "success": none, "fail": none, "queue": none, "compute_input": none, "compute_infer": none, "compute_output": none }),
        ),
    };
    Json(json!({ "model_stats": [{
        "name": named.name, "version": VERSION, "last_inference": last, "inference_count": inferences,
        "execution_count": executions, "inference_stats": statistics, "batch_stats": [],
    }] }))
}
