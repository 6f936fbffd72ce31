//! `expected.json` of a folder: what another program makes of some sources.
//!
//! Three forms: an object with `sources` (texts), `source_ids`, and for each way of decoding what was
//! `generated`, as `{ids, text}` for each source; a list of pairs of ids, `[source, target]`; a list of
//! `{source, target}`, both texts.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::{DecodingOptions, EarlyStopping};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// The name of the file.
pub(super) const EXPECTED: &str = "expected.json";

/// A source as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Text(String),
    Ids(Vec<u32>),
}

/// What is known of the output of a source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Output {
    /// May begin with START and end with padding.
    pub(super) ids: Option<Vec<u32>>,
    pub(super) text: Option<String>,
}

/// A way of decoding, and what it gives for each source.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) name: String,
    /// What is laid over the options of the model; or why it is not known.
    pub(super) options: Result<DecodingOptions, String>,
    pub(super) outputs: Vec<Output>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub(super) sources: Vec<Source>,
    /// The ids of sources that are texts.
    pub(super) source_ids: Option<Vec<Vec<u32>>>,
    pub(super) ways: Vec<Way>,
    /// Why outputs may differ, where they may.
    pub(super) approximate: Option<String>,
}

#[derive(Deserialize)]
struct Whole {
    sources: Vec<String>,
    source_ids: Option<Vec<Vec<u32>>>,
    #[serde(default)]
    settings: Map<String, Value>,
    max_new_tokens: Option<usize>,
    generated: Map<String, Value>,
    approximate: Option<String>,
}

#[derive(Deserialize)]
struct Pair {
    source: String,
    target: String,
}

impl Expected {
    /// Reads what lies beside the files of a bundle, if there is something.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if it is of no known form; what reading gives.
    pub(super) fn read(bundle: &Bundle) -> Result<Option<Self>> {
        let Some(bytes) = bundle.beside(EXPECTED)? else { return Ok(None) };
        let wrong = |problem: String| {
            Error::new(ErrorKind::Data, problem)
                .in_file(bundle.path().join(EXPECTED))
                .help("`s2s verify` holds the model against it; docs/any-model.md has its forms")
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
        Self::parse(text).map(Some).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        fn of<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
            serde_json::from_value(value).map_err(|error| error.to_string())
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &value {
            Value::Object(_) => Self::of_whole(of(value)?),
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                let pairs: Vec<Pair> = of(value)?;
                let outputs = pairs.iter().map(|pair| Output { ids: None, text: Some(pair.target.clone()) });
                Ok(Self::greedy(outputs.collect(), pairs.into_iter().map(|pair| Source::Text(pair.source))))
            }
            Value::Array(_) => {
                let pairs: Vec<(Vec<u32>, Vec<u32>)> = of(value)?;
                let (sources, targets): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                let outputs = targets.into_iter().map(|ids| Output { ids: Some(ids), text: None });
                Ok(Self::greedy(outputs.collect(), sources.into_iter().map(Source::Ids)))
            }
            _ => Err("an object or a list is expected".to_owned()),
        }
    }

    fn greedy(outputs: Vec<Output>, sources: impl Iterator<Item = Source>) -> Self {
        let options = Ok(DecodingOptions { num_beams: Some(1), ..DecodingOptions::default() });
        let way = Way { name: "greedy".to_owned(), options, outputs };
        Self { sources: sources.collect(), ways: vec![way], ..Self::default() }
    }

    fn of_whole(whole: Whole) -> Result<Self, String> {
        let count = whole.sources.len();
        if whole.source_ids.as_ref().is_some_and(|ids| ids.len() != count) {
            return Err(format!("source_ids: as many as sources are expected, {count}"));
        }
        let mut ways = Vec::new();
        for (name, outputs) in whole.generated {
            let outputs: Vec<Output> =
                serde_json::from_value(outputs).map_err(|error| format!("generated.{name}: {error}"))?;
            if outputs.len() != count {
                return Err(format!("generated.{name}: {} outputs for {count} sources", outputs.len()));
            }
            let mut options = match whole.settings.get(&name) {
                Some(typed) => serde_json::from_value::<DecodingOptions>(typed.clone())
                    .map_err(|error| format!("settings.{name}: {error}")),
                None => named(&name),
            };
            if let Ok(options) = &mut options {
                options.max_new_tokens = options.max_new_tokens.or(whole.max_new_tokens);
                options.num_beams = options.num_beams.or(Some(1));
            }
            ways.push(Way { name, options, outputs });
        }
        let sources = whole.sources.into_iter().map(Source::Text).collect();
        Ok(Self { sources, source_ids: whole.source_ids, ways, approximate: whole.approximate })
    }
}

/// What a name such as `greedy` or `beam4_lp0.6_early` says.
fn named(name: &str) -> Result<DecodingOptions, String> {
    let unknown = || format!("settings.{name} is missing, and the name does not say how to decode");
    let mut options = DecodingOptions { num_beams: Some(1), ..DecodingOptions::default() };
    for part in name.split('_') {
        if let Some(beams) = part.strip_prefix("beam") {
            options.num_beams = Some(beams.parse().map_err(|_| unknown())?);
        } else if let Some(penalty) = part.strip_prefix("lp") {
            options.length_penalty = Some(penalty.parse().map_err(|_| unknown())?);
        } else if part == "early" {
            options.early_stopping = Some(EarlyStopping::True);
        } else if part != "greedy" {
            return Err(unknown());
        }
    }
    Ok(options)
}

/// Generated ids between START and the first END, as the loop gives them, and whether END came.
///
/// - `ends`: the ids that end an output; `pad` may follow.
pub(super) fn bare(ids: &[u32], start: u32, ends: &[u32], pad: u32) -> (Vec<u32>, bool) {
    let ids = ids.strip_prefix(&[start]).unwrap_or(ids);
    match ids.iter().position(|id| ends.contains(id)) {
        Some(at) => (ids[..at].to_vec(), true),
        None => {
            let padding = ids.iter().rev().take_while(|&&id| id == pad).count();
            (ids[..ids.len() - padding].to_vec(), false)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_three_forms_are_read() {
        let whole = r#"{"sources": ["a"], "source_ids": [[5, 1]], "max_new_tokens": 9,
            "settings": {"mine": {"num_beams": 3, "length_penalty": 2.0}},
            "generated": {"beam4_lp0.6_early": [{"ids": [0, 7, 1], "text": "x"}],
            "mine": [{"ids": [0, 1]}], "sampled": [{"text": "y"}]}}"#;
        let expected = Expected::parse(whole).unwrap();
        assert_eq!(expected.sources, [Source::Text("a".to_owned())]);
        let options = expected.ways[0].options.as_ref().unwrap();
        assert_eq!((options.num_beams, options.max_new_tokens), (Some(4), Some(9)));
        assert_eq!(options.early_stopping, Some(EarlyStopping::True));
        assert_eq!(expected.ways[1].options.as_ref().unwrap().length_penalty, Some(2.0));
        assert!(expected.ways[2].options.as_ref().unwrap_err().contains("settings.sampled is missing"));
        let ids = Expected::parse("[[[4, 5], [6]]]").unwrap();
        assert_eq!(ids.sources, [Source::Ids(vec![4, 5])]);
        assert_eq!(ids.ways[0].outputs[0].ids.as_deref(), Some(&[6][..]));
        let texts = Expected::parse(r#"[{"source": "a", "target": "b"}]"#).unwrap();
        assert_eq!(texts.ways[0].outputs[0].text.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_of_no_form_is_said_to_be() {
        for (text, problem) in [
            ("7", "an object or a list"),
            (
                r#"{"sources": ["a"], "generated": {"greedy": []}}"#,
                "generated.greedy: 0 outputs for 1 sources",
            ),
            (r#"{"sources": ["a"], "source_ids": [], "generated": {}}"#, "source_ids"),
            ("[[1, 2]]", "invalid type"),
        ] {
            let error = Expected::parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn start_end_and_padding_are_no_output() {
        assert_eq!(bare(&[9, 4, 5, 0, 9, 9], 9, &[0], 9), (vec![4, 5], true));
        assert_eq!(bare(&[2, 0, 4, 2, 1], 2, &[2], 1), (vec![0, 4], true));
        assert_eq!(bare(&[4, 5], 9, &[0], 9), (vec![4, 5], false));
        assert_eq!(bare(&[0, 4, 0, 0], 0, &[1], 0), (vec![4], false));
    }
}
