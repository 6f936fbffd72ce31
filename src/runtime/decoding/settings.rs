//! The checked form of [`DecodingOptions`]: every default filled in, texts turned into ids.

use std::sync::Arc;
use std::time::Duration;

use super::lists::{SymbolRef, Symbols};
use super::options::{DecodingOptions, EarlyStopping, LengthPenaltyType, Truncate, key_error};
use super::stop_strings::StopStrings;
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::vocabulary::{LanguageIds, TextLimits, Tokeniser, UnknownPolicy};

/// What helps where a text is longer than `max_input_length`.
pub(crate) const TOO_LONG_HELP: &str = "shorten it, or set truncate to right or left";

/// Checked options, ready for the loop. Every field has the meaning of its key in [`DecodingOptions`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// `unknown`.
    pub unknown: UnknownPolicy,
    /// `max_input_length`; none is no limit.
    pub max_input_length: Option<usize>,
    /// `truncate`.
    pub truncate: Truncate,
    /// `max_new_tokens`.
    pub max_new_tokens: usize,
    /// `min_new_tokens`.
    pub min_new_tokens: usize,
    /// `num_beams`.
    pub num_beams: usize,
    /// Whether beams are searched, even if it is one: there are several, unless a test asks for it.
    pub search: bool,
    /// `num_return_sequences`.
    pub num_return_sequences: usize,
    /// `length_penalty`.
    pub length_penalty: f32,
    /// `length_penalty_type`.
    pub length_penalty_type: LengthPenaltyType,
    /// `early_stopping`.
    pub early_stopping: EarlyStopping,
    /// `num_beams * patience`, rounded, at least 1: how many finished hypotheses are enough.
    pub enough: usize,
    /// `coverage_penalty`.
    pub coverage_penalty: f32,
    /// `repetition_penalty`.
    pub repetition_penalty: f32,
    /// `no_repeat_ngram_size`.
    pub no_repeat_ngram_size: usize,
    /// `encoder_no_repeat_ngram_size`.
    pub encoder_no_repeat_ngram_size: usize,
    /// `encoder_repetition_penalty`.
    pub encoder_repetition_penalty: f32,
    /// `exponential_decay_length_penalty`.
    pub exponential_decay: Option<(usize, f32)>,
    /// `suppress_tokens`; sorted, each once.
    pub suppress: Vec<u32>,
    /// `begin_suppress_tokens`; sorted, each once.
    pub begin_suppress: Vec<u32>,
    /// `bad_words_ids`; none is empty.
    pub bad_words: Vec<Vec<u32>>,
    /// `eos_token_id`; none for the engine's END.
    pub eos: Vec<u32>,
    /// `forced_bos_token_id`, or the token of `target_language`.
    pub forced_bos: Option<u32>,
    /// `forced_eos_token_id`; none where nothing is forced.
    pub forced_eos: Vec<u32>,
    /// `renormalize_logits`.
    pub renormalize_logits: Option<bool>,
    /// What the tokeniser says is never generated, whatever the rules say; none for the engine's PAD and
    /// START.
    pub never_generated: Option<Vec<u32>>,
    /// The tokens of `source_language` and `target_language`.
    pub languages: LanguageIds,
    /// `disable_unk`.
    pub disable_unk: bool,
    /// `target_prefix` as ids.
    pub prefix: Vec<u32>,
    /// What the output is, END left out, where nothing is chosen and its probability is asked for.
    pub forced: Option<Vec<u32>>,
    /// `stop_strings`; none without them.
    pub stop: Option<Arc<StopStrings>>,
    /// `do_sample`.
    pub do_sample: bool,
    /// `temperature`.
    pub temperature: f32,
    /// `top_k`.
    pub top_k: usize,
    /// `top_p`.
    pub top_p: f32,
    /// `min_p`.
    pub min_p: f32,
    /// `seed`.
    pub seed: u64,
    /// `replace_unknowns`.
    pub replace_unknowns: bool,
    /// `time_limit`.
    pub time_limit: Option<Duration>,
    /// `output.scores`.
    pub scores: bool,
    /// `output.token_scores`.
    pub token_scores: bool,
    /// `output.attention`.
    pub attention: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            unknown: UnknownPolicy::default(),
            max_input_length: Some(1024),
            truncate: Truncate::default(),
            max_new_tokens: 256,
            min_new_tokens: 0,
            num_beams: 1,
            search: false,
            num_return_sequences: 1,
            length_penalty: 1.0,
            length_penalty_type: LengthPenaltyType::default(),
            early_stopping: EarlyStopping::default(),
            enough: 1,
            coverage_penalty: 0.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            encoder_repetition_penalty: 1.0,
            exponential_decay: None,
            suppress: Vec::new(),
            begin_suppress: Vec::new(),
            bad_words: Vec::new(),
            eos: Vec::new(),
            forced_bos: None,
            forced_eos: Vec::new(),
            renormalize_logits: None,
            never_generated: None,
            languages: LanguageIds::default(),
            disable_unk: false,
            prefix: Vec::new(),
            forced: None,
            stop: None,
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            replace_unknowns: false,
            time_limit: None,
            scores: false,
            token_scores: false,
            attention: false,
        }
    }
}

impl DecodingOptions {
    /// Checks values and combinations.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the key.
    pub fn check(&self) -> Result<()> {
        Settings::new(self).map(drop)
    }
}

impl Settings {
    /// Checks the options and fills the defaults in; `target_prefix`, `stop_strings` and symbols given as
    /// text are left out, because they need a vocabulary: [`Self::with_symbols`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the key.
    pub fn new(options: &DecodingOptions) -> Result<Self> {
        // Merging with nothing moves CTranslate2's flat keys.
        let o = DecodingOptions::layered([options]);
        o.check_values().map_err(|(key, problem)| key_error(key, &problem))?;
        let d = Self::default();
        let output = o.output.clone().unwrap_or_default();
        let num_beams = o.num_beams.unwrap_or(d.num_beams);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: positive, and a float saturates"
        )]
        let enough = ((num_beams as f32 * o.patience.unwrap_or(1.0)).round() as usize).max(1);
        let settings = Self {
            unknown: o.unknown.unwrap_or(d.unknown),
            max_input_length: match o.max_input_length {
                None => d.max_input_length,
                Some(0) => None,
                some => some,
            },
            truncate: o.truncate.unwrap_or(d.truncate),
            max_new_tokens: o.max_new_tokens.unwrap_or(d.max_new_tokens),
            min_new_tokens: o.min_new_tokens.unwrap_or(d.min_new_tokens),
            num_beams,
            search: num_beams > 1,
            num_return_sequences: o.num_return_sequences.unwrap_or(d.num_return_sequences),
            length_penalty: o.length_penalty.unwrap_or(d.length_penalty),
            length_penalty_type: o.length_penalty_type.unwrap_or(d.length_penalty_type),
            early_stopping: o.early_stopping.unwrap_or(d.early_stopping),
            enough,
            coverage_penalty: o.coverage_penalty.unwrap_or(d.coverage_penalty),
            repetition_penalty: o.repetition_penalty.unwrap_or(d.repetition_penalty),
            no_repeat_ngram_size: o.no_repeat_ngram_size.unwrap_or(d.no_repeat_ngram_size),
            encoder_no_repeat_ngram_size: o.encoder_no_repeat_ngram_size.unwrap_or_default(),
            encoder_repetition_penalty: o.encoder_repetition_penalty.unwrap_or(d.encoder_repetition_penalty),
            exponential_decay: o.exponential_decay_length_penalty,
            suppress: given_ids(o.suppress_tokens.as_ref()),
            begin_suppress: given_ids(o.begin_suppress_tokens.as_ref()),
            bad_words: o.bad_words_ids.clone().unwrap_or_default().0,
            eos: o.eos_token_id.clone().unwrap_or_default().0,
            forced_bos: o.forced_bos_token_id,
            forced_eos: o.forced_eos_token_id.clone().unwrap_or_default().0,
            renormalize_logits: o.renormalize_logits,
            never_generated: d.never_generated,
            languages: d.languages,
            disable_unk: o.disable_unk.unwrap_or(d.disable_unk),
            prefix: Vec::new(),
            forced: None,
            stop: None,
            do_sample: o.do_sample.unwrap_or(d.do_sample),
            temperature: o.temperature.unwrap_or(d.temperature),
            top_k: o.top_k.unwrap_or(d.top_k),
            top_p: o.top_p.unwrap_or(d.top_p),
            min_p: o.min_p.unwrap_or(d.min_p),
            seed: o.seed.unwrap_or(d.seed),
            replace_unknowns: o.replace_unknowns.unwrap_or(d.replace_unknowns),
            time_limit: o.time_limit.map(Duration::from_secs_f32),
            scores: output.scores.unwrap_or(d.scores),
            token_scores: output.token_scores.unwrap_or(d.token_scores),
            attention: output.attention.unwrap_or(d.attention),
        };
        settings.check_combinations(&o)?;
        Ok(settings)
    }

    fn check_combinations(&self, o: &DecodingOptions) -> Result<()> {
        if self.do_sample && self.num_beams > 1 {
            return Err(key_error(
                "do_sample",
                &format!("sampling takes no beams, and num_beams is {}", self.num_beams),
            )
            .help("set num_beams: 1 (num_return_sequences draws several), or do_sample: false"));
        }
        if !self.do_sample && self.num_return_sequences > self.num_beams {
            let problem =
                format!("{} is more than num_beams ({})", self.num_return_sequences, self.num_beams);
            return Err(key_error("num_return_sequences", &problem).help("raise num_beams"));
        }
        if self.num_beams > 1 && self.enough < self.num_return_sequences {
            let problem = format!(
                "{} finished hypotheses would be enough, fewer than num_return_sequences ({})",
                self.enough, self.num_return_sequences
            );
            return Err(key_error("patience", &problem).help("raise patience or num_beams"));
        }
        if self.min_new_tokens > self.max_new_tokens {
            let problem =
                format!("{} is more than max_new_tokens ({})", self.min_new_tokens, self.max_new_tokens);
            return Err(key_error("min_new_tokens", &problem));
        }
        if o.do_sample.is_none() {
            let unused = [
                ("temperature", self.temperature != 1.0),
                ("top_k", self.top_k > 1),
                ("top_p", self.top_p < 1.0),
                ("min_p", self.min_p > 0.0),
            ];
            if let Some((key, _)) = unused.iter().find(|(_, set)| *set) {
                return Err(key_error(key, "has an effect only when tokens are drawn at random")
                    .help("add do_sample: true (or false, to say that it is meant)"));
            }
        }
        Ok(())
    }

    /// The same with what the target's tokeniser says: `target_prefix`, `stop_strings`, `target_language`,
    /// symbols given as text, and what is never generated.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) as in [`Self::new`], for a symbol or a language that
    /// the tokeniser does not have, and for a prefix that it cannot write.
    pub fn with_symbols(options: &DecodingOptions, symbols: &Arc<dyn Tokeniser>) -> Result<Self> {
        let mut settings = Self::new(options)?;
        for (key, typed, ids) in [
            ("suppress_tokens", &options.suppress_tokens, &mut settings.suppress),
            ("begin_suppress_tokens", &options.begin_suppress_tokens, &mut settings.begin_suppress),
        ] {
            for symbol in typed.iter().flatten() {
                if let SymbolRef::Text(text) = symbol {
                    ids.push(symbols.find(text).ok_or_else(|| {
                        key_error(key, &format!("the target vocabulary has no symbol `{text}`"))
                    })?);
                }
            }
            ids.sort_unstable();
            ids.dedup();
        }
        settings.never_generated = Some(symbols.never_generated());
        if let Some(code) = &options.target_language {
            let language = find_language("target_language", code, &**symbols)?;
            settings.languages.target = Some(language);
            settings.forced_bos = symbols.forced_first(language);
        }
        if let Some(text) = options.target_prefix.as_deref().filter(|t| !t.is_empty()) {
            settings.prefix = symbols.tokenise(text, UnknownPolicy::Unk, TextLimits::NONE)?.ids;
            if settings.prefix.contains(&symbols.special_ids().unk) {
                return Err(key_error(
                    "target_prefix",
                    &format!("`{text}` has symbols that the target vocabulary does not know"),
                ));
            }
            // What is forced comes first all the same.
            settings.prefix.splice(0..0, settings.forced_bos);
        }
        if let Some(strings) = options.stop_strings.as_ref().filter(|s| !s.0.is_empty()) {
            settings.stop = Some(Arc::new(StopStrings::new(&strings.0, Arc::clone(symbols))));
        }
        settings.check_ids(symbols.size())?;
        Ok(settings)
    }

    /// The same with `source_language`, for sources that `symbols` makes ids of.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a language that it does not have.
    pub fn with_source(mut self, options: &DecodingOptions, symbols: &dyn Tokeniser) -> Result<Self> {
        if let Some(code) = &options.source_language {
            self.languages.source = Some(find_language("source_language", code, symbols)?);
        }
        Ok(self)
    }

    /// For decoding ids without a vocabulary.
    ///
    /// # Errors
    /// As [`Self::new`], and for options that need text.
    pub fn for_ids(options: &DecodingOptions) -> Result<Self> {
        let has_text = |symbols: &Option<Symbols>| {
            symbols.iter().flatten().any(|symbol| matches!(symbol, SymbolRef::Text(_)))
        };
        let needing = [
            ("target_prefix", options.target_prefix.as_ref().is_some_and(|t| !t.is_empty())),
            ("stop_strings", options.stop_strings.as_ref().is_some_and(|s| !s.0.is_empty())),
            ("suppress_tokens", has_text(&options.suppress_tokens)),
            ("begin_suppress_tokens", has_text(&options.begin_suppress_tokens)),
            ("source_language", options.source_language.is_some()),
            ("target_language", options.target_language.is_some()),
        ];
        if let Some((key, _)) = needing.iter().find(|(_, used)| *used) {
            return Err(key_error(key, "text needs a target vocabulary, and only ids are decoded here"));
        }
        Self::new(options)
    }

    /// Checks the ids against the width of the logits.
    pub(super) fn check_ids(&self, vocabulary: usize) -> Result<()> {
        let outside = |id: &&u32| **id as usize >= vocabulary;
        let lists = [
            ("suppress_tokens", &self.suppress[..]),
            ("begin_suppress_tokens", &self.begin_suppress),
            ("target_prefix", &self.prefix),
            ("the target", self.forced.as_deref().unwrap_or_default()),
            ("eos_token_id", &self.eos),
            ("forced_bos_token_id", self.forced_bos.as_slice()),
            ("forced_eos_token_id", &self.forced_eos),
        ];
        let bad_words = self.bad_words.iter().map(|sequence| ("bad_words_ids", &sequence[..]));
        for (key, ids) in lists.into_iter().chain(bad_words) {
            if let Some(id) = ids.iter().find(outside) {
                return Err(key_error(
                    key,
                    &format!("id {id} is outside the target vocabulary of {vocabulary} symbols"),
                ));
            }
        }
        Ok(())
    }

    /// The key that asks for attention weights, if any does.
    pub fn attention_key(&self) -> Option<&'static str> {
        [
            ("coverage_penalty", self.coverage_penalty > 0.0 && self.num_beams > 1),
            ("replace_unknowns", self.replace_unknowns),
            ("output.attention", self.attention),
        ]
        .into_iter()
        .find_map(|(key, asked)| asked.then_some(key))
    }

    /// Hypotheses that one request may hold at once: rows under way and, with beams, finished ones that may
    /// be returned.
    pub fn most_hypotheses(&self) -> usize {
        self.most_rows() + if self.num_beams > 1 { self.enough } else { 0 }
    }

    /// Whether the attention of every token is kept: it is asked for, or symbols are copied by it.
    pub fn keeps_attention(&self) -> bool {
        self.attention || self.replace_unknowns || self.unknown == UnknownPolicy::Copy
    }

    /// Tokens that the hypotheses of one request may hold at once, their prefixes counted.
    pub fn most_tokens(&self) -> usize {
        self.most_hypotheses().saturating_mul(self.prefix.len().saturating_add(self.max_new_tokens))
    }

    /// Rows of the batch that one request may take.
    pub fn most_rows(&self) -> usize {
        if self.do_sample { self.num_return_sequences } else { self.num_beams }
    }

    /// Which part of a source of `tokens` tokens is read: all of it, or what `max_input_length` and
    /// `truncate` leave.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`] if `truncate` is `error`.
    pub fn fit(&self, tokens: usize) -> Result<std::ops::Range<usize>> {
        match (self.max_input_length.filter(|&most| tokens > most), self.truncate) {
            (None, _) => Ok(0..tokens),
            (Some(most), Truncate::Right) => Ok(0..most),
            (Some(most), Truncate::Left) => Ok(tokens - most..tokens),
            (Some(most), Truncate::Error) => {
                let problem = format!("the text has {tokens} tokens, more than max_input_length ({most})");
                Err(Error::new(ErrorKind::TooLong, problem).help(TOO_LONG_HELP))
            }
        }
    }

    /// Tokens after which a source need not be read on, because it is refused.
    pub fn most_source_tokens(&self) -> usize {
        self.max_input_length.filter(|_| self.truncate == Truncate::Error).unwrap_or(usize::MAX)
    }
}

/// The token of a language.
fn find_language(key: &str, code: &str, symbols: &dyn Tokeniser) -> Result<u32> {
    symbols.language(code).ok_or_else(|| {
        let known: Vec<&str> = symbols.languages().iter().map(|language| language.code.as_str()).collect();
        if known.is_empty() {
            return key_error(key, "the model is not told any language").help("leave it out");
        }
        let near = did_you_mean(code, known.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        key_error(key, &format!("the model has no language `{code}`"))
            .help(format!("there are {}{near}", known.join(", ")))
    })
}

/// The symbols that are given as ids, sorted, each once.
fn given_ids(symbols: Option<&Symbols>) -> Vec<u32> {
    let mut ids: Vec<u32> = symbols
        .into_iter()
        .flatten()
        .filter_map(|symbol| match symbol {
            SymbolRef::Id(id) => Some(*id),
            SymbolRef::Text(_) => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
