//! Reads [`DecodingOptions`] from YAML, with errors that name file, line and key.

use std::path::Path;

use super::options::{DecodingOptions, OutputOptions, key_error};
use crate::error::{Error, ErrorKind, Result, did_you_mean};

/// Reads and checks every value alone; combinations are checked when the layers are merged.
pub(super) fn read(text: &str, file: &Path) -> Result<DecodingOptions> {
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    let parsed: Result<Option<DecodingOptions>, _> = serde_yaml::from_str_with_options(text, options);
    let parsed = parsed.map_err(|cause| explain(cause, text, file))?.unwrap_or_default();
    parsed.check_values().map_err(|(key, problem)| {
        let line = text.lines().position(|line| key_of(line) == Some(key) || names(key).iter().any(|n| key_of(line) == Some(n)));
        key_error(key, &problem).at_line(file, line.map(|l| l as u64 + 1), Some(key))
    })?;
    Ok(parsed)
}

/// The names under which `key` may be written.
fn names(key: &str) -> &'static [&'static str] {
    match key {
        "max_new_tokens" => &["max_decoding_length"],
        "min_new_tokens" => &["min_decoding_length"],
        "num_beams" => &["beam_size"],
        "num_return_sequences" => &["num_hypotheses"],
        "temperature" => &["sampling_temperature"],
        "top_k" => &["sampling_topk"],
        "top_p" => &["sampling_topp"],
        "time_limit" => &["max_time"],
        _ => &[],
    }
}

fn explain(cause: serde_yaml::Error, text: &str, file: &Path) -> Error {
    let line = cause.location().map(|l| l.line()).filter(|&line| line > 0);
    let key = line.and_then(|line| dotted_key(text, line));
    let error = match cause.without_snippet() {
        serde_yaml::Error::SerdeUnknownField { field, .. } => {
            let nested = key.as_deref().is_some_and(|k| k.starts_with("output."));
            let known = if nested { OutputOptions::KEYS } else { DecodingOptions::KEYS };
            let error = Error::new(ErrorKind::Config, format!("unknown key `{field}`"));
            match did_you_mean(field, known.iter().copied()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error.help(format!("the keys are {}", known.join(", "))),
            }
        }
        other => {
            let rendered = other.render();
            let message = rendered.lines().next().unwrap_or("not valid YAML");
            // Location is said by the place.
            let message = message.split(" at line ").next().unwrap_or(message);
            Error::new(ErrorKind::Config, message)
        }
    };
    error.at_line(file, line, key.as_deref()).caused_by(cause.to_string())
}

/// The key that a block-style line assigns.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start().split_once(':')?;
    let key = key.trim_matches(['"', '\'']);
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(key)
}

/// The dotted key at a 1-based line, for example `output.scores`.
fn dotted_key(text: &str, line: u64) -> Option<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().take(usize::try_from(line).ok()?).collect();
    let last = lines.last()?;
    let key = key_of(last)?;
    let parent = lines.iter().rev().find(|l| !l.trim().is_empty() && indent(l) < indent(last)).and_then(|l| key_of(l));
    Some(parent.map_or_else(|| key.to_owned(), |parent| format!("{parent}.{key}")))
}
