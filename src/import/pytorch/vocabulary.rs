//! Which row of the model each of our ids stands for.

use std::path::{Path, PathBuf};

use s2s_runtime::contract::{END, SPECIAL_SYMBOLS, START, UNK};
use s2s_runtime::vocabulary::{Padding, PaddingSide, Vocabulary, VocabularySpec};

use super::checkpoint::Checkpoint;
use super::mapping::{Mapping, Texts};
use crate::error::{Error, ErrorKind, Result};
use crate::import::onnx::read_symbols;
use crate::import::rows::Side;

/// The symbols of a side by row: those of the mapping, of a file, or of the checkpoint.
struct Symbols<'a> {
    /// In the order of rows.
    known: Vec<(String, usize)>,
    texts: &'a Texts,
    key: &'static str,
    /// The file that errors name.
    path: PathBuf,
}

impl<'a> Symbols<'a> {
    fn read(
        mapping: &'a Mapping,
        key: &'static str,
        file: Option<&Path>,
        checkpoints: &[Checkpoint],
        rows: usize,
    ) -> Result<Self> {
        let texts = if key == "source" { &mapping.source } else { &mapping.target };
        let wrong =
            |message: String| Error::new(ErrorKind::Config, message).at_line(&mapping.path, None, Some(key));
        let listed = |symbols: Vec<String>| symbols.into_iter().zip(0..).collect();
        let said = [texts.symbols.is_some(), texts.saved_as.is_some(), texts.file.is_some()];
        if file.is_none() && said.iter().filter(|&&said| said).count() > 1 {
            return Err(wrong("`symbols`, `file` and `saved_as` all name the symbols".to_owned())
                .help("leave one of them"));
        }
        let beside = texts.file.as_ref().map(|name| {
            let is_name = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
            is_name.then(|| mapping.path.with_file_name(name))
        });
        if beside == Some(None) {
            return Err(wrong("`file` is no name of a file beside the mapping".to_owned())
                .help(format!("name one in its folder, or give --{key}-vocabulary FILE")));
        }
        let file = file.map(Path::to_owned).or(beside.flatten());
        let (mut known, path): (Vec<(String, usize)>, _) = match (file, &texts.symbols, &texts.saved_as) {
            (Some(file), ..) => (listed(read_symbols(&file)?), file),
            (None, Some(symbols), _) => (listed(symbols.clone()), mapping.path.clone()),
            (None, None, Some(place)) => {
                let found = checkpoints.iter().find_map(|checkpoint| checkpoint.texts(place));
                let known = found.ok_or_else(|| {
                    wrong(format!("the checkpoint has no list of symbols at {place}"))
                        .help(format!("give a file of them: --{key}-vocabulary FILE"))
                })?;
                (known, mapping.path.clone())
            }
            (None, None, None) => {
                let message = format!("nothing says what the rows of the {key} stand for");
                return Err(Error::new(ErrorKind::Usage, message).help(format!(
                    "give --{key}-vocabulary FILE: one symbol a line, or JSON; or `symbols` in the mapping"
                )));
            }
        };
        known.sort_by_key(|(_, row)| *row);
        let message = match known.iter().find(|(_, row)| *row >= rows) {
            Some((symbol, row)) => {
                format!("symbol {symbol:?} has row {row}, and the {key} embedding has {rows} rows")
            }
            None if known.windows(2).any(|pair| pair[0].1 == pair[1].1) => {
                "two symbols have the same row".to_owned()
            }
            None => return Ok(Self { known, texts, key, path }),
        };
        Err(Error::new(ErrorKind::Data, message)
            .in_file(&path)
            .help("the vocabulary and the checkpoint are of different models"))
    }

    /// The row of a symbol that the mapping names.
    fn row(&self, role: &str, symbol: Option<&String>) -> Result<Option<usize>> {
        let Some(symbol) = symbol else { return Ok(None) };
        match self.known.iter().find(|(known, _)| known == symbol) {
            Some((_, row)) => Ok(Some(*row)),
            None => {
                let message = format!("`{role}` is {symbol:?}, which is no symbol of the {}", self.key);
                Err(Error::new(ErrorKind::Data, message).in_file(&self.path))
            }
        }
    }

    /// Our ids: four special ones with their rows, then all other symbols.
    fn side(&self, special: [Option<usize>; 4]) -> Result<Side> {
        let mut side = Side {
            spec: VocabularySpec {
                unit: self.texts.unit,
                normalisation: self.texts.normalisation.clone(),
                symbols: SPECIAL_SYMBOLS.map(str::to_owned).to_vec(),
                ..VocabularySpec::default()
            },
            rows: special.to_vec(),
        };
        for (symbol, row) in self.known.iter().filter(|(_, row)| !special.contains(&Some(*row))) {
            side.spec.symbols.push(symbol.clone());
            side.rows.push(Some(*row));
        }
        Ok(side)
    }

    fn checked(&self, side: Side) -> Result<Side> {
        Vocabulary::from_spec(&side.spec).map_err(|e| {
            Error::new(ErrorKind::Data, e.message()).at_line(&self.path, None, Some(self.key)).help(
                "`unit: token` is for words and phones, `unit: character` for letters; each symbol comes once",
            )
        })?;
        Ok(side)
    }
}

/// The source vocabulary: what stands behind each source is one of its symbols, and the graphs put it there.
pub(super) fn source(
    mapping: &Mapping,
    file: Option<&Path>,
    checkpoints: &[Checkpoint],
    rows: usize,
) -> Result<Side> {
    let symbols = Symbols::read(mapping, "source", file, checkpoints, rows)?;
    let texts = symbols.texts;
    if texts.start.is_some() {
        let error = Error::new(ErrorKind::Config, "nothing can be put before a source yet");
        return Err(error.at_line(&mapping.path, None, Some("source.start")));
    }
    let mut special = [None; 4];
    special[0] = symbols.row("source.pad", texts.pad.as_ref())?;
    special[UNK as usize] = symbols.row("source.unknown", texts.unknown.as_ref())?;
    // Symbols that no text has; a vocabulary of ours has them on both sides.
    for id in [START as usize, END as usize] {
        special[id] =
            symbols.known.iter().find(|(symbol, _)| symbol == SPECIAL_SYMBOLS[id]).map(|known| known.1);
    }
    let mut side = symbols.side(special)?;
    if let Some(end) = &texts.end {
        symbols.row("source.end", Some(end))?;
        let symbol = end.clone();
        side.spec.padding = Some(Padding { symbol, length: 1, least: 1, side: PaddingSide::Right });
    }
    if let Some(padding) = &texts.padding {
        if texts.end.is_some() {
            let error = Error::new(ErrorKind::Config, "`end` stands behind each source already");
            return Err(error.at_line(&mapping.path, None, Some("source.padding")));
        }
        side.spec.padding = Some(padding.clone());
    }
    symbols.checked(side)
}

/// The target vocabulary.
pub(super) fn target(
    mapping: &Mapping,
    file: Option<&Path>,
    checkpoints: &[Checkpoint],
    rows: usize,
) -> Result<Side> {
    let symbols = Symbols::read(mapping, "target", file, checkpoints, rows)?;
    let texts = symbols.texts;
    for (role, symbol) in [("start", &texts.start), ("end", &texts.end)] {
        if symbol.is_none() {
            let message = format!("the key `target.{role}` is missing");
            let help = "what the decoder reads first is `start`, and what ends an output is `end`";
            return Err(Error::new(ErrorKind::Config, message).in_file(&mapping.path).help(help));
        }
    }
    let special = [
        ("target.pad", &texts.pad),
        ("target.start", &texts.start),
        ("target.end", &texts.end),
        ("target.unknown", &texts.unknown),
    ];
    let mut rows = [None; 4];
    for (to, (role, symbol)) in rows.iter_mut().zip(special) {
        *to = symbols.row(role, symbol.as_ref())?;
    }
    symbols.checked(symbols.side(rows)?)
}
