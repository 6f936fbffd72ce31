//! Models of SentencePiece (`.spm`, `.model`): the file, its normaliser, and the two ways in which pieces are
//! chosen.
//!
//! Every step gives what the library of that name gives, to the last bit of a score: pieces are compared as
//! f32 sums.
//!
//! | file | what it holds |
//! |---|---|
//! | `proto` | the messages of the file |
//! | `model` | a model, checked, and texts as its pieces |
//! | `normaliser`, `charsmap` | what texts go through first |
//! | `unigram`, `bpe` | the best pieces of a text |

mod bpe;
mod charsmap;
mod model;
mod normaliser;
mod proto;
mod unigram;

pub(super) use model::{Model, PieceType, byte_of};
pub(super) use normaliser::SPACE;

#[cfg(test)]
mod tests;
