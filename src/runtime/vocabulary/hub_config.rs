//! `tokenizer_config.json` as transformers writes it beside a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// A token that stands for itself wherever a text has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct AddedToken {
    /// As texts have it.
    pub(super) content: String,
    /// Whether white space before it goes with it.
    pub(super) lstrip: bool,
    /// Whether white space behind it goes with it.
    pub(super) rstrip: bool,
    /// Whether it has to stand alone.
    pub(super) single_word: bool,
    /// Whether it is looked for after the normalisation.
    pub(super) normalized: bool,
    /// Whether it is no text.
    pub(super) special: bool,
}

impl AddedToken {
    pub(super) fn special(content: &str) -> Self {
        Self { content: content.to_owned(), special: true, ..Self::default() }
    }
}

/// The settings of a tokenizer; none at all where there is no such file.
#[derive(Clone, Debug, Default)]
pub(super) struct HubConfig {
    keys: Map<String, Value>,
    path: PathBuf,
}

/// Added tokens of a tokenizer: the most in use are a few hundred.
const MOST_ADDED: usize = 1 << 16;
/// Bytes of an added token.
pub(super) const LONGEST_ADDED: usize = 256;
/// From here on, `model_max_length` is transformers' way of saying that there is no limit.
const NO_LIMIT: u64 = 1 << 40;

impl HubConfig {
    /// # Errors
    /// [`ErrorKind::Bundle`] if the file is no JSON object.
    pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        let keys = serde_json::from_slice(bytes).map_err(|e| {
            let line = u64::try_from(e.line()).ok();
            Error::new(ErrorKind::Bundle, format!("no JSON object: {e}")).at_line(path, line, None)
        })?;
        Ok(Self { keys, path: path.to_owned() })
    }

    /// The error about a key that is not understood.
    pub(super) fn wrong(&self, key: &str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Bundle, message).at_line(&self.path, None, Some(key))
    }

    /// The special tokens, in transformers' order.
    pub(super) fn special(&self) -> Vec<&str> {
        let named =
            ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
        let named = named.into_iter().filter_map(|key| self.token(key, None));
        let extra = self.keys.get("extra_special_tokens").and_then(Value::as_object);
        let extra = extra.into_iter().flat_map(Map::values).filter_map(content);
        named.chain(self.additional().unwrap_or_default()).chain(extra).collect()
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key)?.as_str()
    }

    /// Whether a key has an object that is not empty.
    pub(super) fn has_entries(&self, key: &str) -> bool {
        self.keys.get(key).and_then(Value::as_object).is_some_and(|entries| !entries.is_empty())
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.keys.get(key)?.as_bool()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.keys.get(key)?.as_u64()
    }

    /// A token, written as a text or with its flags; `default` where the key is not there, none where it is
    /// null.
    pub(super) fn token<'a>(&'a self, key: &str, default: Option<&'a str>) -> Option<&'a str> {
        self.keys.get(key).map_or(default, content)
    }

    /// The tokens of `additional_special_tokens`, if it is a list.
    pub(super) fn additional(&self) -> Option<Vec<&str>> {
        Some(self.keys.get("additional_special_tokens")?.as_array()?.iter().filter_map(content).collect())
    }

    /// The tokens of `added_tokens_decoder` by their ids; `None` if there is no such key.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] for what is no such token.
    pub(super) fn added(&self) -> Result<Option<BTreeMap<u32, AddedToken>>> {
        const KEY: &str = "added_tokens_decoder";
        let Some(value) = self.keys.get(KEY) else { return Ok(None) };
        let added: BTreeMap<String, AddedToken> = serde_json::from_value(value.clone())
            .map_err(|e| self.wrong(KEY, format!("no tokens by their ids: {e}")))?;
        if added.len() > MOST_ADDED {
            return Err(self.wrong(KEY, format!("{} tokens; at most {MOST_ADDED} are read", added.len())));
        }
        let by_id = added.into_iter().map(|(id, token)| {
            let number = id.parse().map_err(|_| self.wrong(KEY, format!("{id:?} is no id")))?;
            if token.content.is_empty() || token.content.len() > LONGEST_ADDED {
                let length = token.content.len();
                return Err(
                    self.wrong(KEY, format!("token {id} has {length} bytes; 1 to {LONGEST_ADDED} are read"))
                );
            }
            Ok((number, token))
        });
        by_id.collect::<Result<_>>().map(Some)
    }

    /// The tokens of a source that the model reads at most, if there is a limit.
    pub(super) fn longest(&self) -> Option<usize> {
        let longest = self.number("model_max_length").filter(|&most| 0 < most && most < NO_LIMIT)?;
        usize::try_from(longest).ok()
    }
}

fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}
