//! The pairs of an experiment: read or made, split, encoded, and grouped for scoring.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::{Unit, Vocabulary};
use serde::{Deserialize, Serialize};

use super::dates;
use super::pairs::{self, Pair};
use crate::config::checked::{Data, DataOrigin, Side, Validation, VocabularyFrom};
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

/// Training and validation pairs of an experiment.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Training pairs.
    pub train: Vec<Pair>,
    /// Validation pairs.
    pub validation: Vec<Pair>,
    /// The files that were read, for the bundle's provenance; a self-made task is named instead.
    pub sources: Vec<DataFile>,
    /// Where the files lie; `None` for a self-made task.
    pub folder: Option<PathBuf>,
}

/// A pair as ids, without START and END.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedPair {
    /// Source ids.
    pub source: Vec<u32>,
    /// Target ids.
    pub target: Vec<u32>,
}

/// A source text and everything that is right for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As it stands in the file.
    pub source: String,
    /// Its distinct targets, in the order of the file.
    pub references: Vec<String>,
}

/// What the Keras tutorial prints about its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Training and validation pairs.
    pub samples: usize,
    /// Training pairs.
    pub training: usize,
    /// Validation pairs.
    pub validation: usize,
    /// Unique tokens of all sources.
    pub source_tokens: usize,
    /// Unique tokens of all targets, START and END counted.
    pub target_tokens: usize,
    /// Tokens of the longest source.
    pub longest_source: usize,
    /// Tokens of the longest target, START and END counted.
    pub longest_target: usize,
}

impl Corpus {
    /// Reads or makes the pairs that the config names; `seed` draws a shuffled split.
    pub fn load(data: &Data, seed: u64) -> Result<Self> {
        let files = match &data.origin {
            DataOrigin::Dates(task) => {
                let (train, validation) = dates::task(task);
                let mut text = String::new();
                train.iter().chain(&validation).for_each(|p| text.extend([&p.source, "\t", &p.target, "\n"]));
                let source =
                    DataFile { file: "task: dates".to_owned(), sha256: sha256(text.as_bytes()), pairs: train.len() + validation.len() };
                return Ok(Self { train, validation, sources: vec![source], folder: None });
            }
            DataOrigin::Files(files) => files,
        };
        let mut sources = Vec::new();
        let mut counters = [&data.source, &data.target].map(|side| Counter { side, vocabulary: None });
        let mut read = |path: &Path, limit| -> Result<Vec<Pair>> {
            let bytes = files::read(path, files::DATA).map_err(|e| match e.kind() {
                ErrorKind::Io => e.help("data paths start at --data DIR (or S2S_DATA), else at `data.folder`, else at the config's folder"),
                _ => e,
            })?;
            let mut pairs = Vec::new();
            pairs::each(&bytes, path, files.format, limit, |line, pair| {
                check_length(&pair, &mut counters, path, line)?;
                pairs.push(pair);
                Ok(())
            })?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            sources.push(DataFile { file, sha256: sha256(&bytes), pairs: pairs.len() });
            Ok(pairs)
        };
        let mut train = read(&files.train, files.limit)?;
        let validation = match &files.validation {
            Validation::File(path) => read(path, None)?,
            Validation::Shuffled(fraction) => {
                // A stream that no epoch uses.
                Random::new(seed, u64::MAX).shuffle(&mut train);
                split_tail(&mut train, *fraction, &files.train)?
            }
            Validation::Tail(fraction) => split_tail(&mut train, *fraction, &files.train)?,
        };
        Ok(Self { train, validation, sources, folder: Some(files.folder.clone()) })
    }

    /// Vocabularies of both sides; the special ids lie in front, `longest` is that of the pairs they are built from.
    pub fn vocabularies(&self, data: &Data) -> (Vocabulary, Vocabulary) {
        let build = |side: &Side, text: fn(&Pair) -> &str| Vocabulary::build(side.unit, side.normalisation.clone(), self.texts(data, text));
        (build(&data.source, |p| &p.source), build(&data.target, |p| &p.target))
    }

    /// One side of the pairs that vocabularies are built from.
    pub fn texts(&self, data: &Data, text: fn(&Pair) -> &str) -> impl Iterator<Item = &str> {
        let more: &[Pair] = match data.vocabulary {
            VocabularyFrom::Train => &[],
            VocabularyFrom::All => &self.validation,
        };
        self.train.iter().chain(more).map(text)
    }

    /// Counts over all pairs, in the units of the vocabularies.
    pub fn statistics(&self, source: &Vocabulary, target: &Vocabulary) -> Statistics {
        let count = |vocabulary: &Vocabulary, text: fn(&Pair) -> &str| {
            let (mut unique, mut longest) = (BTreeSet::new(), 0);
            for pair in self.train.iter().chain(&self.validation) {
                let normalised = vocabulary.normalise(text(pair));
                let tokens = vocabulary.split(&normalised);
                longest = longest.max(tokens.len());
                for token in tokens {
                    if !unique.contains(token) {
                        unique.insert(token.to_owned());
                    }
                }
            }
            (unique.len(), longest)
        };
        let (source_tokens, longest_source) = count(source, |p| &p.source);
        let (target_tokens, longest_target) = count(target, |p| &p.target);
        Statistics {
            samples: self.train.len() + self.validation.len(),
            training: self.train.len(),
            validation: self.validation.len(),
            source_tokens,
            target_tokens: target_tokens + 2,
            longest_source,
            longest_target: longest_target + 2,
        }
    }
}

/// Longest text that is trained on, in tokens after normalisation: the memory of a step grows with the tokens of its pairs.
pub const LONGEST_TEXT: usize = 16_384;
/// Most source tokens times target tokens of a pair: the memory of attention grows with them, 8 bytes each.
pub const LARGEST_PAIR: usize = (LONGEST_TEXT / 2) * (LONGEST_TEXT / 2);

/// Counts the tokens of one side's texts.
struct Counter<'a> {
    side: &'a Side,
    /// Without a symbol: it normalises and splits. Made when a text is long enough to be counted.
    vocabulary: Option<Vocabulary>,
}

impl Counter<'_> {
    /// Whether a text is far from every bound, whatever its tokens are.
    fn is_short(&self, text: &str) -> bool {
        // Compatibility decomposition makes at most 18 characters of one (U+FDFA), lowercasing three.
        let growth = if self.side.normalisation.is_empty() { 1 } else { 18 * 3 };
        text.len() <= LONGEST_TEXT / 2 / growth
    }

    fn count(&mut self, text: &str) -> usize {
        let empty = || Vocabulary::build(self.side.unit, self.side.normalisation.clone(), std::iter::empty::<&str>());
        let vocabulary = self.vocabulary.get_or_insert_with(empty);
        let normalised = vocabulary.normalise(text);
        match self.side.unit {
            Unit::Character => normalised.chars().count(),
            Unit::Token => vocabulary.split(&normalised).len(),
        }
    }
}

/// Whether a pair can be trained on.
fn check_length(pair: &Pair, counters: &mut [Counter<'_>; 2], file: &Path, line: u64) -> Result<()> {
    let [source, target] = counters;
    if source.is_short(&pair.source) && target.is_short(&pair.target) {
        return Ok(());
    }
    let (sources, targets) = (source.count(&pair.source), target.count(&pair.target));
    let message = match () {
        () if sources > LONGEST_TEXT => format!("the source has {sources} tokens; at most {LONGEST_TEXT} can be trained on"),
        () if targets > LONGEST_TEXT => format!("the target has {targets} tokens; at most {LONGEST_TEXT} can be trained on"),
        () if sources * targets > LARGEST_PAIR => {
            format!("{sources} source and {targets} target tokens; their product can be at most {LARGEST_PAIR}")
        }
        () => return Ok(()),
    };
    let error = Error::new(ErrorKind::Data, message).at_line(file, Some(line), None);
    Err(error.help("cut the text into sentences, or take the line out: the memory of a step grows with its longest texts"))
}

fn split_tail(pairs: &mut Vec<Pair>, fraction: f64, file: &Path) -> Result<Vec<Pair>> {
    // As Keras rounds: the training part is the whole part of n * (1 - fraction).
    let kept = (pairs.len() as f64 * (1.0 - fraction)) as usize;
    if kept == 0 || kept == pairs.len() {
        let message = format!("{} pairs cannot be split with fraction {fraction}", pairs.len());
        return Err(Error::new(ErrorKind::Data, message).in_file(file).help("both parts need at least one pair"));
    }
    Ok(pairs.split_off(kept))
}

/// Encodes pairs; a text that normalises to nothing is an error, because there is nothing to learn from it.
pub fn encode(pairs: &[Pair], source: &Vocabulary, target: &Vocabulary) -> Result<Vec<EncodedPair>> {
    pairs
        .iter()
        .map(|pair| {
            let encoded = EncodedPair { source: source.encode(&pair.source), target: target.encode(&pair.target) };
            if encoded.source.is_empty() || encoded.target.is_empty() {
                let message = format!("nothing is left of the pair {:?}, {:?} after normalisation", pair.source, pair.target);
                return Err(Error::new(ErrorKind::Data, message).help("take the pair out of the data, or normalise less"));
            }
            Ok(encoded)
        })
        .collect()
}

/// Groups pairs by source text after normalisation, so that a prediction is right when it equals any of the references.
pub fn group(pairs: &[Pair], source: &Vocabulary) -> Vec<Group> {
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for pair in pairs {
        let index = *at.entry(source.normalise(&pair.source)).or_insert_with(|| {
            groups.push(Group { source: pair.source.clone(), references: Vec::new() });
            groups.len() - 1
        });
        if !groups[index].references.contains(&pair.target) {
            groups[index].references.push(pair.target.clone());
        }
    }
    groups
}
