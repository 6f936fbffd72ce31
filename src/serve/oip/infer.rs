//! `POST /v2/models/{model}/infer`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use s2s_runtime::engine::graph::{DataView, TensorView};
use s2s_runtime::graph_info::{Dimension, GraphInfo};
use s2s_runtime::manifest::Role;
use serde_json::Value;

use super::tensors::{Data, DataType, InferRequest, Tensor};
use crate::serve::accounting::accounting;
use crate::serve::body::{Received, read_body};
use crate::serve::client::Caller;
use crate::serve::document::{Reading, translate};
use crate::serve::error::{ApiError, Fault};
use crate::serve::generate::decoding_options;
use crate::serve::limits::Limits;
use crate::serve::paths::{Named, VERSION};
use crate::serve::raw::RawGraph;
use crate::serve::scheduler::Scheduler;
use crate::serve::server::Server;

/// The model `NAME`: texts in, BYTES of any shape.
pub(super) const TEXT_INPUT: &str = "text_input";
/// The model `NAME`: translations out, BYTES of the same shape.
pub(super) const TEXT_OUTPUT: &str = "text_output";
/// The model `NAME`: the score of each translation, FP32 of the same shape.
pub(super) const SCORE: &str = "score";

/// Answers an inference.
pub(super) async fn infer(
    State(server): State<Arc<Server>>,
    named: Named,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let (head, body) = request.into_parts();
    let Received { bytes, held: _held } =
        read_body(&head.headers, body, server.bodies(), server.limits()).await?;
    let request =
        server.bodies().parsed(bytes.len(), move || InferRequest::read(&head.headers, &bytes)).await?;
    match named.role {
        None => text(&server, &named.name, &named.scheduler, &request, caller).await,
        Some(role) => {
            graph(&named.name, Arc::clone(&named.scheduler), role, request, server.limits(), caller.deadline)
                .await
        }
    }
}

async fn text(
    server: &Server,
    name: &str,
    scheduler: &Scheduler,
    request: &InferRequest,
    caller: Caller,
) -> Result<Response, ApiError> {
    let [Tensor { name: input, shape, data: Data::Bytes(texts) }] = &*request.inputs else {
        return Err(ApiError::new(
            Fault::BadRequest,
            format!("{name} takes one tensor, {TEXT_INPUT} of BYTES"),
        ));
    };
    if input != TEXT_INPUT {
        return Err(ApiError::new(
            Fault::BadRequest,
            format!("{name} has no input {input:?}, only {TEXT_INPUT}"),
        ));
    }
    if texts.is_empty() {
        return Err(ApiError::new(Fault::BadRequest, format!("{TEXT_INPUT} is empty")));
    }
    let mut parameters = request.parameters.clone();
    let split = match parameters.remove("split") {
        None | Some(Value::Null) => server.split_of(None)?,
        Some(Value::String(split)) => server.split_of(Some(&split))?,
        Some(other) => {
            return Err(ApiError::new(Fault::InvalidParameter, format!("split {other} is no string")));
        }
    };
    let mut options = decoding_options(&Value::Object(parameters))?;
    if options.num_return_sequences.is_some_and(|n| n > 1) {
        let message = "`num_return_sequences`: infer gives one translation a text; ask generate for several";
        return Err(ApiError::new(Fault::InvalidParameter, message));
    }
    options.num_return_sequences = Some(1);
    if request.wants(SCORE) {
        options.output.get_or_insert_default().scores = Some(true);
    }
    let settings = scheduler.settings(&options)?;
    let reading = Reading { split, ..Reading::default() };
    let answer = translate(server, scheduler, texts.clone(), &reading, &settings, caller).await?;
    let scores = answer.texts.iter().map(|text| text.score).collect();
    let headers = accounting(&answer);
    let texts = answer.texts.into_iter().map(|text| text.text).collect();
    let outputs = [(TEXT_OUTPUT, Data::Bytes(texts)), (SCORE, Data::Float32(scores))];
    let outputs = outputs.map(|(name, data)| Tensor { name: name.to_owned(), shape: shape.clone(), data });
    Ok((headers, request.answer(name, VERSION, &outputs)?).into_response())
}

async fn graph(
    name: &str,
    scheduler: Arc<Scheduler>,
    role: Role,
    request: InferRequest,
    limits: &Limits,
    deadline: Instant,
) -> Result<Response, ApiError> {
    let gone = || ApiError::new(Fault::NotFound, format!("there is no model {name:?}"));
    let raw = scheduler.graphs().raw(role).ok_or_else(gone)?;
    if let Some(parameter) = request.parameters.keys().next() {
        return Err(ApiError::new(
            Fault::InvalidParameter,
            format!("{name} is a graph and has no parameter {parameter:?}"),
        ));
    }
    check(raw, &request.inputs, limits).map_err(|message| ApiError::new(Fault::InvalidParameter, message))?;
    let most = limits.max_answer;
    let names = raw.info().outputs.iter().map(|output| output.name.as_str());
    let bytes = request.answer_bytes(names.zip(output_values(raw.info(), &request.inputs)));
    if bytes > most {
        let message = format!("the outputs of {name} would take {bytes} bytes; the limit is {most}");
        return Err(ApiError::new(Fault::TooLong, message));
    }
    let late = |_| ApiError::new(Fault::Deadline, "no answer within the request timeout");
    let permit =
        tokio::time::timeout_at(deadline.into(), raw.permit(limits.max_queue)).await.map_err(late)??;
    let (handle, owned) = (Arc::clone(&scheduler), name.to_owned());
    // A large answer takes a while to write, too.
    let ran = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let raw = handle.graphs().raw(role)?;
        let ordered = in_order(raw.info(), &request.inputs)?;
        let outputs = raw.run(&ordered.iter().map(|tensor| view(tensor)).collect::<Option<Vec<_>>>()?);
        let answer = outputs.map_err(|error| ApiError::from_runtime(&error)).and_then(|outputs| {
            let names = raw.info().outputs.iter().map(|output| output.name.as_str());
            let bytes =
                request.answer_bytes(names.clone().zip(outputs.iter().map(|output| output.data.len())));
            if bytes > most {
                let message = format!("the outputs of {owned} take {bytes} bytes; the limit is {most}");
                return Err(ApiError::new(Fault::TooLong, message));
            }
            let tensor = |(name, made): (&str, s2s_runtime::engine::graph::Tensor)| Tensor {
                name: name.to_owned(),
                shape: made.shape,
                data: Data::Float32(made.data),
            };
            request.answer(&owned, VERSION, &names.zip(outputs).map(tensor).collect::<Vec<_>>())
        });
        Some(answer)
    });
    let ran = tokio::time::timeout_at(deadline.into(), ran).await.map_err(late)?;
    let defect = || ApiError::new(Fault::Internal, "the model failed on this request");
    ran.ok().flatten().ok_or_else(defect)?
}

/// Values of each output for these inputs, as far as the inputs tell: an axis of another size counts as one.
fn output_values(info: &GraphInfo, inputs: &[Tensor]) -> Vec<usize> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for wanted in &info.inputs {
        let given =
            inputs.iter().find(|input| input.name == wanted.name).map_or(&[][..], |input| &input.shape);
        for (axis, &size) in wanted.shape.iter().flatten().zip(given) {
            if let Dimension::Symbol(symbol) = axis {
                sizes.insert(symbol, size);
            }
        }
    }
    let size = |axis: &Dimension| match axis {
        Dimension::Fixed(size) => *size,
        Dimension::Symbol(symbol) => sizes.get(symbol.as_str()).copied().unwrap_or(1),
        Dimension::Unknown => 1,
    };
    info.outputs
        .iter()
        .map(|output| output.shape.iter().flatten().map(size).fold(1, usize::saturating_mul))
        .collect()
}

fn in_order<'a>(info: &GraphInfo, inputs: &'a [Tensor]) -> Option<Vec<&'a Tensor>> {
    info.inputs.iter().map(|wanted| inputs.iter().find(|input| input.name == wanted.name)).collect()
}

fn view(tensor: &Tensor) -> Option<TensorView<'_>> {
    let data = match &tensor.data {
        Data::Int64(data) => DataView::I64(data),
        Data::Float32(data) => DataView::F32(data),
        Data::Bytes(_) => return None,
    };
    Some(TensorView { shape: &tensor.shape, data })
}

/// Whether the tensors fit the graph and the limits; shapes that depend on one another are the graph's own
/// matter.
fn check(raw: &RawGraph, inputs: &[Tensor], limits: &Limits) -> Result<(), String> {
    let info = raw.info();
    for (at, input) in inputs.iter().enumerate() {
        let name = &input.name;
        let wanted = info.inputs.iter().find(|wanted| wanted.name == *name);
        let names = || info.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
        let wanted =
            wanted.ok_or_else(|| format!("there is no input {name:?}; the inputs are {}", names()))?;
        if inputs[..at].iter().any(|other| other.name == *name) {
            return Err(format!("the input {name:?} comes twice"));
        }
        let data_type = DataType::of_onnx(wanted.element_type);
        if data_type != Some(input.data.data_type()) {
            let right = data_type.map_or("not served", DataType::as_str);
            return Err(format!("{name:?} is {}, and {} was sent", right, input.data.data_type().as_str()));
        }
        if input.shape.first().is_some_and(|&rows| rows > limits.max_batch_size) {
            return Err(format!(
                "{name:?} has {} rows, the limit is {}",
                input.shape[0], limits.max_batch_size
            ));
        }
        if let (Some(most), Data::Int64(ids)) = (raw.vocabulary(name), &input.data)
            && let Some(id) = ids.iter().find(|&&id| usize::try_from(id).map_or(true, |id| id >= most))
        {
            return Err(format!("{name:?} has the id {id}; ids are from 0 to {}", most - 1));
        }
        if raw.vocabulary(name).is_some()
            && input.shape.get(1).is_some_and(|&time| time > limits.max_input_tokens)
        {
            return Err(format!(
                "{name:?} has {} steps, the limit is {}",
                input.shape[1], limits.max_input_tokens
            ));
        }
    }
    match info.inputs.iter().find(|wanted| inputs.iter().all(|input| input.name != wanted.name)) {
        Some(missing) => Err(format!("the input {:?} is missing", missing.name)),
        None => Ok(()),
    }
}
