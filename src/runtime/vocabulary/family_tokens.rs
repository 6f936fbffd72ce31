//! The tokens of each family before anything is added: what its ids are called, and its languages.

use std::collections::{BTreeMap, HashMap};

use super::hub_config::{AddedToken, HubConfig};
use super::sentencepiece::Model;
use super::spec::{TokeniserKind, VocabularySpec};
use super::tokeniser::Language;
use crate::error::{Error, ErrorKind, Result};

/// The languages of M2M100, in the order of their ids.
const M2M100: &str = "\
    af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi \
    hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns \
    oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh \
    zu";
/// Those of its relative for WMT 2021.
const WMT21: &str = "en ha is ja cs ru zh de";
/// The languages of mBART, in the order of their ids.
const MBART: &str = "\
    ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV \
    my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN";
/// Those that mBART-50 has besides.
const MBART50: &str = "\
    af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX \
    sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI";

/// Ids before the first piece, for training only.
pub(super) const PEGASUS_OFFSET: u32 = 103;

/// The tokens that have a key of their own, by that key.
pub(super) struct Named(pub(super) Vec<(&'static str, String)>);

impl Named {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, token)| token.as_str())
    }
}

/// A family's table of tokens before anything is added.
pub(super) struct Base {
    /// What each id is called; empty where it is nothing.
    pub(super) tokens: Vec<String>,
    pub(super) added: BTreeMap<u32, AddedToken>,
    pub(super) languages: Vec<Language>,
    /// Tokens that are special besides those that have a name of their own.
    pub(super) additional: Vec<String>,
}

/// The tokens of a family.
///
/// # Errors
/// [`ErrorKind::Bundle`] with the key that is missing or not understood.
pub(super) fn base(
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
