//! chrF and BLEU of a corpus, equal to sacreBLEU's with its default settings.
//!
//! Both add up counts of n-grams over the sentences and make one score of the sums; a sentence may have
//! several references.

use std::collections::HashMap;
use std::hash::Hash;

use crate::config::training::Tokenisation;

/// Longest character n-grams of chrF.
const CHARACTERS: usize = 6;
/// Longest word n-grams of BLEU.
const WORDS: usize = 4;
/// chrF weighs recall so many times as much as precision.
const BETA: f64 = 2.0;

/// Counts of chrF2: characters without whitespace, n-grams up to six, recall counted twice (Popović 2015, doi
/// 10.18653/v1/W15-3049).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chrf {
    /// Of each order: n-grams of the predictions, of the references, of both.
    counts: [[usize; 3]; CHARACTERS],
}

/// Counts of BLEU (Papineni 2002, doi 10.3115/1073083.1073135).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    /// Words of the predictions.
    predicted: usize,
    /// Words of the references that are nearest in length.
    reference: usize,
    /// Of each order: n-grams of the predictions that a reference has, and all.
    counts: [[usize; 2]; WORDS],
}

/// Whitespace as Python's `str.split` knows it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn count<T: Hash + Eq>(tokens: &[T], order: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    tokens.windows(order).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    counts
}

impl Chrf {
    /// Adds a sentence; the reference that gives the best score counts.
    pub fn add<S: AsRef<str>>(&mut self, prediction: &str, references: &[S]) {
        let characters = |text: &str| -> Vec<char> { text.chars().filter(|&c| !is_space(c)).collect() };
        let predicted = characters(prediction);
        let predicted: Vec<HashMap<&[char], usize>> =
            (1..=CHARACTERS).map(|order| count(&predicted, order)).collect();
        let mut best: Option<(f64, Self)> = None;
        for reference in references {
            let reference = characters(reference.as_ref());
            let mut one = Self::default();
            for ((order, predicted), counts) in (1..).zip(&predicted).zip(&mut one.counts) {
                let reference = count(&reference, order);
                // Where the reference is too short for an n-gram, none was missed and none was wrong.
                let all = if reference.is_empty() { 0 } else { predicted.values().sum() };
                let both =
                    predicted.iter().map(|(ngram, n)| *n.min(reference.get(ngram).unwrap_or(&0))).sum();
                *counts = [all, reference.values().sum(), both];
            }
            let score = one.score();
            if best.is_none_or(|(best, _)| score > best) {
                best = Some((score, one));
            }
        }
        let Some((_, one)) = best else { return };
        for (sum, counts) in self.counts.iter_mut().zip(&one.counts) {
            sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
    }

    /// From 0 to 100: the F-score of precision and recall, each averaged over the orders that both sides
    /// have.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for &[predicted, reference, both] in self.counts.iter().filter(|c| c[0] > 0 && c[1] > 0) {
            precision += both as f64 / predicted as f64;
            recall += both as f64 / reference as f64;
            orders += 1.0;
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall, factor) = (precision / orders, recall / orders, BETA * BETA);
        100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
    }
}

impl Bleu {
    /// Adds a sentence.
    pub fn add<S: AsRef<str>>(&mut self, prediction: &str, references: &[S], tokenisation: Tokenisation) {
        let predicted = tokenisation.words(prediction);
        let references: Vec<Vec<String>> =
            references.iter().map(|r| tokenisation.words(r.as_ref())).collect();
        self.predicted += predicted.len();
        // Of two that are equally near, the shorter.
        self.reference +=
            references.iter().map(Vec::len).min_by_key(|&n| (n.abs_diff(predicted.len()), n)).unwrap_or(0);
        for (order, sum) in (1..).zip(&mut self.counts) {
            let counted: Vec<_> = references.iter().map(|r| count(r, order)).collect();
            for (ngram, n) in count(&predicted, order) {
                let most = counted.iter().filter_map(|r| r.get(ngram)).max().copied().unwrap_or(0);
                sum[0] += n.min(most);
                sum[1] += n;
            }
        }
    }

    /// From 0 to 100: the geometric mean of the precisions, less where the predictions are shorter than the
    /// references.
    ///
    /// An order of which nothing is right counts as half of one n-gram, the next such order as a quarter, and
    /// so on (Chen and Cherry 2014, doi 10.3115/v1/W14-3346, method 3). An order that no prediction is long
    /// enough for makes the score 0.
    pub fn score(&self) -> f64 {
        if self.counts.iter().all(|c| c[0] == 0) || self.counts.iter().any(|c| c[1] == 0) {
            return 0.0;
        }
        let mut missing = 1.0;
        let logarithms: f64 = self
            .counts
            .iter()
            .map(|&[right, all]| {
                if right == 0 {
                    missing *= 2.0;
                    (100.0 / (missing * all as f64)).ln()
                } else {
                    (100.0 * right as f64 / all as f64).ln()
                }
            })
            .sum();
        let brevity = if self.predicted < self.reference {
            (1.0 - self.reference as f64 / self.predicted as f64).exp()
        } else {
            1.0
        };
        brevity * (logarithms / WORDS as f64).exp()
    }
}

impl Tokenisation {
    /// The words of a text.
    pub fn words(self, text: &str) -> Vec<String> {
        let split = |text: &str| text.split(is_space).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        match self {
            Self::Whitespace => split(text),
            Self::Characters => text.chars().filter(|&c| !is_space(c)).map(String::from).collect(),
            Self::Western => {
                let text = text
                    .trim_end_matches(is_space)
                    .replace("<skipped>", "")
                    .replace("-\n", "")
                    .replace('\n', " ");
                let text = text
                    .replace("&quot;", "\"")
                    .replace("&amp;", "&")
                    .replace("&lt;", "<")
                    .replace("&gt;", ">");
                split(&punctuated(&format!(" {text} ")))
            }
            Self::Chinese => {
                let mut spaced = String::new();
                for c in text.trim_matches(is_space).chars() {
                    if is_chinese(c) { spaced.extend([' ', c, ' ']) } else { spaced.push(c) }
                }
                split(&punctuated(&spaced))
            }
        }
    }
}

/// Spaces around punctuation: full stops and commas within numbers and hyphens after letters stay where they
/// are.
///
/// Each of the last three rules goes through the text once and never looks at a character twice, as a regular
/// expression does: this decides which of several stops in a row get spaces.
fn punctuated(text: &str) -> String {
    let stop = |c: char| matches!(c, '.' | ',');
    let mut spaced = String::new();
    for c in text.chars() {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    let after = pairs(&spaced, |a, b| !a.is_ascii_digit() && stop(b), |a, b| [a, ' ', b, ' ']);
    let before = pairs(&after, |a, b| stop(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    pairs(&before, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' '])
}

/// Replaces pairs of neighbours from left to right; what was replaced is not looked at again.
fn pairs(
    text: &str,
    matches: impl Fn(char, char) -> bool,
    replaced: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut characters = text.chars().peekable();
    while let Some(a) = characters.next() {
        match characters.next_if(|&b| matches(a, b)) {
            Some(b) => out.extend(replaced(a, b)),
            None => out.push(a),
        }
    }
    out
}

/// What sacreBLEU takes for a Chinese character: ideographs, radicals, full-width forms and, as its
/// comparisons of strings work out for the two ranges beyond the basic plane, general punctuation, arrows and
/// mathematical operators.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{2001}'..='\u{2a6d}' | '\u{2e80}'..='\u{2fdf}' | '\u{2ff0}'..='\u{2fff}' | '\u{3000}'..='\u{303f}' | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}' | '\u{31c0}'..='\u{31ef}' | '\u{3200}'..='\u{33ff}' | '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}' | '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ffef}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;
    use crate::config::training::TOKENISATIONS;

    fn text(value: &Value) -> &str {
        value.as_str().unwrap()
    }

    #[test]
    fn corpus_scores_are_those_of_sacrebleu() {
        let goldens: Value = serde_json::from_str(include_str!("../../tests/goldens/scores.json")).unwrap();
        for case in goldens["cases"].as_array().unwrap() {
            let mut chrf = Chrf::default();
            let mut bleus = TOKENISATIONS.map(|(name, tokenisation)| (name, tokenisation, Bleu::default()));
            for sentence in case["sentences"].as_array().unwrap() {
                let references: Vec<&str> =
                    sentence["references"].as_array().unwrap().iter().map(text).collect();
                let prediction = text(&sentence["prediction"]);
                chrf.add(prediction, &references);
                bleus
                    .iter_mut()
                    .for_each(|(_, tokenisation, bleu)| bleu.add(prediction, &references, *tokenisation));
            }
            let near = |found: f64, golden: &Value| (found - golden.as_f64().unwrap()).abs() < 1e-9;
            assert!(
                near(chrf.score(), &case["chrf"]),
                "{}: chrF {} {}",
                case["name"],
                chrf.score(),
                case["chrf"]
            );
            for (name, _, bleu) in bleus {
                assert!(
                    near(bleu.score(), &case["bleu"][name]),
                    "{}: BLEU {name} {} {}",
                    case["name"],
                    bleu.score(),
                    case["bleu"][name]
                );
            }
        }
    }

    #[test]
    fn words_are_those_of_sacrebleu() {
        let goldens: Value = serde_json::from_str(include_str!("../../tests/goldens/scores.json")).unwrap();
        for case in goldens["words"].as_array().unwrap() {
            for (name, tokenisation) in TOKENISATIONS {
                let expected: Vec<&str> = case[name].as_array().unwrap().iter().map(text).collect();
                assert_eq!(tokenisation.words(text(&case["text"])), expected, "{name} {:?}", case["text"]);
            }
        }
    }
}
