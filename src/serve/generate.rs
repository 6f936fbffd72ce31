//! `/v2/models/{model}/generate` and `/generate_stream`: one text, every decoding option, the answer whole or
//! as it comes. A text of several lines is answered as one, and line by line beside.

use std::collections::VecDeque;
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
use s2s_runtime::vocabulary::SymbolList;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until};

use super::accounting::accounts;
use super::document::{Decoded, decode_parts};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::offload;
use super::paths::{Named, VERSION};
use super::scheduler::{Misread, Scheduler};
use super::server::{Route, Server};
use super::split::{Split, ranges};
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
    DecodingOptions::deserialize(parameters)
        .map_err(|error| ApiError::new(Fault::InvalidParameter, format!("parameters: {error}")))
}

/// What both forms are asked.
struct Question {
    id: Option<String>,
    text: String,
    split: Split,
    options: DecodingOptions,
}

impl Question {
    async fn read(request: Request, server: &Server) -> Result<Self, ApiError> {
        let fields = Fields::read(request, server).await?;
        if let Some(strange) =
            fields.names().find(|name| !["id", "text_input", "split", "parameters"].contains(name))
        {
            let message =
                format!("the field {strange:?} is unknown; there are text_input, parameters, split and id");
            return Err(ApiError::new(Fault::BadRequest, message));
        }
        let id = fields.text("id")?.map(str::to_owned);
        let text = fields.required("text_input")?.to_owned();
        let split = server.split_of(fields.filled("split")?)?;
        let options = match fields.value("parameters") {
            None | Some(Value::Null) => DecodingOptions::default(),
            Some(parameters @ Value::Object(_)) => decoding_options(parameters)?,
            Some(_) => return Err(ApiError::new(Fault::BadRequest, "parameters must be an object")),
        };
        Ok(Self { id, text, split, options })
    }
}

/// A text as its model reads it: lines, and what stands before each and behind the last.
struct Lines {
    texts: Vec<String>,
    gaps: Vec<String>,
}

impl Lines {
    fn of(text: String, split: Split, most: usize) -> Result<Self, ApiError> {
        let found = ranges(&text, split, most);
        let found = found.ok_or_else(|| {
            ApiError::new(Fault::TooLong, format!("the text has more than {most} lines or sentences"))
        })?;
        if found.is_empty() {
            return Ok(Self { texts: vec![text], gaps: vec![String::new(), String::new()] });
        }
        let (mut texts, mut gaps, mut end) =
            (Vec::with_capacity(found.len()), Vec::with_capacity(found.len() + 1), 0);
        for range in found {
            gaps.push(text[end..range.start].to_owned());
            end = range.end;
            texts.push(text[range].to_owned());
        }
        gaps.push(text[end..].to_owned());
        Ok(Self { texts, gaps })
    }
}

/// Translations of all lines with what stands between them.
fn joined(gaps: &[String], made: &[Translation]) -> String {
    let mut whole = String::new();
    for (at, gap) in gaps.iter().enumerate() {
        whole.push_str(gap);
        whole.push_str(made.get(at).map_or("", |made| made.text.as_str()));
    }
    whole
}

/// What is wrong with a line, and with which where there are several.
fn named(lines: usize, misread: Misread) -> ApiError {
    let Misread { index, error } = misread;
    match index < lines && lines > 1 {
        true => ApiError::new(
            error.fault,
            format!("line {} of those that are not blank: {}", index + 1, error.message),
        ),
        false => error,
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

/// What is told of a text: the best hypothesis, then the others. Written straight from the numbers: as a tree
/// of JSON values they would take many times the memory.
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
    source_symbols: Option<&'a SymbolList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_text: Option<&'a str>,
}

impl<'a, H: Serialize> Answer<'a, H> {
    fn new(head: H, made: &'a Translation, settings: &Settings, symbols: Option<&'a SymbolList>) -> Self {
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

/// What is told of a text of several lines: all together, then each.
#[derive(Serialize)]
struct Many<'a, H: Serialize> {
    #[serde(flatten)]
    head: H,
    text_output: &'a str,
    finish_reason: FinishReason,
    generated_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    source_tokens: usize,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unknown: &'a [String],
    lines: Vec<Answer<'a, NoHead>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_text: Option<&'a str>,
}

#[derive(Serialize)]
struct NoHead {}

/// A text, decoded, and all that it takes to tell of it.
struct Text {
    gaps: Vec<String>,
    made: Vec<Translation>,
    symbols: Vec<SymbolList>,
    settings: Arc<Settings>,
}

impl Text {
    fn unknown(&self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        self.made
            .iter()
            .flat_map(|made| &made.unknown)
            .filter(|symbol| seen.insert(symbol.as_str()))
            .cloned()
            .collect()
    }

    /// - `streamed`: the last piece of a stream, whose end says the whole.
    fn write<H: Serialize>(&self, head: H, streamed: Option<&str>) -> serde_json::Result<String> {
        let whole = joined(&self.gaps, &self.made);
        let text_output = streamed.unwrap_or(&whole);
        let generated_text = streamed.map(|_| whole.as_str());
        if let [made] = &*self.made {
            let mut answer = Answer::new(head, made, &self.settings, self.symbols.first());
            answer.best.text_output = text_output;
            answer.generated_text = generated_text;
            return serde_json::to_string(&answer);
        }
        let each = |(at, made)| Answer::new(NoHead {}, made, &self.settings, self.symbols.get(at));
        let lines: Vec<Answer<'_, NoHead>> = self.made.iter().enumerate().map(each).collect();
        let ended = self.made.iter().map(|made| made.finish);
        serde_json::to_string(&Many {
            head,
            text_output,
            finish_reason: ended
                .clone()
                .find(|reason| *reason != FinishReason::Eos)
                .unwrap_or(FinishReason::Eos),
            generated_tokens: self.made.iter().map(|made| made.generated_tokens).sum(),
            score: lines.iter().filter_map(|line| line.best.score).reduce(f32::min),
            source_tokens: self.made.iter().map(|made| made.source_tokens).sum(),
            unknown: &self.unknown(),
            lines,
            generated_text,
        })
    }

    /// Numbers and tokens that will be written.
    fn weight(&self) -> usize {
        self.made.iter().map(weight).sum()
    }
}

/// Numbers of an answer that are written at once; more are written beside the event loop.
const WRITTEN_AT_ONCE: usize = 1 << 14;

/// Numbers and tokens that will be written of a text.
fn weight(made: &Translation) -> usize {
    let of = |made: &Alternative| {
        made.tokens.len() + made.token_scores.len() + made.attention.iter().map(Vec::len).sum::<usize>()
    };
    of(&made.best) + made.alternatives.iter().map(of).sum::<usize>()
}

/// `write` at once, or beside the event loop where there is much to write.
async fn written(
    weight: usize,
    write: impl FnOnce() -> serde_json::Result<String> + Send + 'static,
) -> Result<String, ApiError> {
    let text = if weight <= WRITTEN_AT_ONCE { write() } else { offload::run(write).await? };
    text.map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        ApiError::new(Fault::Internal, "the server failed on this request")
    })
}

#[derive(Serialize)]
struct ModelHead {
    model_name: String,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

async fn generate(
    State(server): State<Arc<Server>>,
    named_model: Named,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let Question { id, text, split, options } = Question::read(request, &server).await?;
    let scheduler = named_model.text_model()?;
    let settings = scheduler.settings(&options)?;
    let characters = text.chars().count();
    let Lines { texts, gaps } = Lines::of(text, split, server.limits().max_lines)?;
    let parts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let decoded = decode_parts(scheduler, &parts, &settings, caller)
        .await
        .map_err(|misread| named(parts.len(), misread))?;
    server.count_characters(characters);
    let Decoded { made, symbols, queued, inference, generated_tokens } = decoded;
    let text = Text { gaps, made, symbols, settings };
    let headers = accounts(queued, inference, generated_tokens, text.unknown().iter().map(String::as_str));
    let head = ModelHead { model_name: named_model.name, model_version: VERSION, id };
    let body = written(text.weight(), move || text.write(head, None)).await?;
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Reads the lines of a text that is streamed: all of them wait at once, so that they are no more than texts
/// of a request.
async fn read_lines(
    scheduler: &Scheduler,
    texts: Vec<String>,
    settings: &Arc<Settings>,
) -> Result<Vec<SourceText>, ApiError> {
    scheduler.check_texts(texts.len())?;
    let count = texts.len();
    let sources = scheduler.encode_each(texts, settings).await.map_err(|misread| named(count, misread))?;
    scheduler.check_answer(&sources.iter().map(|source| source.ids.len()).collect::<Vec<_>>(), settings)?;
    Ok(sources)
}

async fn generate_stream(
    State(server): State<Arc<Server>>,
    named: Named,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let Question { id, text, split, mut options } = Question::read(request, &server).await?;
    let scheduler = named.text_model()?;
    // Each token is sent with its logarithmic probability.
    options.output.get_or_insert_default().token_scores.get_or_insert(true);
    let settings = scheduler.settings(&options)?;
    let characters = text.chars().count();
    let Lines { texts, gaps } = Lines::of(text, split, server.limits().max_lines)?;
    let sources = read_lines(scheduler, texts, &settings).await?;
    let symbols = if settings.attention {
        sources.iter().map(|source| source.symbols.clone()).collect()
    } else {
        Vec::new()
    };
    let early = sources.iter().map(|_| VecDeque::new()).collect();
    let replies = scheduler.submit(sources, &settings, true, caller.client)?;
    server.count_characters(characters);
    let stream = EventStream {
        server,
        replies,
        deadline: Box::pin(sleep_until(caller.deadline.into())),
        last: None,
        gap: gaps[0].clone(),
        text: Text { gaps, made: Vec::new(), symbols, settings },
        early,
        id,
        index: 0,
        sent: String::new(),
        ended: false,
    };
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::new(stream)).into_response())
}

type Writing = dyn Future<Output = Result<String, ApiError>> + Send;

/// Server-sent events: one a token, the last with the reason of the end; `text_output` of all together is the
/// translation. Lines are decoded together and sent one after the other.
struct EventStream {
    server: Arc<Server>,
    replies: mpsc::Receiver<Reply>,
    deadline: Pin<Box<Sleep>>,
    /// What is done of the text; the line that is being sent is the next.
    text: Text,
    /// Of each line, what came before its turn.
    early: Vec<VecDeque<Reply>>,
    /// What stands before the line and is not sent yet.
    gap: String,
    id: Option<String>,
    index: usize,
    /// Of the line.
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
    fn head(&mut self) -> EventHead {
        self.index += 1;
        EventHead { id: self.id.clone(), index: self.index - 1 }
    }

    /// An event; none where nothing is to be sent, or [`Self::last`] writes it.
    fn event(&mut self, reply: Reply) -> Option<String> {
        let gap = std::mem::take(&mut self.gap);
        match reply {
            Reply::Token { token, .. } => {
                self.sent.push_str(&token.text);
                let mut body = json!(self.head());
                body["text_output"] = json!(gap + &token.text);
                body["token"] = json!({ "id": token.id, "text": token.text, "logprob": token.log_p });
                Some(format!("data: {body}\n\n"))
            }
            Reply::Finished { result: Ok(translation), .. } => {
                // Whatever was held back, for it might have become a stop string; without tokens on the way,
                // everything.
                let sent = std::mem::take(&mut self.sent);
                let rest = gap + translation.text.strip_prefix(sent.as_str()).unwrap_or(&translation.text);
                self.text.made.push(*translation);
                let next = self.text.gaps[self.text.made.len()].clone();
                let head = self.head();
                if self.text.made.len() < self.early.len() {
                    self.gap = next;
                    let mut body = json!(head);
                    body["text_output"] = json!(rest);
                    return Some(format!("data: {body}\n\n"));
                }
                let nothing = Text {
                    gaps: Vec::new(),
                    made: Vec::new(),
                    symbols: Vec::new(),
                    settings: Arc::clone(&self.text.settings),
                };
                let text = std::mem::replace(&mut self.text, nothing);
                self.last = Some(Box::pin(written(text.weight(), move || {
                    text.write(head, Some(&(rest + &next))).map(|body| format!("data: {body}\n\n"))
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
                let late =
                    ApiError::new(Fault::Deadline, "the text was not finished within the request timeout");
                return Poll::Ready(self.failure(&late));
            }
            let line = self.text.made.len();
            let next = match self.early.get_mut(line).and_then(VecDeque::pop_front) {
                Some(reply) => Some(reply),
                None => ready!(self.replies.poll_recv(cx)),
            };
            match next {
                Some(reply) => {
                    let (Reply::Token { index, .. } | Reply::Finished { index, .. }) = &reply;
                    if *index != line
                        && let Some(early) = self.early.get_mut(*index)
                    {
                        early.push_back(reply);
                        continue;
                    }
                    if let Some(event) = self.event(reply) {
                        return Poll::Ready(event);
                    }
                }
                None => {
                    return Poll::Ready(
                        self.failure(&ApiError::new(Fault::Internal, "the model failed on this request")),
                    );
                }
            }
        }
    }
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.poll_event(cx));
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
