//! `config.json` and `generation_config.json`: which model it is, its special ids, and how it is decoded.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::decoding::DecodingOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::MOST_SYMBOLS;

/// What the two files say together.
#[derive(Debug)]
pub(super) struct Config {
    /// `marian`, `t5` and so on.
    pub(super) model_type: String,
    pub(super) pad: u32,
    /// The decoder's first token.
    pub(super) start: u32,
    /// The first of those that end an output.
    pub(super) end: u32,
    /// Ids of source and target, where the files say it.
    pub(super) sizes: [Option<usize>; 2],
    /// All of `config.json`.
    pub(super) config: Value,
    pub(super) decoding: DecodingOptions,
    /// What changes the output and is not honoured.
    pub(super) remarks: Vec<String>,
}

/// Keys of `generation_config.json` that change no id of an output, or that are read by other ways.
const NEUTRAL: [&str; 28] = [
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "decoder_start_token_id",
    "disable_compile",
    "generation_kwargs",
    "is_assistant",
    "low_memory",
    "max_length",
    "max_matching_ngram_size",
    "min_length",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "return_dict_in_generate",
    "return_legacy_cache",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "use_cache",
];
/// Keys that have no effect unless tokens are drawn at random.
const SAMPLING: [&str; 7] =
    ["temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"];
/// Keys that say how to decode in a `config.json` without a `generation_config.json` beside it.
const OLDER: [&str; 21] = [
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Whether a key has the value that changes nothing.
fn is_default(key: &str, value: &Value) -> bool {
    let neutral = match key {
        "num_beams"
        | "num_return_sequences"
        | "length_penalty"
        | "repetition_penalty"
        | "encoder_repetition_penalty"
        | "num_beam_groups"
        | "typical_p"
        | "top_p"
        | "temperature"
        | "guidance_scale" => 1.0,
        _ => 0.0,
    };
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(neutral),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    }
}

impl Config {
    /// Reads `config.json`, and `generation_config.json` where there is one; without it, an older
    /// `config.json` says how to decode.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] with file, line and key.
    pub(super) fn read(config: (&Path, &[u8]), generation: Option<(&Path, &[u8])>) -> Result<Self> {
        let model = Keys::read(config.0, config.1)?;
        let generation = generation.map(|(path, bytes)| Keys::read(path, bytes)).transpose()?;
        if model.map.get("is_encoder_decoder") == Some(&Value::Bool(false)) {
            return Err(model.wrong("is_encoder_decoder", "the model has no encoder".to_owned()).help(
                "models with an encoder and a decoder are run: Marian, T5, BART, M2M100 and the like",
            ));
        }
        let both = || generation.iter().chain([&model]);
        let first = |key: &str| -> Result<Option<Vec<u32>>> {
            both().find_map(|keys| keys.ids(key).transpose()).transpose()
        };
        let missing = |key: &str| {
            model
                .wrong(key, "missing here and in generation_config.json".to_owned())
                .help("export the folder again with `optimum-cli export onnx`")
        };
        let one = |key: &str| Ok::<_, Error>(first(key)?.and_then(|ids| ids.first().copied()));
        let ends =
            first("eos_token_id")?.filter(|ids| !ids.is_empty()).ok_or_else(|| missing("eos_token_id"))?;
        let start = one("decoder_start_token_id")?.or(one("bos_token_id")?);
        let vocabulary = model.count("vocab_size", MOST_SYMBOLS)?;
        let target = model.count("decoder_vocab_size", MOST_SYMBOLS)?.or(vocabulary);
        let positions = model.count("max_position_embeddings", DecodingOptions::MOST_TOKENS)?;
        let (decoding, remarks) = match &generation {
            Some(keys) => keys.decoding(&ends, positions, true)?,
            None => model.decoding(&ends, positions, false)?,
        };
        Ok(Self {
            model_type: model.map.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned(),
            pad: one("pad_token_id")?.unwrap_or(ends[0]),
            start: start.ok_or_else(|| missing("decoder_start_token_id"))?,
            end: ends[0],
            sizes: [vocabulary, target],
            decoding,
            remarks,
            config: Value::Object(model.map),
        })
    }
}

/// The keys of one of the two files.
struct Keys<'a> {
    path: &'a Path,
    text: String,
    map: Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn read(path: &'a Path, bytes: &[u8]) -> Result<Self> {
        let map = serde_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Bundle, format!("no JSON object: {error}"))
                .at_line(path, Some(error.line() as u64), None)
                .help("copy the whole folder again, or export it again")
        })?;
        Ok(Self { path, text: String::from_utf8_lossy(bytes).into_owned(), map })
    }

    /// An error about a key.
    fn wrong(&self, key: &str, message: String) -> Error {
        let begins = format!("\"{key}\"");
        let line = self.text.lines().position(|line| line.trim_start().starts_with(&begins));
        Error::new(ErrorKind::Bundle, message).at_line(
            self.path,
            line.and_then(|line| u64::try_from(line + 1).ok()),
            Some(key),
        )
    }

    /// A key that has a value.
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// An id, or a list of some.
    fn ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match value {
            Value::Array(values) if values.len() <= 1024 => values.iter().map(id).collect(),
            value => id(value).map(|id| vec![id]),
        };
        ids.map(Some).ok_or_else(|| self.wrong(key, "no id, and no list of ids".to_owned()))
    }

    /// A number of things, at most `most`.
    fn count(&self, key: &str, most: usize) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| (1..=most).contains(count)) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(key, format!("{value} is not between 1 and {most}"))),
        }
    }

    /// How outputs are decoded, and remarks about keys that are not honoured.
    ///
    /// - `ends`: what ends an output.
    /// - `complete`: whether keys that are not known are named; `config.json` has many others.
    fn decoding(
        &self,
        ends: &[u32],
        positions: Option<usize>,
        complete: bool,
    ) -> Result<(DecodingOptions, Vec<String>)> {
        let (mut options, mut remarks) = (Map::new(), Vec::new());
        let number = |key: &str| self.get(key).and_then(Value::as_u64);
        // Lengths count the token that the decoder starts with.
        let most = number("max_new_tokens").or(number("max_length").map(|n| n.saturating_sub(1)));
        let most = most.into_iter().chain(positions.map(|n| n as u64)).min();
        if let Some(most) = most {
            options.insert(
                "max_new_tokens".to_owned(),
                most.clamp(1, DecodingOptions::MOST_TOKENS as u64).into(),
            );
        }
        if let Some(positions) = positions {
            options.insert("max_input_length".to_owned(), positions.into());
        }
        if let Some(least) = number("min_length").map(|n| n.saturating_sub(1)).filter(|&n| n > 0) {
            options.insert("min_new_tokens".to_owned(), least.into());
        }
        let known = |key: &str| DecodingOptions::KEYS.contains(&key);
        if ends.len() > 1 {
            if known("eos_token_id") {
                options.insert("eos_token_id".to_owned(), json!(ends));
            } else {
                remarks.push(format!("{}: eos_token_id: only {} ends an output", self.name(), ends[0]));
            }
        }
        // Beam search applies its rules to log p.
        if known("renormalize_logits") {
            options.insert("renormalize_logits".to_owned(), false.into());
        }
        let draws = self.get("do_sample") == Some(&Value::Bool(true));
        let beams = number("num_beams").unwrap_or(1);
        for (key, value) in &self.map {
            let key = key.as_str();
            let is_read = ["eos_token_id", "max_new_tokens", "transformers_version"].contains(&key)
                || NEUTRAL.contains(&key)
                || key.starts_with('_');
            let is_foreign = !complete && !OLDER.contains(&key);
            // An id may be 0.
            let is_off = is_default(key, value) && !(key.ends_with("_token_id") && value.is_number());
            let has_no_effect = SAMPLING.contains(&key) && (!draws || beams > 1);
            if is_read || is_foreign || is_off || has_no_effect {
                continue;
            }
            if key == "do_sample" && beams > 1 {
                remarks.push(format!(
                    "{}: do_sample: nothing is drawn in a beam search; the best beams are taken",
                    self.name()
                ));
            } else if known(key) {
                options.insert(key.to_owned(), value.clone());
            } else {
                remarks.push(format!("{}: {key}: {value} is not honoured", self.name()));
            }
        }
        if draws && beams == 1 {
            // The default where tokens are drawn.
            options.entry("top_k").or_insert(50.into());
        }
        self.parsed(options).map(|options| (options, remarks))
    }

    /// The options, each key read alone so that an error names it.
    fn parsed(&self, options: Map<String, Value>) -> Result<DecodingOptions> {
        let mut parsed = DecodingOptions::default();
        for (key, value) in options {
            let one = Map::from_iter([(key.clone(), value)]);
            let one: DecodingOptions = serde_json::from_value(Value::Object(one))
                .map_err(|error| self.wrong(&key, error.to_string()))?;
            parsed.merge(&one);
        }
        parsed.check().map_err(|error| Error::new(ErrorKind::Bundle, error.message()).in_file(self.path))?;
        Ok(parsed)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}
