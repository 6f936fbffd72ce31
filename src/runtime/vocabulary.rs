//! Text to ids and back: normalisation, units, and the four special symbols.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::contract::{SPECIAL_SYMBOLS, UNK};
use crate::error::{Error, ErrorKind, Result};

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

/// One step of the normalisation that texts go through before they are split; training and serving apply the
/// same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Unicode canonical composition.
    Nfc,
    /// Unicode canonical decomposition.
    Nfd,
    /// Unicode compatibility composition.
    Nfkc,
    /// Unicode compatibility decomposition.
    Nfkd,
    /// Unicode lower case.
    Lowercase,
    /// No whitespace at the ends.
    Trim,
    /// Every run of whitespace becomes one space.
    CollapseWhitespace,
}

/// A vocabulary as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularySpec {
    /// What one id stands for.
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
    /// All symbols; the position is the id; the first four are [`SPECIAL_SYMBOLS`].
    pub symbols: Vec<String>,
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
    /// Ids of a text that is filled; longer texts stay as they are, and so do empty ones, which are not
    /// decoded.
    pub length: usize,
    /// Where the text is filled.
    #[serde(default)]
    pub side: PaddingSide,
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

/// What becomes of a symbol outside the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPolicy {
    /// It becomes [`UNK`].
    #[default]
    Unk,
    /// It becomes [`UNK`], and is copied into the output: where attention, or its place in the source, says
    /// that it belongs.
    Copy,
    /// It is left out.
    Skip,
    /// The text is refused.
    Error,
}

/// A text as ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Ids without START and END.
    pub ids: Vec<u32>,
    /// The symbol behind each id, so that unknown ones can be copied.
    pub symbols: Vec<String>,
    /// Symbols outside the vocabulary, each once, in order of appearance.
    pub unknown: Vec<String>,
}

/// How much of a text is read; one that goes on is refused there, before what follows is stored.
///
/// Normalisation may make a text longer (one U+FDFA becomes 18 characters under NFKC), so that its bytes
/// bound nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimits {
    /// Characters after any step of the normalisation.
    pub characters: usize,
    /// Symbols that become ids.
    pub symbols: usize,
}

impl TextLimits {
    /// Whole texts, whatever their length.
    pub const NONE: Self = Self { characters: usize::MAX, symbols: usize::MAX };
}

/// Symbols and their ids.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    spec: VocabularySpec,
    ids: HashMap<String, u32>,
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

/// Characters of an unknown symbol that an error shows: a token may be as long as its text.
const LONGEST_SHOWN: usize = 40;

/// What [`Vocabulary::decode`] writes for UNK and for ids outside the vocabulary.
pub const REPLACEMENT: &str = "\u{fffd}";

impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Vocabulary {}

impl Normalisation {
    /// The text after this step; `None` if that has more than `most` characters.
    fn apply(self, text: &str, most: usize) -> Option<Cow<'_, str>> {
        let normalised = match self {
            // ASCII is in every form of Unicode's.
            Self::Nfc | Self::Nfd | Self::Nfkc | Self::Nfkd if text.is_ascii() => {
                return Some(Cow::Borrowed(text));
            }
            Self::Nfc if is_nfc_quick(text.chars()) == IsNormalized::Yes => return Some(Cow::Borrowed(text)),
            Self::Nfc => collect(text.nfc(), text, most),
            Self::Nfd => collect(text.nfd(), text, most),
            Self::Nfkc => collect(text.nfkc(), text, most),
            Self::Nfkd => collect(text.nfkd(), text, most),
            // One character becomes three at most.
            Self::Lowercase => Some(text.to_lowercase()),
            Self::Trim => return Some(Cow::Borrowed(text.trim())),
            Self::CollapseWhitespace => {
                let mut inside = false;
                let collapsed = text.chars().filter_map(|c| {
                    let first = !std::mem::replace(&mut inside, c.is_whitespace());
                    if !c.is_whitespace() { Some(c) } else { first.then_some(' ') }
                });
                collect(collapsed, text, most)
            }
        };
        normalised.map(Cow::Owned)
    }
}

/// The characters as a text; `None` as soon as there are more than `most`.
///
/// - `source`: what they are made of, about as long.
fn collect(characters: impl Iterator<Item = char>, source: &str, most: usize) -> Option<String> {
    let mut text = String::with_capacity(source.len().min(most.saturating_mul(4)));
    for (count, c) in characters.enumerate() {
        if count == most {
            return None;
        }
        text.push(c);
    }
    Some(text)
}

impl VocabularySpec {
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
}

impl Vocabulary {
    /// Collects the symbols of `texts`; ids follow the code points of the symbols, after the four special
    /// ones.
    pub fn build(
        unit: Unit,
        normalisation: impl Into<Vec<Normalisation>>,
        texts: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let spec = VocabularySpec {
            unit,
            normalisation: normalisation.into(),
            longest: 0,
            padding: None,
            graph_padding: None,
            symbols: SPECIAL_SYMBOLS.iter().map(|&symbol| symbol.to_owned()).collect(),
        };
        let ids = index(&spec.symbols);
        let mut vocabulary = Self { spec, ids };
        vocabulary.extend(texts);
        vocabulary
    }

    /// Adds the symbols of `texts` that are new, sorted by code point, after those already present, whose ids
    /// stay.
    pub fn extend(&mut self, texts: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut fresh = BTreeSet::new();
        for text in texts {
            let normalised = self.normalise(text.as_ref());
            let symbols = self.split(&normalised);
            self.spec.longest = self.spec.longest.max(symbols.len());
            for symbol in symbols {
                if self.known(symbol).is_none() && !fresh.contains(symbol) {
                    fresh.insert(symbol.to_owned());
                }
            }
        }
        for symbol in fresh {
            self.ids.insert(symbol.clone(), id_of(self.spec.symbols.len()));
            self.spec.symbols.push(symbol);
        }
    }

    /// The vocabulary that was written down as `spec`.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if the special symbols are not the first four, or an ordinary symbol is empty,
    /// appears twice, or can never be met because splitting gives something else.
    pub fn from_spec(spec: &VocabularySpec) -> Result<Self> {
        let wrong = |message: String| Error::new(ErrorKind::Bundle, message);
        for (id, &special) in SPECIAL_SYMBOLS.iter().enumerate() {
            if spec.symbols.get(id).map(String::as_str) != Some(special) {
                let found =
                    spec.symbols.get(id).map_or_else(|| "nothing".to_owned(), |symbol| format!("{symbol:?}"));
                return Err(wrong(format!("symbol {id} is {found} and must be {special:?}")).help(format!(
                    "the first four symbols are {}, in this order",
                    SPECIAL_SYMBOLS.join(", ")
                )));
            }
        }
        let ids = index(&spec.symbols);
        for (id, symbol) in spec.symbols.iter().enumerate() {
            if let Some(&last) = ids.get(symbol.as_str())
                && last as usize != id
                && id >= SPECIAL_SYMBOLS.len()
            {
                return Err(wrong(format!("symbol {symbol:?} appears twice, as ids {id} and {last}")));
            }
            let splits_to_itself = match spec.unit {
                Unit::Character => symbol.chars().count() == 1,
                Unit::Token => !symbol.is_empty() && !symbol.contains(char::is_whitespace),
            };
            if id >= SPECIAL_SYMBOLS.len() && !splits_to_itself {
                let unit = match spec.unit {
                    Unit::Character => "one character",
                    Unit::Token => "one token without whitespace",
                };
                return Err(wrong(format!("symbol {id}, {symbol:?}, is not {unit}")));
            }
        }
        let vocabulary = Self { spec: spec.clone(), ids };
        for padding in spec.padding.iter().chain(&spec.graph_padding) {
            if vocabulary.known(&padding.symbol).is_none() {
                return Err(wrong(format!(
                    "texts are to be filled with {:?}, which is no ordinary symbol of the vocabulary",
                    padding.symbol
                )));
            }
            if !(1..=Padding::LONGEST).contains(&padding.length) {
                let message = format!("texts are to be filled up to {} symbols", padding.length);
                return Err(wrong(message).help(format!("choose a length from 1 to {}", Padding::LONGEST)));
            }
        }
        Ok(vocabulary)
    }

    /// The vocabulary as it is written down.
    pub fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    /// Symbols, special ones counted.
    #[allow(clippy::len_without_is_empty)] // Never empty: the special symbols are always there.
    pub fn len(&self) -> usize {
        self.spec.symbols.len()
    }

    /// The JSON object that graphs carry in their `metadata_props`; see [`VocabularySpec::metadata_json`].
    pub fn metadata_json(&self) -> String {
        self.spec.metadata_json()
    }

    /// `text` after every step of the normalisation.
    pub fn normalise(&self, text: &str) -> String {
        self.normalised(text).into_owned()
    }

    /// The same, without a copy where nothing changes.
    pub fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // Nothing has more characters than the largest number.
        self.normalise_within(text, usize::MAX).unwrap_or_default()
    }

    /// The same; `None` if it has more than `most` characters before, between or after the steps.
    fn normalise_within<'a>(&self, text: &'a str, most: usize) -> Option<Cow<'a, str>> {
        let fits = |text: &str| text.len() <= most || text.chars().nth(most).is_none();
        let mut normalised = fits(text).then_some(Cow::Borrowed(text))?;
        for step in &self.spec.normalisation {
            normalised = match normalised {
                Cow::Borrowed(text) => step.apply(text, most),
                Cow::Owned(text) => step.apply(&text, most).map(|after| Cow::Owned(after.into_owned())),
            }
            .filter(|text| fits(text))?;
        }
        Some(normalised)
    }

    /// The symbols of a text that is normalised already.
    pub fn split<'a>(&self, normalised: &'a str) -> Vec<&'a str> {
        self.symbols_of(normalised).collect()
    }

    /// The same, one after the other.
    fn symbols_of<'a>(&self, normalised: &'a str) -> impl Iterator<Item = &'a str> {
        let is_character = self.spec.unit == Unit::Character;
        let characters =
            is_character.then(|| normalised.char_indices().map(|(at, c)| &normalised[at..at + c.len_utf8()]));
        let tokens = (!is_character).then(|| normalised.split_whitespace());
        characters.into_iter().flatten().chain(tokens.into_iter().flatten())
    }

    /// Normalises and splits `text`; unknown symbols become [`UNK`]; neither START nor END is added. Filled
    /// up as [`VocabularySpec::padding`] says.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids =
            self.symbols_of(&self.normalise(text)).map(|symbol| self.known(symbol).unwrap_or(UNK)).collect();
        self.fill(&mut ids);
        ids
    }

    /// Fills up the ids of a text as [`VocabularySpec::padding`] says: how many there are now before and
    /// behind the text.
    pub fn fill(&self, ids: &mut Vec<u32>) -> (usize, usize) {
        let filling =
            self.spec.padding.as_ref().and_then(|padding| Some((padding, self.known(&padding.symbol)?)));
        let Some((padding, id)) = filling.filter(|_| !ids.is_empty()) else { return (0, 0) };
        let missing = padding.length.saturating_sub(ids.len());
        let (before, behind) = match padding.side {
            PaddingSide::Left => (missing, 0),
            PaddingSide::Right => (0, missing),
        };
        ids.splice(0..0, std::iter::repeat_n(id, before));
        ids.extend(std::iter::repeat_n(id, behind));
        (before, behind)
    }

    /// The symbols of a text, with a choice of what becomes of unknown ones; not filled up yet. Time and
    /// memory grow with the text, and stop growing at `limits`.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`] beyond the limits; [`ErrorKind::Input`] under [`UnknownPolicy::Error`], naming
    /// the unknown symbols.
    pub fn encode_with(&self, text: &str, policy: UnknownPolicy, limits: TextLimits) -> Result<Encoded> {
        let too_long = |most: usize, what: &str| {
            Error::new(ErrorKind::TooLong, format!("the text has more than {most} {what}"))
        };
        let normalised = self
            .normalise_within(text, limits.characters)
            .ok_or_else(|| too_long(limits.characters, "characters"))?;
        let mut encoded = Encoded::default();
        let mut seen = HashSet::new();
        for symbol in self.symbols_of(&normalised) {
            let known = self.known(symbol);
            if known.is_none() && seen.insert(symbol) {
                encoded.unknown.push(symbol.to_owned());
            }
            if known.is_some() || policy != UnknownPolicy::Skip {
                if encoded.ids.len() == limits.symbols {
                    return Err(too_long(limits.symbols, "tokens"));
                }
                encoded.ids.push(known.unwrap_or(UNK));
                encoded.symbols.push(symbol.to_owned());
            }
        }
        if policy == UnknownPolicy::Error && !encoded.unknown.is_empty() {
            let cut =
                |symbol: &String| format!("{:?}", symbol.chars().take(LONGEST_SHOWN).collect::<String>());
            let shown: Vec<String> = encoded.unknown.iter().take(8).map(cut).collect();
            let more = encoded.unknown.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(Error::new(
                ErrorKind::Input,
                format!("symbols that the model does not know: {}{more}", shown.join(", ")),
            )
            .help("leave them out, or choose another policy for unknown symbols: unk, copy or skip"));
        }
        Ok(encoded)
    }

    /// The text of `ids`: PAD, START and END are left out; UNK, and ids that the vocabulary does not have,
    /// become [`REPLACEMENT`]. Tokens are joined by one space.
    pub fn decode(&self, ids: impl IntoIterator<Item = u32>) -> String {
        let symbols = ids.into_iter().filter(|&id| id >= UNK);
        let symbols =
            symbols.map(|id| if id == UNK { REPLACEMENT } else { self.symbol(id).unwrap_or(REPLACEMENT) });
        match self.spec.unit {
            Unit::Character => symbols.collect(),
            Unit::Token => symbols.collect::<Vec<_>>().join(" "),
        }
    }

    /// The symbol of `id`.
    pub fn symbol(&self, id: u32) -> Option<&str> {
        self.spec.symbols.get(id as usize).map(String::as_str)
    }

    /// The id of `symbol`, the special ones included; that of the ordinary one where there is one of the same
    /// spelling.
    pub fn id(&self, symbol: &str) -> Option<u32> {
        self.ids.get(symbol).copied()
    }

    /// The id of a symbol met in a text: a token that is spelled like a special symbol is no such symbol, but
    /// one of its own.
    fn known(&self, symbol: &str) -> Option<u32> {
        self.id(symbol).filter(|&id| id > UNK)
    }
}

fn index(symbols: &[String]) -> HashMap<String, u32> {
    symbols.iter().enumerate().map(|(id, symbol)| (symbol.clone(), id_of(id))).collect()
}

fn id_of(position: usize) -> u32 {
    u32::try_from(position).expect("a vocabulary has fewer than 2^32 symbols")
}

#[cfg(test)]
#[path = "vocabulary_tests.rs"]
mod tests;
