//! What a request cost, as headers of its answer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::document::Translated;

/// Symbols that a header names.
const MOST_UNKNOWN: usize = 32;

/// The headers that say what a request cost, and which symbols the model did not know.
pub(super) fn accounting(answer: &Translated) -> HeaderMap {
    accounts(answer.queued, answer.inference, answer.generated_tokens, answer.unknown())
}

/// The same from its parts.
pub(super) fn accounts<'u>(
    queued: Duration,
    inference: Duration,
    generated_tokens: usize,
    all_unknown: impl Iterator<Item = &'u str>,
) -> HeaderMap {
    let milliseconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64() * 1e3);
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert("x-queue-time-ms", milliseconds(queued));
    insert("x-inference-time-ms", milliseconds(inference));
    insert("x-generated-tokens", generated_tokens.to_string());
    let mut unknown: Vec<&str> = Vec::new();
    for symbol in all_unknown {
        if unknown.len() < MOST_UNKNOWN && symbol.len() <= 64 && !unknown.contains(&symbol) {
            unknown.push(symbol);
        }
    }
    if !unknown.is_empty() {
        let encoded: Vec<String> =
            unknown.iter().map(|symbol| utf8_percent_encode(symbol, NON_ALPHANUMERIC).to_string()).collect();
        insert("x-unknown-symbols", encoded.join(", "));
    }
    headers
}
