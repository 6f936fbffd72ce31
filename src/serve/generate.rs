//! `/v2/models/{model}/generate` and `/generate_stream`: one text, every decoding option, the answer whole or as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper::body::Frame;
use s2s_runtime::decoding::{DecodingOptions, FinishReason, Settings};
use s2s_runtime::translator::{Alternative, SourceText, Translation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until};

use super::app::{Route, Server, accounting};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::offload;
use super::paths::{Named, VERSION};
use super::work::Reply;

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
    DecodingOptions::deserialize(parameters).map_err(|error| ApiError::new(Fault::InvalidParameter, format!("parameters: {error}")))
}

/// What both forms are asked.
struct Question {
    id: Option<String>,
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
        let id = fields.text("id")?.map(str::to_owned);
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
#[derive(Serialize)]
struct Told<'a> {
    text_output: &'a str,
    finish_reason: FinishReason,
    generated_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_scores: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<&'a [Vec<f32>]>,
}

impl<'a> Told<'a> {
    fn new(made: &'a Alternative, settings: &Settings) -> Self {
        Self {
            text_output: &made.text,
            finish_reason: made.finish,
            generated_tokens: made.generated_tokens,
            score: (settings.scores || settings.num_return_sequences > 1).then_some(made.score),
            token_scores: settings.token_scores.then_some(&made.token_scores),
            tokens: (settings.token_scores || settings.attention).then_some(&made.tokens),
            attention: settings.attention.then_some(&made.attention),
        }
    }
}

/// What is told of a text: the best hypothesis, then the others. Written straight from the numbers: as a tree of JSON
/// values they would take many times the memory.
#[derive(Serialize)]
struct Answer<'a, H: Serialize> {
    #[serde(flatten)]
    head: H,
    #[serde(flatten)]
    best: Told<'a>,
    source_tokens: usize,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unknown: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<Vec<Told<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_symbols: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_text: Option<&'a str>,
}

impl<'a, H: Serialize> Answer<'a, H> {
    fn new(head: H, made: &'a Translation, settings: &Settings, symbols: Option<&'a [String]>) -> Self {
        let others = || made.alternatives.iter().map(|other| Told::new(other, settings)).collect();
        Self {
            head,
            best: Told::new(&made.best, settings),
            source_tokens: made.source_tokens,
            unknown: &made.unknown,
            alternatives: (settings.num_return_sequences > 1).then(others),
            source_symbols: symbols,
            generated_text: None,
        }
    }
}

/// Numbers of an answer that are written at once; more are written beside the event loop.
const WRITTEN_AT_ONCE: usize = 1 << 14;

/// Numbers and tokens that will be written of a text.
fn weight(made: &Translation) -> usize {
    let of = |made: &Alternative| made.tokens.len() + made.token_scores.len() + made.attention.iter().map(Vec::len).sum::<usize>();
    of(&made.best) + made.alternatives.iter().map(of).sum::<usize>()
}

/// `write` at once, or beside the event loop where there is much to write.
async fn written(weight: usize, write: impl FnOnce() -> serde_json::Result<String> + Send + 'static) -> Result<String, ApiError> {
    let text = if weight <= WRITTEN_AT_ONCE { write() } else { offload::run(write).await? };
    text.map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        ApiError::new(Fault::Internal, "the server failed on this request")
    })
}

/// The columns of the attention weights: the source as the model reads it.
fn source_symbols(sources: &[SourceText], settings: &Settings) -> Option<Vec<String>> {
    settings.attention.then(|| sources.first().map(|source| source.symbols.clone())).flatten()
}

#[derive(Serialize)]
struct ModelHead {
    model_name: String,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

async fn generate(State(server): State<Arc<Server>>, named: Named, request: Request) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let Question { id, text, options } = Question::read(request, &server).await?;
    let scheduler = named.text_model()?;
    let settings = scheduler.settings(&options)?;
    let sources = scheduler.encode(&[text], &settings).await?;
    let symbols = source_symbols(&sources, &settings);
    let mut made = scheduler.decode(sources, &settings, caller).await?;
    let headers = accounting(&made);
    let translation = made.texts.pop().ok_or_else(|| ApiError::new(Fault::Internal, "the model failed on this request"))?;
    let head = ModelHead { model_name: named.name, model_version: VERSION, id };
    let body =
        written(weight(&translation), move || serde_json::to_string(&Answer::new(head, &translation, &settings, symbols.as_deref())));
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], body.await?).into_response())
}

async fn generate_stream(State(server): State<Arc<Server>>, named: Named, request: Request) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let Question { id, text, mut options } = Question::read(request, &server).await?;
    let scheduler = named.text_model()?;
    // Each token is sent with its logarithmic probability.
    options.output.get_or_insert_default().token_scores.get_or_insert(true);
    let settings = scheduler.settings(&options)?;
    let sources = scheduler.encode(&[text], &settings).await?;
    let symbols = source_symbols(&sources, &settings);
    let replies = scheduler.submit(sources, &settings, true, caller.client)?;
    let stream = EventStream {
        server,
        replies,
        deadline: Box::pin(sleep_until(caller.deadline.into())),
        last: None,
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

type Writing = dyn Future<Output = Result<String, ApiError>> + Send;

/// Server-sent events: one a token, the last with the reason of the end; `text_output` of all together is the translation.
struct EventStream {
    server: Arc<Server>,
    replies: mpsc::Receiver<Reply>,
    deadline: Pin<Box<Sleep>>,
    settings: Arc<Settings>,
    symbols: Option<Vec<String>>,
    id: Option<String>,
    index: usize,
    sent: String,
    /// The last event, while it is written.
    last: Option<Pin<Box<Writing>>>,
    ended: bool,
}

#[derive(Serialize)]
struct EventHead {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    index: usize,
}

impl EventStream {
    /// An event; none where it is the last, which [`Self::last`] writes.
    fn event(&mut self, reply: Reply) -> Option<String> {
        let head = EventHead { id: self.id.clone(), index: self.index };
        self.index += 1;
        match reply {
            Reply::Token { token, .. } => {
                self.sent.push_str(&token.text);
                let mut body = json!(head);
                body["text_output"] = json!(token.text);
                body["token"] = json!({ "id": token.id, "text": token.text, "logprob": token.log_p });
                Some(format!("data: {body}\n\n"))
            }
            Reply::Finished { result: Ok(translation), .. } => {
                let (settings, symbols, sent) = (Arc::clone(&self.settings), self.symbols.take(), std::mem::take(&mut self.sent));
                self.last = Some(Box::pin(written(weight(&translation), move || {
                    let mut answer = Answer::new(head, &translation, &settings, symbols.as_deref());
                    // Whatever was held back, for it might have become a stop string; without tokens on the way, everything.
                    let text = &translation.text;
                    answer.best.text_output = text.strip_prefix(sent.as_str()).unwrap_or(text);
                    answer.generated_text = Some(text);
                    serde_json::to_string(&answer).map(|body| format!("data: {body}\n\n"))
                })));
                None
            }
            Reply::Finished { result: Err(error), .. } => Some(self.failure(&error)),
        }
    }

    fn failure(&mut self, error: &ApiError) -> String {
        self.ended = true;
        self.server.metrics().failed(error.fault.entry().1);
        format!("event: error\ndata: {}\n\n", error.body())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        loop {
            if let Some(last) = &mut self.last {
                let written = ready!(last.as_mut().poll(cx));
                self.ended = true;
                return Poll::Ready(written.unwrap_or_else(|error| self.failure(&error)));
            }
            if self.deadline.as_mut().poll(cx).is_ready() {
                let late = ApiError::new(Fault::Deadline, "the text was not finished within the request timeout");
                return Poll::Ready(self.failure(&late));
            }
            match ready!(self.replies.poll_recv(cx)) {
                Some(reply) => {
                    if let Some(event) = self.event(reply) {
                        return Poll::Ready(event);
                    }
                }
                None => return Poll::Ready(self.failure(&ApiError::new(Fault::Internal, "the model failed on this request"))),
            }
        }
    }
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.poll_event(cx));
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
