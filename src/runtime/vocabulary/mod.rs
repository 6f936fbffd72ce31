//! Text to ids and back.
//!
//! [`Tokeniser`] is what decoding and serving need of any scheme; [`Vocabulary`] is the scheme of the models
//! that are trained here, a list of characters or of words.
//!
//! | file | what it holds |
//! |---|---|
//! | `tokeniser` | the trait, what a text becomes, whole characters from bytes |
//! | `symbols` | [`Vocabulary`] |
//! | `bytes` | a byte an id |
//! | `spec`, `normalisation` | a vocabulary as it is written down; what texts go through first |
//! | `open` | from what is written down to what makes ids |

mod bytes;
mod normalisation;
mod open;
mod spec;
mod symbols;
mod tokeniser;

pub use normalisation::Normalisation;
pub(crate) use open::check_tokeniser;
pub use open::{NamedFiles, Side};
pub(crate) use spec::VocabularyMetadata;
pub use spec::{Padding, PaddingSide, TokeniserKind, TokeniserSpec, Unit, VocabularySpec};
pub use symbols::Vocabulary;
pub use tokeniser::{
    Characters, Encoded, Language, LanguageIds, REPLACEMENT, SymbolList, TextLimits, Tokeniser, UnknownPolicy,
};

#[cfg(test)]
pub(crate) mod tests;
