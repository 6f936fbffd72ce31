//! How long the texts may be that are trained on.

use std::path::Path;

use s2s_runtime::vocabulary::{Unit, Vocabulary};

use super::counting::normaliser;
use crate::config::checked::Side;
use crate::error::{Error, ErrorKind, Result};

/// Longest text that is trained on, in tokens after normalisation: the memory of a step grows with the tokens
/// of its pairs.
pub const LONGEST_TEXT: usize = 16_384;
/// Most source tokens times target tokens of a pair: the memory of attention grows with them, 8 bytes each.
pub const LARGEST_PAIR: usize = (LONGEST_TEXT / 2) * (LONGEST_TEXT / 2);

/// Counts the tokens of one side's texts.
pub(super) struct Length<'a> {
    side: &'a Side,
    /// Made when a text is long enough to be counted.
    normaliser: Option<Vocabulary>,
}

impl<'a> Length<'a> {
    pub(super) fn new(side: &'a Side) -> Self {
        Self { side, normaliser: None }
    }

    /// Whether a text is far from every bound, whatever its tokens are.
    fn is_short(&self, text: &str) -> bool {
        // Compatibility decomposition makes at most 18 characters of one (U+FDFA), lowercasing three.
        let growth = if self.side.normalisation.is_empty() { 1 } else { 18 * 3 };
        text.len() <= LONGEST_TEXT / 2 / growth
    }

    fn count(&mut self, text: &str) -> usize {
        let normalised = self.normaliser.get_or_insert_with(|| normaliser(self.side)).normalised(text);
        match self.side.unit {
            Unit::Character => normalised.chars().count(),
            Unit::Token => normalised.split_whitespace().count(),
        }
    }
}

/// Whether a pair can be trained on.
///
/// # Errors
/// [`ErrorKind::Data`] with file and line for a text beyond [`LONGEST_TEXT`], a pair beyond [`LARGEST_PAIR`].
pub(super) fn check_length(
    texts: [&str; 2],
    lengths: &mut [Length<'_>; 2],
    file: &Path,
    line: u64,
) -> Result<()> {
    let [source, target] = lengths;
    if source.is_short(texts[0]) && target.is_short(texts[1]) {
        return Ok(());
    }
    let (sources, targets) = (source.count(texts[0]), target.count(texts[1]));
    let message = match () {
        () if sources > LONGEST_TEXT => {
            format!("the source has {sources} tokens; at most {LONGEST_TEXT} can be trained on")
        }
        () if targets > LONGEST_TEXT => {
            format!("the target has {targets} tokens; at most {LONGEST_TEXT} can be trained on")
        }
        () if sources * targets > LARGEST_PAIR => {
            format!(
                "{sources} source and {targets} target tokens; their product can be at most {LARGEST_PAIR}"
            )
        }
        () => return Ok(()),
    };
    let error = Error::new(ErrorKind::Data, message).at_line(file, Some(line), None);
    Err(error.help(
        "cut the text into sentences, or take the line out: the memory of a step grows with its \
        longest texts",
    ))
}
