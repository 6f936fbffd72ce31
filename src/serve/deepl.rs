//! The part of DeepL's protocol that translates text: `/v2/translate`, `/v2/languages`, `/v2/usage`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Map, Value, json};

use super::accounting::accounting;
use super::choice::{InPath, UNDETERMINED, Wanted, sides};
use super::document::{Reading, Whole, translate as translate_documents};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::markup::Markup;
use super::server::{Route, Server};
use super::split::Split;

/// What DeepL tells those whose plan has no limit.
const NO_LIMIT: u64 = 1_000_000_000_000;

/// Routes of this protocol. With the name of a model in front, for clients whose requests cannot name one.
pub(super) fn routes() -> [Route; 6] {
    fn both<H, T>(handler: H) -> MethodRouter<Arc<Server>>
    where
        H: axum::handler::Handler<T, Arc<Server>> + Clone,
        T: 'static,
    {
        get(handler.clone()).post(handler)
    }
    [
        ("/v2/translate", post(translate)),
        ("/models/{model}/v2/translate", post(translate)),
        ("/v2/languages", both(languages)),
        ("/models/{model}/v2/languages", both(languages)),
        ("/v2/usage", both(usage)),
        ("/models/{model}/v2/usage", both(usage)),
    ]
}

/// How the texts are to be read: DeepL's words, and `split` in front of them.
fn reading(server: &Server, fields: &Fields) -> Result<Reading, ApiError> {
    let unknown = |name: &str, given: &Value, right: &str| {
        ApiError::new(Fault::InvalidParameter, format!("{name} {given} is not known here; send {right}"))
    };
    let markup = match fields.filled("tag_handling")? {
        None => None,
        Some("html") => Some(Markup::Html),
        Some("xml") => Some(Markup::Xml),
        Some(other) => return Err(unknown("tag_handling", &json!(other), "xml or html")),
    };
    let split = fields.filled("split")?;
    let mut reading = Reading { split: server.split_of(split)?, markup, ..Reading::default() };
    // A list, or names with commas between.
    reading.ignored = match fields.value("ignore_tags") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(names)) => names.split(',').map(|name| name.trim().to_owned()).collect(),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(other) => return Err(unknown("ignore_tags", other, "a list of names")),
    };
    reading.ignored.retain(|name| !name.is_empty());
    if reading.ignored.len() > 64 {
        return Err(ApiError::new(Fault::TooLong, "ignore_tags has more than 64 names"));
    }
    let sentences = match fields.value("split_sentences").filter(|_| split.is_none()) {
        None | Some(Value::Null) => return Ok(reading),
        Some(Value::String(word)) => word.clone(),
        Some(Value::Bool(is_split)) => u8::from(*is_split).to_string(),
        Some(other) => other.to_string(),
    };
    match sentences.as_str() {
        "" => {}
        // Models are trained on lines: line breaks stay, whatever else is joined.
        "0" => reading.split = Split::Lines,
        "1" => reading.split = Split::Sentences,
        "nonewlines" => (reading.split, reading.joins_lines) = (Split::Sentences, markup.is_none()),
        other => return Err(unknown("split_sentences", &json!(other), "0, 1 or nonewlines")),
    }
    Ok(reading)
}

async fn translate(
    State(server): State<Arc<Server>>,
    path: InPath,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("auth_key")?)?;
    let (texts, _) = fields.texts("text")?;
    let reading = reading(&server, &fields)?;
    let source = fields.filled("source_lang")?.filter(|source| !source.eq_ignore_ascii_case("auto"));
    let (scheduler, options) = server.choose(Wanted {
        model: path.or_field(&fields)?,
        source,
        target: fields.filled("target_lang")?,
    })?;
    let settings = scheduler.settings(&options)?;
    let billed: Vec<usize> = texts.iter().map(|text| text.chars().count()).collect();
    let answer = translate_documents(&server, &scheduler, texts, &reading, &settings, caller).await?;
    let language = source
        .or(scheduler.model().card().source_language.as_deref())
        .unwrap_or(UNDETERMINED)
        .to_ascii_uppercase();
    let translation = |(text, billed): (&Whole, usize)| {
        let mut told = Map::new();
        told.insert("detected_source_language".to_owned(), json!(language));
        told.insert("text".to_owned(), json!(text.text));
        told.insert("billed_characters".to_owned(), json!(billed));
        if !text.unknown.is_empty() {
            told.insert("unknown".to_owned(), json!(text.unknown));
        }
        Value::Object(told)
    };
    let translations: Vec<Value> = answer.texts.iter().zip(billed).map(translation).collect();
    Ok((accounting(&answer), Json(json!({ "translations": translations }))).into_response())
}

async fn languages(
    State(server): State<Arc<Server>>,
    path: InPath,
    request: Request,
) -> Result<Json<Vec<Value>>, ApiError> {
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("auth_key")?)?;
    let is_target = match fields.text("type")? {
        None | Some("" | "source") => false,
        Some("target") => true,
        Some(other) => {
            return Err(ApiError::new(
                Fault::BadRequest,
                format!("type {other:?} is not known; send source or target"),
            ));
        }
    };
    let mut codes: Vec<String> = sides(&server, &path)?
        .into_iter()
        .flat_map(|sides| if is_target { sides.targets } else { sides.sources })
        .map(|code| code.to_ascii_uppercase())
        .collect();
    codes.sort();
    codes.dedup();
    let language = |code: String| match is_target {
        true => json!({ "language": code, "name": code, "supports_formality": false }),
        false => json!({ "language": code, "name": code }),
    };
    Ok(Json(codes.into_iter().map(language).collect()))
}

/// Characters of texts since the server started, in any protocol; nobody is billed.
async fn usage(State(server): State<Arc<Server>>, request: Request) -> Result<Json<Value>, ApiError> {
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("auth_key")?)?;
    Ok(Json(json!({ "character_count": server.characters(), "character_limit": NO_LIMIT })))
}
