//! The pages for people, `/` and `/docs`: each one document with its style and its scripts inside, and a
//! policy by which nothing else can run.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A document and its policy.
pub(super) struct Page {
    html: String,
    policy: String,
}

/// The page at `/`.
pub(super) static TRANSLATE: LazyLock<Page> = LazyLock::new(|| {
    let parts = [
        ("{{page.css}}", include_str!("page/page.css")),
        ("{{strings.js}}", include_str!("page/strings.js")),
        ("{{requests.js}}", include_str!("page/requests.js")),
        ("{{page.js}}", include_str!("page/page.js")),
    ];
    Page::new(
        parts
            .into_iter()
            .fold(include_str!("page/page.html").to_owned(), |html, (place, text)| html.replace(place, text)),
    )
});

/// The page at `/docs`.
pub(super) static DOCUMENT: LazyLock<Page> =
    LazyLock::new(|| Page::new(include_str!("docs.html").to_owned()));

impl Page {
    fn new(html: String) -> Self {
        let policy = format!(
            "default-src 'none'; style-src{}; script-src{}; connect-src 'self'; img-src data: blob:; \
             base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hashes(&html, "style"),
            hashes(&html, "script"),
        );
        Self { html, policy }
    }

    /// The answer to a request for it.
    pub(super) fn response(&'static self) -> Response {
        let headers = [
            (header::CONTENT_SECURITY_POLICY, self.policy.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::REFERRER_POLICY, "no-referrer"),
            // For browsers that do not know frame-ancestors.
            (header::X_FRAME_OPTIONS, "DENY"),
        ];
        (headers, Html(self.html.as_str())).into_response()
    }
}

/// The contents of the elements `tag`, as a policy names them.
fn hashes(html: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let contents =
        html.split(&open).skip(1).filter_map(|rest| rest.split_once(&close)).map(|(content, _)| content);
    contents.map(|content| format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(content)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_what_a_page_carries_and_allows_nothing_inline_beside_it() {
        for (page, scripts) in [(&*TRANSLATE, 3), (&*DOCUMENT, 1)] {
            assert!(!page.html.contains(".js}}") && !page.html.contains(".css}}"), "a part is missing");
            assert!(!page.policy.contains("unsafe"), "{}", page.policy);
            assert_eq!(page.policy.matches("'sha256-").count(), scripts + 1, "{}", page.policy);
            for inline in [" style=", " onclick=", " onload=", "=\"javascript:"] {
                assert!(!page.html.contains(inline), "{inline}");
            }
        }
        // The hash of nothing at all, as everybody knows it.
        assert_eq!(
            hashes("<script></script>", "script"),
            " 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
        );
    }

    #[test]
    fn every_fault_that_the_page_can_meet_is_told_in_plain_words_of_both_languages() {
        use super::super::error::Fault;
        // The page never names a language, and always sends the right method, type and a short head.
        let elsewhere = [
            Fault::UnsupportedLanguage,
            Fault::MethodNotAllowed,
            Fault::UnsupportedMediaType,
            Fault::HeadTooLarge,
        ];
        for fault in Fault::ALL.into_iter().filter(|fault| !elsewhere.contains(fault)) {
            let key = format!("      {}: \"", fault.entry().1);
            assert_eq!(include_str!("page/strings.js").matches(&key).count(), 2, "{key}");
        }
    }
}
