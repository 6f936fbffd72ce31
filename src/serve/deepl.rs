//! The part of DeepL's protocol that translates text: `/v2/translate`, `/v2/languages`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use s2s_runtime::decoding::DecodingOptions;
use serde_json::{Value, json};

use super::app::{Route, Server, accounting};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::libretranslate::{UNDETERMINED, pairs};

/// Routes of this protocol.
pub(super) fn routes() -> [Route; 2] {
    [("/v2/translate", post(translate)), ("/v2/languages", get(languages).post(languages))]
}

async fn translate(State(server): State<Arc<Server>>, request: Request) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("auth_key")?)?;
    let (texts, _) = fields.texts("text")?;
    let target = fields.required("target_lang")?;
    let source = fields.text("source_lang")?.filter(|source| !source.is_empty());
    if let Some(tags) = fields.text("tag_handling")?.filter(|tags| !tags.is_empty()) {
        return Err(ApiError::new(Fault::InvalidParameter, format!("tag_handling {tags:?} is not known here; send plain text")));
    }
    let scheduler = server.find(source, target)?;
    let settings = scheduler.settings(&DecodingOptions::default())?;
    let answer = scheduler.translate(&texts, &settings, caller).await?;
    let language = source.or(scheduler.model().card().source_language.as_deref()).unwrap_or(UNDETERMINED).to_ascii_uppercase();
    let translation = |(text, translation): (&String, &s2s_runtime::translator::Translation)| json!({ "detected_source_language": language, "text": translation.text, "billed_characters": text.chars().count() });
    let translations: Vec<Value> = texts.iter().zip(&answer.texts).map(translation).collect();
    Ok((accounting(&answer), Json(json!({ "translations": translations }))).into_response())
}

async fn languages(State(server): State<Arc<Server>>, request: Request) -> Result<Json<Vec<Value>>, ApiError> {
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("auth_key")?)?;
    let is_target = match fields.text("type")? {
        None | Some("" | "source") => false,
        Some("target") => true,
        Some(other) => return Err(ApiError::new(Fault::BadRequest, format!("type {other:?} is not known; send source or target"))),
    };
    let mut codes: Vec<String> =
        pairs(&server)?.into_iter().map(|(source, target)| if is_target { target } else { source }.to_ascii_uppercase()).collect();
    codes.sort();
    codes.dedup();
    let language = |code: String| match is_target {
        true => json!({ "language": code, "name": code, "supports_formality": false }),
        false => json!({ "language": code, "name": code }),
    };
    Ok(Json(codes.into_iter().map(language).collect()))
}
