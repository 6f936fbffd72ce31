//! Text in, text out.
//!
//! [`TextCoder`] turns text into ids and hypotheses into text; [`TextLoop`] is a coder with an engine, in
//! which texts of any callers are decoded side by side. The others are its users: [`Translator`] translates
//! lists of texts, [`TranslationStream`] gives one piece by piece, [`TranslatorPool`] is several translators
//! on threads of their own.
//!
//! | file | what it holds |
//! |---|---|
//! | `coder`, `copying` | text to ids and back; unknown symbols in the output |
//! | `certain` | which part of a text that grows will not change |
//! | `text_loop` | texts that are decoded side by side |
//! | `bulk`, `stream` | many texts at once; one piece by piece |
//! | `single`, `pool` | one engine; several |

mod bulk;
mod certain;
mod coder;
mod copying;
mod pool;
mod single;
mod source_text;
mod stream;
mod text_loop;

pub use coder::{Alternative, TextCoder, Translation};
pub use pool::{TranslatorPool, default_workers};
pub use single::Translator;
pub use source_text::SourceText;
pub use stream::{Piece, TranslationStream};
pub use text_loop::{TextEvent, TextLoop, Token};

#[cfg(test)]
mod tests;
