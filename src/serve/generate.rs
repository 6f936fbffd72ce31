//! `/v2/models/{model}/generate` and `/generate_stream`: one text, every decoding option, the answer whole or as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper::body::Frame;
use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::translator::{Alternative, Translation};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until};

use super::app::{Route, Server, accounting};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::paths::{Named, VERSION};
use super::scheduler::Reply;

/// Routes of this protocol.
pub(super) fn routes() -> [Route; 4] {
    [
        ("/v2/models/{model}/generate", post(generate)),
        ("/v2/models/{model}/versions/{version}/generate", post(generate)),
        ("/v2/models/{model}/generate_stream", post(generate_stream)),
        ("/v2/models/{model}/versions/{version}/generate_stream", post(generate_stream)),
    ]
}

/// Options as a request has them.
///
/// # Errors
/// The key that is unknown, or whose value has a wrong type.
pub(super) fn decoding_options(parameters: &Value) -> Result<DecodingOptions, ApiError> {
    use serde::Deserialize;
    DecodingOptions::deserialize(parameters).map_err(|error| ApiError::new(Fault::InvalidParameter, format!("parameters: {error}")))
}

/// What both forms are asked.
struct Question {
    id: Option<Value>,
    text: String,
    options: DecodingOptions,
}

impl Question {
    async fn read(request: Request, server: &Server) -> Result<Self, ApiError> {
        let fields = Fields::read(request, server).await?;
        if let Some(strange) = fields.names().find(|name| !["id", "text_input", "parameters"].contains(name)) {
            let message = format!("the field {strange:?} is unknown; there are text_input, parameters and id");
            return Err(ApiError::new(Fault::BadRequest, message));
        }
        let id = fields.text("id")?.map(Value::from);
        let text = fields.required("text_input")?.to_owned();
        let options = match fields.value("parameters") {
            None | Some(Value::Null) => DecodingOptions::default(),
            Some(parameters @ Value::Object(_)) => decoding_options(parameters)?,
            Some(_) => return Err(ApiError::new(Fault::BadRequest, "parameters must be an object")),
        };
        Ok(Self { id, text, options })
    }
}

/// What is told of a hypothesis; scores, tokens and attention only if they were asked for.
fn hypothesis(made: &Alternative, settings: &Settings) -> Map<String, Value> {
    let mut told = Map::new();
    told.insert("text_output".to_owned(), json!(made.text));
    told.insert("finish_reason".to_owned(), json!(made.finish));
    told.insert("generated_tokens".to_owned(), json!(made.generated_tokens));
    if settings.scores || settings.num_return_sequences > 1 {
        told.insert("score".to_owned(), json!(made.score));
    }
    if settings.token_scores {
        told.insert("token_scores".to_owned(), json!(made.token_scores));
    }
    if settings.token_scores || settings.attention {
        told.insert("tokens".to_owned(), json!(made.tokens));
    }
    if settings.attention {
        told.insert("attention".to_owned(), json!(made.attention));
    }
    told
}

/// What is told of a text: the best hypothesis, then the others.
fn answer(translation: &Translation, settings: &Settings, symbols: Option<&[String]>) -> Map<String, Value> {
    let mut told = hypothesis(&translation.best, settings);
    told.insert("source_tokens".to_owned(), json!(translation.source_tokens));
    if !translation.unknown.is_empty() {
        told.insert("unknown".to_owned(), json!(translation.unknown));
    }
    if settings.num_return_sequences > 1 {
        let others = translation.alternatives.iter().map(|other| Value::Object(hypothesis(other, settings)));
        told.insert("alternatives".to_owned(), others.collect());
    }
    if let Some(symbols) = symbols {
        told.insert("source_symbols".to_owned(), json!(symbols));
    }
    told
}

/// The source as the model reads it: the columns of the attention weights.
fn source_symbols(named: &Named, text: &str, settings: &Settings) -> Result<Option<Vec<String>>, ApiError> {
    if !settings.attention {
        return Ok(None);
    }
    let source = named.scheduler.model().encode(text, settings).map_err(|error| ApiError::from_runtime(&error))?;
    Ok(Some(source.symbols))
}

async fn generate(State(server): State<Arc<Server>>, named: Named, request: Request) -> Result<Response, ApiError> {
    let deadline = server.deadline();
    let Question { id, text, options } = Question::read(request, &server).await?;
    let scheduler = named.text_model()?;
    let settings = scheduler.settings(&options)?;
    let symbols = source_symbols(&named, &text, &settings)?;
    let texts = [text];
    let made = scheduler.translate(&texts, &settings, deadline).await?;
    let mut body = Map::new();
    body.insert("model_name".to_owned(), json!(named.name));
    body.insert("model_version".to_owned(), json!(VERSION));
    body.extend(id.map(|id| ("id".to_owned(), id)));
    body.extend(made.texts.iter().flat_map(|translation| answer(translation, &settings, symbols.as_deref())));
    Ok((accounting(&made), Json(body)).into_response())
}

async fn generate_stream(State(server): State<Arc<Server>>, named: Named, request: Request) -> Result<Response, ApiError> {
    let deadline = server.deadline();
    let Question { id, text, mut options } = Question::read(request, &server).await?;
    let scheduler = named.text_model()?;
    // Each token is sent with its logarithmic probability.
    options.output.get_or_insert_default().token_scores.get_or_insert(true);
    let settings = scheduler.settings(&options)?;
    let symbols = source_symbols(&named, &text, &settings)?;
    let replies = scheduler.submit(&[text], &settings, true)?;
    let stream = EventStream {
        server,
        replies,
        deadline: Box::pin(sleep_until(deadline.into())),
        settings,
        symbols,
        id,
        index: 0,
        sent: String::new(),
        ended: false,
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::new(stream)).into_response())
}

/// Server-sent events: one a token, the last with the reason of the end; `text_output` of all together is the translation.
struct EventStream {
    server: Arc<Server>,
    replies: mpsc::Receiver<Reply>,
    deadline: Pin<Box<Sleep>>,
    settings: Arc<Settings>,
    symbols: Option<Vec<String>>,
    id: Option<Value>,
    index: usize,
    sent: String,
    ended: bool,
}

impl EventStream {
    fn event(&mut self, reply: Reply) -> String {
        let mut body = Map::new();
        body.extend(self.id.clone().map(|id| ("id".to_owned(), id)));
        body.insert("index".to_owned(), json!(self.index));
        self.index += 1;
        match reply {
            Reply::Token { token, .. } => {
                self.sent.push_str(&token.text);
                body.insert("text_output".to_owned(), json!(token.text));
                body.insert("token".to_owned(), json!({ "id": token.id, "text": token.text, "logprob": token.log_p }));
            }
            Reply::Finished { result: Ok(translation), .. } => {
                self.ended = true;
                body.extend(answer(&translation, &self.settings, self.symbols.as_deref()));
                // Whatever was held back, for it might have become a stop string; without tokens on the way, everything.
                let text = &translation.text;
                body.insert("text_output".to_owned(), json!(text.strip_prefix(self.sent.as_str()).unwrap_or(text)));
                body.insert("generated_text".to_owned(), json!(text));
            }
            Reply::Finished { result: Err(error), .. } => return self.failure(&error),
        }
        format!("data: {}\n\n", Value::Object(body))
    }

    fn failure(&mut self, error: &ApiError) -> String {
        self.ended = true;
        self.server.metrics().failed(error.fault.entry().1);
        format!("event: error\ndata: {}\n\n", error.body())
    }
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let event = match this.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => this.failure(&ApiError::new(Fault::Deadline, "the text was not finished within the request timeout")),
            Poll::Pending => match ready!(this.replies.poll_recv(cx)) {
                Some(reply) => this.event(reply),
                None => this.failure(&ApiError::new(Fault::Internal, "the model failed on this request")),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
