//! A list of characters or of words, and the four special symbols among them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::normalisation::Normalisation;
use super::spec::{Padding, PaddingSide, Unit, VocabularySpec};
use super::tokeniser::{
    Encoded, LanguageIds, REPLACEMENT, TextLimits, Tokeniser, UnknownPolicy, too_long, unknown_symbols,
};
use crate::contract::{SPECIAL_SYMBOLS, SpecialIds};
use crate::error::{Error, ErrorKind, Result};

/// Symbols and their ids.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    spec: VocabularySpec,
    ids: HashMap<String, u32>,
    special: SpecialIds,
}

impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        (&self.spec, self.special) == (&other.spec, other.special)
    }
}

impl Eq for Vocabulary {}

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
            symbols: SPECIAL_SYMBOLS.iter().map(|&symbol| symbol.to_owned()).collect(),
            ..VocabularySpec::default()
        };
        let special = SpecialIds::default();
        let ids = index(&spec.symbols, special);
        let mut vocabulary = Self { spec, ids, special };
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
        Self::with_special_ids(spec, SpecialIds::default())
    }

    /// The same with the special symbols at other ids, where they may be spelled in any way: no text has
    /// them.
    ///
    /// # Errors
    /// As [`from_spec`](Self::from_spec); for ids that are the same, or that the list does not have.
    pub fn with_special_ids(spec: &VocabularySpec, special: SpecialIds) -> Result<Self> {
        let wrong = |message: String| Error::new(ErrorKind::Bundle, message);
        if let Some(tokeniser) = &spec.tokeniser {
            return Err(wrong(format!("a tokeniser of the kind {}, not a list", tokeniser.kind.as_str()))
                .help("a list of symbols is wanted here"));
        }
        let all = special.all();
        if let Some(id) = all.into_iter().find(|&id| id as usize >= spec.symbols.len().max(all.len())) {
            return Err(wrong(format!("special id {id}, and there are {} symbols", spec.symbols.len())));
        }
        if all.iter().enumerate().any(|(at, id)| all[..at].contains(id)) {
            return Err(wrong(format!("the special ids {all:?} are not four different ones"))
                .help("where a model has no padding or unknown symbol, give it an id that it never says"));
        }
        let default = special == SpecialIds::default();
        for (id, &special) in SPECIAL_SYMBOLS.iter().enumerate().filter(|_| default) {
            if spec.symbols.get(id).map(String::as_str) != Some(special) {
                let found =
                    spec.symbols.get(id).map_or_else(|| "nothing".to_owned(), |symbol| format!("{symbol:?}"));
                return Err(wrong(format!("symbol {id} is {found} and must be {special:?}")).help(format!(
                    "the first four symbols are {}, in this order, unless `special_ids` gives other ids; where \
                     they only have other names, write these: no text has them",
                    SPECIAL_SYMBOLS.join(", ")
                )));
            }
        }
        let ids = index(&spec.symbols, special);
        let is_special = |id: usize| all.iter().any(|&special| special as usize == id);
        let ordinary = spec.symbols.iter().enumerate().filter(|(id, _)| !is_special(*id));
        let (single, several): (Vec<_>, Vec<_>) =
            ordinary.partition(|(_, symbol)| symbol.chars().nth(1).is_none());
        // Among characters, symbols of several are tags that no text can have: of a language, of unused rows.
        let has_tags = several.len() <= single.len();
        for (id, symbol) in spec.symbols.iter().enumerate() {
            if let Some(&last) = ids.get(symbol.as_str())
                && last as usize != id
                && !is_special(id)
            {
                return Err(wrong(format!("symbol {symbol:?} appears twice, as ids {id} and {last}")));
            }
            let splits_to_itself = match spec.unit {
                Unit::Character => !symbol.is_empty() && (has_tags || symbol.chars().count() == 1),
                Unit::Token => !symbol.is_empty() && !symbol.contains(char::is_whitespace),
            };
            if !is_special(id) && !splits_to_itself {
                let unit = match spec.unit {
                    Unit::Character => "one character",
                    Unit::Token => "one token without whitespace",
                };
                return Err(wrong(format!("symbol {id}, {symbol:?}, is not {unit}")));
            }
        }
        let vocabulary = Self { spec: spec.clone(), ids, special };
        for padding in spec.padding.iter().chain(&spec.graph_padding) {
            if vocabulary.known(&padding.symbol).is_none() {
                return Err(wrong(format!(
                    "texts are to be filled with {:?}, which is no ordinary symbol of the vocabulary",
                    padding.symbol
                )));
            }
            if padding.least > Padding::LONGEST {
                let message = format!("{} symbols are to stand around each text", padding.least);
                return Err(wrong(message).help(format!("choose a number up to {}", Padding::LONGEST)));
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
        Normalisation::apply_all(&self.spec.normalisation, text, usize::MAX).unwrap_or_default()
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

    /// Normalises and splits `text`; unknown symbols become UNK; neither START nor END is added. Filled
    /// up as [`VocabularySpec::padding`] says.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids =
            self.symbols_of(&self.normalise(text)).map(|symbol| self.known_or_unk(symbol)).collect();
        self.fill(&mut ids);
        ids
    }

    /// Fills up the ids of a text as [`VocabularySpec::padding`] says: how many there are now before and
    /// behind the text.
    pub fn fill(&self, ids: &mut Vec<u32>) -> (usize, usize) {
        let filling =
            self.spec.padding.as_ref().and_then(|padding| Some((padding, self.known(&padding.symbol)?)));
        let Some((padding, id)) = filling.filter(|_| !ids.is_empty()) else { return (0, 0) };
        let missing = padding.missing(ids.len());
        let (before, behind) = match padding.side {
            PaddingSide::Left => (missing, 0),
            PaddingSide::Right => (0, missing),
        };
        ids.splice(0..0, std::iter::repeat_n(id, before));
        ids.extend(std::iter::repeat_n(id, behind));
        (before, behind)
    }

    /// The text of `ids`: PAD, START and END are left out; UNK, and ids that the vocabulary does not have,
    /// become [`REPLACEMENT`]. Tokens are joined by one space.
    pub fn decode(&self, ids: impl IntoIterator<Item = u32>) -> String {
        let SpecialIds { pad, start, end, unk } = self.special;
        let symbols = ids.into_iter().filter(|&id| id != pad && id != start && id != end);
        let symbols =
            symbols.map(|id| if id == unk { REPLACEMENT } else { self.symbol(id).unwrap_or(REPLACEMENT) });
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
        self.id(symbol).filter(|id| !self.special.all().contains(id))
    }

    fn known_or_unk(&self, symbol: &str) -> u32 {
        self.known(symbol).unwrap_or(self.special.unk)
    }
}

impl Tokeniser for Vocabulary {
    fn size(&self) -> usize {
        self.len()
    }

    fn special_ids(&self) -> SpecialIds {
        self.special
    }

    fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    fn normalised<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.normalised(text)
    }

    fn split<'a>(&self, normalised: &'a str) -> Vec<&'a str> {
        self.split(normalised)
    }

    fn tokenise(&self, text: &str, unknown: UnknownPolicy, limits: TextLimits) -> Result<Encoded> {
        let normalised = Normalisation::apply_all(&self.spec.normalisation, text, limits.characters)
            .ok_or_else(|| too_long(limits.characters, "characters"))?;
        let mut encoded = Encoded::default();
        let mut seen = HashSet::new();
        for symbol in self.symbols_of(&normalised) {
            let known = self.known(symbol);
            if known.is_none() && seen.insert(symbol) {
                encoded.unknown.push(symbol.to_owned());
            }
            if known.is_some() || unknown != UnknownPolicy::Skip {
                if encoded.ids.len() == limits.symbols {
                    return Err(too_long(limits.symbols, "tokens"));
                }
                encoded.ids.push(known.unwrap_or(self.special.unk));
                encoded.symbols.push(symbol);
            }
        }
        if unknown == UnknownPolicy::Error && !encoded.unknown.is_empty() {
            return Err(unknown_symbols(&encoded.unknown));
        }
        Ok(encoded)
    }

    fn frame(&self, source: &mut Encoded, _languages: LanguageIds) -> Range<usize> {
        let (before, behind) = self.fill(&mut source.ids);
        if let Some(padding) = self.spec.padding.as_ref().filter(|_| before + behind > 0) {
            let filling = |count: usize| std::iter::repeat_n(padding.symbol.as_str(), count);
            let text = std::mem::take(&mut source.symbols);
            source.symbols.extend(filling(before).chain(text.iter()).chain(filling(behind)));
        }
        before..source.ids.len() - behind
    }

    /// Nothing is trained to say them.
    fn never_generated(&self) -> Vec<u32> {
        vec![self.special.pad, self.special.start]
    }

    fn find(&self, symbol: &str) -> Option<u32> {
        self.id(symbol)
    }

    fn piece(&self, id: u32, _is_first: bool) -> &[u8] {
        let SpecialIds { pad, start, end, unk } = self.special;
        let piece = match id {
            id if id == unk => REPLACEMENT,
            id if id == pad || id == start || id == end => "",
            id => self.symbol(id).unwrap_or(REPLACEMENT),
        };
        piece.as_bytes()
    }

    fn separator(&self) -> &str {
        match self.spec.unit {
            Unit::Character => "",
            Unit::Token => " ",
        }
    }
}

/// Ids by symbol: an ordinary one goes before a special one of the same spelling.
fn index(symbols: &[String], special: SpecialIds) -> HashMap<String, u32> {
    let all = symbols.iter().zip(0u32..).map(|(symbol, id)| (symbol.clone(), id));
    let (special, ordinary): (Vec<_>, Vec<_>) = all.partition(|(_, id)| special.all().contains(id));
    special.into_iter().chain(ordinary).collect()
}

fn id_of(position: usize) -> u32 {
    u32::try_from(position).expect("a vocabulary has fewer than 2^32 symbols")
}
