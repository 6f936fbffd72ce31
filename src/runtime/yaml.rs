//! Reading YAML: one place that sets the parser's options and turns its errors into ours, with file, line and
//! key.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result, guess};

/// Reads `text` as one YAML document of type `T`.
///
/// - `file`: what the text is called in errors; nothing is opened.
/// - `kind`: the kind of the error, for example [`ErrorKind::Config`].
///
/// # Errors
/// Syntax, wrong types, missing and (where `T` denies them) unknown keys, each with file, line and dotted
/// key.
pub fn from_str<T: DeserializeOwned>(text: &str, file: impl AsRef<Path>, kind: ErrorKind) -> Result<T> {
    let file = file.as_ref();
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    let mut track = serde_path_to_error::Track::new();
    let result = serde_yaml::with_deserializer_from_str_with_options(text, options, |deserializer| {
        T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    result.map_err(|error| convert(&error, &track.path().to_string(), file, kind))
}

fn convert(error: &serde_yaml::Error, path: &str, file: &Path, kind: ErrorKind) -> Error {
    let error = error.without_snippet();
    let line = error.location().map(|location| location.line()).filter(|&line| line > 0);
    let mut key = (!path.is_empty() && path != ".").then(|| path.to_owned());
    let mut help = None;
    let message = match error {
        serde_yaml::Error::SerdeUnknownField { field, expected, .. } => {
            help = Some(unknown_key_help(field, expected));
            let path = key.take().unwrap_or_default();
            key = Some(if path == *field || path.ends_with(&format!(".{field}")) || path.is_empty() {
                if path.is_empty() { field.clone() } else { path }
            } else {
                format!("{path}.{field}")
            });
            format!("unknown key `{field}`")
        }
        serde_yaml::Error::SerdeMissingField { field, .. } => {
            key = Some(key.map_or_else(|| (*field).to_owned(), |path| format!("{path}.{field}")));
            format!("the key `{field}` is missing")
        }
        serde_yaml::Error::Budget { breach, .. } => {
            help = Some(
                "nothing that this program writes comes near the parser's limits; is this the right file?"
                    .to_owned(),
            );
            format!("not read: {breach:?}")
        }
        other => without_location(&other.to_string()),
    };
    let mut converted = Error::new(kind, message).at_line(file, line, key.as_deref());
    if let Some(help) = help {
        converted = converted.help(help);
    }
    converted
}

fn unknown_key_help(field: &str, expected: &[&'static str]) -> String {
    match expected.is_empty() {
        true => "no keys are expected here".to_owned(),
        false => guess(field, "known keys here", expected.iter().copied()),
    }
}

/// The line stands in our place already.
fn without_location(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let cut = message.rfind(" at line ").unwrap_or(message.len());
    let start = message
        .strip_prefix("error: line ")
        .and_then(|rest| rest.split_once(": "))
        .map_or(0, |(_, rest)| message.len() - rest.len());
    message.get(start..cut).unwrap_or(message).trim_end_matches(',').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        hidden: usize,
        flag: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        model: Inner,
    }

    fn fails(text: &str) -> Error {
        from_str::<Outer>(text, "a.yaml", ErrorKind::Config).expect_err("the text is wrong")
    }

    #[test]
    fn an_unknown_key_is_named_with_file_line_and_path_and_the_nearest_right_one() {
        let error = fails("# note\nmodel:\n  hidden: 3\n  hiden: 4\n");
        assert_eq!(error.to_string(), "a.yaml:4:model.hiden: unknown key `hiden`");
        assert_eq!(error.help_text(), Some("did you mean `hidden`?"));
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = fails("model:\n  flag: true\n");
        assert!(error.to_string().starts_with("a.yaml:"), "{error}");
        assert!(error.to_string().ends_with("model.hidden: the key `hidden` is missing"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line_and_key() {
        let error = fails("model:\n  hidden: many\n");
        assert!(error.to_string().starts_with("a.yaml:2:model.hidden: "), "{error}");
        assert!(!error.message().contains('\n') && !error.message().contains("line"), "{error}");
    }

    #[test]
    fn yes_is_not_a_boolean() {
        assert!(fails("model:\n  hidden: 1\n  flag: yes\n").to_string().starts_with("a.yaml:3:model.flag: "));
    }

    #[test]
    fn a_hundred_thousand_brackets_are_refused_quickly() {
        let start = std::time::Instant::now();
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            fails(&text);
            fails(&format!("model: {text}"));
        }
        assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
    }
}
