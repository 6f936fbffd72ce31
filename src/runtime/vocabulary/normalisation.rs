//! What texts go through before they are split.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

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

    /// `text` after every one of `steps`; `None` if it has more than `most` characters before, between or
    /// after them.
    pub(super) fn apply_all<'a>(steps: &[Self], text: &'a str, most: usize) -> Option<Cow<'a, str>> {
        let fits = |text: &str| text.len() <= most || text.chars().nth(most).is_none();
        let mut normalised = fits(text).then_some(Cow::Borrowed(text))?;
        for step in steps {
            normalised = match normalised {
                Cow::Borrowed(text) => step.apply(text, most),
                Cow::Owned(text) => step.apply(&text, most).map(|after| Cow::Owned(after.into_owned())),
            }
            .filter(|text| fits(text))?;
        }
        Some(normalised)
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
