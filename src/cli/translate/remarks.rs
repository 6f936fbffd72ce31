//! What is likely about texts that a model hardly knows: said once for each kind, not for each line.

use std::collections::BTreeSet;
use std::fmt;

use s2s_runtime::printable;
use s2s_runtime::vocabulary::{Normalisation, Tokeniser, UnknownPolicy};
use unicode_normalization::UnicodeNormalization;

/// Characters of a text that are looked at.
const LOOKED_AT: usize = 2000;
/// Unknown symbols that are named, and characters of each.
const NAMED: usize = 5;
const LONGEST_NAMED: usize = 20;

/// Why symbols of a text are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The text has capitals where the model knows small letters.
    TooLarge,
    /// The other way round.
    TooSmall,
    /// The text is composed (NFC), the model's is not.
    Composed,
    /// The text is decomposed (NFD), the model's is not.
    Decomposed,
    /// Compatibility forms, such as full-width letters and ligatures.
    Compatibility,
    /// At least half of the symbols are unknown, and nobody knows why.
    Foreign,
}

/// A text, written otherwise.
type Change = fn(&str) -> String;

/// What would make a text known.
const CHANGES: [(Kind, Change); 5] = [
    (Kind::Decomposed, |text| text.nfc().collect()),
    (Kind::Composed, |text| text.nfd().collect()),
    (Kind::TooLarge, |text| text.to_lowercase()),
    (Kind::TooSmall, |text| text.to_uppercase()),
    (Kind::Compatibility, |text| text.nfkc().collect()),
];

/// Remembers which kinds have been said.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    said: BTreeSet<Kind>,
}

/// A remark about a line.
#[derive(Debug)]
pub(super) struct Remark {
    kind: Kind,
    unknown: Vec<String>,
    symbols: usize,
    count: usize,
    has_no_letters: bool,
    normalisation: Vec<Normalisation>,
    policy: UnknownPolicy,
}

impl Remarks {
    /// A remark on a text, if it has one of a kind that was not made before.
    ///
    /// - `unknown`: the symbols of the text that the vocabulary does not have.
    pub(super) fn on(
        &mut self,
        text: &str,
        unknown: &[String],
        vocabulary: &dyn Tokeniser,
        policy: UnknownPolicy,
    ) -> Option<Remark> {
        // What pieces a scheme of subwords lacks says nothing of its characters.
        if unknown.is_empty() || vocabulary.spec().tokeniser.is_some() {
            return None;
        }
        let text: String = text.chars().take(LOOKED_AT).collect();
        let missing = |text: &str| {
            let normalised = vocabulary.normalised(text);
            let symbols = vocabulary.split(&normalised);
            (symbols.iter().filter(|symbol| vocabulary.find(symbol).is_none()).count(), symbols.len())
        };
        let (count, symbols) = missing(&text);
        let better = CHANGES
            .iter()
            .map(|(kind, change)| (missing(&change(&text)).0, *kind))
            .filter(|(left, _)| *left < count);
        // Of changes that help alike, the first: the least that has to be done.
        let kind = match better.min_by_key(|(left, _)| *left) {
            Some((_, kind)) => kind,
            None if 2 * count >= symbols && count > 0 => Kind::Foreign,
            None => return None,
        };
        let is_there = |test: fn(char) -> bool| {
            vocabulary.spec().symbols.iter().skip(4).any(|symbol| symbol.chars().any(test))
        };
        self.said.insert(kind).then(|| Remark {
            kind,
            unknown: unknown.to_vec(),
            symbols,
            count,
            has_no_letters: match kind {
                Kind::TooLarge => !is_there(char::is_uppercase),
                Kind::TooSmall => !is_there(char::is_lowercase),
                _ => false,
            },
            normalisation: vocabulary.spec().normalisation.clone(),
            policy,
        })
    }
}

impl Remark {
    /// What would be right.
    pub(super) fn help(&self) -> String {
        let with = |step: &str| {
            let steps = self
                .normalisation
                .iter()
                .filter_map(|step| serde_json::to_value(step).ok()?.as_str().map(str::to_owned));
            format!("`normalisation: [{}]`", steps.chain([step.to_owned()]).collect::<Vec<_>>().join(", "))
        };
        match self.kind {
            Kind::TooLarge => format!(
                "write small letters, or train with {} on this \
                side",
                with("lowercase")
            ),
            Kind::TooSmall => "write capital letters, as the training data has them".to_owned(),
            Kind::Composed => format!(
                "give texts in NFD (uconv -x any-nfd), or train with {} on this \
                side",
                with("nfc")
            ),
            Kind::Decomposed => format!(
                "give texts in NFC (uconv -x any-nfc), or train with {} on this \
                side",
                with("nfc")
            ),
            Kind::Compatibility => format!(
                "train with {} on this side, or write the plain \
                forms",
                with("nfkc")
            ),
            Kind::Foreign if self.policy == UnknownPolicy::Unk => {
                "is this the model's source language? `--unknown error` refuses such lines, `--unknown copy` \
                 copies the symbols"
                    .to_owned()
            }
            Kind::Foreign => "is this the model's source language?".to_owned(),
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self
            .unknown
            .iter()
            .take(NAMED)
            .map(|symbol| {
                format!("`{}`", printable::line(&symbol.chars().take(LONGEST_NAMED).collect::<String>()))
            })
            .collect();
        let more = if self.unknown.len() > NAMED { " and others" } else { "" };
        let named = format!("{}{more}", named.join(", "));
        match self.kind {
            Kind::TooLarge if self.has_no_letters => {
                write!(f, "the model knows no upper case letters: {named}")
            }
            Kind::TooSmall if self.has_no_letters => {
                write!(f, "the model knows no lower case letters: {named}")
            }
            Kind::TooLarge => write!(f, "the model knows {named} in lower case only"),
            Kind::TooSmall => write!(f, "the model knows {named} in upper case only"),
            Kind::Composed => write!(
                f,
                "the model's text is NFD (letter and accent apart), this is NFC, and it does not know {named}"
            ),
            Kind::Decomposed => write!(
                f,
                "the model's text is NFC (letter and accent in one), this is NFD, and it does not know \
                 {named}"
            ),
            Kind::Compatibility => write!(f, "the model knows other forms of {named}"),
            Kind::Foreign if self.count == self.symbols => {
                write!(f, "the model knows no symbol of it: {named}")
            }
            Kind::Foreign => {
                write!(
                    f,
                    "the model knows few symbols of it ({} of {}), not {named}",
                    self.symbols - self.count,
                    self.symbols
                )
            }
        }?;
        f.write_str("; what it says of them is a guess")
    }
}

#[cfg(test)]
mod tests {
    use s2s_runtime::vocabulary::{TextLimits, Unit, Vocabulary};

    use super::*;

    fn said(training: &str, unit: Unit, texts: &[&str]) -> Vec<String> {
        let vocabulary = Vocabulary::build(unit, [], [training]);
        let mut remarks = Remarks::default();
        let policy = UnknownPolicy::Unk;
        let of = |text: &&str| {
            let unknown = vocabulary.tokenise(text, policy, TextLimits::NONE).ok()?.unknown;
            remarks
                .on(text, &unknown, &vocabulary, policy)
                .map(|remark| format!("{remark}. {}", remark.help()))
        };
        texts.iter().filter_map(of).collect()
    }

    #[test]
    fn each_kind_of_unknown_symbols_is_told_once_with_what_is_likely() {
        let (nfc, nfd) = ("caf\u{e9}", "cafe\u{301}");
        for (training, text, expected) in [
            ("hello", "HELLO", "knows no upper case letters: `H`"),
            ("HELLO", "hello", "knows no lower case letters: `h`"),
            ("hello W", "HELLO", "knows `H`, `E`, `L`, `O` in lower case only"),
            (nfd, nfc, "the model's text is NFD"),
            (nfc, nfd, "the model's text is NFC"),
            ("abc", "\u{ff41}bc", "other forms"),
            ("abc", "\u{65e5}\u{672c}", "knows no symbol of it: `\u{65e5}`, `\u{672c}`"),
            ("abc", "a\u{65e5}\u{672c}", "few symbols of it (1 of 3)"),
        ] {
            let once = said(training, Unit::Character, &[text, text]);
            assert!(once.len() == 1 && once[0].contains(expected), "{training} {text}: {once:?}");
        }
        let both = said("hello", Unit::Character, &["HELLO", "\u{65e5}", "hello", "HELL", "\u{672c}"]);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(
            said("hello world", Unit::Token, &["Hello world"])[0].contains("`normalisation: [lowercase]`")
        );
    }

    #[test]
    fn a_known_text_and_one_with_an_odd_symbol_among_known_ones_need_no_remark() {
        assert!(said("abc", Unit::Character, &["abc", "ab\u{65e5}c", ""]).is_empty());
    }
}
