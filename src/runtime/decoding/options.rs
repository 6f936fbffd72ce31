//! What a decoding YAML file, a request or a bundle may say, as typed: every key is optional, layers are
//! merged.
//!
//! Precedence, highest first: request, command-line flag, `S2S_*` environment, `--decoding` file, bundle,
//! default. [`Settings`](super::Settings) is the checked form with every default filled in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// A target symbol, by id (a number) or as it is written (a string; a digit needs quotes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SymbolRef {
    /// Its id.
    Id(u32),
    /// Its text.
    Text(String),
}

/// One text or several, written as a string or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Strings(pub Vec<String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Strings;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a string or a list of at most {} strings", DecodingOptions::MOST_STOP_STRINGS)
            }
            fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<Strings, E> {
                Ok(Strings(vec![one.to_owned()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Strings, A::Error> {
                at_most(DecodingOptions::MOST_STOP_STRINGS, items, &self).map(Strings)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The items of a list, read no further than `most`.
fn at_most<'de, T: Deserialize<'de>, A: serde::de::SeqAccess<'de>>(
    most: usize,
    mut items: A,
    expected: &dyn serde::de::Expected,
) -> Result<Vec<T>, A::Error> {
    let mut read = Vec::new();
    while let Some(item) = items.next_element()? {
        if read.len() == most {
            return Err(serde::de::Error::invalid_length(most + 1, expected));
        }
        read.push(item);
    }
    Ok(read)
}

/// Symbols as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Symbols(pub Vec<SymbolRef>);

impl FromIterator<SymbolRef> for Symbols {
    fn from_iter<I: IntoIterator<Item = SymbolRef>>(symbols: I) -> Self {
        Self(symbols.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Symbols {
    type Item = &'a SymbolRef;
    type IntoIter = std::slice::Iter<'a, SymbolRef>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for Symbols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Symbols;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {} symbols", DecodingOptions::MOST_SUPPRESSED)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Symbols, A::Error> {
                at_most(DecodingOptions::MOST_SUPPRESSED, items, &self).map(Symbols)
            }
        }
        deserializer.deserialize_seq(Visitor)
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
        /// Symbols that are never generated, as ids or text; default none.
        suppress_tokens: Symbols;
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
        count("num_beams", self.num_beams, 1, Self::MOST_BEAMS)?;
        count("num_return_sequences", self.num_return_sequences, 1, Self::MOST_BEAMS)?;
        // (2^20)^6 is the last power of the greatest length that f32 has.
        finite("length_penalty", self.length_penalty, |v| v.abs() <= 6.0, "between -6 and 6")?;
        finite("patience", self.patience, |v| v > 0.0 && v <= 16.0, "above 0 and at most 16")?;
        finite("coverage_penalty", self.coverage_penalty, |v| (0.0..=1e6).contains(&v), "between 0 and 1e6")?;
        // Logits times or over it must stay numbers.
        finite(
            "repetition_penalty",
            self.repetition_penalty,
            |v| (1e-6..=1e6).contains(&v),
            "between 1e-6 and 1e6 (1 is off)",
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
        let prefix = self.target_prefix.iter();
        let texts = stop_strings.map(|text| ("stop_strings", text, Self::MOST_STOP_CHARACTERS));
        for (key, text, most) in
            texts.chain(prefix.map(|text| ("target_prefix", text, Self::MOST_PREFIX_CHARACTERS)))
        {
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
    pub const MOST_STOP_STRINGS: usize = 64;
    /// Characters of the longest of `stop_strings`.
    pub const MOST_STOP_CHARACTERS: usize = 256;
    /// Most `suppress_tokens`.
    pub const MOST_SUPPRESSED: usize = 1 << 16;
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
