//! From what a manifest says of a side to what makes its ids.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prost::bytes::Bytes;

use super::hub_config::HubConfig;
use super::spec::{TokeniserKind, VocabularySpec};
use super::symbols::Vocabulary;
use super::tokeniser::Tokeniser;
use super::{bytes, families, tokenizer_json};
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};

/// The files that tokenisers are read from, by their names.
#[derive(Clone, Copy, Debug)]
pub struct NamedFiles<'f> {
    /// Where they lie, for errors.
    pub folder: &'f Path,
    /// Their bytes.
    pub files: &'f BTreeMap<String, Bytes>,
}

impl<'f> NamedFiles<'f> {
    /// The bytes of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if there is no such file.
    pub fn get(&self, name: &str) -> Result<&'f [u8]> {
        self.files.get(name).map(|bytes| &bytes[..]).ok_or_else(|| {
            Error::new(ErrorKind::Bundle, "missing, and a tokeniser is read from it")
                .in_file(self.folder.join(name))
                .help("copy the whole folder again, or export it again")
        })
    }
}

/// What makes ids of the texts of one side: a model of subwords or a list of symbols.
#[derive(Clone, Debug)]
pub enum Side {
    /// A list of symbols, as models that are trained here have it.
    Symbols(Arc<Vocabulary>),
    /// Any other scheme.
    Subwords(Arc<dyn Tokeniser>),
}

impl Side {
    /// The scheme that `spec` names.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if a file is missing, damaged, or asks for what is not understood.
    pub fn open(spec: &VocabularySpec, special: SpecialIds, files: NamedFiles<'_>) -> Result<Self> {
        let Some(tokeniser) = &spec.tokeniser else {
            return Ok(Self::Symbols(Arc::new(Vocabulary::with_special_ids(spec, special)?)));
        };
        for name in tokeniser.files() {
            files.get(name)?;
        }
        let config = match &tokeniser.config {
            Some(name) => HubConfig::read(files.get(name)?, &files.folder.join(name))?,
            None => HubConfig::default(),
        };
        let model = || match &tokeniser.model {
            Some(name) => Ok((files.get(name)?, files.folder.join(name))),
            None => Err(Error::new(ErrorKind::Bundle, "the tokeniser has no `model`")
                .help("write the name of the file with its pieces under `tokeniser`")),
        };
        let opened = match tokeniser.kind {
            TokeniserKind::Bytes => bytes::open(spec, special, &config)?,
            TokeniserKind::TokenizerJson => {
                let (bytes, path) = model()?;
                tokenizer_json::open(spec, special, (bytes, &path), &config)?
            }
            kind => {
                let ids = tokeniser.ids.as_ref().map(|name| files.get(name)).transpose()?;
                let (bytes, path) = model()?;
                let ids = ids.zip(tokeniser.ids.as_ref().map(|name| files.folder.join(name)));
                families::open(kind, spec, special, (bytes, &path), ids, &config)?
            }
        };
        Ok(Self::Subwords(Arc::new(opened)))
    }

    /// The scheme, whatever it is.
    pub fn tokeniser(&self) -> Arc<dyn Tokeniser> {
        match self {
            Self::Symbols(vocabulary) => Arc::<Vocabulary>::clone(vocabulary),
            Self::Subwords(tokeniser) => Arc::clone(tokeniser),
        }
    }

    /// The list of symbols, if it is one.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        match self {
            Self::Symbols(vocabulary) => Some(vocabulary),
            Self::Subwords(_) => None,
        }
    }
}

/// Checks what a manifest says of a side that has a `tokeniser`: the key and what is wrong with it.
///
/// # Errors
/// The key below the side, and [`ErrorKind::Bundle`].
pub(crate) fn check_tokeniser(
    spec: &VocabularySpec,
    special: SpecialIds,
    most: usize,
) -> Result<(), (&'static str, Error)> {
    let wrong = |key, message: String, help: &str| {
        Err((key, Error::new(ErrorKind::Bundle, message).help(help.to_owned())))
    };
    if spec.tokeniser.is_none() {
        return match spec.size {
            Some(_) => {
                wrong("size", "the list of symbols has a size of its own".to_owned(), "leave `size` out")
            }
            None => Ok(()),
        };
    }
    let clashes = [
        ("symbols", !spec.symbols.is_empty()),
        ("normalisation", !spec.normalisation.is_empty()),
        ("padding", spec.padding.is_some()),
        ("graph_padding", spec.graph_padding.is_some()),
    ];
    if let Some((key, _)) = clashes.into_iter().find(|(_, given)| *given) {
        return wrong(key, "a tokeniser has its own".to_owned(), "leave the key out beside `tokeniser`");
    }
    let Some(size) = spec.size else {
        let help = "write the ids that the model has: the last axis of its scores";
        return wrong("size", "missing beside `tokeniser`".to_owned(), help);
    };
    if size > most || size == 0 {
        return wrong("size", format!("{size} ids; 1 to {most} are read"), "is this the right file?");
    }
    match special.all().into_iter().find(|&id| id as usize >= size) {
        Some(id) => {
            let help = "write ids that the model has";
            wrong("size", format!("special id {id}, and the model has {size} ids"), help)
        }
        None => Ok(()),
    }
}
