//! Symbols of all texts, counted in one pass.

use std::collections::HashSet;

use s2s_runtime::contract::SPECIAL_SYMBOLS;
use s2s_runtime::vocabulary::{Unit, Vocabulary, VocabularySpec};

use crate::config::checked::Side;
use crate::error::Result;

/// A vocabulary without symbols: it normalises and splits.
pub(super) fn normaliser(side: &Side) -> Vocabulary {
    Vocabulary::build(side.unit, side.normalisation.clone(), std::iter::empty::<&str>())
}

/// Symbols of one side.
pub(super) struct Counter {
    normaliser: Vocabulary,
    /// A bit a code point.
    characters: Vec<u64>,
    tokens: HashSet<String>,
    /// Tokens of the longest text.
    longest: usize,
}

impl Counter {
    pub(super) fn new(side: &Side) -> Self {
        let normaliser = normaliser(side);
        Self {
            normaliser,
            characters: vec![0; (char::MAX as usize + 1) / 64],
            tokens: HashSet::new(),
            longest: 0,
        }
    }

    pub(super) fn add(&mut self, text: &str) {
        let normalised = self.normaliser.normalised(text);
        let mut count = 0;
        match self.normaliser.spec().unit {
            Unit::Character => {
                for c in normalised.chars() {
                    count += 1;
                    self.characters[c as usize / 64] |= 1 << (c as usize % 64);
                }
            }
            Unit::Token => {
                for token in normalised.split_whitespace() {
                    count += 1;
                    if !self.tokens.contains(token) {
                        self.tokens.insert(token.to_owned());
                    }
                }
            }
        }
        self.longest = self.longest.max(count);
    }

    /// How many different symbols were counted.
    pub(super) fn unique(&self) -> usize {
        self.characters.iter().map(|bits| bits.count_ones() as usize).sum::<usize>() + self.tokens.len()
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The vocabulary of what was added: the ids follow the code points, after the special symbols.
    pub(super) fn vocabulary(&self) -> Result<Vocabulary> {
        let set = |c: &char| self.characters[*c as usize / 64] >> (*c as usize % 64) & 1 == 1;
        let characters = ('\0'..=char::MAX).filter(set).map(String::from);
        let mut tokens: Vec<&String> = self.tokens.iter().collect();
        tokens.sort_unstable();
        let special = SPECIAL_SYMBOLS.map(str::to_owned).into_iter();
        let Self { longest, .. } = *self;
        let VocabularySpec { unit, normalisation, .. } = self.normaliser.spec().clone();
        let symbols = special.chain(characters).chain(tokens.into_iter().cloned()).collect();
        Vocabulary::from_spec(&VocabularySpec {
            unit,
            normalisation,
            longest,
            symbols,
            ..VocabularySpec::default()
        })
    }
}
