//! The JSON Schema of a config, so that an editor completes keys and marks mistakes while one types.
//!
//! The reader of configs stays the judge; a test holds the keys of both against each other.

use serde_json::{Map, Value, json};

mod forms;
mod mlp;
mod training;

use forms::{choice, count, section, text, validation};
use training::training;

/// The schema (draft 2020-12): `model.kind` says which of the two forms a config has.
pub fn schema() -> Value {
    let is_mlp = json!({ "properties": { "model": { "properties": { "kind": { "const": "mlp" } }, "required": ["kind"] } }, "required": ["model"] });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "s2s config",
        "type": "object",
        "if": is_mlp,
        "then": { "$ref": "#/$defs/mlp" },
        "else": { "$ref": "#/$defs/seq2seq" },
        "$defs": { "seq2seq": seq2seq(), "mlp": mlp::schema() },
    })
}

/// The form of a config without `model.kind`.
fn seq2seq() -> Value {
    section(
        "An experiment of s2s: which pairs, which network, how it is trained, how its bundle decodes.",
        &["name", "data", "model", "training"],
        &json!({
            "name": { "description": "Names the run folder and the bundle.", "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$" },
            "data": data(),
            "model": model(),
            "training": training(),
            "decoding": decoding(),
            "output": text("The run folder, from this file's folder; runs/NAME where it is left out."),
        }),
    )
}

fn data() -> Value {
    let side = |name: &str| {
        section(
            &format!("How {name} text becomes tokens."),
            &[],
            &json!({
                "unit": choice("A Unicode code point, or what stands between whitespace.", &["character", "token"]),
                "normalisation": {
                    "description": "Applied in this order, in training and in use.",
                    "type": "array",
                    "items": choice("A step.", &["nfc", "nfd", "nfkc", "nfkd", "lowercase", "trim", "collapse_whitespace"]),
                },
                "language": text("A BCP 47 code such as `en` or `zh-Hans`, for servers."),
            }),
        )
    };
    let column = |about: &str, default: u32| json!({ "description": about, "oneOf": [count("A column.", 1, None), text("A key of jsonl.")], "default": default });
    let task = section(
        "Pairs that the program makes itself.",
        &["name"],
        &json!({
            "name": choice("The task.", &["dates"]),
            "train": count("Training pairs.", 1, Some(20_000)),
            "dev": count("Validation pairs.", 1, Some(1_000)),
            "seed": count("Of the task.", 0, Some(1)),
        }),
    );
    section(
        "Where pairs come from, and how text becomes tokens.",
        &[],
        &json!({
            "task": { "oneOf": [{ "enum": ["dates"] }, task] },
            "folder": text("Where the data files lie; --data and S2S_DATA win."),
            "train": text("The file of pairs."),
            "dev": text("A file of validation pairs; instead of `validation`."),
            "validation": validation(),
            "format": choice("A separator without quoting, fields that may be quoted, or an object of JSON a line.", &["tsv", "csv", "jsonl"]),
            "separator": text("What stands between columns: a tab where it is left out, a comma for csv, which takes one character."),
            "columns": section("Columns count from 1; those of jsonl are keys.", &[], &json!({
                "source": column("The source's column.", 1),
                "target": column("The target's column.", 2),
                "extra": choice("What further columns are; join makes them text of the last one.", &["error", "ignore", "join"]),
            })),
            "header": { "description": "Whether the first line names the columns.", "type": "boolean", "default": false },
            "comment": text("Lines that begin so are left out; csv takes one character."),
            "empty": choice("What a line without a source or a target is.", &["error", "skip"]),
            "limit": count("Only the first pairs of the file.", 2, None),
            "source": side("source"),
            "target": side("target"),
            "vocabulary": choice("Which pairs the vocabularies are built from.", &["train", "all"]),
            "licence": text("Of the data; stored in the bundle."),
            "attribution": text("Who made the data; stored in the bundle."),
        }),
    )
}

fn model() -> Value {
    let form = json!({ "oneOf": [
        { "enum": ["one_hot"] },
        section("A learnt row a symbol.", &["embedding"], &json!({ "embedding": count("Width.", 1, None) })),
    ] });
    let sides =
        section("One form for each side.", &["source", "target"], &json!({ "source": form, "target": form }));
    section(
        "The network.",
        &["hidden", "input"],
        &json!({
            "cell": choice("The recurrent cell.", &["lstm", "gru", "gru_reset_bias", "gru_reset_before"]),
            "gate_activation": choice(
                "The activation of the cells' gates.",
                &["sigmoid", "hard_sigmoid_fifth", "hard_sigmoid_sixth"],
            ),
            "layers": count("Recurrent layers of each side.", 1, Some(1)),
            "decoder_layers": count("Recurrent layers of the decoder; `layers` unless it is said.", 1, None),
            "hand_over": {
                "description": "The encoder layer, from 0, that each decoder layer starts from; null for zeros.",
                "type": "array",
                "items": { "type": ["integer", "null"], "minimum": 0 },
            },
            "hidden": count("Width of the hidden states.", 1, None),
            "encoder_hidden": count("Width of the encoder's outputs; `hidden` unless it is said.", 1, None),
            "bridge": choice(
                "What lies between the encoder's last states and the decoder's first.",
                &["none", "linear", "tanh", "relu"],
            ),
            "bridge_source": choice("What the bridge reads.", &["states", "hidden"]),
            "input": { "description": "How ids enter.", "oneOf": [form, sides] },
            "bidirectional": { "description": "Whether each encoder layer reads both ways.", "type": "boolean", "default": false },
            "attention": choice("How the decoder looks back at the source.", &["none", "dot", "general", "additive"]),
            "attention_width": count("Width of additive scores; `hidden` unless it is said.", 1, None),
            "attention_bias": {
                "description": "Whether additive scores and the combining layer have a bias.",
                "type": "boolean",
                "default": false,
            },
            "attention_output": choice(
                "What the output layer reads.",
                &["combined", "combined_linear", "concatenated", "state"],
            ),
            "feeding": choice("What enters the decoder's first layer beside the token.", &["none", "output", "context"]),
            "tied_embeddings": { "description": "Whether the output layer uses the target embedding.", "type": "boolean", "default": false },
        }),
    )
}

/// Names and meanings of the decoding options; the runtime checks their values.
const DECODING: [(&str, &str, &str); 37] = [
    ("max_input_length", "integer", "Longest source in tokens."),
    ("truncate", "string", "Longer sources: error, right or left."),
    ("unknown", "string", "Source symbols that the model does not know: unk, copy, skip or error."),
    ("max_new_tokens", "integer", "Longest output in tokens."),
    ("min_new_tokens", "integer", "Shortest output in tokens."),
    ("num_beams", "integer", "Beams; 1 is greedy."),
    ("num_return_sequences", "integer", "Translations of each text."),
    ("length_penalty", "number", "Above 0 favours long outputs."),
    ("length_penalty_type", "string", "avg, gnmt or none."),
    ("early_stopping", "", "true, false or never."),
    ("patience", "number", "Finished hypotheses waited for, in beams."),
    ("coverage_penalty", "number", "Attention models only."),
    ("repetition_penalty", "number", "Above 1 makes earlier tokens less likely."),
    ("no_repeat_ngram_size", "integer", "No n-gram of this size comes twice."),
    ("encoder_no_repeat_ngram_size", "integer", "No n-gram of the source of this size comes out."),
    ("encoder_repetition_penalty", "number", "Above 1 keeps the output close to its source."),
    ("exponential_decay_length_penalty", "array", "[start, factor]: END becomes likelier from start on."),
    ("suppress_tokens", "array", "Symbols that never come out."),
    ("begin_suppress_tokens", "array", "Symbols that do not come out first."),
    ("bad_words_ids", "array", "Sequences of ids that never come out."),
    ("eos_token_id", "", "The ids that end an output: one or a list."),
    ("forced_bos_token_id", "integer", "The id that comes out first."),
    ("forced_eos_token_id", "", "The id that must come as the last of max_new_tokens."),
    (
        "renormalize_logits",
        "boolean",
        "With beams: rules work on log p, which is normalised again after them.",
    ),
    ("source_language", "string", "Of models whose tokeniser marks the source's language."),
    ("target_language", "string", "Of models whose tokeniser has tokens for languages."),
    ("disable_unk", "boolean", "UNK never comes out."),
    ("target_prefix", "string", "The output begins with this text."),
    ("stop_strings", "", "The output ends before this text."),
    ("do_sample", "boolean", "Draw tokens at random."),
    ("temperature", "number", "Below 1 draws likely tokens more often."),
    ("top_k", "integer", "Draw among this many tokens."),
    ("top_p", "number", "Draw among the tokens that reach this probability together."),
    ("min_p", "number", "Draw among tokens of at least this share of the best one's probability."),
    ("seed", "integer", "Of the random numbers."),
    ("replace_unknowns", "boolean", "Copy the source symbol that is attended to where UNK would come out."),
    ("output", "object", "Which scores are reported."),
];

fn decoding() -> Value {
    let known = known_decoding_keys();
    let properties: Map<String, Value> = known
        .iter()
        .map(|key| {
            let (kind, about) =
                DECODING.iter().find(|row| row.0 == key).map_or(("", ""), |row| (row.1, row.2));
            let mut value = json!({});
            if !kind.is_empty() {
                value["type"] = kind.into();
            }
            if !about.is_empty() {
                value["description"] = about.into();
            }
            (key.clone(), value)
        })
        .collect();
    section("The decoding defaults that the bundle carries.", &[], &Value::Object(properties))
}

/// The keys, aliases included, as the reader of the options lists them.
fn known_decoding_keys() -> Vec<String> {
    let refused = serde_json::from_value::<s2s_runtime::decoding::DecodingOptions>(json!({ "?": 0 }));
    let message = refused.err().map_or_else(String::new, |e| e.to_string());
    let list = message.split_once("expected one of ").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::raw::tests::KNOWN;
    use crate::config::{Config, LoadOptions};
    use std::collections::BTreeSet;
    use std::path::Path;

    const FULL: &str = "name: a\ndata: {train: a.tsv, validation: {split: tail, fraction: 0.1}}\n\
        model: {hidden: 8, input: one_hot}\ntraining: {epochs: 1, batch_size: 2, learning_rate: 0.1}\n";

    /// The keys that the reader of configs says it knows in a section.
    fn read_keys(at: &str) -> BTreeSet<String> {
        let overrides = vec![format!("{at}{}qqqqqqqq=1", if at.is_empty() { "" } else { "." })];
        let error =
            Config::parse(FULL, Path::new("a.yaml"), &LoadOptions { overrides, data: None }).unwrap_err();
        assert_eq!(error.message(), "unknown key", "{at}");
        KNOWN.take().into_iter().collect()
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_knows() {
        let schema = seq2seq();
        let keys = |pointer: &str| -> BTreeSet<String> {
            schema
                .pointer(pointer)
                .and_then(|s| s["properties"].as_object())
                .unwrap()
                .keys()
                .cloned()
                .collect()
        };
        assert_eq!(keys(""), read_keys(""));
        let callbacks = ["training.exact_match", "training.reduce_lr_on_plateau", "training.early_stopping"];
        for at in ["data", "data.validation", "data.columns", "data.source", "model", "training"]
            .into_iter()
            .chain(callbacks)
        {
            let pointer = at.split('.').map(|key| format!("/properties/{key}")).collect::<String>();
            assert_eq!(keys(&pointer), read_keys(at), "{at}");
        }
        let schedule = "/properties/training/properties/schedule/oneOf/1";
        assert_eq!(keys(schedule), read_keys("training.schedule"));
        assert!(keys("/properties/decoding").contains("num_beams"));
    }

    #[test]
    fn required_keys_are_those_that_the_reader_misses() {
        for at in ["", "model", "training"] {
            let pointer = if at.is_empty() { String::new() } else { format!("/properties/{at}") };
            let schema = seq2seq();
            for key in schema.pointer(&format!("{pointer}/required")).and_then(|r| r.as_array()).unwrap() {
                let key = key.as_str().unwrap();
                let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
                let options = LoadOptions { overrides: vec![format!("{path}=null")], data: None };
                assert!(Config::parse(FULL, Path::new("a.yaml"), &options).is_err(), "{path}");
            }
        }
        assert!(Config::parse(FULL, Path::new("a.yaml"), &LoadOptions::default()).is_ok());
    }
}
