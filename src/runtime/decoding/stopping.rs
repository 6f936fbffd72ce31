//! When decoding ends besides END: stop strings, and the rule that ends a beam search.

use super::options::EarlyStopping;
use super::score::length_divisor;
use super::settings::{Settings, TargetSymbols};

/// The stop strings of a request, and the text of every symbol to find them in.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    longest: usize,
    pieces: Vec<String>,
    separator: String,
}

impl StopStrings {
    /// `strings` are looked for in the text of `symbols`.
    pub fn new(strings: &[String], symbols: &dyn TargetSymbols) -> Self {
        Self {
            strings: strings.to_vec(),
            longest: strings.iter().map(String::len).max().unwrap_or(0),
            pieces: (0..symbols.size())
                .map(|id| symbols.piece(u32::try_from(id).unwrap_or(u32::MAX)).to_owned())
                .collect(),
            separator: symbols.separator().to_owned(),
        }
    }

    /// The strings.
    pub fn strings(&self) -> &[String] {
        &self.strings
    }

    /// Whether the last of `ids` (generated tokens, at least one) completes a stop string.
    pub fn completed_by_last(&self, ids: &[u32]) -> bool {
        let piece = |id: &u32| self.pieces.get(*id as usize).map_or("", String::as_str);
        let Some((last, before)) = ids.split_last() else { return false };
        let last = piece(last);
        // Enough of the tail that a match which ends within the last piece begins within it.
        let mut tail: Vec<&str> = vec![last];
        let mut bytes = 0;
        for id in before.iter().rev() {
            if bytes >= self.longest {
                break;
            }
            tail.push(&self.separator);
            tail.push(piece(id));
            bytes += piece(id).len() + self.separator.len();
        }
        tail.reverse();
        let text = tail.concat();
        // The separator came with the last piece.
        let separator = if before.is_empty() { 0 } else { self.separator.len() };
        let fresh = text.len() - last.len() - separator.min(text.len() - last.len());
        self.strings.iter().any(|s| text.match_indices(s.as_str()).any(|(at, _)| at + s.len() > fresh))
    }

    /// Where the first stop string in `text` begins.
    pub fn first_in(&self, text: &str) -> Option<usize> {
        self.strings.iter().filter_map(|s| text.find(s.as_str())).min()
    }

    /// How many bytes at the end of `text` may be the beginning of a stop string, so that a stream holds them
    /// back.
    pub fn held_back(&self, text: &str) -> usize {
        let held = |s: &String| {
            (1..s.len())
                .rev()
                .filter(|&n| s.is_char_boundary(n))
                .find(|&n| text.ends_with(&s[..n]))
                .unwrap_or(0)
        };
        self.strings.iter().map(held).max().unwrap_or(0)
    }
}

/// Whether a beam search is over, as transformers does it.
///
/// - `finished`: scores of the finished hypotheses, the best `enough` kept.
/// - `best_running`: the highest sum of log p among running beams; none is over.
/// - `generated`: tokens of a running beam.
pub(super) fn beams_done(
    settings: &Settings,
    finished: &[f32],
    best_running: Option<f32>,
    generated: usize,
) -> bool {
    let Some(best) = best_running else { return true };
    if finished.len() < settings.enough {
        return false;
    }
    let worst = finished.iter().copied().fold(f32::INFINITY, f32::min);
    let attainable =
        |n: usize| best / length_divisor(settings.length_penalty_type, settings.length_penalty, n);
    match settings.early_stopping {
        EarlyStopping::True => true,
        // A sum of log p is negative, so the largest divisor gives the highest score; a longer hypothesis has
        // a larger one if a > 0.
        EarlyStopping::Never if settings.length_penalty > 0.0 => worst >= attainable(settings.max_new_tokens),
        EarlyStopping::False | EarlyStopping::Never => worst >= attainable(generated),
    }
}
