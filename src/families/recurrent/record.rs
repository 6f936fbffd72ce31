//! What the folder of a run on texts keeps beside the weights.

use s2s_runtime::manifest::DataFile;
use s2s_runtime::vocabulary::{Vocabulary, VocabularySpec};
use serde::{Deserialize, Serialize};

use super::candidates::Candidate;
use crate::config::Config;
use crate::data::corpus::Statistics;
use crate::error::Result;
use crate::network::{Network, Seq2Seq};
use crate::train::{self, Origin, Trainable};

/// A run of an encoder-decoder.
pub type Run = train::Run<Seq2Seq>;

/// A checkpoint of an encoder-decoder.
pub type Checkpoint = train::checkpoint::Checkpoint<Seq2Seq>;

/// What `vocabulary.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTexts {
    /// Source vocabulary.
    pub source: VocabularySpec,
    /// Target vocabulary.
    pub target: VocabularySpec,
    /// Counts of the data.
    pub statistics: Statistics,
    /// The data files.
    pub data: Vec<DataFile>,
    /// The run whose weights and vocabularies this one took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<Origin>,
    /// Pairs that a bundle's examples are chosen from; runs of older versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Candidate>,
}

/// The same, with vocabularies that encode and decode.
#[derive(Clone, Debug)]
pub struct Texts {
    /// Source vocabulary.
    pub source: Vocabulary,
    /// Target vocabulary.
    pub target: Vocabulary,
    /// Counts of the data.
    pub statistics: Statistics,
    /// The data files.
    pub data: Vec<DataFile>,
    /// The run whose weights and vocabularies this one took.
    pub init_from: Option<Origin>,
    /// Pairs that a bundle's examples are chosen from.
    pub examples: Vec<Candidate>,
}

impl Trainable for Seq2Seq {
    type Config = Config;
    type Stored = StoredTexts;
    type Record = Texts;
    const RECORD: &'static str = "vocabulary.json";

    fn open(stored: StoredTexts) -> Result<Texts> {
        let StoredTexts { source, target, statistics, data, init_from, examples } = stored;
        let (source, target) = (Vocabulary::from_spec(&source)?, Vocabulary::from_spec(&target)?);
        Ok(Texts { source, target, statistics, data, init_from, examples })
    }

    fn of(config: &Config, record: &Texts) -> Result<Self> {
        Self::new(config.model.architecture(record.source.len(), record.target.len()))
    }

    fn data(record: &Texts) -> &[DataFile] {
        &record.data
    }

    fn origin(record: &Texts) -> Option<&Origin> {
        record.init_from.as_ref()
    }
}
