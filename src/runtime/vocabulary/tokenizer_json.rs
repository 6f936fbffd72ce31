//! `tokenizer.json`, the file of the tokenizers library: its own parts cut texts, and what its decoder and
//! its post-processor do is done here, id by id.
//!
//! The sections `truncation` and `padding` are for batches of training and are passed over; the library never
//! samples (`dropout`, `alpha`) here either.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::{
    AddedToken, Decoder as _, Model as _, OffsetReferential, OffsetType, PreTokenizer as _, Tokenizer,
};

use super::detokenise::{Pieces, Said, Style};
use super::family_tokens::is_flores;
use super::hub_config::{HubConfig, LONGEST_ADDED};
use super::sentencepiece::byte_of;
use super::spec::VocabularySpec;
use super::subwords::{Frame, Scheme, Slot, Subwords, Token};
use super::tokeniser::{Invalid, Language, too_long};
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};
use crate::panics;

/// Bytes of a piece; a hundred thousand of a few bytes each is what is in use.
const LONGEST_PIECE: usize = 1024;
/// Bytes that a rule of a normaliser may write in place of what it finds.
const LONGEST_REPLACEMENT: usize = 64;

/// The parts of a file that cut texts.
#[derive(Debug)]
struct Library {
    tokenizer: Tokenizer,
    unk: Option<u32>,
}

impl Scheme for Library {
    fn split(&self, text: &str, most: usize, each: &mut dyn FnMut(Token<'_>) -> bool) -> Result<()> {
        let internal =
            |message: String| Error::new(ErrorKind::Bundle, format!("the tokenizer failed: {message}"));
        // What the library panics at is a file that it should have refused.
        let cut = panics::caught(|| {
            let parts = &self.tokenizer;
            let mut cut = parts.get_added_vocabulary().extract_and_normalize(parts.get_normalizer(), text);
            let splits = cut.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
            let bytes: usize = splits.iter().map(|(part, ..)| part.len()).sum();
            if bytes > most && splits.iter().map(|(part, ..)| part.chars().count()).sum::<usize>() > most {
                return Ok(None);
            }
            if let Some(cutter) = parts.get_pre_tokenizer() {
                cutter.pre_tokenize(&mut cut)?;
            }
            cut.tokenize(|part| parts.get_model().tokenize(part.get()))?;
            Ok::<_, tokenizers::Error>(Some(cut))
        });
        let cut = cut.map_err(&internal)?.map_err(|e| internal(e.to_string()))?;
        let cut = cut.ok_or_else(|| too_long(most, "characters"))?;
        for (part, _, tokens) in cut.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            for token in tokens.iter().flatten() {
                let is_unknown = Some(token.id) == self.unk;
                let there = part.get(token.offsets.0..token.offsets.1).filter(|_| is_unknown);
                if !each(Token { id: token.id, text: there.unwrap_or(&token.value), is_unknown }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn find(&self, piece: &str) -> Option<u32> {
        self.tokenizer.token_to_id(piece)
    }
}

/// A file as it is read.
struct File<'a> {
    path: &'a Path,
    json: Value,
}

impl File<'_> {
    fn wrong(&self, key: &str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Bundle, message).at_line(self.path, None, Some(key))
    }

    fn part(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// Checks what the library would not: what costs more than the file is long.
    fn check(&self) -> Result<()> {
        let model = self.part("model").ok_or_else(|| self.wrong("model", "missing"))?;
        let longest = match &model["vocab"] {
            Value::Object(pieces) => pieces.keys().map(String::len).max(),
            Value::Array(pieces) => {
                pieces.iter().filter_map(|piece| Some(piece.get(0)?.as_str()?.len())).max()
            }
            _ => return Err(self.wrong("model.vocab", "no pieces")),
        };
        if longest > Some(LONGEST_PIECE) {
            return Err(self.wrong("model.vocab", format!("a piece of more than {LONGEST_PIECE} bytes")));
        }
        let added = self.part("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let length = |token: &Value| token.get("content").and_then(Value::as_str).map_or(0, str::len);
        if added.map(length).max() > Some(LONGEST_ADDED) {
            return Err(self.wrong("added_tokens", format!("a token of more than {LONGEST_ADDED} bytes")));
        }
        if model["dropout"].as_f64().is_some_and(|rate| rate != 0.0) {
            return Err(self
                .wrong("model.dropout", "pieces that are dropped at random are for training only")
                .help("set it to null"));
        }
        let mut waiting: Vec<&Value> = self.part("normalizer").into_iter().collect();
        while let Some(step) = waiting.pop() {
            waiting.extend(step.get("normalizers").and_then(Value::as_array).into_iter().flatten());
            for key in ["content", "prepend"] {
                if step.get(key).and_then(Value::as_str).is_some_and(|text| text.len() > LONGEST_REPLACEMENT)
                {
                    let message = format!("a text of more than {LONGEST_REPLACEMENT} bytes");
                    return Err(self.wrong(&format!("normalizer.{key}"), message));
                }
            }
        }
        Ok(())
    }

    /// What the post-processor puts before and behind a text.
    fn template(&self) -> Result<[Vec<u32>; 2]> {
        let mut around = [Vec::new(), Vec::new()];
        let Some(processor) = self.part("post_processor") else { return Ok(around) };
        let sequence = processor.get("processors").and_then(Value::as_array);
        for step in sequence.map_or_else(|| std::slice::from_ref(processor), Vec::as_slice) {
            let [before, behind] = self.step(step)?;
            around[0].splice(0..0, before);
            around[1].extend(behind);
        }
        Ok(around)
    }

    fn step(&self, step: &Value) -> Result<[Vec<u32>; 2]> {
        let wrong = |message: &str| self.wrong("post_processor", message);
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let pair = |key: &str| {
            id(&step[key][1]).map(|id| vec![id]).ok_or_else(|| wrong("no pair of a token and its id"))
        };
        match step["type"].as_str() {
            Some("ByteLevel") => Ok([Vec::new(), Vec::new()]),
            Some("BertProcessing" | "RobertaProcessing") => Ok([pair("cls")?, pair("sep")?]),
            Some("TemplateProcessing") => {
                let mut around = [Vec::new(), Vec::new()];
                let mut side = 0;
                for item in step["single"].as_array().ok_or_else(|| wrong("no `single`"))? {
                    if item["Sequence"]["id"] == "A" && side == 0 {
                        side = 1;
                    } else if let Some(name) = item["SpecialToken"]["id"].as_str() {
                        let ids = step["special_tokens"][name]["ids"].as_array();
                        let ids = ids.ok_or_else(|| wrong("a token of `single` has no ids"))?;
                        around[side].extend(ids.iter().filter_map(id));
                    } else {
                        return Err(wrong("`single` is more than tokens around one text"));
                    }
                }
                if side == 0 { Err(wrong("`single` has no text")) } else { Ok(around) }
            }
            other => Err(wrong(&format!("the type {} is not understood", other.unwrap_or("none")))
                .help("ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing and Sequence are")),
        }
    }
}

/// Opens a file with the settings beside it.
///
/// # Errors
/// [`ErrorKind::Bundle`] with the key that is damaged or not understood.
pub(super) fn open(
    spec: &VocabularySpec,
    special: SpecialIds,
    (bytes, path): (&[u8], &Path),
    config: &HubConfig,
) -> Result<Subwords> {
    let json: Value = serde_json::from_slice(bytes).map_err(|e| {
        let line = u64::try_from(e.line()).ok();
        Error::new(ErrorKind::Bundle, format!("no JSON: {e}")).at_line(path, line, None)
    })?;
    let mut file = File { path, json };
    file.check()?;
    let class = config.text("tokenizer_class").unwrap_or_default().trim_end_matches("Fast").to_owned();
    // transformers takes its own config's word for it, not the file's.
    if file.json["pre_tokenizer"]["type"] == "ByteLevel" {
        let prefix = config.flag("add_prefix_space").unwrap_or(false);
        file.json["pre_tokenizer"]["add_prefix_space"] = prefix.into();
    }
    let [mut before, mut behind] = file.template()?;
    let decoder = file.json.get("decoder").cloned().unwrap_or(Value::Null);
    let unk = file.json["model"]["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let unk_token = file.json["model"]["unk_token"].as_str().map(str::to_owned);
    let parsed = panics::caught(|| serde_json::from_value::<Tokenizer>(std::mem::take(&mut file.json)));
    let mut tokenizer = parsed
        .map_err(|panic| file.wrong("model", format!("not understood: {panic}")))?
        .map_err(|e| file.wrong("model", format!("not understood: {e}")))?;
    add_missing(&mut tokenizer, config)?;
    let unk = unk.or_else(|| tokenizer.token_to_id(&unk_token?));
    let (pieces, style) = outputs(&tokenizer, &decoder, spec.size(), config)
        .map_err(|message| file.wrong("decoder", message))?;
    let languages = languages(&tokenizer, config);
    let id = |token: Option<&str>| tokenizer.token_to_id(token?);
    let end = id(config.token("eos_token", Some("</s>")));
    let source = |default: &str| {
        let code = config.text("src_lang").unwrap_or(default);
        tokenizer.token_to_id(code)
    };
    // These classes write their own template when they are opened.
    match (class.as_str(), end) {
        ("NllbTokenizer", Some(end)) if config.flag("legacy_behaviour") == Some(true) => {
            (before, behind) = (vec![], std::iter::once(end).chain(source("eng_Latn")).collect());
        }
        ("NllbTokenizer", Some(end)) => {
            (before, behind) = (source("eng_Latn").into_iter().collect(), vec![end]);
        }
        ("MBartTokenizer", Some(end)) => {
            (before, behind) = (vec![], std::iter::once(end).chain(source("en_XX")).collect());
        }
        ("MBart50Tokenizer", Some(end)) => {
            (before, behind) = (source("en_XX").into_iter().collect(), vec![end]);
        }
        _ => {}
    }
    let slot = |id: u32| {
        let is_language = languages.iter().any(|language| language.id == id);
        if is_language { Slot::Source(Some(id)) } else { Slot::Id(id) }
    };
    let frame = Frame {
        before: before.into_iter().map(slot).collect(),
        behind: behind.into_iter().map(slot).collect(),
        ends_once: false,
    };
    Ok(Subwords {
        spec: spec.clone(),
        special,
        unk,
        scheme: Box::new(Library { tokenizer, unk }),
        pieces,
        style,
        frame,
        languages,
        longest: config.longest(),
    })
}

/// Adds the special tokens of the config that the file does not have, as transformers does.
fn add_missing(tokenizer: &mut Tokenizer, config: &HubConfig) -> Result<()> {
    let given = config.added()?.unwrap_or_default();
    let special = config.special();
    let mut known: HashSet<String> =
        tokenizer.get_added_tokens_decoder().values().map(|token| token.content.clone()).collect();
    let mut missing = Vec::new();
    for token in given.into_values().filter(|token| !known.contains(&token.content)) {
        let is_special = token.special || special.contains(&token.content.as_str());
        missing.push(
            AddedToken::from(token.content, is_special)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .single_word(token.single_word)
                .normalized(token.normalized),
        );
    }
    known.extend(missing.iter().map(|token| token.content.clone()));
    let named = special.into_iter().filter(|token| known.insert((*token).to_owned()));
    missing.extend(named.map(|token| AddedToken::from(token, true)));
    tokenizer
        .add_tokens(missing)
        .map(drop)
        .map_err(|e| config.wrong("added_tokens_decoder", format!("cannot be added: {e}")))
}

/// The languages among the special tokens, where they are written as one of the known families writes them.
fn languages(tokenizer: &Tokenizer, config: &HubConfig) -> Vec<Language> {
    let code = |token: &str| {
        let inner = token.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
        let is_code =
            |text: &str| (2..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase());
        if let Some(code) = inner.filter(|code| is_code(code)) {
            return Some(code.to_owned());
        }
        let (language, region) = token.split_once('_')?;
        let is_region = region.len() == 2 && region.bytes().all(|b| b.is_ascii_uppercase());
        (is_flores(token) || language.len() == 2 && is_code(language) && is_region).then(|| token.to_owned())
    };
    let additional = config.additional().unwrap_or_default();
    let added = tokenizer.get_added_tokens_decoder();
    let special = added.values().filter(|token| token.special).map(|token| token.content.as_str());
    let tokens: HashSet<&str> = special.chain(additional).collect();
    let mut languages: Vec<Language> = tokens
        .into_iter()
        .filter_map(|token| Some(Language { code: code(token)?, id: tokenizer.token_to_id(token)? }))
        .collect();
    languages.sort_by_key(|language| language.id);
    languages
}

/// What every id says, and how it becomes text.
fn outputs(
    tokenizer: &Tokenizer,
    decoder: &Value,
    size: usize,
    config: &HubConfig,
) -> Result<(Pieces, Style), String> {
    let mut style = Style {
        invalid: Invalid::Replaced,
        whole_runs: false,
        leading_spaces: 0,
        strip: false,
        clean_up: config.flag("clean_up_tokenization_spaces").unwrap_or(false),
    };
    let steps = decoder.get("decoders").and_then(Value::as_array);
    let steps = steps.map_or_else(|| std::slice::from_ref(decoder), Vec::as_slice);
    let (mut each, mut is_byte_level, mut has_bytes, mut is_fused) = (Vec::new(), false, false, false);
    for step in steps.iter().filter(|step| !step.is_null()) {
        match step["type"].as_str().unwrap_or_default() {
            "ByteLevel" if steps.len() == 1 => is_byte_level = true,
            "ByteFallback" if !is_fused && !has_bytes => (has_bytes, style.whole_runs) = (true, true),
            "Fuse" => is_fused = true,
            "Strip" if is_fused && step["stop"] == 0 && step["content"] == " " => {
                style.leading_spaces += step["start"].as_u64().unwrap_or(0).min(64) as usize;
            }
            "Metaspace" | "WordPiece" | "Replace" if !is_fused && !has_bytes => {
                let step = serde_json::from_value::<DecoderWrapper>(step.clone());
                each.push(step.map_err(|e| format!("not understood: {e}"))?);
            }
            other => {
                return Err(format!(
                    "the type {other:?} at this place is not understood; Metaspace, WordPiece and Replace, \
                     then ByteFallback, Fuse and Strip are, or ByteLevel alone"
                ));
            }
        }
    }
    let without = steps.iter().all(Value::is_null);
    let apply = |tokens: Vec<String>| {
        each.iter().try_fold(tokens, |tokens, step| step.decode_chain(tokens)).map_err(|e| e.to_string())
    };
    let mut pieces = Pieces::default();
    let added = tokenizer.get_added_vocabulary();
    for id in (0u32..).take(size) {
        let name = added.simple_id_to_token(id).or_else(|| tokenizer.get_model().id_to_token(id));
        let Some(name) = name.filter(|name| !added.is_special_token(name)) else {
            pieces.push(Said::Nothing, b"", b"");
            continue;
        };
        if let Some(byte) = byte_of(&name).filter(|_| has_bytes) {
            pieces.push(Said::Byte, &[byte], &[byte]);
        } else if is_byte_level {
            let bytes: Option<Vec<u8>> = name.chars().map(byte_level).collect();
            let bytes = bytes.unwrap_or_else(|| name.into_bytes());
            pieces.push(Said::Text, &bytes, &bytes);
        } else if without {
            pieces.push(Said::Text, format!(" {name}").as_bytes(), name.as_bytes());
        } else {
            let first = apply(vec![name.clone()])?.concat();
            let mut within = apply(vec![String::new(), name])?;
            pieces.push(Said::Text, within.split_off(1).concat().as_bytes(), first.as_bytes());
        }
    }
    debug_assert_eq!(pieces.len(), size, "one for each id");
    Ok((pieces, style))
}

/// The byte that a character of a byte-level piece stands for: GPT-2 writes printable ones of Latin-1 as they
/// are, and the others as U+0100 and on.
fn byte_level(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        printable @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => printable,
        number @ 0x100..=0x120 => number - 0x100,
        number @ 0x121..=0x142 => number - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}
