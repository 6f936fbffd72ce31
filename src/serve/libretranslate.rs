//! The protocol of LibreTranslate: `/translate`, `/detect`, `/languages`, `/frontend/settings`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::translator::Translation;
use serde_json::{Map, Value, json};

use super::app::{Route, Server, accounting};
use super::error::{ApiError, Fault};
use super::fields::Fields;

/// The code of a language that the bundle does not name (ISO 639's "undetermined").
pub(super) const UNDETERMINED: &str = "und";

/// Routes of this protocol.
pub(super) fn routes() -> [Route; 4] {
    [("/translate", post(translate)), ("/detect", post(detect)), ("/languages", get(languages)), ("/frontend/settings", get(settings))]
}

async fn translate(State(server): State<Arc<Server>>, request: Request) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("api_key")?)?;
    let (texts, is_list) = fields.texts("q")?;
    let (source, target) = (fields.required("source")?, fields.required("target")?);
    match fields.text("format")? {
        None | Some("" | "text") => {}
        Some(other) => {
            let message = format!("format {other:?} is not known here; send text");
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
    }
    let alternatives = fields.count("alternatives")?.unwrap_or(0);
    let scheduler = server.find(Some(source).filter(|source| !source.eq_ignore_ascii_case("auto")), target)?;

    let mut settings = scheduler.settings(&DecodingOptions::default())?;
    if alternatives > 0 {
        let wanted = alternatives.saturating_add(1);
        let num_beams = if settings.do_sample { settings.num_beams } else { settings.num_beams.max(wanted) };
        let options = DecodingOptions { num_return_sequences: Some(wanted), num_beams: Some(num_beams), ..DecodingOptions::default() };
        settings = scheduler.settings(&options)?;
    }
    let answer = scheduler.translate(&texts, &settings, caller).await?;

    let mut body = Map::new();
    if source.eq_ignore_ascii_case("auto") {
        let language = scheduler.model().card().source_language.as_deref().unwrap_or(UNDETERMINED);
        let detected = json!({ "confidence": 100.0, "language": language });
        body.insert("detectedLanguage".to_owned(), each(is_list, texts.iter().map(|_| detected.clone())));
    }
    if alternatives > 0 {
        let others = |text: &Translation| text.alternatives.iter().map(|a| Value::from(a.text.as_str())).collect::<Value>();
        body.insert("alternatives".to_owned(), each(is_list, answer.texts.iter().map(others)));
    }
    body.insert("translatedText".to_owned(), each(is_list, answer.texts.iter().map(|text| Value::from(text.text.as_str()))));
    Ok((accounting(&answer), Json(Value::Object(body))).into_response())
}

/// An array where the request had one, else its only item.
fn each(is_list: bool, mut items: impl Iterator<Item = Value>) -> Value {
    if is_list { items.collect() } else { items.next().unwrap_or(Value::Null) }
}

/// Nothing is guessed from the text: the answer is the source languages that this server serves.
async fn detect(State(server): State<Arc<Server>>, request: Request) -> Result<Response, ApiError> {
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("api_key")?)?;
    fields.texts("q")?;
    let codes: Vec<String> = pairs(&server)?.into_iter().map(|(source, _)| source).collect();
    let confidence = 100.0 / codes.len().max(1) as f64;
    let mut found: Vec<Value> = Vec::new();
    for code in codes {
        if found.iter().all(|item| item["language"] != code) {
            found.push(json!({ "confidence": confidence, "language": code }));
        }
    }
    Ok(Json(found).into_response())
}

/// Source and target of each model.
pub(super) fn pairs(server: &Server) -> Result<Vec<(String, String)>, ApiError> {
    let code = |language: &Option<String>| language.clone().unwrap_or_else(|| UNDETERMINED.to_owned());
    let all = server.schedulers()?;
    Ok(all.iter().map(|s| s.model().card()).map(|card| (code(&card.source_language), code(&card.target_language))).collect())
}

async fn languages(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    let mut languages: Vec<(String, Vec<String>)> = Vec::new();
    for (source, target) in pairs(&server)? {
        match languages.iter_mut().find(|(code, _)| *code == source) {
            Some((_, targets)) if targets.contains(&target) => {}
            Some((_, targets)) => targets.push(target.clone()),
            None => languages.push((source, vec![target.clone()])),
        }
        if languages.iter().all(|(code, _)| *code != target) {
            languages.push((target, Vec::new()));
        }
    }
    Ok(Json(languages.into_iter().map(|(code, targets)| json!({ "code": code, "name": code, "targets": targets })).collect()))
}

async fn settings(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    let all = pairs(&server)?;
    let (source, target) = all.first().cloned().unwrap_or_else(|| (UNDETERMINED.to_owned(), UNDETERMINED.to_owned()));
    Ok(Json(json!({
        "apiKeys": server.has_key(),
        "keyRequired": server.has_key(),
        "charLimit": -1,
        "filesTranslation": false,
        "frontendTimeout": 500,
        "suggestions": false,
        "supportedFilesFormat": [],
        "language": { "source": { "code": source, "name": source }, "target": { "code": target, "name": target } },
    })))
}
