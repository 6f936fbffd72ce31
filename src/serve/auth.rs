//! An optional key that every request must carry.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::{ApiError, Fault};

/// The server's key, kept as its hash, so that keys of any length are compared in the same time wherever they
/// differ.
#[derive(Clone)]
pub struct ApiKey([u8; 32]);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl ApiKey {
    /// The key as it is typed.
    pub fn new(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }

    /// Accepts `Authorization: Bearer KEY`, or the `api_key` field that LibreTranslate's clients send.
    pub fn check(&self, headers: &HeaderMap, field: Option<&str>) -> Result<(), ApiError> {
        let header = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let bearer = header.and_then(|value| match value.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(key.trim_ascii()),
            // DeepL's clients.
            _ => value.strip_prefix(b"DeepL-Auth-Key ").map(<[u8]>::trim_ascii),
        });
        match bearer.or(field.filter(|field| !field.is_empty()).map(str::as_bytes)) {
            Some(given) if self.is(given) => Ok(()),
            Some(_) => Err(ApiError::new(Fault::WrongKey, "the key is not this server's")),
            None => Err(ApiError::new(
                Fault::MissingKey,
                "this server wants a key: Authorization: Bearer KEY, or api_key",
            )),
        }
    }
}
