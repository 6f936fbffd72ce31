//! Source texts that a bundle carries, so that whoever opens it has something to try.

use s2s_runtime::manifest::LONGEST_EXAMPLE;
use serde::{Deserialize, Serialize};

/// Pairs that a run keeps to choose from.
const CANDIDATES: usize = 24;
/// Pairs that are looked at for each that is kept.
const LOOKED_AT: usize = 32;

/// A pair of the data that may become an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// As it stands in the file.
    pub source: String,
    /// As it stands in the file.
    pub target: String,
}

/// Short pairs from all over the data: at most 24, of one line each.
///
/// - `pairs`: source and target of each, of the validation part where there is one.
pub fn candidates<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<Candidate> {
    let every = (pairs.len() / (CANDIDATES * LOOKED_AT)).max(1);
    let mut kept: Vec<Candidate> = Vec::new();
    for (source, target) in
        pairs.step_by(every).filter(|(source, target)| is_showable(source) && is_showable(target))
    {
        if kept.iter().all(|other| other.source != source) {
            kept.push(Candidate { source: source.to_owned(), target: target.to_owned() });
        }
    }
    spread(kept, CANDIDATES)
}

/// Whether a text fits a button.
fn is_showable(text: &str) -> bool {
    text.len() <= LONGEST_EXAMPLE && !text.trim().is_empty() && !text.contains(char::is_control)
}

/// Takes `most` of the items, as far apart as they can be.
pub(super) fn spread<T>(items: Vec<T>, most: usize) -> Vec<T> {
    let (all, most) = (items.len(), most.min(items.len()));
    let mut wanted = (0..most).map(|i| i * all / most).peekable();
    items.into_iter().enumerate().filter_map(|(at, item)| wanted.next_if_eq(&at).map(|_| item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_short_distinct_and_from_all_over_the_data() {
        let long = "x".repeat(LONGEST_EXAMPLE + 1);
        let texts: Vec<String> = (0..100_000).map(|i| format!("text {i}")).collect();
        let odd = ["", " ", "two\nlines", "a tab\t", "\u{1b}[2J", &long, "same", "same"];
        let pairs: Vec<(&str, &str)> = odd
            .iter()
            .map(|&odd| (odd, "target"))
            .chain(texts.iter().map(|text| (text.as_str(), "target")))
            .collect();
        let found = candidates(pairs.iter().copied());
        assert_eq!(found.len(), CANDIDATES);
        assert!(
            found.iter().all(|pair| pair.source == "same" || pair.source.starts_with("text ")),
            "{found:?}"
        );
        let number = |pair: &Candidate| pair.source.trim_start_matches("text ").parse::<usize>().unwrap_or(0);
        assert!(
            found.windows(2).all(|two| number(&two[0]) < number(&two[1]))
                && number(&found[CANDIDATES - 1]) > 90_000,
            "{found:?}"
        );
        // Few are taken as they are.
        let few = candidates(pairs[..9].iter().copied());
        assert_eq!(few.iter().map(|pair| pair.source.as_str()).collect::<Vec<_>>(), ["same", "text 0"]);
        assert!(candidates(pairs[..3].iter().copied()).is_empty());
    }
}
