//! Symbols for the rows of a model: Keras saves none, so they come from the program that trained it or from
//! its data.

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::sha256;
use s2s_runtime::contract::{SPECIAL_SYMBOLS, UNK};
use s2s_runtime::files;
use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::{Padding, Unit, Vocabulary, VocabularySpec};
use serde::Deserialize;
use serde_json::Value;

use crate::data::reading::check_encoding;
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::families::recurrent::{Candidate, candidates};
use crate::import::rows::Side;

/// Where symbols come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A JSON file with the dictionaries of the program that trained the model.
    File(PathBuf),
    /// The training text, read as the tutorial reads it: the first `samples` lines, source TAB target.
    Pairs {
        /// The file of the pairs.
        file: PathBuf,
        /// The most lines that are read: the tutorial's `num_samples`.
        samples: usize,
    },
}

/// What is known of a model's rows.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    pub(super) unit: Unit,
    /// Symbols and the rows that they have in the model, in the order of rows.
    pub(super) source: Vec<(String, usize)>,
    pub(super) target: Vec<(String, usize)>,
    /// The tutorial's `max_encoder_seq_length`; 0 if unknown.
    pub(super) longest_source: usize,
    /// Its `max_decoder_seq_length`, start and end counted; 0 if unknown.
    pub(super) longest_target: usize,
    start: String,
    end: String,
    unknown: Option<String>,
    /// Pairs of the training text.
    pub(super) pairs: usize,
    pub(super) file: Option<DataFile>,
    /// A few of them, to try the model with.
    pub(super) examples: Vec<Candidate>,
    /// The file that errors name.
    path: PathBuf,
}

/// What sources are filled up with: the row of the model that stands there (none for zeros), and a
/// vocabulary's entry for it.
pub(super) struct Filler {
    pub(super) symbol: Option<String>,
    pub(super) row: Option<usize>,
    pub(super) padding: Padding,
}

/// The file of `--vocabulary`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(alias = "input_token_index")]
    source: Value,
    #[serde(alias = "target_token_index")]
    target: Value,
    #[serde(default, alias = "max_encoder_seq_length")]
    longest_source: usize,
    #[serde(default, alias = "max_decoder_seq_length")]
    longest_target: usize,
    #[serde(default)]
    unit: Unit,
    #[serde(default = "tab")]
    start: String,
    #[serde(default = "newline")]
    end: String,
    #[serde(default)]
    unknown: Option<String>,
}

fn tab() -> String {
    "\t".to_owned()
}

fn newline() -> String {
    "\n".to_owned()
}

/// Reads the symbols of a model with so many rows on each side.
pub(super) fn read(origin: &Origin, source_rows: usize, target_rows: usize) -> Result<Symbols> {
    let symbols = match origin {
        Origin::File(path) => written(path)?,
        Origin::Pairs { file, samples } => pairs(file, *samples, [source_rows, target_rows])?,
    };
    for (side, known, rows) in
        [("source", &symbols.source, source_rows), ("target", &symbols.target, target_rows)]
    {
        let first = known.first().map_or(0, |(_, row)| *row);
        // Id 0 is often kept for padding and has no symbol then.
        let fits = first <= 1 && known.iter().map(|(_, row)| *row).eq(first..rows);
        if !fits {
            let said = match known.last() {
                Some((symbol, last)) => {
                    format!("{} symbols, rows {first} to {last} ({symbol:?})", known.len())
                }
                None => "no symbol".to_owned(),
            };
            let help = match origin {
                Origin::File(_) => "every row needs its symbol, but for row 0 where that is padding",
                Origin::Pairs { .. } => {
                    "give the very file that the model was trained on, and as many lines of it: --num-samples"
                }
            };
            let message = format!("the model has {rows} {side} rows, and here are {said}");
            return Err(Error::new(ErrorKind::Data, message).in_file(&symbols.path).help(help));
        }
    }
    Ok(symbols)
}

fn written(path: &Path) -> Result<Symbols> {
    let bytes = files::read(path, files::VOCABULARY)?;
    let written: Written = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(ErrorKind::Data, format!("not readable as a vocabulary: {e}"))
            .at_line(path, Some(e.line() as u64), None)
            .help(
                "write {\"source\": input_token_index, \"target\": target_token_index, \
                \"longest_source\": max_encoder_seq_length, \"longest_target\": max_decoder_seq_length} \
                with json.dump",
            )
    })?;
    let side = |key: &str, value: &Value| -> Result<Vec<(String, usize)>> {
        let wrong = |message: String| {
            let error = Error::new(ErrorKind::Data, message).at_line(path, None, Some(key));
            error.help("give an object {symbol: row} or a list of symbols in the order of rows")
        };
        let mut rows = match value {
            Value::Object(map) => map
                .iter()
                .map(|(symbol, row)| {
                    let row = row.as_u64().and_then(|row| usize::try_from(row).ok());
                    Ok((
                        symbol.clone(),
                        row.ok_or_else(|| wrong(format!("the row of {symbol:?} is no whole number")))?,
                    ))
                })
                .collect::<Result<Vec<_>>>()?,
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(row, symbol)| {
                    Ok((
                        symbol.as_str().ok_or_else(|| wrong(format!("symbol {row} is no text")))?.to_owned(),
                        row,
                    ))
                })
                .collect::<Result<Vec<_>>>()?,
            _ => return Err(wrong("neither an object nor a list".to_owned())),
        };
        rows.sort_by_key(|(_, row)| *row);
        // An empty text stands for padding in lists, for example in the vocabulary of a TextVectorization
        // layer.
        rows.retain(|(symbol, row)| !(symbol.is_empty() && *row == 0));
        if let Some(at) = rows.windows(2).find(|pair| pair[0].1 == pair[1].1) {
            return Err(wrong(format!("{:?} and {:?} have the same row {}", at[0].0, at[1].0, at[0].1)));
        }
        Ok(rows)
    };
    let (source, target) = (side("source", &written.source)?, side("target", &written.target)?);
    for (key, symbol) in [("start", &written.start), ("end", &written.end)] {
        if !target.iter().any(|(known, _)| known == symbol) {
            let near = did_you_mean(symbol, target.iter().map(|(known, _)| known.as_str()));
            let help = near.map_or_else(
                || format!("write `\"{key}\": SYMBOL` into the file"),
                |near| format!("did you mean {near:?}?"),
            );
            let message = format!("{symbol:?}, with which targets {key}, is no target symbol");
            return Err(Error::new(ErrorKind::Data, message).at_line(path, None, Some(key)).help(help));
        }
    }
    Ok(Symbols {
        unit: written.unit,
        source,
        target,
        longest_source: written.longest_source,
        longest_target: written.longest_target,
        start: written.start,
        end: written.end,
        unknown: written.unknown,
        pairs: 0,
        file: None,
        examples: Vec::new(),
        path: path.to_owned(),
    })
}

/// The tutorial's own rule, to the letter: the last line is left out, whatever it is; characters are sorted
/// by code point.
fn pairs(path: &Path, samples: usize, rows: [usize; 2]) -> Result<Symbols> {
    let bytes = files::read(path, files::DATA)?;
    let hash = sha256(&bytes);
    check_encoding(&bytes, path)?;
    let text = files::to_text(bytes, path, files::DATA)?;
    // Python turns both into newlines when it reads text.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let mut symbols = Symbols {
        start: tab(),
        end: newline(),
        unit: Unit::Character,
        path: path.to_owned(),
        ..Symbols::default()
    };
    let (mut source, mut target) =
        (std::collections::BTreeSet::new(), std::collections::BTreeSet::from(['\t', '\n']));
    for (number, line) in lines[..samples.min(lines.len() - 1)].iter().enumerate() {
        let mut columns = line.split('\t');
        let (Some(from), Some(to)) = (columns.next(), columns.next()) else {
            let error = Error::new(ErrorKind::Data, "a line without a tab").at_line(
                path,
                Some(number as u64 + 1),
                None,
            );
            return Err(error.help("each line is source TAB target; further columns are passed over"));
        };
        source.extend(from.chars());
        target.extend(to.chars());
        symbols.longest_source = symbols.longest_source.max(from.chars().count());
        symbols.longest_target = symbols.longest_target.max(to.chars().count() + 2);
        symbols.pairs += 1;
    }
    let numbered = |characters: std::collections::BTreeSet<char>, rows: usize| -> Vec<(String, usize)> {
        // One row more than symbols: row 0 was kept for padding.
        let first = usize::from(rows == characters.len() + 1);
        characters.into_iter().enumerate().map(|(at, c)| (c.to_string(), at + first)).collect()
    };
    symbols.source = numbered(source, rows[0]);
    symbols.target = numbered(target, rows[1]);
    symbols.examples = candidates(lines[..symbols.pairs].iter().map(|line| {
        let (from, rest) = line.split_once('\t').unwrap_or_default();
        (from, rest.split('\t').next().unwrap_or_default())
    }));
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    symbols.file = Some(DataFile { file, sha256: hash, pairs: symbols.pairs });
    Ok(symbols)
}

/// A symbol that no text is likely to have: the picture of a null character, or the next such picture that is
/// free.
pub(super) fn unused(symbols: &[(String, usize)]) -> String {
    ('\u{2400}'..='\u{2426}')
        .map(String::from)
        .find(|symbol| !symbols.iter().any(|(known, _)| known == symbol))
        .unwrap_or_default()
}

/// The source vocabulary: special symbols, the model's symbols, what fills texts up.
pub(super) fn source(symbols: &Symbols, filler: Option<&Filler>, masked: bool) -> Result<Side> {
    let unknown = symbols
        .unknown
        .as_ref()
        .and_then(|unknown| symbols.source.iter().find(|(symbol, _)| symbol == unknown));
    if let Some((symbol, _)) = symbols.source.iter().find(|(_, row)| masked && *row == 0) {
        return Err(masked_symbol(symbols, "source", symbol));
    }
    let mut side = Side { spec: spec(symbols), rows: vec![None; SPECIAL_SYMBOLS.len()] };
    side.rows[UNK as usize] = unknown.map(|(_, row)| *row);
    for (symbol, row) in symbols.source.iter().filter(|entry| Some(*entry) != unknown) {
        side.spec.symbols.push(symbol.clone());
        side.rows.push(Some(*row));
    }
    if let Some(filler) = filler {
        if filler.symbol.is_none() {
            side.spec.symbols.push(filler.padding.symbol.clone());
            side.rows.push(filler.row);
        }
        side.spec.padding = Some(filler.padding.clone());
    }
    checked(side, symbols, "source")
}

/// The target vocabulary: START and END have the rows of the symbols that the program put around targets.
pub(super) fn target(symbols: &Symbols, masked: bool) -> Result<Side> {
    let row = |symbol: &str| symbols.target.iter().find(|(known, _)| known == symbol).map(|(_, row)| *row);
    let unknown = symbols.unknown.as_deref().filter(|unknown| row(unknown).is_some());
    let special = [Some(symbols.start.as_str()), Some(symbols.end.as_str()), unknown];
    if let Some((symbol, _)) = symbols.target.iter().find(|(_, row)| masked && *row == 0) {
        return Err(masked_symbol(symbols, "target", symbol));
    }
    // A row without a symbol is padding, which Keras computes a probability for too.
    let nameless = symbols.target.first().is_some_and(|(_, row)| *row == 1).then_some(0);
    let mut side = Side { spec: spec(symbols), rows: vec![nameless] };
    side.rows.extend(special.iter().map(|symbol| symbol.and_then(row)));
    for (symbol, row) in symbols.target.iter().filter(|(symbol, _)| !special.contains(&Some(symbol.as_str())))
    {
        side.spec.symbols.push(symbol.clone());
        side.rows.push(Some(*row));
    }
    checked(side, symbols, "target")
}

fn spec(symbols: &Symbols) -> VocabularySpec {
    VocabularySpec {
        unit: symbols.unit,
        symbols: SPECIAL_SYMBOLS.map(str::to_owned).to_vec(),
        ..VocabularySpec::default()
    }
}

fn checked(side: Side, symbols: &Symbols, key: &str) -> Result<Side> {
    Vocabulary::from_spec(&side.spec).map_err(|e| {
        Error::new(ErrorKind::Data, e.message())
            .at_line(&symbols.path, None, Some(key))
            .help("for words, write \"unit\": \"token\"")
    })?;
    Ok(side)
}

fn masked_symbol(symbols: &Symbols, key: &str, symbol: &str) -> Error {
    Error::new(
        ErrorKind::Data,
        format!("{symbol:?} has id 0, which the model's Embedding masks: it never read this symbol"),
    )
    .at_line(&symbols.path, None, Some(key))
    .help("number symbols from 1 where mask_zero=True, as the training should have done")
}
