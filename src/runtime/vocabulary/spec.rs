//! A vocabulary as manifests and graphs carry it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::normalisation::Normalisation;

/// What one id stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A Unicode code point.
    #[default]
    Character,
    /// A run of text between whitespace; tokens are joined by one space.
    Token,
}

/// A vocabulary as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularySpec {
    /// What one id stands for.
    #[serde(default)]
    pub unit: Unit,
    /// Applied to every text, in this order.
    #[serde(default)]
    pub normalisation: Vec<Normalisation>,
    /// Ids of the longest training text; 0 if unknown.
    #[serde(default)]
    pub longest: usize,
    /// How whoever runs the graphs has to fill up sources, for models that were trained without masking
    /// padding; none for all others. Runs have it, and bundles before version 1.2 of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<Padding>,
    /// How the graphs fill up sources by themselves: to be known, not to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_padding: Option<Padding>,
    /// A scheme of subwords or bytes instead of a list of symbols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokeniser: Option<TokeniserSpec>,
    /// Ids that the model has, with a `tokeniser`: the width of its scores, which may be more than there are
    /// pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// All symbols; the position is the id; the first four are
    /// [`SPECIAL_SYMBOLS`](crate::contract::SPECIAL_SYMBOLS). None with a `tokeniser`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
}

/// A scheme of subwords or bytes, as a manifest names it.
///
/// Programs that do not know one of its keys refuse the manifest, whatever its version: they would make other
/// ids of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokeniserSpec {
    /// The scheme.
    pub kind: TokeniserKind,
    /// The file that holds its pieces, by its name in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The file that gives pieces their ids, where that of the pieces does not: `vocab.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    /// The file of settings that stands beside them: `tokenizer_config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// A scheme of subwords or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokeniserKind {
    /// `tokenizer.json`, the file of the tokenizers library.
    TokenizerJson,
    /// A model of SentencePiece, with the ids of its file and nothing around a source.
    Sentencepiece,
    /// A model of SentencePiece as T5 and mT5 use it.
    T5,
    /// A model of SentencePiece for one side, and `vocab.json`, as Marian's.
    Marian,
    /// A model of SentencePiece and `vocab.json`, as M2M100's.
    M2m100,
    /// A model of SentencePiece as NLLB uses it.
    Nllb,
    /// A model of SentencePiece as mBART uses it.
    Mbart,
    /// A model of SentencePiece as mBART-50 uses it.
    Mbart50,
    /// A model of SentencePiece as Pegasus uses it.
    Pegasus,
    /// UTF-8 bytes, each as an id of its own after the first three (ByT5).
    Bytes,
}

impl TokeniserKind {
    /// As it is written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenizerJson => "tokenizer_json",
            Self::Sentencepiece => "sentencepiece",
            Self::T5 => "t5",
            Self::Marian => "marian",
            Self::M2m100 => "m2m100",
            Self::Nllb => "nllb",
            Self::Mbart => "mbart",
            Self::Mbart50 => "mbart50",
            Self::Pegasus => "pegasus",
            Self::Bytes => "bytes",
        }
    }
}

impl TokeniserSpec {
    /// The names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        [&self.model, &self.ids, &self.config].into_iter().flatten().map(String::as_str)
    }
}

/// Filling of sources with an ordinary symbol, which the encoder reads like any other.
///
/// PAD leaves a state as it is, so that a text's result depends on no other text. A model that learnt with
/// padding that it did read (Keras without a mask) gives its own results only if it reads as much of it
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Padding {
    /// What texts are filled with; one of the vocabulary's symbols.
    pub symbol: String,
    /// Ids of a text that is filled; longer texts stay as they are, but for `least`, and so do empty ones,
    /// which are not decoded.
    pub length: usize,
    /// How many stand there however long the text is: 1 for a model that read `</s>` behind each source.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub least: usize,
    /// Where the text is filled.
    #[serde(default)]
    pub side: PaddingSide,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// An end of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingSide {
    /// Before its first symbol.
    Left,
    /// After its last symbol.
    #[default]
    Right,
}

/// What a graph's `metadata_props` say about a vocabulary.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VocabularyMetadata<'a> {
    pub(crate) unit: Unit,
    pub(crate) normalisation: Cow<'a, [Normalisation]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) padding: Option<Cow<'a, Padding>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph_padding: Option<Cow<'a, Padding>>,
    pub(crate) symbols: Cow<'a, [String]>,
}

impl VocabularySpec {
    /// Ids, special ones counted.
    pub fn size(&self) -> usize {
        self.size.unwrap_or(self.symbols.len())
    }

    /// The JSON object that graphs carry in their `metadata_props`: unit, normalisation, padding if there is
    /// any, symbols.
    pub fn metadata_json(&self) -> String {
        let metadata = VocabularyMetadata {
            unit: self.unit,
            normalisation: Cow::Borrowed(&self.normalisation),
            padding: self.padding.as_ref().map(Cow::Borrowed),
            graph_padding: self.graph_padding.as_ref().map(Cow::Borrowed),
            symbols: Cow::Borrowed(&self.symbols),
        };
        serde_json::to_string(&metadata).unwrap_or_default()
    }

    /// What differs between this vocabulary and the one in a graph's metadata, if anything does.
    pub(crate) fn differs_from(&self, metadata: &VocabularyMetadata<'_>) -> Option<String> {
        if self.unit != metadata.unit {
            return Some(format!("the unit is {:?} here and {:?} there", self.unit, metadata.unit));
        }
        if self.normalisation != *metadata.normalisation {
            return Some(format!(
                "the normalisation is {:?} here and {:?} there",
                self.normalisation, metadata.normalisation
            ));
        }
        for (here, there) in
            [(&self.padding, &metadata.padding), (&self.graph_padding, &metadata.graph_padding)]
        {
            if here.as_ref() != there.as_deref() {
                return Some(format!("the padding is {here:?} here and {there:?} there"));
            }
        }
        if let Some(id) =
            self.symbols.iter().zip(metadata.symbols.iter()).position(|(here, there)| here != there)
        {
            return Some(format!(
                "id {id} is {:?} here and {:?} there",
                self.symbols[id], metadata.symbols[id]
            ));
        }
        (self.symbols.len() != metadata.symbols.len())
            .then(|| format!("{} symbols here and {} there", self.symbols.len(), metadata.symbols.len()))
    }
}

impl Padding {
    /// The largest length that is taken.
    pub const LONGEST: usize = 1 << 16;

    /// Counts what stands behind every source alike; 0 where short ones are filled up, or on the left.
    pub fn even(&self) -> usize {
        if self.side == PaddingSide::Right && self.length <= self.least { self.least } else { 0 }
    }

    /// Tells how much a text of so many ids is filled up with.
    pub fn missing(&self, ids: usize) -> usize {
        self.length.saturating_sub(ids).max(self.least)
    }
}
