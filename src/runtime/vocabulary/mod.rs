//! Text to ids and back.
//!
//! [`Tokeniser`] is what decoding and serving need of any scheme; [`Vocabulary`] is the scheme of the models
//! that are trained here, a list of characters or of words.
//!
//! | file | what it holds |
//! |---|---|
//! | `tokeniser` | the trait, what a text becomes, whole characters from bytes |
//! | `symbols` | [`Vocabulary`] |
//! | `subwords` | what all other schemes share: frames, languages, outputs |
//! | `tokenizer_json` | that of the tokenizers library |
//! | `families`, `family_tokens` | SentencePiece as transformers' families use it |
//! | `sentencepiece`, `trie` | the models of that library; strings by their beginnings |
//! | `bytes` | a byte an id |
//! | `added`, `hub_config` | tokens that stand for themselves; `tokenizer_config.json` |
//! | `detokenise` | the texts of pieces, one id at a time |
//! | `spec`, `normalisation` | a vocabulary as it is written down; what texts go through first |
//! | `open` | from what is written down to what makes ids |
//! | `folder` | which of them a folder of transformers wants |

mod added;
mod bytes;
mod detokenise;
mod families;
mod family_tokens;
mod folder;
mod hub_config;
mod normalisation;
mod open;
mod sentencepiece;
mod spec;
mod subwords;
mod symbols;
mod tokeniser;
mod tokenizer_json;
mod trie;

pub use folder::{FOLDER_FILES, FolderTokenisers, of_folder};
pub use normalisation::Normalisation;
pub(crate) use open::check_tokeniser;
pub use open::{NamedFiles, Side};
pub(crate) use spec::VocabularyMetadata;
pub use spec::{Padding, PaddingSide, TokeniserKind, TokeniserSpec, Unit, VocabularySpec};
pub use symbols::Vocabulary;
pub use tokeniser::{
    Characters, Encoded, Language, LanguageIds, REPLACEMENT, SymbolList, TextLimits, Tokeniser,
    UnknownPolicy, Unwritten,
};

#[cfg(test)]
pub(crate) mod tests;
