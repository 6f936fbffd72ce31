//! The kinds of values that a schema has.

use serde_json::{Value, json};

/// An object of these keys and no others.
pub(super) fn section(about: &str, required: &[&str], properties: &Value) -> Value {
    json!({ "description": about, "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

/// A text that is not empty.
pub(super) fn text(about: &str) -> Value {
    json!({ "description": about, "type": "string", "minLength": 1 })
}

/// A whole number, `least` or more.
pub(super) fn count(about: &str, least: u32, default: Option<u32>) -> Value {
    let mut value = json!({ "description": about, "type": "integer", "minimum": least });
    if let Some(default) = default {
        value["default"] = default.into();
    }
    value
}

/// One of these words.
pub(super) fn choice(about: &str, words: &[&str]) -> Value {
    json!({ "description": about, "enum": words })
}

/// True or false.
pub(super) fn flag(about: &str, default: bool) -> Value {
    json!({ "description": about, "type": "boolean", "default": default })
}

/// A number within `range`, in the words of JSON Schema.
pub(super) fn number(about: &str, range: &Value) -> Value {
    let mut value = json!({ "description": about, "type": "number" });
    if let (Some(value), Some(range)) = (value.as_object_mut(), range.as_object()) {
        value.extend(range.clone());
    }
    value
}

/// The key `validation` of any data.
pub(super) fn validation() -> Value {
    section(
        "A part of the data, for validation.",
        &["split", "fraction"],
        &json!({
            "split": choice("Drawn with the seed, or the end of the file as Keras takes it.", &["shuffled", "tail"]),
            "fraction": number("Of the data.", &json!({ "exclusiveMinimum": 0, "exclusiveMaximum": 1 })),
        }),
    )
}
