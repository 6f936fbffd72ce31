//! Text to source ids, hypotheses to text.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use super::copying::Pieces;
use super::source_text::SourceText;
use crate::bundle::Bundle;
use crate::decoding::{
    DecodingOptions, FinishReason, Hypothesis, LengthPenaltyType, OutputOptions, Settings, TOO_LONG_HELP,
    UnknownPolicy,
};
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::{SymbolList, TextLimits, Tokeniser};

/// A text and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Translation {
    /// The best hypothesis.
    #[serde(flatten)]
    pub best: Alternative,
    /// Source tokens of the text.
    pub source_tokens: usize,
    /// Source symbols outside the vocabulary, each once.
    pub unknown: Vec<String>,
    /// The other hypotheses, the best first; as many as `num_return_sequences` asked for beyond one.
    pub alternatives: Vec<Alternative>,
}

impl std::ops::Deref for Translation {
    type Target = Alternative;

    fn deref(&self) -> &Alternative {
        &self.best
    }
}

/// One hypothesis as text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// The text.
    pub text: String,
    /// The score, if it was asked for or beams needed it; else 0.
    pub score: f32,
    /// Why it ended.
    pub finish: FinishReason,
    /// Generated tokens, END counted.
    pub generated_tokens: usize,
    /// The symbols of the text; empty unless token scores or attention were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
    /// log p of each generated token, that of END last if it came; empty unless asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_scores: Vec<f32>,
    /// f32 (target tokens, source tokens); empty unless asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<Vec<f32>>,
}

/// Turns text into ids and hypotheses into text, as a bundle says. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TextCoder(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    source: Arc<dyn Tokeniser>,
    target: Arc<dyn Tokeniser>,
    defaults: DecodingOptions,
    has_attention: bool,
}

impl TextCoder {
    /// For the vocabularies and defaults of `bundle`.
    pub fn new(bundle: &Bundle) -> Self {
        let manifest = bundle.manifest();
        Self::from_parts(
            Arc::clone(bundle.source()),
            Arc::clone(bundle.target()),
            manifest.decoding.clone(),
            manifest.wiring.attention.is_some(),
        )
    }

    /// Without a bundle.
    pub fn from_parts(
        source: Arc<dyn Tokeniser>,
        target: Arc<dyn Tokeniser>,
        defaults: DecodingOptions,
        has_attention: bool,
    ) -> Self {
        Self(Arc::new(Parts { source, target, defaults, has_attention }))
    }

    /// What makes ids of sources.
    pub fn source(&self) -> &dyn Tokeniser {
        &*self.0.source
    }

    /// What makes texts of outputs.
    pub fn target(&self) -> &dyn Tokeniser {
        &*self.0.target
    }

    /// The bundle's decoding defaults.
    pub fn defaults(&self) -> &DecodingOptions {
        &self.0.defaults
    }

    /// Lays `options` over the bundle's defaults and checks the result. Without `max_new_tokens` in either,
    /// outputs may be as long as the longest target in training, and END; without `max_input_length`, sources
    /// as long as their tokeniser says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the key.
    pub fn settings(&self, options: &DecodingOptions) -> Result<Arc<Settings>> {
        let mut merged = DecodingOptions::layered([&self.0.defaults, options]);
        let most = self.source().longest_source().map(|most| most.min(DecodingOptions::MOST_TOKENS));
        merged.max_input_length = merged.max_input_length.or(most);
        let longest = self.target().spec().longest;
        if merged.max_new_tokens.is_none() && longest > 0 {
            merged.max_new_tokens =
                Some((longest + 1).max(merged.min_new_tokens.unwrap_or(0)).min(DecodingOptions::MOST_TOKENS));
        }
        let settings =
            Settings::with_symbols(&merged, &self.0.target)?.with_source(&merged, self.source())?;
        match settings.attention_key() {
            Some(key) if !self.0.has_attention => {
                Err(Error::new(ErrorKind::Config, format!("`{key}`: the model has no attention")))
            }
            _ => Ok(Arc::new(settings)),
        }
    }

    /// The settings under which given translations are scored: those of `options`, and below them of the
    /// bundle, that concern reading.
    ///
    /// # Errors
    /// As [`settings`](Self::settings).
    pub(super) fn scoring_settings(&self, options: &DecodingOptions) -> Result<Arc<Settings>> {
        // What is wrong with the others is still said.
        self.settings(options)?;
        let all = DecodingOptions::layered([&self.0.defaults, options]);
        let attention = all.output.and_then(|output| output.attention);
        let reading = DecodingOptions {
            unknown: all.unknown,
            max_input_length: all.max_input_length,
            truncate: all.truncate,
            source_language: all.source_language,
            target_language: all.target_language,
            forced_bos_token_id: all.forced_bos_token_id,
            eos_token_id: all.eos_token_id,
            output: Some(OutputOptions { scores: Some(true), token_scores: Some(true), attention }),
            length_penalty_type: Some(LengthPenaltyType::None),
            ..DecodingOptions::default()
        };
        let plain = Self::from_parts(
            Arc::clone(&self.0.source),
            Arc::clone(&self.0.target),
            DecodingOptions::default(),
            self.0.has_attention,
        );
        plain.settings(&reading)
    }

    /// Those of [`scoring_settings`](Self::scoring_settings) for a translation.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`] if it has more tokens than an output can have; of the tokeniser.
    pub(super) fn forced(&self, target: &str, settings: &Settings) -> Result<Arc<Settings>> {
        let limits = TextLimits { symbols: DecodingOptions::MOST_TOKENS, ..TextLimits::NONE };
        let mut ids = self.target().tokenise(target, UnknownPolicy::Unk, limits)?.ids;
        ids.splice(0..0, settings.forced_bos);
        Ok(Arc::new(Settings { forced: Some(ids), ..settings.clone() }))
    }

    /// A text as the loop reads it.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for unknown symbols under `unknown: error`; [`ErrorKind::TooLong`] for a text
    /// that is too long.
    pub fn encode(&self, text: &str, settings: &Settings) -> Result<SourceText> {
        self.encode_within(text, settings, usize::MAX)
    }

    /// The same for texts of strangers.
    ///
    /// - `most_characters`: a text that has more, before, between or after the steps of the normalisation, is
    ///   refused even where longer ones are cut.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_within(
        &self,
        text: &str,
        settings: &Settings,
        most_characters: usize,
    ) -> Result<SourceText> {
        let frame = self.source().frame_size();
        let symbols = settings.most_source_tokens().saturating_sub(frame);
        let limits = TextLimits { characters: most_characters, symbols };
        let encoded = self.source().tokenise(text, settings.unknown, limits);
        let mut encoded =
            encoded.map_err(|e| if e.kind() == ErrorKind::TooLong { e.help(TOO_LONG_HELP) } else { e })?;
        // What stands around the text is never cut.
        let length = encoded.ids.len();
        let whole = settings.fit(length + frame)?;
        let kept = if whole.len() < length + frame { whole.len().saturating_sub(frame) } else { length };
        let part = if whole.start > 0 { length - kept..length } else { 0..kept };
        if part.len() < encoded.ids.len() {
            encoded.symbols = part.clone().map(|at| &encoded.symbols[at]).collect();
            encoded.ids = encoded.ids[part].to_vec();
        }
        let text = self.source().frame(&mut encoded, settings.languages);
        if !settings.keeps_attention() {
            encoded.symbols = SymbolList::default();
        }
        Ok(SourceText { ids: encoded.ids, symbols: encoded.symbols, unknown: encoded.unknown, text })
    }

    /// Hypotheses of a text, the best first, as text. None at all is the empty translation of an empty text.
    pub fn translation(
        &self,
        source: &SourceText,
        hypotheses: Vec<Hypothesis>,
        settings: &Settings,
    ) -> Translation {
        let mut all = hypotheses.into_iter().map(|hypothesis| self.alternative(source, hypothesis, settings));
        let empty = || Alternative {
            text: String::new(),
            score: 0.0,
            finish: FinishReason::Eos,
            generated_tokens: 0,
            tokens: Vec::new(),
            token_scores: Vec::new(),
            attention: Vec::new(),
        };
        Translation {
            best: all.next().unwrap_or_else(empty),
            source_tokens: source.text.len(),
            unknown: source.unknown.clone(),
            alternatives: all.collect(),
        }
    }

    fn alternative(&self, source: &SourceText, hypothesis: Hypothesis, settings: &Settings) -> Alternative {
        let generated_tokens = hypothesis.generated();
        let separator = self.target().separator();
        let mut all = Pieces::new([self.source(), self.target()], source, &hypothesis, settings);
        let mut text = all.pieces.join(separator);
        let mut kept = all.pieces.len();
        if let Some(stop) = settings.stop.as_ref().filter(|_| hypothesis.finish == FinishReason::Stop) {
            let mut generated = all.pieces[..hypothesis.prefix].join(separator).len();
            if hypothesis.prefix > 0 {
                generated += separator.len();
            }
            if let Some(at) = text.get(generated..).and_then(|rest| stop.first_in(rest)) {
                text.truncate(generated + at);
                // What separated the stop string from the text before it goes with it.
                if !separator.is_empty() && text.ends_with(separator) {
                    text.truncate(text.len() - separator.len());
                }
                // A piece that the stop string begins in goes to the copies' account: they stand before it.
                let ends = all.pieces.iter().scan(0, |end, piece| {
                    *end += piece.len() + separator.len();
                    Some(*end - separator.len())
                });
                kept = ends.take_while(|&end| end <= text.len()).count().max(hypothesis.prefix);
            }
        }
        if settings.unknown == UnknownPolicy::Copy && source.ids.contains(&self.source().special_ids().unk) {
            let whole = all.pieces[..kept].join(separator).len();
            let cut = text.get(whole..).unwrap_or_default().to_owned();
            text = all.copy_rest(hypothesis.prefix..kept, &hypothesis.attention) + &cut;
        }
        let shows_tokens = settings.token_scores || settings.attention;
        Alternative {
            text,
            score: hypothesis.score,
            finish: hypothesis.finish,
            generated_tokens,
            tokens: if shows_tokens {
                all.pieces.into_iter().map(Cow::into_owned).collect()
            } else {
                Vec::new()
            },
            token_scores: hypothesis.token_scores,
            attention: if settings.attention { hypothesis.attention } else { Vec::new() },
        }
    }
}
