//! The pairs of an experiment: read or made, split and counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use s2s_runtime::bundle::sha256;
use s2s_runtime::files;
use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};

use super::counting::Counter;
use super::lengths::{Length, check_length};
use super::pairs::{Pairs, Part};
use super::report::DataReport;
use super::{Progress, dates, formats};
use crate::config::checked::{Data, DataOrigin, Files, Validation, VocabularyFrom};
use crate::error::{Error, ErrorKind, Result};
use s2s_kernels::random::Random;

/// Training and validation pairs of an experiment.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The pairs whose loss is minimised.
    pub train: Part,
    /// The pairs that are scored after each epoch.
    pub validation: Part,
    /// The files that were read, for the bundle's provenance; a self-made task is named instead.
    pub sources: Vec<DataFile>,
    /// Where the files lie; `None` for a self-made task.
    pub folder: Option<PathBuf>,
    /// The pairs of each file as it was read.
    files: Vec<Arc<Pairs>>,
}

/// What the Keras tutorial prints about its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Training and validation pairs.
    pub samples: usize,
    /// The pairs whose loss is minimised.
    pub training: usize,
    /// How many pairs are held back for validation.
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

/// What one pass over the pairs counts.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Of the sources; the special ids lie in front, `longest` is that of the pairs it is built from.
    pub source: Vocabulary,
    /// Of the targets, likewise.
    pub target: Vocabulary,
    /// Over all pairs, in the units of the vocabularies.
    pub statistics: Statistics,
}

impl Corpus {
    /// Reads or makes the pairs that the config names; `seed` draws a shuffled split.
    pub fn load(data: &Data, seed: u64, progress: &mut Progress<'_>) -> Result<Self> {
        let files = match &data.origin {
            DataOrigin::Dates(task) => {
                let (train, validation) = dates::task(task);
                let mut text = String::new();
                train.iter().chain(&validation).for_each(|p| text.extend([&p.source, "\t", &p.target, "\n"]));
                let source = DataFile {
                    file: "task: dates".to_owned(),
                    sha256: sha256(text.as_bytes()),
                    pairs: train.len() + validation.len(),
                };
                let [train, validation] =
                    [train, validation].map(|pairs| Part::whole(Arc::new(Pairs::from_iter(&pairs))));
                return Ok(Self {
                    train,
                    validation,
                    sources: vec![source],
                    folder: None,
                    files: Vec::new(),
                });
            }
            DataOrigin::Files(files) => files,
        };
        let (train, source) = read(&files.train, files.limit, files, data, progress)?;
        let (mut read_files, mut sources) = (vec![Arc::clone(&train)], vec![source]);
        let all = || u32::try_from(train.len()).unwrap_or(u32::MAX);
        let (train, validation) = match &files.validation {
            Validation::File(path) => {
                let (dev, source) = read(path, None, files, data, progress)?;
                read_files.push(Arc::clone(&dev));
                sources.push(source);
                (Part::whole(train), Part::whole(dev))
            }
            Validation::Shuffled(fraction) => {
                let mut positions: Vec<u32> = (0..all()).collect();
                // A stream that no epoch uses.
                Random::new(seed, u64::MAX).shuffle(&mut positions);
                split_tail(Part::listed(train, positions), *fraction, &files.train)?
            }
            Validation::Tail(fraction) => split_tail(Part::whole(train), *fraction, &files.train)?,
        };
        Ok(Self { train, validation, sources, folder: Some(files.folder.clone()), files: read_files })
    }

    /// What there is to say about each file before it is trained on; nothing about a self-made task.
    pub fn reports(&self, data: &Data, progress: &mut Progress<'_>) -> Vec<DataReport> {
        self.files
            .iter()
            .zip(&self.sources)
            .map(|(pairs, source)| DataReport::new(&source.file, pairs, data, progress))
            .collect()
    }

    /// Vocabularies of both sides and counts, in one pass.
    ///
    /// # Errors
    /// None that a text can cause.
    pub fn count(&self, data: &Data, progress: &mut Progress<'_>) -> Result<Counted> {
        let mut counters = [Counter::new(&data.source), Counter::new(&data.target)];
        let samples = self.train.len() + self.validation.len();
        let mut done = 0_usize;
        let mut add = |part: &Part, [source, target]: &mut [Counter; 2]| {
            for (from, to) in part.iter() {
                source.add(from);
                target.add(to);
                done += 1;
                if done.is_multiple_of(1 << 14) {
                    progress("counting", done, samples);
                }
            }
        };
        add(&self.train, &mut counters);
        let of_train = match data.vocabulary {
            VocabularyFrom::Train => Some([counters[0].vocabulary()?, counters[1].vocabulary()?]),
            VocabularyFrom::All => None,
        };
        add(&self.validation, &mut counters);
        let [source, target] = match of_train {
            Some(vocabularies) => vocabularies,
            None => [counters[0].vocabulary()?, counters[1].vocabulary()?],
        };
        let statistics = Statistics {
            samples,
            training: self.train.len(),
            validation: self.validation.len(),
            source_tokens: counters[0].unique(),
            target_tokens: counters[1].unique() + 2,
            longest_source: counters[0].longest(),
            longest_target: counters[1].longest() + 2,
        };
        Ok(Counted { source, target, statistics })
    }

    /// The pairs that vocabularies are built from.
    pub fn counted(&self, data: &Data) -> impl Iterator<Item = (&str, &str)> {
        let more = match data.vocabulary {
            VocabularyFrom::Train => None,
            VocabularyFrom::All => Some(self.validation.iter()),
        };
        self.train.iter().chain(more.into_iter().flatten())
    }
}

/// What to do where a file of data is not there.
pub const WHERE_DATA_LIES: &str = "put it there, or say where it is: data paths start at --data DIR (or \
    S2S_DATA), else at \
                                   `data.folder`, else at the config's folder";

/// The pairs of a file that can be trained on, and what is remembered of it.
fn read(
    path: &Path,
    limit: Option<usize>,
    files: &Files,
    data: &Data,
    progress: &mut Progress<'_>,
) -> Result<(Arc<Pairs>, DataFile)> {
    let bytes = files::read(path, files::DATA).map_err(|e| match e.kind() {
        ErrorKind::Io => e.help(WHERE_DATA_LIES),
        _ => e,
    })?;
    let mut lengths = [&data.source, &data.target].map(Length::new);
    let mut check =
        |line: u64, source: &str, target: &str| check_length([source, target], &mut lengths, path, line);
    let pairs = formats::collect(&bytes, path, &files.format, limit, &mut check, progress)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = DataFile { file, sha256: sha256(&bytes), pairs: pairs.len() };
    Ok((Arc::new(pairs), source))
}

fn split_tail(mut pairs: Part, fraction: f64, file: &Path) -> Result<(Part, Part)> {
    // As Keras rounds: the training part is the whole part of n * (1 - fraction).
    let kept = (pairs.len() as f64 * (1.0 - fraction)) as usize;
    if kept == 0 || kept == pairs.len() {
        let pairs = if pairs.len() == 1 { "1 pair".to_owned() } else { format!("{} pairs", pairs.len()) };
        let message = format!("{pairs} cannot be split with fraction {fraction}");
        return Err(Error::new(ErrorKind::Data, message)
            .in_file(file)
            .help("both parts need at least one pair"));
    }
    let validation = pairs.split_off(kept);
    Ok((pairs, validation))
}
