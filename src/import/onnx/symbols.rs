//! Vocabularies from files, and which of their symbols are special.

use std::collections::BTreeMap;
use std::path::Path;

use s2s_runtime::contract::{SPECIAL_SYMBOLS, SpecialIds};
use s2s_runtime::files;
use s2s_runtime::manifest::MOST_SYMBOLS;
use s2s_runtime::vocabulary::{Unit, VocabularySpec};
use serde_json::Value;

use super::remarks::Remarks;
use crate::error::{Error, ErrorKind, Result};

/// The special symbols as flags give them: a symbol, or an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// In the order pad, start, end, unknown.
    pub given: [Option<String>; 4],
    /// What stands before and behind each source.
    pub around: [Option<String>; 2],
}

/// What each is called where no flag names it, in lower case and without brackets.
const USUAL: [&[&str]; 4] = [
    &["pad", "padding", "blank", "null"],
    &["start", "sos", "bos", "s", "go", "begin", "\t"],
    &["end", "eos", "/s", "stop", "\n"],
    &["unk", "unknown", "oov"],
];
const FLAGS: [&str; 4] = ["--pad", "--start", "--end", "--unknown"];

/// Symbols by id: one a line; or JSON, a list of symbols or an object of ids by symbol.
///
/// # Errors
/// [`ErrorKind::Data`] for a file that is neither.
pub(in crate::import) fn read(path: &Path) -> Result<Vec<String>> {
    let text = files::read_text(path, files::VOCABULARY)?;
    let wrong = |message: String| {
        Error::new(ErrorKind::Data, message)
            .in_file(path)
            .help("write one symbol a line, or JSON: a list of symbols, or an object of ids by symbol")
    };
    let symbols =
        if text.trim_start().starts_with(['[', '{']) && path.extension().is_some_and(|end| end == "json") {
            let value: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("not JSON: {e}")))?;
            from_json(&value).map_err(wrong)?
        } else {
            // A line feed as a symbol has no place in such a file.
            text.lines().map(str::to_owned).collect()
        };
    match symbols.len() {
        0 => Err(wrong("no symbols".to_owned())),
        count if count > MOST_SYMBOLS => {
            Err(wrong(format!("{count} symbols; at most {MOST_SYMBOLS} are read")))
        }
        _ => Ok(symbols),
    }
}

fn from_json(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| format!("{item} is no symbol")))
            .collect(),
        Value::Object(ids) => {
            let mut by_id = BTreeMap::new();
            for (symbol, id) in ids {
                let id = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < MOST_SYMBOLS);
                let id = id.ok_or_else(|| format!("symbol {symbol:?} has no id below {MOST_SYMBOLS}"))?;
                if let Some(other) = by_id.insert(id, symbol.clone()) {
                    return Err(format!("id {id} is that of {other:?} and of {symbol:?}"));
                }
            }
            let count = by_id.last_key_value().map_or(0, |(id, _)| id + 1);
            // Ids that no symbol has are never said.
            Ok((0..count).map(|id| by_id.remove(&id).unwrap_or_else(|| format!("<id {id}>"))).collect())
        }
        _ => Err("neither a list nor an object".to_owned()),
    }
}

/// The special ids of both vocabularies, as flags or names say.
///
/// # Errors
/// [`ErrorKind::Usage`] naming the flag for what neither says.
pub(super) fn special_ids(
    vocabularies: [&[String]; 2],
    special: &Special,
    remarks: &mut Remarks,
) -> Result<SpecialIds> {
    let mut found = [0u32; 4];
    for (at, (flag, usual)) in FLAGS.into_iter().zip(USUAL).enumerate() {
        let what = SPECIAL_SYMBOLS[at];
        let wrong = |message: String, help: String| Err(Error::new(ErrorKind::Usage, message).help(help));
        let ids = match &special.given[at] {
            Some(given) => vocabularies.map(|symbols| named(symbols, given)),
            None => vocabularies.map(|symbols| symbols.iter().position(|symbol| is_usual(symbol, usual))),
        };
        // A side that does not name it has it where the other has it.
        let id = match (ids, &special.given[at]) {
            ([Some(source), Some(target)], _) if source != target => {
                let message = format!("{what} is id {source} of the source and id {target} of the target");
                return wrong(message, "a bundle has the same special ids on both sides".to_owned());
            }
            ([Some(id), _] | [_, Some(id)], _) => id,
            (_, Some(given)) => {
                return wrong(
                    format!("{flag} {given:?} is no symbol and no id of the vocabularies"),
                    "name a symbol as the file has it, or its id".to_owned(),
                );
            }
            (_, None) => {
                return wrong(
                    format!("no symbol of the vocabularies is called as {what} usually is"),
                    format!(
                        "name it with {flag} SYMBOL (or its id); where the model has none, give an id that \
                         no text has and that it never says"
                    ),
                );
            }
        };
        if special.given[at].is_none() {
            let symbol = vocabularies.iter().find_map(|symbols| symbols.get(id));
            remarks.found(format!("{what} is id {id}, {:?}", symbol.map_or("", String::as_str)));
        }
        found[at] = u32::try_from(id).unwrap_or(u32::MAX);
    }
    let [pad, start, end, unk] = found;
    Ok(SpecialIds { pad, start, end, unk })
}

/// What stands before and behind each source, as ids of its vocabulary.
///
/// # Errors
/// [`ErrorKind::Usage`] for what is neither a symbol nor an id.
pub(super) fn around(source: &[String], special: &Special) -> Result<[Option<u32>; 2]> {
    let mut ids = [None; 2];
    for ((id, given), flag) in ids.iter_mut().zip(&special.around).zip(["--source-start", "--source-end"]) {
        let Some(given) = given else { continue };
        let found = named(source, given).and_then(|id| u32::try_from(id).ok());
        *id = Some(found.ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("{flag} {given:?} is no symbol and no id of the source's vocabulary"),
            )
            .help("name a symbol as the file has it, or its id")
        })?);
    }
    Ok(ids)
}

/// A symbol, else an id.
fn named(symbols: &[String], given: &str) -> Option<usize> {
    let symbol = symbols.iter().position(|symbol| symbol == given);
    symbol.or_else(|| given.parse().ok().filter(|&id| id < symbols.len()))
}

fn is_usual(symbol: &str, usual: &[&str]) -> bool {
    let bare = symbol.trim_matches(['<', '>', '[', ']', '{', '}', '_', '|']).to_lowercase();
    // A single letter is a letter, unless brackets say otherwise.
    let letter = bare == symbol.to_lowercase() && bare.len() == 1 && bare.chars().all(char::is_alphanumeric);
    !letter && usual.contains(&bare.as_str())
}

/// The vocabulary of these symbols.
pub(super) fn spec(
    side: &str,
    mut symbols: Vec<String>,
    special: SpecialIds,
    remarks: &mut Remarks,
) -> VocabularySpec {
    let is_special = |id: usize| special.all().iter().any(|&special| special as usize == id);
    let ordinary = || symbols.iter().enumerate().filter(|(id, _)| !is_special(*id)).map(|(_, symbol)| symbol);
    let single = ordinary().filter(|symbol| symbol.chars().nth(1).is_none()).count();
    let unit = if single * 2 >= ordinary().count() { Unit::Character } else { Unit::Token };
    let word = if unit == Unit::Character { "a character" } else { "a word" };
    remarks.found(format!("a symbol of the {side} is {word}: {} symbols", symbols.len()));
    if special == SpecialIds::default() {
        for (id, name) in SPECIAL_SYMBOLS.iter().enumerate() {
            if let Some(symbol) = symbols.get_mut(id).filter(|symbol| symbol != name) {
                remarks.found(format!(
                    "symbol {id} of the {side}, {symbol:?}, is written {name}, as all bundles do"
                ));
                *symbol = (*name).to_owned();
            }
        }
    }
    VocabularySpec { unit, symbols, ..VocabularySpec::default() }
}
