//! Models of SentencePiece as transformers' families use them: which id a piece has, which tokens stand
//! around a source, which ids say nothing.
//!
//! | family | ids | a source |
//! |---|---|---|
//! | T5, mT5 | those of the file, sentinels behind them | `X </s>` |
//! | Marian | `vocab.json` | `>>target<< X </s>`, if the model has languages |
//! | M2M100 | `vocab.json`, languages behind it | `__source__ X </s>` |
//! | NLLB | one more than the file's, `<s> <pad> </s> <unk>` first | `source X </s>`, once `X </s> source` |
//! | mBART | the same, languages and `<mask>` behind | `X </s> source` |
//! | mBART-50 | the same | `source X </s>` |
//! | Pegasus | 103 more than the file's, masks first | `X </s>` |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::added::{Added, Part};
use super::detokenise::{Pieces, Said, Style};
use super::family_tokens::{Base, Named, PEGASUS_OFFSET, base};
use super::hub_config::{AddedToken, HubConfig};
use super::sentencepiece::{Model, PieceType, SPACE, byte_of};
use super::spec::{TokeniserKind, VocabularySpec};
use super::subwords::{Frame, Scheme, Slot, Subwords, Token};
use super::tokeniser::{Invalid, Language, REPLACEMENT, too_long};
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};

/// The special tokens of a config that are one token each, in transformers' order, with what they are where
/// the config does not say.
const NAMED: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];

/// A model of SentencePiece with the ids of its family.
#[derive(Debug)]
struct Family {
    kind: TokeniserKind,
    model: Model,
    added: Added,
    /// The model's id of each piece of the file.
    ids: Vec<u32>,
    /// Ids of what is no piece of the file, by how texts have it.
    others: HashMap<String, u32>,
    unk: u32,
    /// T5 since 2023 cuts its texts behind this, which is that many pieces.
    marker: Option<(String, usize)>,
}

impl Family {
    /// The id of a piece that was found.
    fn id(&self, id: u32, text: &str) -> u32 {
        if id != self.model.unk() {
            return self.ids[id as usize];
        }
        self.others.get(text).copied().unwrap_or(self.unk)
    }

    /// The tokens of a part without added tokens; false if `each` wants no more.
    fn part(&self, text: &str, most: usize, each: &mut dyn FnMut(Token<'_>) -> bool) -> Result<bool> {
        let marked = self.marker.as_ref().filter(|_| text.starts_with([' ', '\u{2581}']));
        let split = match marked {
            Some((marker, _)) => {
                self.model.split(&format!("{marker}{text}"), most.saturating_add(marker.len()))
            }
            None => self.model.split(text, most),
        };
        let (normalised, found) = split.ok_or_else(|| too_long(most, "characters"))?;
        let skipped = marked.map_or(0, |(_, pieces)| if found.len() >= *pieces { *pieces } else { 0 });
        for piece in found.into_iter().skip(skipped) {
            let text = &normalised[piece.range];
            let id = self.id(piece.id, text);
            if !each(Token { id, text, is_unknown: id == self.unk }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Scheme for Family {
    fn split(&self, text: &str, most: usize, each: &mut dyn FnMut(Token<'_>) -> bool) -> Result<()> {
        let prefixed: String;
        let mut text = text;
        if self.marker.is_some() && !text.is_empty() {
            prefixed = format!("{SPACE}{}", text.replace(SPACE, " "));
            text = &prefixed;
        }
        let mut parts = self.added.split(text);
        if self.marker.is_some() && matches!(parts[..], [Part::Text(SPACE), Part::Token(..), ..]) {
            parts.remove(0);
        }
        for part in parts {
            let text = match part {
                Part::Token(id, text) => {
                    if !each(Token { id, text, is_unknown: id == self.unk }) {
                        return Ok(());
                    }
                    continue;
                }
                Part::Text(text) => text,
            };
            let text = match code(text).filter(|_| self.kind == TokeniserKind::Marian) {
                Some(code) => {
                    let id = self.others.get(code).copied();
                    let id = id.or_else(|| Some(self.ids[self.model.id(code)? as usize])).unwrap_or(self.unk);
                    if !each(Token { id, text: code, is_unknown: id == self.unk }) {
                        return Ok(());
                    }
                    &text[code.len()..]
                }
                None => text,
            };
            if !self.part(text, most, each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn find(&self, piece: &str) -> Option<u32> {
        let in_file = || Some(self.ids[self.model.id(piece)? as usize]);
        self.added.find(piece).or_else(|| self.others.get(piece).copied()).or_else(in_file)
    }
}

/// The language that a text for Marian begins with: `>>fra<<`.
fn code(text: &str) -> Option<&str> {
    let end = text.strip_prefix(">>")?.find("<<")?;
    text.get(..end + 4)
}

/// Opens the model of a side.
///
/// - `ids`: the bytes of `vocab.json`, for families that have one.
///
/// # Errors
/// [`ErrorKind::Bundle`] with the key that is not understood.
pub(super) fn open(
    kind: TokeniserKind,
    spec: &VocabularySpec,
    special: SpecialIds,
    (model, path): (&[u8], &Path),
    ids: Option<(&[u8], PathBuf)>,
    config: &HubConfig,
) -> Result<Subwords> {
    let mut model = Model::read(model).map_err(|error| error.in_file(path))?;
    let is_plain = kind == TokeniserKind::Sentencepiece;
    let takes = |key: &str| match key {
        "eos_token" | "unk_token" | "pad_token" => true,
        "bos_token" | "sep_token" => {
            !matches!(kind, TokeniserKind::T5 | TokeniserKind::Marian | TokeniserKind::Pegasus)
        }
        "mask_token" => !matches!(kind, TokeniserKind::T5 | TokeniserKind::Marian | TokeniserKind::M2m100),
        _ => matches!(kind, TokeniserKind::Nllb | TokeniserKind::Mbart | TokeniserKind::Mbart50),
    };
    let default = |key: &'static str, word: &'static str| match (kind, key) {
        (TokeniserKind::Pegasus, "mask_token") => Some("<mask_2>"),
        (TokeniserKind::Mbart50, "bos_token") => None,
        _ => takes(key).then_some(word),
    };
    let named = NAMED
        .iter()
        .filter(|_| !is_plain)
        .filter_map(|&(key, word)| Some((key, config.token(key, default(key, word))?.to_owned())))
        .collect();
    let named = Named(named);
    let ids = ids.map(|(bytes, path)| vocabulary(bytes, spec).map_err(|error| error.in_file(path)));
    let ids = ids.transpose()?;
    let base = base(kind, &model, ids.as_ref(), spec, config, &named)?;
    let Base { tokens, mut added, mut languages, additional } = base;
    let mut names: HashMap<String, u32> = HashMap::new();
    for (token, id) in tokens.iter().zip(0u32..).filter(|(token, _)| !token.is_empty()) {
        // Of two ids with one name, transformers keeps the last.
        names.insert(token.clone(), id);
    }
    names.extend(added.iter().map(|(&id, token)| (token.content.clone(), id)));
    let specials: Vec<&str> = named
        .0
        .iter()
        .map(|(_, token)| token.as_str())
        .chain(additional.iter().map(String::as_str))
        .collect();
    for token in &specials {
        if added.values().any(|known| known.content == **token) {
            continue;
        }
        let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let id = *names.entry((*token).to_owned()).or_insert(next);
        added.insert(id, AddedToken::special(token));
    }
    if let Some((id, token)) = added.iter().find(|(_, token)| token.single_word) {
        let message = format!("token {id}, {:?}, has single_word, which is not understood", token.content);
        return Err(config.wrong("added_tokens_decoder", message));
    }
    languages.retain(|language| (language.id as usize) < spec.size());
    let specials: HashSet<&str> = specials.into_iter().collect();
    let unk = named.get("unk_token").and_then(|token| names.get(token)).copied();
    let unk = if is_plain { model.unk() } else { unk.ok_or_else(|| missing(config, "unk_token"))? };
    let end = match named.get("eos_token") {
        Some(token) => names.get(token).copied().ok_or_else(|| missing(config, "eos_token"))?,
        None if is_plain => 0,
        None => return Err(missing(config, "eos_token")),
    };
    let frame = frame(kind, end, &languages, config)?;
    let added_names: HashMap<&str, u32> =
        added.iter().map(|(&id, token)| (token.content.as_str(), id)).collect();
    let of_piece = |(text, id): (&str, u32)| {
        added_names
            .get(text)
            .copied()
            .unwrap_or_else(|| family_id(kind, text, id, ids.as_ref(), &languages, unk))
    };
    let of_pieces = model.pieces().iter().map(|(text, _)| text.as_str()).zip(0u32..).map(of_piece).collect();
    let mut others: HashMap<String, u32> = match kind {
        TokeniserKind::Marian | TokeniserKind::M2m100 => ids.clone().unwrap_or_default(),
        _ => HashMap::new(),
    };
    if !matches!(kind, TokeniserKind::Marian) {
        let name = |language: &Language| match kind {
            TokeniserKind::M2m100 => format!("__{}__", language.code),
            _ => language.code.clone(),
        };
        others.extend(languages.iter().map(|language| (name(language), language.id)));
    }
    let pieces = said(kind, &model, &tokens, &added, &specials, spec.size());
    let is_new = kind == TokeniserKind::T5 && config.flag("legacy") == Some(false);
    let mut marker = None;
    let leading_spaces = if is_plain { model.leading_spaces() } else { 0 };
    if is_new {
        model = model.without_dummy_prefix();
        let token = named.get("unk_token").unwrap_or("<unk>").to_owned();
        let length = model.split(&token, usize::MAX).map_or(0, |(_, found)| found.len());
        marker = Some((token, length));
    }
    Ok(Subwords {
        spec: spec.clone(),
        special,
        unk: Some(unk),
        scheme: Box::new(Family {
            kind,
            model,
            added: Added::new(added),
            ids: of_pieces,
            others,
            unk,
            marker,
        }),
        pieces,
        style: Style {
            invalid: Invalid::EachReplaced,
            whole_runs: false,
            leading_spaces,
            strip: !is_plain,
            clean_up: config.flag("clean_up_tokenization_spaces").unwrap_or(false),
        },
        frame,
        languages,
        longest: config.longest(),
    })
}

fn missing(config: &HubConfig, key: &str) -> Error {
    config
        .wrong(key, "the model has no such token")
        .help("the files of several models were mixed: copy them again")
}

/// Ids by pieces: a JSON object.
fn vocabulary(bytes: &[u8], spec: &VocabularySpec) -> Result<HashMap<String, u32>> {
    let wrong = |message: String| Error::new(ErrorKind::Bundle, message);
    let ids: HashMap<String, u32> = serde_json::from_slice(bytes)
        .map_err(|e| wrong(format!("no JSON object of pieces and their ids: {e}")))?;
    match ids.iter().find(|(_, id)| **id as usize >= spec.size()) {
        Some((piece, id)) => {
            Err(wrong(format!("{piece:?} has the id {id}, and the model has {} ids", spec.size()))
                .help("the files of several models were mixed: copy them again"))
        }
        None => Ok(ids),
    }
}

fn family_id(
    kind: TokeniserKind,
    text: &str,
    id: u32,
    ids: Option<&HashMap<String, u32>>,
    languages: &[Language],
    unk: u32,
) -> u32 {
    let shifted = if id == 0 { unk } else { id + 1 };
    match kind {
        TokeniserKind::Marian | TokeniserKind::M2m100 => {
            ids.and_then(|ids| ids.get(text)).copied().unwrap_or(unk)
        }
        TokeniserKind::Nllb => shifted,
        TokeniserKind::Mbart | TokeniserKind::Mbart50 => match text {
            "<s>" => 0,
            "<pad>" => 1,
            "</s>" => 2,
            "<unk>" => 3,
            text => languages
                .iter()
                .find(|language| language.code == text)
                .map_or(shifted, |language| language.id),
        },
        TokeniserKind::Pegasus => id + PEGASUS_OFFSET,
        _ => id,
    }
}

fn frame(kind: TokeniserKind, end: u32, languages: &[Language], config: &HubConfig) -> Result<Frame> {
    let source = |default: &str| {
        let code = config.text("src_lang").unwrap_or(default);
        match languages.iter().find(|language| language.code == code) {
            Some(language) => Ok(Slot::Source(Some(language.id))),
            None if config.text("src_lang").is_some() => {
                Err(config.wrong("src_lang", format!("{code:?} is no language of the model")))
            }
            None => Ok(Slot::Source(None)),
        }
    };
    let end = Slot::Id(end);
    let (before, behind) = match kind {
        TokeniserKind::Sentencepiece => (vec![], vec![]),
        TokeniserKind::Marian if !languages.is_empty() => (vec![Slot::Target], vec![end]),
        TokeniserKind::M2m100 => (vec![source("en")?], vec![end]),
        TokeniserKind::Mbart50 => (vec![source("en_XX")?], vec![end]),
        TokeniserKind::Mbart => (vec![], vec![end, source("en_XX")?]),
        TokeniserKind::Nllb if config.flag("legacy_behaviour") == Some(true) => {
            (vec![], vec![end, source("eng_Latn")?])
        }
        TokeniserKind::Nllb => (vec![source("eng_Latn")?], vec![end]),
        _ => (vec![], vec![end]),
    };
    Ok(Frame { before, behind, ends_once: kind == TokeniserKind::T5 })
}

/// What every id says.
fn said(
    kind: TokeniserKind,
    model: &Model,
    tokens: &[String],
    added: &BTreeMap<u32, AddedToken>,
    specials: &HashSet<&str>,
    size: usize,
) -> Pieces {
    let has_bytes = !matches!(kind, TokeniserKind::Nllb | TokeniserKind::Mbart);
    let mut pieces = Pieces::default();
    for id in (0u32..).take(size) {
        let token = added.get(&id).map(|token| token.content.as_str());
        let token = token.or_else(|| tokens.get(id as usize).map(String::as_str)).unwrap_or_default();
        if specials.contains(token) || token.is_empty() {
            pieces.push(Said::Nothing, b"", b"");
            continue;
        }
        if added.contains_key(&id) {
            pieces.push(Said::Apart, token.as_bytes(), token.as_bytes());
            continue;
        }
        match model.id(token).map(|id| model.pieces()[id as usize].1) {
            Some(PieceType::Control) if has_bytes => pieces.push(Said::Nothing, b"", b""),
            Some(PieceType::Unknown) if has_bytes => {
                pieces.push(Said::Text, REPLACEMENT.as_bytes(), REPLACEMENT.as_bytes());
            }
            Some(PieceType::Byte) if has_bytes => {
                let byte = [byte_of(token).unwrap_or_default()];
                pieces.push(Said::Byte, &byte, &byte);
            }
            _ => {
                let text = token.replace(SPACE, " ");
                pieces.push(Said::Text, text.as_bytes(), text.as_bytes());
            }
        }
    }
    pieces
}
