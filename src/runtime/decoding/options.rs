//! What a decoding YAML file, a request or a bundle may say, as typed: every key is optional, layers are
//! merged.
//!
//! Precedence, highest first: request, command-line flag, `S2S_*` environment, `--decoding` file, bundle,
//! default. [`Settings`](super::Settings) is the checked form with every default filled in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lists::{self, Ids, Sequences, Strings, Symbols};
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::UnknownPolicy;

/// What happens to a source longer than `max_input_length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The text is refused.
    #[default]
    Error,
    /// Its end is cut off.
    Right,
    /// Its beginning is cut off.
    Left,
}

/// How the length enters the score of a hypothesis; the formulas are in [`score`](super::score).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthPenaltyType {
    /// Sum of log p over n^a.
    #[default]
    Avg,
    /// Sum of log p over ((5 + n) / 6)^a.
    Gnmt,
    /// Sum of log p.
    None,
}

/// When a beam search that has enough finished hypotheses stops; written `true`, `false` or `never`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// As soon as there are enough.
    True,
    /// When no running beam could beat the worst of them at its present length (a heuristic).
    #[default]
    False,
    /// When no running beam could beat the worst of them at any length.
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::True => serializer.serialize_bool(true),
            Self::False => serializer.serialize_bool(false),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = EarlyStopping;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or never")
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<EarlyStopping, E> {
                Ok(if value { EarlyStopping::True } else { EarlyStopping::False })
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<EarlyStopping, E> {
                match value {
                    "true" => Ok(EarlyStopping::True),
                    "false" => Ok(EarlyStopping::False),
                    "never" => Ok(EarlyStopping::Never),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Declares an overlay: its fields, the list of its keys and their aliases, and how a higher layer covers a
/// lower one.
macro_rules! overlay {
    ($(#[$outer:meta])* $name:ident { $($(#[doc = $doc:literal])* $field:ident: $type:ty $(, $alias:literal)*;)* }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $doc])*
            #[serde(skip_serializing_if = "Option::is_none" $(, alias = $alias)*)]
            pub $field: Option<$type>,)*
        }

        impl $name {
            /// Every key with its aliases.
            pub const KEYS: &[&str] = &[$(stringify!($field), $($alias,)*)*];
            /// Each alias with the key that it stands for.
            pub const ALIASES: &[(&str, &str)] = &[$($(($alias, stringify!($field)),)*)*];

            fn cover(&mut self, higher: &Self) {
                $(if higher.$field.is_some() {
                    self.$field.clone_from(&higher.$field);
                })*
            }
        }
    };
}

overlay! {
    /// What a translation reports beside its text.
    OutputOptions {
        /// The score of each hypothesis; default false.
        scores: bool;
        /// log p of each token; default false.
        token_scores: bool;
        /// The attention weights of each token; needs a model with attention; default false.
        attention: bool;
    }
}

overlay! {
    /// How to decode, as typed: keys of `generate()` in transformers, with CTranslate2's names as aliases.
    ///
    /// No key at all is the greedy loop: take the most probable token until END or the longest length.
    DecodingOptions {
        /// What to do with source symbols outside the vocabulary: `unk` (default), `copy` (they come into the
        /// output, where attention or their place in the source says), `skip` or `error`.
        unknown: UnknownPolicy;
        /// Longest source in tokens; longer ones are treated as `truncate` says; default 1024; 0 is no limit.
        max_input_length: usize;
        /// `error` (default), `right` (cut the end off) or `left` (cut the beginning off).
        truncate: Truncate;
        /// Longest output in tokens, END counted and `target_prefix` not; default: the longest training
        /// target and END, else 256.
        max_new_tokens: usize, "max_decoding_length";
        /// END cannot come before this many tokens; default 0.
        min_new_tokens: usize, "min_decoding_length";
        /// Beams; 1 (default) is greedy or, with `do_sample`, sampling.
        num_beams: usize, "beam_size";
        /// Hypotheses returned: at most `num_beams`, or any number with `do_sample`; default 1.
        num_return_sequences: usize, "num_hypotheses";
        /// The exponent a of `length_penalty_type`, -6 to 6; above 0 favours long outputs; default 1; beams
        /// only.
        length_penalty: f32;
        /// `avg` (default), `gnmt` or `none`.
        length_penalty_type: LengthPenaltyType;
        /// `true`, `false` (default) or `never`; beams only.
        early_stopping: EarlyStopping;
        /// Enough hypotheses are `num_beams` times this; default 1; beams only.
        patience: f32;
        /// The weight b of the coverage term; needs attention; default 0; beams only.
        coverage_penalty: f32;
        /// Logits of earlier tokens are divided by this if positive, else multiplied; default 1 (off).
        repetition_penalty: f32;
        /// No n-gram of this size comes twice; default 0 (off).
        no_repeat_ngram_size: usize;
        /// No n-gram of this size that the source has comes out; source and target must share their ids;
        /// default 0 (off).
        encoder_no_repeat_ngram_size: usize;
        /// Logits of the source's tokens are multiplied by this if positive, else divided: above 1 keeps the
        /// output close to its source; both must share their ids; default 1 (off).
        encoder_repetition_penalty: f32;
        /// `[start, factor]`: from `start` tokens on, the logit of END grows by |logit| * (factor^n - 1) at
        /// the n-th further token; default none.
        exponential_decay_length_penalty: (usize, f32);
        /// Symbols that are never generated, as ids or text; default none.
        suppress_tokens: Symbols;
        /// Symbols that are not generated first (or second, behind `forced_bos_token_id`); default none.
        begin_suppress_tokens: Symbols;
        /// Sequences of ids that never come: the last id of one is banned where those before it stand;
        /// default none.
        bad_words_ids: Sequences;
        /// The ids that end an output, one or a list; default: the model's END.
        eos_token_id: Ids;
        /// The id that is generated first; default none.
        forced_bos_token_id: u32;
        /// The id (or ids) that must come as the last of `max_new_tokens` tokens; default none.
        forced_eos_token_id: Ids;
        /// What the rules work on in a beam search: `false` on log p, `true` on log p which is normalised
        /// again after them, as transformers has it. Default: on logits, and log p comes after them.
        renormalize_logits: bool;
        /// The language of the source, for models whose tokeniser marks it; default: the tokeniser's own.
        source_language: String;
        /// The language of the output, for models whose tokeniser has tokens for languages: that token is
        /// forced as the first, instead of `forced_bos_token_id`; default none.
        target_language: String;
        /// UNK is never generated; default false.
        disable_unk: bool;
        /// The output begins with this text; default empty.
        target_prefix: String;
        /// The output ends before the first of these; a string or a list; default none.
        stop_strings: Strings;
        /// Draws tokens at random instead of taking the best; default false.
        do_sample: bool;
        /// Logits are divided by this before drawing; default 1; sampling only.
        temperature: f32, "sampling_temperature";
        /// Draws among the k most probable tokens; default 0 (all); sampling only.
        top_k: usize, "sampling_topk";
        /// Draws among the most probable tokens that together reach this mass; default 1 (all); sampling
        /// only.
        top_p: f32, "sampling_topp";
        /// Draws among tokens at least this probable relative to the best; default 0 (all); sampling only.
        min_p: f32;
        /// Of the random numbers; default 0: the same request always gives the same output.
        seed: u64;
        /// An UNK in the output becomes the source symbol most attended there; needs attention; default
        /// false.
        replace_unknowns: bool;
        /// Seconds after which a text is returned as far as it got; default none.
        time_limit: f32, "max_time";
        /// What is reported beside the text.
        output: OutputOptions;
        /// CTranslate2's name for `output.scores`.
        return_scores: bool;
        /// CTranslate2's name for `output.attention`.
        return_attention: bool;
    }
}

impl DecodingOptions {
    /// Reads YAML; `file` is named in errors, with line and key. An empty document is all defaults.
    pub fn from_yaml(text: &str, file: impl AsRef<std::path::Path>) -> Result<Self> {
        let file = file.as_ref();
        let parsed: Option<Self> = crate::yaml::from_str(text, file, ErrorKind::Config)?;
        let parsed = parsed.unwrap_or_default();
        parsed.check_values().map_err(|(key, problem)| {
            let line = text.lines().zip(1..).find_map(|(line, number)| assigns(line, key).then_some(number));
            key_error(key, &problem).at_line(file, line, Some(key))
        })?;
        Ok(parsed)
    }

    /// Lays `higher` over these: what it says wins, what it leaves unsaid stays.
    pub fn merge(&mut self, higher: &Self) {
        let higher = higher.canonical();
        *self = self.canonical();
        let mut output = self.output.take();
        if let Some(over) = &higher.output {
            output.get_or_insert_default().cover(over);
        }
        self.cover(&higher);
        self.output = output;
    }

    /// Merges layers, the lowest first.
    pub fn layered<'a>(layers: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut merged = Self::default();
        for layer in layers {
            merged.merge(layer);
        }
        merged
    }

    /// The same with CTranslate2's two flat keys moved to where they belong.
    fn canonical(&self) -> Self {
        let mut all = self.clone();
        let (scores, attention) = (all.return_scores.take(), all.return_attention.take());
        if scores.is_some() || attention.is_some() {
            let output = all.output.get_or_insert_default();
            output.scores = output.scores.or(scores);
            output.attention = output.attention.or(attention);
        }
        all
    }

    /// The first value that is wrong whatever the other keys say: its key, and what would be right.
    pub(super) fn check_values(&self) -> Result<(), (&'static str, String)> {
        let finite = |key, value: Option<f32>, holds: fn(f32) -> bool, right: &str| match value {
            Some(v) if !(v.is_finite() && holds(v)) => Err((key, format!("{v} is not {right}"))),
            _ => Ok(()),
        };
        let count = |key, value: Option<usize>, lowest: usize, highest: usize| match value {
            Some(v) if v < lowest || v > highest => {
                Err((key, format!("{v} is not between {lowest} and {highest}")))
            }
            _ => Ok(()),
        };
        count("max_input_length", self.max_input_length, 0, Self::MOST_TOKENS)?;
        count("max_new_tokens", self.max_new_tokens, 1, Self::MOST_TOKENS)?;
        count("min_new_tokens", self.min_new_tokens, 0, Self::MOST_TOKENS)?;
        let starts = self.exponential_decay_length_penalty.map(|(start, _)| start);
        count("exponential_decay_length_penalty", starts, 0, Self::MOST_TOKENS)?;
        count("num_beams", self.num_beams, 1, Self::MOST_BEAMS)?;
        count("num_return_sequences", self.num_return_sequences, 1, Self::MOST_BEAMS)?;
        // (2^20)^6 is the last power of the greatest length that f32 has.
        finite("length_penalty", self.length_penalty, |v| v.abs() <= 6.0, "between -6 and 6")?;
        finite("patience", self.patience, |v| v > 0.0 && v <= 16.0, "above 0 and at most 16")?;
        finite("coverage_penalty", self.coverage_penalty, |v| (0.0..=1e6).contains(&v), "between 0 and 1e6")?;
        // Logits times or over it must stay numbers.
        for (key, value) in [
            ("repetition_penalty", self.repetition_penalty),
            ("encoder_repetition_penalty", self.encoder_repetition_penalty),
        ] {
            finite(key, value, |v| (1e-6..=1e6).contains(&v), "between 1e-6 and 1e6 (1 is off)")?;
        }
        finite(
            "exponential_decay_length_penalty",
            self.exponential_decay_length_penalty.map(|(_, factor)| factor),
            |v| (1e-6..=1e6).contains(&v),
            "a factor between 1e-6 and 1e6 (1 is off)",
        )?;
        finite(
            "temperature",
            self.temperature,
            |v| v > 0.0,
            "a number above 0 (for the most probable token, say do_sample: false)",
        )?;
        finite("top_p", self.top_p, |v| v > 0.0 && v <= 1.0, "above 0 and at most 1 (1 is off)")?;
        finite("min_p", self.min_p, |v| (0.0..=1.0).contains(&v), "between 0 and 1 (0 is off)")?;
        finite("time_limit", self.time_limit, |v| v > 0.0 && v <= 1e9, "a number of seconds above 0")?;
        if self.stop_strings.as_ref().is_some_and(|s| s.0.iter().any(String::is_empty)) {
            return Err(("stop_strings", "an empty string would stop at once".to_owned()));
        }
        let stop_strings = self.stop_strings.iter().flat_map(|strings| &strings.0);
        let texts = stop_strings.map(|text| ("stop_strings", text, Self::MOST_STOP_CHARACTERS));
        let others = [
            ("target_prefix", &self.target_prefix, Self::MOST_PREFIX_CHARACTERS),
            ("source_language", &self.source_language, Self::MOST_LANGUAGE_CHARACTERS),
            ("target_language", &self.target_language, Self::MOST_LANGUAGE_CHARACTERS),
        ];
        let others = others.into_iter().filter_map(|(key, text, most)| Some((key, text.as_ref()?, most)));
        for (key, text, most) in texts.chain(others) {
            if text.chars().nth(most).is_some() {
                return Err((key, format!("a text of more than {most} characters")));
            }
        }
        Ok(())
    }

    /// Highest `max_new_tokens` and `max_input_length`.
    pub const MOST_TOKENS: usize = 1 << 20;
    /// Highest `num_beams` and `num_return_sequences`.
    pub const MOST_BEAMS: usize = 1024;
    /// Most `stop_strings`, each of which is looked for after every token.
    pub const MOST_STOP_STRINGS: usize = lists::MOST_STOP_STRINGS;
    /// Characters of the longest of `stop_strings`.
    pub const MOST_STOP_CHARACTERS: usize = 256;
    /// Most `suppress_tokens`, most `begin_suppress_tokens`, and most ids in all of `bad_words_ids`.
    pub const MOST_SUPPRESSED: usize = lists::MOST_SYMBOLS;
    /// Most ids in `eos_token_id` and in `forced_eos_token_id`.
    pub const MOST_ENDS: usize = lists::MOST_ENDS;
    /// Characters of the longest name of a language.
    pub const MOST_LANGUAGE_CHARACTERS: usize = 64;
    /// Characters of the longest `target_prefix`.
    pub const MOST_PREFIX_CHARACTERS: usize = 1 << 14;
}

/// A [`ErrorKind::Config`] error about `key`.
pub(super) fn key_error(key: &str, problem: &str) -> Error {
    Error::new(ErrorKind::Config, format!("`{key}`: {problem}"))
}

/// Whether a line of YAML gives `key` a value, under any of its names.
fn assigns(line: &str, key: &str) -> bool {
    let Some((typed, _)) = line.split_once(':') else { return false };
    let typed = typed.trim().trim_matches(['"', '\'']);
    typed == key || DecodingOptions::ALIASES.contains(&(typed, key))
}
