//! One table from what went wrong to the HTTP status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use s2s_runtime::{Error, ErrorKind};
use serde_json::json;

/// What went wrong with one request. [`Fault::entry`] is the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The body is not JSON, a field is missing or has a wrong type.
    BadRequest,
    /// A language that no model of this server serves.
    UnsupportedLanguage,
    /// The request names a model that is not here.
    UnknownModel,
    /// Several models can do what is asked, and the request does not say which.
    AmbiguousModel,
    /// The server wants a key and the request has none.
    MissingKey,
    /// The key is not the server's.
    WrongKey,
    /// A page of another site sent the request.
    ForeignOrigin,
    /// No such path.
    NotFound,
    /// The path exists with other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    SlowBody,
    /// The body is larger than the limit, after decompression.
    PayloadTooLarge,
    /// The content type or encoding is not one that the server reads.
    UnsupportedMediaType,
    /// The request is for another host than this.
    WrongHost,
    /// The head of the request is too large, or has too many headers.
    HeadTooLarge,
    /// A text has too many tokens, or a request too many texts.
    TooLong,
    /// A text is not UTF-8.
    InvalidUtf8,
    /// A parameter is out of range, or the text cannot be handled as asked.
    InvalidParameter,
    /// The queue is full.
    Overloaded,
    /// The client's address has too many connections.
    TooManyConnections,
    /// The bodies in flight take all the memory that they may.
    BodiesFull,
    /// A defect, or an engine that failed on this request.
    Internal,
    /// The model is not loaded yet.
    Loading,
    /// The server is shutting down.
    Draining,
    /// The answer did not come in time.
    Deadline,
}

impl Fault {
    /// Every fault, for the document of the interface and for tests.
    pub const ALL: [Self; 24] = [
        Self::BadRequest,
        Self::UnsupportedLanguage,
        Self::UnknownModel,
        Self::AmbiguousModel,
        Self::MissingKey,
        Self::WrongKey,
        Self::ForeignOrigin,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::SlowBody,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::WrongHost,
        Self::HeadTooLarge,
        Self::TooLong,
        Self::InvalidUtf8,
        Self::InvalidParameter,
        Self::Overloaded,
        Self::TooManyConnections,
        Self::BodiesFull,
        Self::Internal,
        Self::Loading,
        Self::Draining,
        Self::Deadline,
    ];

    /// The HTTP status, and the name that clients see as `error_type`.
    pub fn entry(self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::UnsupportedLanguage => (StatusCode::BAD_REQUEST, "unsupported_language"),
            Self::UnknownModel => (StatusCode::BAD_REQUEST, "unknown_model"),
            Self::AmbiguousModel => (StatusCode::BAD_REQUEST, "ambiguous_model"),
            Self::MissingKey => (StatusCode::UNAUTHORIZED, "missing_key"),
            Self::WrongKey => (StatusCode::FORBIDDEN, "wrong_key"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "slow_body"),
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::WrongHost => (StatusCode::MISDIRECTED_REQUEST, "wrong_host"),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"),
            Self::TooLong => (StatusCode::UNPROCESSABLE_ENTITY, "too_long"),
            Self::InvalidUtf8 => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_utf8"),
            Self::InvalidParameter => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter"),
            Self::Overloaded => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::TooManyConnections => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections"),
            Self::BodiesFull => (StatusCode::SERVICE_UNAVAILABLE, "bodies_full"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
        }
    }
}

/// Bytes of a sentence for the client.
const LONGEST_MESSAGE: usize = 1000;

/// A fault and the sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// What went wrong.
    pub fault: Fault,
    /// In one sentence, and what would be right.
    pub message: String,
}

impl ApiError {
    /// A fault and the sentence for the client, which may quote what the client sent, but not two megabytes
    /// of it.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push_str(" ...");
        }
        Self { fault, message }
    }

    /// An error of the runtime: what the client did is explained to it, anything else is logged and stays
    /// here.
    pub fn from_runtime(error: &Error) -> Self {
        match error.kind() {
            kind @ (ErrorKind::Input | ErrorKind::Config | ErrorKind::Usage | ErrorKind::TooLong) => {
                let message = match error.help_text() {
                    Some(help) => format!("{}; {help}", error.message()),
                    None => error.message().to_owned(),
                };
                let too_long = kind == ErrorKind::TooLong;
                Self::new(if too_long { Fault::TooLong } else { Fault::InvalidParameter }, message)
            }
            ErrorKind::Timeout => Self::new(Fault::Deadline, error.message()),
            _ => {
                tracing::error!(error = %error, cause = ?std::error::Error::source(error), "a request \
                    failed");
                Self::new(Fault::Internal, "the model failed on this request")
            }
        }
    }
}

impl ApiError {
    /// What the client is told.
    pub(super) fn body(&self) -> serde_json::Value {
        // `error` is the sentence that LibreTranslate's clients show, `message` the one that DeepL's do.
        json!({ "error": self.message, "error_type": self.fault.entry().1, "message": self.message })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.fault.entry();
        let mut response = (status, Json(self.body())).into_response();
        response.extensions_mut().insert(self.fault);
        let headers = response.headers_mut();
        match self.fault {
            Fault::Overloaded
            | Fault::TooManyConnections
            | Fault::BodiesFull
            | Fault::Loading
            | Fault::Draining => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Fault::MissingKey => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the body is not waited for a second time.
            Fault::SlowBody => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
