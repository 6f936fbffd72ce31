//! UTF-8 bytes as ids: ByT5's scheme, which has no file of pieces.

use std::collections::BTreeMap;

use super::added::{Added, Part};
use super::detokenise::{Pieces, Said, Style};
use super::hub_config::{AddedToken, HubConfig};
use super::spec::VocabularySpec;
use super::subwords::{Frame, Scheme, Slot, Subwords, Token};
use super::tokeniser::Invalid;
use crate::contract::SpecialIds;
use crate::error::Result;

/// PAD, END and UNK stand before the bytes.
const OFFSET: u32 = 3;
/// Ids of bytes and what stands before them.
const BYTES: u32 = 256 + OFFSET;
/// Sentinels behind the bytes, unless the config says another number.
const EXTRA_IDS: u64 = 125;

/// Each byte of a text is an id of its own, three more than its value.
#[derive(Debug)]
struct Bytes(Added);

impl Scheme for Bytes {
    fn split(&self, text: &str, _most: usize, each: &mut dyn FnMut(Token<'_>) -> bool) -> Result<()> {
        for part in self.0.split(text) {
            match part {
                Part::Token(id, text) => {
                    if !each(Token { id, text, is_unknown: false }) {
                        return Ok(());
                    }
                }
                Part::Text(text) => {
                    for (at, byte) in text.bytes().enumerate() {
                        // The first byte of a character stands for all of it.
                        let character = text.get(at..).and_then(|rest| rest.chars().next());
                        let whole =
                            character.and_then(|c| text.get(at..at + c.len_utf8())).unwrap_or_default();
                        let id = u32::from(byte) + OFFSET;
                        if !each(Token { id, text: whole, is_unknown: false }) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn find(&self, piece: &str) -> Option<u32> {
        match piece.as_bytes() {
            [byte] => Some(u32::from(*byte) + OFFSET),
            _ => self.0.find(piece),
        }
    }
}

/// ByT5's scheme with the settings of its config.
///
/// # Errors
/// [`ErrorKind::Bundle`](crate::ErrorKind::Bundle) with the key that is not understood.
pub(super) fn open(spec: &VocabularySpec, special: SpecialIds, config: &HubConfig) -> Result<Subwords> {
    let stripped = |content: &str| AddedToken { lstrip: true, rstrip: true, ..AddedToken::special(content) };
    let name =
        |key: &str, default: &'static str| config.token(key, Some(default)).unwrap_or(default).to_owned();
    let [pad, end, unk] = [("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")]
        .map(|(key, word)| name(key, word));
    let mut added: BTreeMap<u32, AddedToken> =
        [&pad, &end, &unk].into_iter().zip(0..).map(|(token, id)| (id, stripped(token))).collect();
    added.extend(config.added()?.unwrap_or_default());
    let sentinels: Vec<String> = match config.additional() {
        Some(tokens) => tokens.into_iter().map(str::to_owned).collect(),
        None => {
            let extra = config.number("extra_ids").unwrap_or(EXTRA_IDS).min(spec.size() as u64);
            (0..extra).map(|number| format!("<extra_id_{number}>")).collect()
        }
    };
    let mut next = BYTES.max(added.keys().next_back().map_or(0, |last| last + 1));
    for token in sentinels {
        if !added.values().any(|known| known.content == token) {
            added.insert(next, AddedToken::special(&token));
            next += 1;
        }
    }
    let end = added.iter().find(|(_, token)| token.content == end).map_or(1, |(&id, _)| id);
    let added_unk = added.iter().find(|(_, token)| token.content == unk).map(|(&id, _)| id);
    let mut pieces = Pieces::default();
    for id in (0u32..).take(spec.size()) {
        match (added.get(&id), id.checked_sub(OFFSET).and_then(|byte| u8::try_from(byte).ok())) {
            (Some(token), _) if !token.special => {
                pieces.push(Said::Apart, token.content.as_bytes(), token.content.as_bytes());
            }
            (None, Some(byte)) => pieces.push(Said::Byte, &[byte], &[byte]),
            _ => pieces.push(Said::Nothing, b"", b""),
        }
    }
    Ok(Subwords {
        spec: spec.clone(),
        special,
        unk: added_unk,
        scheme: Box::new(Bytes(Added::new(added))),
        pieces,
        style: Style {
            invalid: Invalid::Dropped,
            whole_runs: false,
            leading_spaces: 0,
            strip: false,
            clean_up: config.flag("clean_up_tokenization_spaces").unwrap_or(false),
        },
        frame: Frame { before: Vec::new(), behind: vec![Slot::Id(end)], ends_once: true },
        languages: Vec::new(),
        longest: config.longest(),
    })
}
