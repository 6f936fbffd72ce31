//! `/translate_file` and `/download_file`, as LibreTranslate has them, for files of text.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use super::accounting::accounting;
use super::body::{Received, read_body};
use super::choice::{InPath, UNDETERMINED, Wanted, source_of};
use super::document::{Reading, translate};
use super::error::{ApiError, Fault};
use super::fields::Fields;
use super::markup::Markup;
use super::server::{Route, Server};

/// Endings of the files that are translated, and how they are read.
pub(super) const FORMATS: [(&str, Option<Markup>); 4] = [
    (".txt", None),
    (".html", Some(Markup::Html)),
    (".htm", Some(Markup::Html)),
    (".xml", Some(Markup::Xml)),
];
/// Fields of one upload.
const MOST_FIELDS: usize = 32;
/// Characters of a file's name.
const LONGEST_NAME: usize = 80;

/// Routes of files.
pub(super) fn routes() -> [Route; 2] {
    // The body is read within the server's own limits.
    [
        ("/translate_file", post(translate_file).layer(DefaultBodyLimit::disable())),
        ("/download_file/{file}", get(download)),
    ]
}

/// A form with a file in it.
struct Upload {
    fields: Fields,
    name: String,
    text: String,
}

impl Upload {
    async fn read(request: Request, server: &Server) -> Result<Self, ApiError> {
        let bad = |message: String| ApiError::new(Fault::BadRequest, message);
        let kind =
            request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
        if !kind.is_some_and(|kind| kind.starts_with(b"multipart/form-data")) {
            server.authorise(request.headers(), None)?;
            return Err(ApiError::new(
                Fault::UnsupportedMediaType,
                "a file is sent as multipart/form-data, in the field `file`",
            ));
        }
        let (head, body) = request.into_parts();
        let Received { bytes, held } =
            read_body(&head.headers, body, server.bodies(), server.limits()).await?;
        let mut parts = multipart(&head, bytes).await?;
        let (mut values, mut file) = (Map::new(), None);
        let broken = |error: MultipartError| {
            ApiError::new(Fault::BadRequest, format!("the form cannot be read: {}", error.body_text()))
        };
        let mut count = 0;
        while let Some(field) = parts.next_field().await.map_err(broken)? {
            count += 1;
            if count > MOST_FIELDS {
                return Err(ApiError::new(
                    Fault::TooLong,
                    format!("the form has more than {MOST_FIELDS} fields"),
                ));
            }
            let (name, file_name) =
                (field.name().unwrap_or_default().to_owned(), field.file_name().map(str::to_owned));
            let bytes = field.bytes().await.map_err(broken)?;
            let text = String::from_utf8(bytes.into()).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                ApiError::new(
                    Fault::InvalidUtf8,
                    format!("{name} is not UTF-8 after byte {at}; save the file as UTF-8"),
                )
            })?;
            if name == "file" {
                file = Some((file_name.unwrap_or_default(), text));
            } else {
                values.insert(name, Value::String(text));
            }
        }
        let (name, text) = file.ok_or_else(|| bad("Invalid request: missing file parameter".to_owned()))?;
        if name.is_empty() {
            return Err(bad("Invalid request: the file has no name".to_owned()));
        }
        Ok(Self { fields: Fields::of(head, values, held), name, text })
    }
}

async fn multipart(head: &Parts, bytes: Vec<u8>) -> Result<Multipart, ApiError> {
    let mut request = Request::new(Body::from(bytes));
    *request.extensions_mut() = head.extensions.clone();
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    let read = Multipart::from_request(request, &()).await;
    read.map_err(|error| {
        ApiError::new(Fault::BadRequest, format!("the form cannot be read: {}", error.body_text()))
    })
}

/// The name without its folders and ending, and the ending; only characters that mean nothing anywhere.
fn parted(name: &str) -> Result<(String, &'static str, Option<Markup>), ApiError> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let found = FORMATS.into_iter().find(|(ending, _)| {
        name.len() >= ending.len()
            && name.get(name.len() - ending.len()..).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    });
    let Some((ending, markup)) = found else {
        let known = FORMATS.map(|(ending, _)| ending).join(", ");
        return Err(ApiError::new(
            Fault::BadRequest,
            format!("Invalid request: file format not supported; there are {known}"),
        ));
    };
    let stem = name[..name.len() - ending.len()]
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
    Ok((stem.take(LONGEST_NAME).collect(), ending, markup))
}

async fn translate_file(State(server): State<Arc<Server>>, request: Request) -> Result<Response, ApiError> {
    let caller = server.caller(&request);
    let Upload { fields, name, text } = Upload::read(request, &server).await?;
    server.authorise(&fields.head.headers, fields.text("api_key")?)?;
    let (stem, ending, markup) = parted(&name)?;
    let reading = Reading { split: server.split_of(fields.filled("split")?)?, markup, ..Reading::default() };
    let target = fields.filled("target")?;
    let path = InPath::default();
    let (scheduler, options) =
        server.choose(Wanted { model: path.or_field(&fields)?, source: source_of(&fields)?, target })?;
    let settings = scheduler.settings(&options)?;
    let (mark, text) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest.to_owned()),
        None => ("", text),
    };
    let answer = translate(&server, &scheduler, vec![text], &reading, &settings, caller).await?;
    let made = answer.texts.first().map_or("", |text| text.text.as_str());
    let target = target.or(scheduler.model().card().target_language.as_deref()).unwrap_or(UNDETERMINED);
    let kept = server.downloads().keep(
        caller.client,
        &format!("{stem}_{target}{ending}"),
        Bytes::from(format!("{mark}{made}")),
    )?;
    let mut body = Map::new();
    body.insert(
        "translatedFileUrl".to_owned(),
        json!(format!("{}/download_file/{kept}", address(&fields.head))),
    );
    if let Some(unknown) =
        answer.texts.first().map(|text| &text.unknown).filter(|unknown| !unknown.is_empty())
    {
        body.insert("unknown".to_owned(), json!(unknown));
    }
    Ok((accounting(&answer), Json(Value::Object(body))).into_response())
}

/// The server as the client called it; a proxy that speaks TLS in front of it says so.
fn address(head: &Parts) -> String {
    let text = |name: HeaderName, headers: &HeaderMap| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let host = head.uri.authority().map(ToString::to_string).or_else(|| text(header::HOST, &head.headers));
    let is_secure = text(HeaderName::from_static("x-forwarded-proto"), &head.headers)
        .is_some_and(|scheme| scheme == "https");
    let scheme = if is_secure { "https" } else { "http" };
    host.map_or_else(String::new, |host| format!("{scheme}://{host}"))
}

/// Whoever has the name has the file: it cannot be guessed.
async fn download(State(server): State<Arc<Server>>, request: Request) -> Result<Response, ApiError> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let gone = || ApiError::new(Fault::NotFound, "there is no such file, or its time is over");
    let bytes = server.downloads().get(name).ok_or_else(gone)?;
    let shown = name.split_once('.').map_or(name, |(_, shown)| shown);
    let kind = if shown.ends_with(".txt") { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{shown}\"")),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_become_harmless_and_unknown_endings_are_refused() {
        assert_eq!(parted("../..\\a \"b\".TXT").unwrap(), ("a__b_".to_owned(), ".txt", None));
        assert_eq!(parted("é.html").unwrap(), ("_".to_owned(), ".html", Some(Markup::Html)));
        assert_eq!(parted(&("x".repeat(500) + ".txt")).unwrap().0.len(), LONGEST_NAME);
        for name in ["a", "a.docx", "txt", ".tx"] {
            assert!(parted(name).unwrap_err().message.contains(".txt"), "{name}");
        }
    }
}
