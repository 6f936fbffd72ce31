//! The protocol of LibreTranslate: `/translate`, `/detect`, `/languages`, `/frontend/settings`. Files are in
//! `files`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use s2s_runtime::decoding::DecodingOptions;
use serde_json::{Map, Value, json};

use super::accounting::accounting;
use super::choice::{InPath, Sides, UNDETERMINED, Wanted, sides, source_of};
use super::document::{Reading, Whole, translate as translate_documents};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::files;
use super::markup::Markup;
use super::server::{Route, Server};

/// Routes of this protocol. With the name of a model in front, for clients whose requests cannot name one.
pub(super) fn routes() -> [Route; 6] {
    [
        ("/translate", get(translate).post(translate)),
        ("/models/{model}/translate", get(translate).post(translate)),
        ("/detect", post(detect)),
        ("/languages", get(languages)),
        ("/models/{model}/languages", get(languages)),
        ("/frontend/settings", get(settings)),
    ]
}

async fn translate(
    State(server): State<Arc<Server>>,
    path: InPath,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("api_key")?)?;
    if fields.value("q").is_none() && fields.value("text").is_some() {
        let message = "Invalid request: missing q parameter; DeepL's `text` goes to /v2/translate";
        return Err(ApiError::new(Fault::BadRequest, message));
    }
    let (texts, is_list) = fields.texts("q")?;
    let markup = match fields.filled("format")? {
        None | Some("text") => None,
        Some("html") => Some(Markup::Html),
        Some(other) => {
            let message = format!("format {other:?} is not known here; send text or html");
            return Err(ApiError::new(Fault::InvalidParameter, message));
        }
    };
    let reading = Reading { split: server.split_of(fields.filled("split")?)?, markup, ..Reading::default() };
    let alternatives = fields.count("alternatives")?.unwrap_or(0);
    let source = source_of(&fields)?;
    let (scheduler, options) =
        server.choose(Wanted { model: path.or_field(&fields)?, source, target: fields.filled("target")? })?;

    let mut settings = scheduler.settings(&options)?;
    if alternatives > 0 {
        let wanted = alternatives.saturating_add(1);
        let num_beams = if settings.do_sample { settings.num_beams } else { settings.num_beams.max(wanted) };
        let options =
            DecodingOptions { num_return_sequences: Some(wanted), num_beams: Some(num_beams), ..options };
        settings = scheduler.settings(&options)?;
    }
    let answer = translate_documents(&server, &scheduler, texts, &reading, &settings, caller).await?;

    let each = |item: &dyn Fn(&Whole) -> Value| match is_list {
        true => answer.texts.iter().map(item).collect(),
        false => answer.texts.first().map_or(Value::Null, item),
    };
    let mut body = Map::new();
    if source.is_none() {
        let language = scheduler.model().card().source_language.as_deref().unwrap_or(UNDETERMINED);
        body.insert(
            "detectedLanguage".to_owned(),
            each(&|_| json!({ "confidence": 100.0, "language": language })),
        );
    }
    if alternatives > 0 {
        body.insert("alternatives".to_owned(), each(&|text| json!(text.alternatives)));
    }
    if answer.unknown().next().is_some() {
        body.insert("unknown".to_owned(), each(&|text| json!(text.unknown)));
    }
    body.insert("translatedText".to_owned(), each(&|text| json!(text.text)));
    Ok((accounting(&answer), Json(Value::Object(body))).into_response())
}

/// Nothing is guessed from the text: the answer is the source languages that this server serves.
async fn detect(State(server): State<Arc<Server>>, request: Request) -> Result<Response, ApiError> {
    let fields = Fields::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("api_key")?)?;
    fields.texts("q")?;
    let mut codes: Vec<String> = Vec::new();
    let mut known = HashSet::new();
    for source in sides(&server, &InPath::default())?.into_iter().flat_map(|sides| sides.sources) {
        if known.insert(source.clone()) {
            codes.push(source);
        }
    }
    let confidence = 100.0 / codes.len().max(1) as f64;
    let found: Vec<Value> =
        codes.into_iter().map(|code| json!({ "confidence": confidence, "language": code })).collect();
    Ok(Json(found).into_response())
}

async fn languages(State(server): State<Arc<Server>>, path: InPath) -> Result<Json<Value>, ApiError> {
    let sides = sides(&server, &path)?;
    // A model of 200 languages has 40,000 pairs: each is looked at once.
    let (mut order, mut targets): (Vec<&str>, HashMap<&str, Vec<&str>>) = Default::default();
    let mut pairs = HashSet::new();
    for Sides { sources, targets: to } in &sides {
        for source in sources {
            for target in to {
                for code in [source, target] {
                    targets.entry(code).or_insert_with(|| {
                        order.push(code);
                        Vec::new()
                    });
                }
                if pairs.insert((source, target)) {
                    targets.entry(source).or_default().push(target);
                }
            }
        }
    }
    let language = |code: &&str| json!({ "code": code, "name": code, "targets": targets[code] });
    Ok(Json(order.iter().map(language).collect()))
}

async fn settings(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    let all = sides(&server, &InPath::default())?;
    let first = |side: fn(&Sides) -> &Vec<String>| {
        let code = all.first().and_then(|sides| side(sides).first()).cloned();
        code.unwrap_or_else(|| UNDETERMINED.to_owned())
    };
    let (source, target) = (first(|sides| &sides.sources), first(|sides| &sides.targets));
    Ok(Json(json!({
        "apiKeys": server.has_key(),
        "keyRequired": server.has_key(),
        "charLimit": -1,
        "filesTranslation": true,
        "frontendTimeout": 500,
        "suggestions": false,
        "supportedFilesFormat": files::FORMATS.map(|(extension, _)| extension),
        "language": { "source": { "code": source, "name": source }, "target": { "code": target, "name": target } },
    })))
}
