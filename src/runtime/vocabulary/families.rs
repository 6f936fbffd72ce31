//! Models of SentencePiece as transformers' families use them: which id a piece has, which tokens stand around
//! a source, which ids say nothing.
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
use super::hub_config::{AddedToken, HubConfig};
use super::sentencepiece::{Model, PieceType, SPACE, byte_of};
use super::spec::{TokeniserKind, VocabularySpec};
use super::subwords::{Frame, Scheme, Slot, Subwords, Token};
use super::tokeniser::{Invalid, Language, REPLACEMENT, too_long};
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};

/// The languages of M2M100, in the order of their ids.
const M2M100: &str = "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha \
    he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa \
    pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu";
/// Those of its relative for WMT 2021.
const WMT21: &str = "en ha is ja cs ru zh de";
/// The languages of mBART, in the order of their ids.
const MBART: &str = "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV \
    my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN";
/// Those that mBART-50 has besides.
const MBART50: &str = "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF \
    pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI";

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

/// The tokens that have a key of their own, by that key.
struct Named(Vec<(&'static str, String)>);

impl Named {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, token)| token.as_str())
    }
}

/// A family's table of tokens before anything is added.
struct Base {
    /// What each id is called; empty where it is nothing.
    tokens: Vec<String>,
    added: BTreeMap<u32, AddedToken>,
    languages: Vec<Language>,
    /// Tokens that are special besides those that have a name of their own.
    additional: Vec<String>,
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
            leading_spaces: usize::from(is_plain),
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

/// Ids before the first piece, for training only.
const PEGASUS_OFFSET: u32 = 103;

fn base(
    kind: TokeniserKind,
    model: &Model,
    ids: Option<&HashMap<String, u32>>,
    spec: &VocabularySpec,
    config: &HubConfig,
    names: &Named,
) -> Result<Base> {
    let of_file = || model.pieces().iter().map(|(text, _)| text.clone());
    let from_config = config.added()?;
    let given: Vec<String> = config.additional().unwrap_or_default().into_iter().map(str::to_owned).collect();
    let mut base =
        Base { tokens: Vec::new(), added: BTreeMap::new(), languages: Vec::new(), additional: given };
    let count = model.pieces().len();
    let language = |(code, id): (&str, usize)| Language {
        code: code.to_owned(),
        id: u32::try_from(id).unwrap_or(u32::MAX),
    };
    match kind {
        TokeniserKind::T5 => {
            base.tokens = of_file().collect();
            let extra = config.number("extra_ids").unwrap_or(100).min(spec.size() as u64) as usize;
            let named = base.additional.iter().filter(|token| token.contains("<extra_id_")).count();
            if named == 0 {
                base.additional.extend((0..extra).map(|number| format!("<extra_id_{number}>")));
            }
            for number in 0..if named == 0 { extra } else { named } {
                let token = format!("<extra_id_{number}>");
                let token = AddedToken { lstrip: true, rstrip: true, ..AddedToken::special(&token) };
                base.added.insert((count + extra).saturating_sub(1 + number) as u32, token);
            }
        }
        TokeniserKind::Marian | TokeniserKind::M2m100 => {
            let Some(ids) = ids else {
                return Err(Error::new(ErrorKind::Bundle, "the tokeniser has no `ids`")
                    .help("write `ids: vocab.json`"));
            };
            let size = ids.values().max().map_or(0, |last| *last as usize + 1);
            base.tokens = vec![String::new(); size];
            for (piece, &id) in ids {
                base.tokens[id as usize].clone_from(piece);
            }
            if kind == TokeniserKind::Marian {
                let mut codes: Vec<_> = ids
                    .iter()
                    .filter_map(|(piece, &id)| {
                        Some(Language { code: piece.strip_prefix(">>")?.strip_suffix("<<")?.to_owned(), id })
                    })
                    .collect();
                codes.sort_by_key(|language| language.id);
                base.languages = codes;
            } else {
                let codes = if config.text("language_codes") == Some("wmt21") { WMT21 } else { M2M100 };
                base.languages = codes.split_whitespace().zip(ids.len()..).map(language).collect();
                base.tokens.resize(base.tokens.len().max(ids.len() + base.languages.len()), String::new());
                for language in &base.languages {
                    base.tokens[language.id as usize] = format!("__{}__", language.code);
                }
            }
        }
        TokeniserKind::Nllb | TokeniserKind::Mbart | TokeniserKind::Mbart50 => {
            base.tokens = std::iter::once(String::new()).chain(of_file()).collect();
            for (id, token) in ["<s>", "<pad>", "</s>", "<unk>"].into_iter().enumerate() {
                if let Some(there) = base.tokens.get_mut(id) {
                    token.clone_into(there);
                }
            }
            if kind == TokeniserKind::Nllb {
                let Some(added) = &from_config else {
                    return Err(config
                        .wrong("added_tokens_decoder", "missing: it has the ids of the languages")
                        .help("save the tokenizer again with transformers 4.34 or later"));
                };
                let languages = added.iter().filter(|(_, token)| is_flores(&token.content));
                base.languages =
                    languages.map(|(&id, token)| Language { code: token.content.clone(), id }).collect();
                let named = ["bos_token", "pad_token", "eos_token", "unk_token"].map(|key| names.get(key));
                let first = named.into_iter().zip(0..).filter_map(|(token, id)| Some((id, token?)));
                base.added = first.map(|(id, token)| (id, AddedToken::special(token))).collect();
            } else {
                let codes = MBART.split_whitespace();
                let more = MBART50.split_whitespace().filter(|_| kind == TokeniserKind::Mbart50);
                base.languages = codes.chain(more).zip(count + 1..).map(language).collect();
                base.tokens.extend(base.languages.iter().map(|language| language.code.clone()));
                base.tokens.push("<mask>".to_owned());
                for language in &base.languages {
                    if !base.additional.contains(&language.code) {
                        base.additional.push(language.code.clone());
                    }
                }
            }
        }
        TokeniserKind::Pegasus => {
            if config.number("offset").is_some_and(|offset| offset != u64::from(PEGASUS_OFFSET)) {
                return Err(config.wrong("offset", "only 103 is understood"));
            }
            base.tokens = vec![String::new(); PEGASUS_OFFSET as usize];
            base.tokens.extend(of_file());
            let sentence = config.token("mask_token_sent", Some("<mask_1>")).unwrap_or("<mask_1>").to_owned();
            let named =
                [names.get("pad_token"), names.get("eos_token"), Some(&sentence), names.get("mask_token")];
            let first = named.into_iter().flatten().map(str::to_owned);
            let numbered = (2..PEGASUS_OFFSET).map(|number| format!("<unk_{number}>"));
            base.added =
                first.chain(numbered).zip(0..).map(|(token, id)| (id, AddedToken::special(&token))).collect();
            if base.additional.is_empty() {
                base.additional = std::iter::once(sentence)
                    .chain((2..PEGASUS_OFFSET).map(|n| format!("<unk_{n}>")))
                    .collect();
            }
        }
        _ => base.tokens = of_file().collect(),
    }
    let forced =
        if kind == TokeniserKind::Pegasus { std::mem::take(&mut base.added) } else { BTreeMap::new() };
    base.added.extend(from_config.unwrap_or_default());
    base.added.extend(forced);
    Ok(base)
}

/// Whether a token is a language of FLORES-200: `fra_Latn`.
pub(super) fn is_flores(token: &str) -> bool {
    let Some((language, script)) = token.split_once('_') else { return false };
    language.len() == 3
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && script.len() == 4
        && script.starts_with(|c: char| c.is_ascii_uppercase())
        && script.bytes().skip(1).all(|byte| byte.is_ascii_lowercase())
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
