//! Text to ids and back.
//!
//! [`Tokeniser`] is what decoding and serving need of any scheme; [`Vocabulary`] is the scheme of the models
//! that are trained here, a list of characters or of words.
//!
//! | file | what it holds |
//! |---|---|
//! | `tokeniser` | the trait, what a text becomes, whole characters from bytes |
//! | `symbols` | [`Vocabulary`] |
//! | `spec`, `normalisation` | a vocabulary as it is written down; what texts go through first |

mod normalisation;
mod spec;
mod symbols;
mod tokeniser;

pub use normalisation::Normalisation;
pub(crate) use spec::VocabularyMetadata;
pub use spec::{Padding, PaddingSide, Unit, VocabularySpec};
pub use symbols::Vocabulary;
pub use tokeniser::{Characters, Encoded, REPLACEMENT, SymbolList, TextLimits, Tokeniser, UnknownPolicy};

#[cfg(test)]
pub(crate) mod tests;
