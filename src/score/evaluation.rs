//! The score that counts: texts decoded through the exported graphs with the shipped loop, held against
//! references.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::translator::{Translator, TranslatorPool};
use s2s_runtime::vocabulary::Tokeniser;

use super::ngrams::{Bleu, Chrf};
use crate::config::training::Tokenisation;
use crate::data::groups::Group;
use crate::error::{ErrorKind, Result};
use crate::export::{self, ExportInput, ExportOptions};

/// What a score counts besides exact matches and token errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// Whether chrF2 is counted.
    pub chrf: bool,
    /// BLEU of words that are cut so.
    pub bleu: Option<Tokenisation>,
}

/// Exact match, token error rate, chrF and BLEU of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// What is counted.
    pub measures: Measures,
    /// How many sources were decoded.
    pub sources: usize,
    /// Sources whose decoded text equals one of the references.
    pub exact: usize,
    /// Token edits to the closest reference, summed.
    pub edits: usize,
    /// Tokens of the closest references, summed.
    pub reference_tokens: usize,
    /// Counts of chrF2.
    pub chrf: Chrf,
    /// Counts of BLEU.
    pub bleu: Bleu,
}

/// A decoded text beside what would be right.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Decoded {
    /// What was read.
    pub source: String,
    /// What was written.
    pub prediction: String,
    /// What would be right, any of them.
    pub references: Vec<String>,
    /// Whether it is right, as [`Score`] compares.
    pub right: bool,
}

impl Score {
    /// Nothing counted yet.
    pub fn new(measures: Measures) -> Self {
        Self { measures, ..Self::default() }
    }

    /// Fraction of the sources whose decoded text equals one of the references.
    pub fn exact_match(&self) -> f64 {
        self.exact as f64 / self.sources.max(1) as f64
    }

    /// Token edits over reference tokens.
    pub fn token_error_rate(&self) -> f64 {
        self.edits as f64 / self.reference_tokens.max(1) as f64
    }

    /// Adds one source; texts are compared as the target vocabulary normalises and splits them.
    pub fn add(&mut self, prediction: &str, references: &[String], target: &dyn Tokeniser) {
        let prediction = target.normalised(prediction);
        let predicted = target.split(&prediction);
        let normalised: Vec<String> = references.iter().map(|r| target.normalised(r).into_owned()).collect();
        if self.measures.chrf {
            self.chrf.add(&prediction, &normalised);
        }
        if let Some(tokenisation) = self.measures.bleu {
            self.bleu.add(&prediction, &normalised, tokenisation);
        }
        let closest = normalised
            .iter()
            .map(|r| target.split(r))
            .map(|reference| (edit_distance(&predicted, &reference), reference.len()))
            .min_by_key(|&(edits, _)| edits)
            .unwrap_or_default();
        self.sources += 1;
        self.exact += usize::from(closest.0 == 0);
        self.edits += closest.0;
        self.reference_tokens += closest.1;
    }
}

/// Insertions, deletions and substitutions between two token sequences (Levenshtein).
fn edit_distance(a: &[&str], b: &[&str]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Exports in memory and decodes the source of every group.
pub fn decode(
    input: &ExportInput<'_>,
    groups: &[&Group],
    decoding: &DecodingOptions,
) -> Result<Vec<Decoded>> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let files =
        export::bundle_files(input, &ExportOptions { graphs_only: true, ..ExportOptions::default() })?;
    let bundle = Bundle::from_files("in memory", files)?;
    let engine = engine::open(&bundle, EngineKind::Auto)?;
    let mut pool = TranslatorPool::new(Translator::new(bundle, engine), 1)?;
    Ok(evaluate(&mut pool, groups, decoding, Measures::default())?.decoded)
}

/// What a bundle makes of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The score of all sources.
    pub score: Score,
    /// Each source, in order.
    pub decoded: Vec<Decoded>,
    /// Sources that could not be translated: wrong answers, their prediction empty.
    pub refused: usize,
}

/// Decodes the source of every group and holds it against the references.
///
/// # Errors
/// Of the options and the engine. A text that the options refuse (too long, an unknown symbol) is a wrong
/// answer instead.
pub fn evaluate<G: std::borrow::Borrow<Group>>(
    pool: &mut TranslatorPool,
    groups: &[G],
    decoding: &DecodingOptions,
    measures: Measures,
) -> Result<Evaluation> {
    let texts: Vec<&str> = groups.iter().map(|group| group.borrow().source.as_str()).collect();
    let translations = pool.translate_each(&texts, decoding)?;
    let target = pool.coder().target();
    let mut evaluation = Evaluation { score: Score::new(measures), ..Evaluation::default() };
    for (group, translation) in groups.iter().map(std::borrow::Borrow::borrow).zip(translations) {
        let prediction = match translation {
            Ok(translation) => translation.best.text,
            Err(e) if e.kind() == ErrorKind::Input => {
                evaluation.refused += 1;
                String::new()
            }
            Err(e) => return Err(e),
        };
        let exact = evaluation.score.exact;
        evaluation.score.add(&prediction, &group.references, target);
        let right = evaluation.score.exact > exact;
        let (source, references) = (group.source.clone(), group.references.clone());
        evaluation.decoded.push(Decoded { source, prediction, references, right });
    }
    Ok(evaluation)
}

#[cfg(test)]
mod tests {
    use s2s_runtime::vocabulary::{Normalisation, Unit, Vocabulary};

    use super::*;

    #[test]
    fn edits_are_counted_as_levenshtein_counts_them() {
        let split = |s: &'static str| s.split("").filter(|c| !c.is_empty()).collect::<Vec<_>>();
        for (a, b, edits) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(edit_distance(&split(a), &split(b)), edits, "{a} {b}");
        }
    }

    #[test]
    fn texts_are_compared_as_the_target_vocabulary_normalises_them() {
        let target = Vocabulary::build(Unit::Character, vec![Normalisation::Lowercase], ["abcdefgh"]);
        let mut score = Score::new(Measures { chrf: true, bleu: Some(Tokenisation::Characters) });
        score.add("ABCDEF gh", &["x".to_owned(), "abcdef GH".to_owned()], &target);
        assert!(
            (score.chrf.score() - 100.0).abs() < 1e-9 && (score.bleu.score() - 100.0).abs() < 1e-9,
            "{score:?}"
        );
    }

    #[test]
    fn any_reference_counts_and_errors_are_taken_against_the_closest() {
        let target = Vocabulary::build(Unit::Token, vec![Normalisation::Lowercase], ["a b c d"]);
        let mut score = Score::default();
        score.add("a b", &["c d".to_owned(), "A  B".to_owned()], &target);
        score.add("a b c", &["a b".to_owned(), "d d d d".to_owned()], &target);
        assert_eq!(score, Score { sources: 2, exact: 1, edits: 1, reference_tokens: 4, ..Score::default() });
        assert_eq!(score.exact_match(), 0.5);
        assert_eq!(score.token_error_rate(), 0.25);
    }
}
