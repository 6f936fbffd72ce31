//! Vocabularies: as they are written down, and what they make of texts.

use s2s_runtime::contract::{SPECIAL_SYMBOLS, UNK};
use s2s_runtime::vocabulary::{
    Normalisation, TextLimits, Tokeniser as _, Unit, UnknownPolicy, Vocabulary, VocabularySpec,
};

use super::input::Input;
use super::properties::looked_at;

const STEPS: [Normalisation; 7] = [
    Normalisation::Nfc,
    Normalisation::Nfd,
    Normalisation::Nfkc,
    Normalisation::Nfkd,
    Normalisation::Lowercase,
    Normalisation::Trim,
    Normalisation::CollapseWhitespace,
];
/// Symbols that one character becomes at most under one step; U+FDFA is 18 under NFKC.
const GROWTH: usize = 18;

/// Training texts, one a line, then the text: encoded under every policy, and back.
pub(crate) fn vocabulary(data: &[u8]) {
    let mut input = Input::new(data);
    let unit = if input.flag() { Unit::Token } else { Unit::Character };
    let steps: Vec<Normalisation> = (0..input.below(4)).map(|_| *input.pick(&STEPS)).collect();
    let text = input.text(0);
    // Doubled until it is long: time must not grow with its square.
    let repeated = text.repeat(1 << input.below(10));
    let text = if repeated.len() <= 1 << 15 { repeated } else { text };
    let lines: Vec<String> = (0..input.below(8)).map(|_| input.text(b'\n')).collect();
    let vocabulary = Vocabulary::build(unit, steps.clone(), &lines);
    let again = looked_at(Vocabulary::from_spec(vocabulary.spec())).expect("what was built is right");
    assert_eq!(again, vocabulary);
    for line in &lines {
        // A token that is spelled like a special symbol is none, and has no id of its own.
        if vocabulary.split(&vocabulary.normalise(line)).iter().any(|symbol| SPECIAL_SYMBOLS.contains(symbol))
        {
            continue;
        }
        assert!(!vocabulary.encode(line).contains(&UNK), "a training text has unknown symbols: {line:?}");
    }
    encoded(&vocabulary, &text);
    for steps in [
        vec![],
        vec![Normalisation::Nfc],
        vec![Normalisation::Nfd],
        vec![Normalisation::Nfkc],
        vec![Normalisation::Nfkd],
    ] {
        let once = Vocabulary::build(unit, steps, [""; 0]);
        let normalised = once.normalise(&text);
        assert_eq!(once.normalise(&normalised), normalised, "normalised twice is normalised once");
    }
}

fn encoded(vocabulary: &Vocabulary, text: &str) {
    let normalised = vocabulary.normalise(text);
    assert!(normalised.chars().count() <= text.chars().count().saturating_mul(GROWTH * GROWTH));
    let symbols = vocabulary.split(&normalised);
    let ids = vocabulary.encode(text);
    let unknown = looked_at(vocabulary.tokenise(text, UnknownPolicy::Unk, TextLimits::NONE))
        .expect("unknown symbols are no error under `unk`");
    assert_eq!((unknown.ids.len(), unknown.symbols.len()), (symbols.len(), symbols.len()));
    // A limit holds at exactly its number.
    for most in [symbols.len(), symbols.len().saturating_sub(1)] {
        let limits = TextLimits { symbols: most, ..TextLimits::NONE };
        let within = looked_at(vocabulary.tokenise(text, UnknownPolicy::Unk, limits)).is_some();
        assert_eq!(within, symbols.len() <= most, "{} symbols under a limit of {most}", symbols.len());
    }
    let mut filled = unknown.ids.clone();
    vocabulary.fill(&mut filled);
    assert_eq!(filled, ids, "both ways of encoding agree");
    let skipped = looked_at(vocabulary.tokenise(text, UnknownPolicy::Skip, TextLimits::NONE))
        .expect("unknown symbols are no error under `skip`");
    assert!(skipped.ids.iter().all(|&id| id > UNK) && skipped.ids.len() <= ids.len());
    let strict = looked_at(vocabulary.tokenise(text, UnknownPolicy::Error, TextLimits::NONE));
    assert_eq!(strict.is_some(), unknown.unknown.is_empty(), "`error` fails where something is unknown");
    looked_at(vocabulary.tokenise(text, UnknownPolicy::Copy, TextLimits::NONE));
    if vocabulary.spec().padding.is_none() && strict.is_some() {
        let joined = symbols.join(if vocabulary.spec().unit == Unit::Token { " " } else { "" });
        assert_eq!(vocabulary.decode(ids), joined, "known symbols come back");
    }
}

/// A specification in JSON up to a NUL, then a text.
pub(crate) fn vocabulary_spec(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(spec) = serde_json::from_slice::<VocabularySpec>(input.until(0)) else { return };
    let Some(vocabulary) = looked_at(Vocabulary::from_spec(&spec)) else { return };
    assert_eq!(vocabulary.spec(), &spec);
    let json = serde_json::to_string(&spec).expect("a specification is JSON");
    assert_eq!(serde_json::from_str::<VocabularySpec>(&json).ok(), Some(spec));
    assert!(serde_json::from_str::<serde_json::Value>(&vocabulary.metadata_json()).is_ok());
    encoded(&vocabulary, &String::from_utf8_lossy(input.rest()));
    for id in 0..vocabulary.len() as u32 {
        let symbol = vocabulary.symbol(id).expect("ids go up to the size");
        assert_eq!(vocabulary.id(symbol), Some(id));
    }
}
