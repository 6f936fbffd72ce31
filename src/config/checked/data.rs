//! Section `data`: which pairs, how a line becomes one, how its texts become tokens.

use std::path::{Path, PathBuf};

use s2s_runtime::vocabulary::{Normalisation, Unit};

use crate::config::raw::{Field, Section};
use crate::config::training::seed;
use crate::error::Result;

/// Where pairs come from and how their texts become tokens: section `data`.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// Files, or a task that the program makes itself.
    pub origin: DataOrigin,
    /// How source text becomes tokens.
    pub source: Side,
    /// How target text becomes tokens.
    pub target: Side,
    /// Which pairs the vocabularies are built from.
    pub vocabulary: VocabularyFrom,
    /// Licence of the data, for the bundle.
    pub licence: Option<String>,
    /// Who made the data, for the bundle.
    pub attribution: Option<String>,
}

/// Where pairs come from.
#[derive(Clone, Debug, PartialEq)]
pub enum DataOrigin {
    /// Read from files.
    Files(Files),
    /// Made by [`crate::data::dates`].
    Dates(DatesTask),
}

/// Files of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Where relative paths of data start.
    pub folder: PathBuf,
    /// The file of pairs, resolved.
    pub train: PathBuf,
    /// Where the validation pairs come from.
    pub validation: Validation,
    /// How a line is split.
    pub format: Format,
    /// Only the first pairs of `train` are read.
    pub limit: Option<usize>,
}

/// How a line becomes a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// How a line is cut.
    pub kind: FormatKind,
    /// 0-based column of the source.
    pub source: usize,
    /// 0-based column of the target.
    pub target: usize,
    /// What columns behind these are.
    pub extra: Extra,
    /// Whether the first line names the columns and is left out.
    pub header: bool,
    /// Whether a line without a source or a target is left out rather than an error.
    pub skip_empty: bool,
    /// Lines that begin so are left out.
    pub comment: Option<String>,
}

/// How a line is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatKind {
    /// At a separator, a tab by default; no quoting.
    Separated(String),
    /// At an ASCII character, a comma by default; fields may be quoted (RFC 4180).
    Csv(u8),
    /// An object of JSON a line, with the keys of source and target; `source` and `target`, or the only two
    /// texts, by default.
    Jsonl(Option<[String; 2]>),
}

/// What columns behind those of source and target are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// A line that has one is an error.
    #[default]
    Error,
    /// They are left out.
    Ignore,
    /// Text of the last column that is wanted, with the separators between them.
    Join,
}

impl Default for Format {
    /// Source, a tab, target.
    fn default() -> Self {
        let kind = FormatKind::Separated("\t".to_owned());
        Self {
            kind,
            source: 0,
            target: 1,
            extra: Extra::Error,
            header: false,
            skip_empty: false,
            comment: None,
        }
    }
}

impl Format {
    /// Columns that a line has at least.
    pub fn needed(&self) -> usize {
        1 + self.source.max(self.target)
    }
}

/// Where the validation pairs come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Validation {
    /// A file of its own, resolved.
    File(PathBuf),
    /// A part of the pairs, drawn with the seed of the training.
    Shuffled(f64),
    /// The last pairs of the file, as Keras does it.
    Tail(f64),
}

/// Which pairs the vocabularies are built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyFrom {
    /// The training part: symbols that only the validation part has become UNK, as in real use.
    Train,
    /// All pairs, as the Keras tutorial counts them.
    All,
}

/// The self-made task of dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatesTask {
    /// How many training pairs are made.
    pub train: usize,
    /// Validation pairs, with no source text of the training pairs.
    pub dev: usize,
    /// Seed of the task, so that the data stays when the training's seed changes.
    pub seed: u64,
}

/// How one side's text becomes tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Characters or whitespace-separated tokens.
    pub unit: Unit,
    /// Applied in this order, in training and in use.
    pub normalisation: Vec<Normalisation>,
}

const NORMALISATIONS: [(&str, Normalisation); 7] = [
    ("nfc", Normalisation::Nfc),
    ("nfd", Normalisation::Nfd),
    ("nfkc", Normalisation::Nfkc),
    ("nfkd", Normalisation::Nfkd),
    ("lowercase", Normalisation::Lowercase),
    ("trim", Normalisation::Trim),
    ("collapse_whitespace", Normalisation::CollapseWhitespace),
];

/// - `folder`: where relative paths start.
/// - `data_folder`: where the data files lie, whatever the config says.
pub(super) fn data(field: &Field<'_>, folder: &Path, data_folder: Option<&Path>) -> Result<Data> {
    let common = ["source", "target", "vocabulary", "licence", "attribution"];
    let of_files = [
        "folder",
        "train",
        "dev",
        "validation",
        "format",
        "separator",
        "columns",
        "header",
        "comment",
        "empty",
        "limit",
    ];
    let section = field.section(&[&["task"][..], &of_files, &common].concat())?;
    let text = |key: &str| section.get(key).map(|f| f.string().map(str::to_owned)).transpose();
    let origin = match section.get("task") {
        Some(task) => {
            if let Some(other) = of_files.iter().find_map(|key| section.get(key)) {
                return Err(other.error(
                    "a task makes its own pairs and reads no file",
                    "leave this key or `data.task` out",
                ));
            }
            DataOrigin::Dates(dates_task(&task)?)
        }
        None => DataOrigin::Files(files(&section, folder, data_folder)?),
    };
    let vocabulary = section.get("vocabulary").map_or(Ok(VocabularyFrom::Train), |f| {
        f.choice(&[("train", VocabularyFrom::Train), ("all", VocabularyFrom::All)])
    })?;
    Ok(Data {
        origin,
        source: side(&section, "source")?,
        target: side(&section, "target")?,
        vocabulary,
        licence: text("licence")?,
        attribution: text("attribution")?,
    })
}

fn dates_task(field: &Field<'_>) -> Result<DatesTask> {
    let default = DatesTask { train: 20_000, dev: 1_000, seed: 1 };
    if !field.is_map() {
        return field.choice(&[("dates", default)]);
    }
    let section = field.section(&["name", "train", "dev", "seed"])?;
    section.required("name", "dates")?.choice(&[("dates", ())])?;
    let count = |key: &str, default| section.get(key).map_or(Ok(default), |f| f.count(1..=10_000_000));
    Ok(DatesTask {
        train: count("train", default.train)?,
        dev: count("dev", default.dev)?,
        seed: seed(&section, default.seed)?,
    })
}

fn files(section: &Section<'_>, folder: &Path, data_folder: Option<&Path>) -> Result<Files> {
    let named = section.get("folder").map(|f| f.string().map(|s| folder.join(s))).transpose()?;
    let base = data_folder.map(Path::to_owned).or(named).unwrap_or_else(|| folder.to_owned());
    let path = |f: Field<'_>| f.string().map(|s| base.join(s));
    let train = path(section.required("train", "pairs.tsv")?)?;
    let part = match (section.get("dev"), section.get("validation")) {
        (Some(_), Some(split)) => {
            return Err(split.error("both `dev` and `validation` are given", "keep one of them"));
        }
        (Some(dev), None) => Validation::File(path(dev)?),
        (None, Some(split)) => validation(&split)?,
        (None, None) => {
            return Err(section.whole().error(
                "no validation pairs are named",
                "add `dev: dev.tsv` or `validation: {split: shuffled, fraction: 0.1}`",
            ));
        }
    };
    let format = format(section)?;
    let limit = section.get("limit").map(|f| f.count(2..=u32::MAX)).transpose()?;
    Ok(Files { folder: base, train, validation: part, format, limit })
}

/// The keys that say how a line becomes a pair.
fn format(section: &Section<'_>) -> Result<Format> {
    let tabs = || FormatKind::Separated("\t".to_owned());
    let [tsv, csv, jsonl] = [0, 1, 2];
    let named = section
        .get("format")
        .map_or(Ok(tsv), |f| f.choice(&[("tsv", tsv), ("csv", csv), ("jsonl", jsonl)]))?;
    // Neither fits objects, whose keys are named.
    if named == jsonl
        && let Some(other) = ["separator", "header", "comment"].iter().find_map(|key| section.get(key))
    {
        return Err(
            other.error("`format: jsonl` has no such thing", "leave this key out, or name another format")
        );
    }
    let one_byte = |field: &Field<'_>, text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err(field.error(
            format!("`format: csv` takes one ASCII character here, not {text:?}"),
            "give one such as \";\", or leave `format: csv` out: then it may be of any length, and quotes \
             are text",
        )),
    };
    let kind = match (named == csv, section.get("separator")) {
        (true, None) => FormatKind::Csv(b','),
        (true, Some(field)) => FormatKind::Csv(one_byte(&field, field.string()?)?),
        (false, None) => tabs(),
        (false, Some(field)) => {
            let separator = field.string()?;
            if separator.contains(['\n', '\r']) {
                return Err(field.error(
                    "a line ends there and is not cut",
                    "give what stands between source and target in a line",
                ));
            }
            FormatKind::Separated(separator.to_owned())
        }
    };
    let comment = section.get("comment").map(|f| {
        let mark = f.string()?;
        if named == csv { one_byte(&f, mark).map(|_| mark.to_owned()) } else { Ok(mark.to_owned()) }
    });
    let mut format = Format {
        kind: if named == jsonl { FormatKind::Jsonl(None) } else { kind },
        header: section.get("header").map_or(Ok(false), |f| f.boolean())?,
        skip_empty: section
            .get("empty")
            .map_or(Ok(false), |f| f.choice(&[("error", false), ("skip", true)]))?,
        comment: comment.transpose()?,
        ..Format::default()
    };
    let Some(field) = section.get("columns") else { return Ok(format) };
    let columns = field.section(&["source", "target", "extra"])?;
    let extra = [("error", Extra::Error), ("ignore", Extra::Ignore), ("join", Extra::Join)];
    format.extra = columns.get("extra").map_or(Ok(Extra::Error), |f| f.choice(&extra))?;
    let same = |help: &str| Err(field.error("source and target are the same column", help));
    if let FormatKind::Jsonl(names) = &mut format.kind {
        let name = |key: &str| columns.get(key).map_or(Ok(key), |f| f.string()).map(str::to_owned);
        let both = [name("source")?, name("target")?];
        if both[0] == both[1] {
            return same("name two keys of the objects: {source: en, target: fr}");
        }
        *names = (columns.get("source").is_some() || columns.get("target").is_some()).then_some(both);
        return Ok(format);
    }
    let column =
        |key: &str, default| columns.get(key).map_or(Ok(default), |f| f.count(1..=1_000).map(|c| c - 1));
    (format.source, format.target) = (column("source", 0)?, column("target", 1)?);
    if format.source == format.target {
        return same("columns count from 1: {source: 1, target: 2}");
    }
    Ok(format)
}

/// A part of the data, for validation.
pub(in crate::config) fn validation(field: &Field<'_>) -> Result<Validation> {
    let split = field.section(&["split", "fraction"])?;
    let kind: fn(f64) -> Validation = split
        .required("split", "shuffled")?
        .choice(&[("shuffled", Validation::Shuffled as fn(f64) -> Validation), ("tail", Validation::Tail)])?;
    Ok(kind(
        split.required("fraction", "0.1")?.number("a number above 0 and below 1", |v| v > 0.0 && v < 1.0)?,
    ))
}

fn side(data: &Section<'_>, key: &str) -> Result<Side> {
    let Some(field) = data.get(key) else {
        return Ok(Side { unit: Unit::Character, normalisation: Vec::new() });
    };
    let section = field.section(&["unit", "normalisation", "language"])?;
    let unit = section.get("unit").map_or(Ok(Unit::Character), |f| {
        f.choice(&[("character", Unit::Character), ("token", Unit::Token)])
    })?;
    let normalisation = match section.get("normalisation") {
        Some(list) => list.list()?.iter().map(|f| f.choice(&NORMALISATIONS)).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    // Only bundles and servers use it: they read it from the config that travels along.
    if let Some(language) = section.get("language") {
        let code = language.string()?;
        if !code.starts_with(|c: char| c.is_ascii_alphabetic())
            || !code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        {
            return Err(language.error(
                format!("`{code}` is no language code"),
                "give a BCP 47 code such as `en`, `fr` or `zh-Hans`",
            ));
        }
    }
    Ok(Side { unit, normalisation })
}
