//! What the file `s2s.yaml` says, part by part.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wiring::Wiring;
use crate::contract::{self, SpecialIds};
use crate::decoding::DecodingOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::{TokeniserSpec, VocabularySpec};

/// Everything that the file `s2s.yaml` says, in the order in which it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest, `major.minor`; a graph says that of its own contract, of the same major.
    pub format_version: String,
    /// The model's name, as servers show it.
    pub name: String,
    /// What wrote the bundle, with its version.
    pub producer: String,
    /// From which language to which, where texts are of a language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub languages: Option<Languages>,
    /// Whether the graphs take ids or one-hot rows.
    #[serde(default)]
    pub io: Io,
    /// The graphs; encoder and decoder at least.
    pub graphs: BTreeMap<Role, GraphFile>,
    /// sha256 of the bundle's other files, by name: one that is listed must be there and be the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// sha256 of all weights, equal in the graphs of one export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// Which output goes into which input.
    pub wiring: Wiring,
    /// The ids of the special symbols.
    #[serde(default)]
    pub special_ids: SpecialIds,
    /// Decoding options of this bundle; requests and flags override them.
    #[serde(default)]
    pub decoding: DecodingOptions,
    /// The network's architecture, for tools; the runtime does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Value>,
    /// Where the weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Source texts for whoever tries the model, at most [`MOST_EXAMPLES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Source text to ids.
    pub source: VocabularySpec,
    /// Ids to target text.
    pub target: VocabularySpec,
}

/// Languages of the texts as BCP 47 codes (`en`, `zh-Hans`); servers choose models by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Languages {
    /// Of the source texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of the target texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The tensors that stand for tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Io {
    /// int64 ids, (batch, time).
    #[default]
    Ids,
    /// f32 rows, (batch, time, vocabulary): 1 at the id, PAD all zero.
    OneHot,
}

/// What a graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Role {
    /// Source to states.
    Encoder,
    /// One token and states to scores and states.
    Decoder,
    /// Teacher forcing, with the loss.
    Training,
    /// Source to target: encoder and greedy decoding in one graph with a Loop. Never needed, and not every
    /// engine can run it.
    Translate,
    /// One source token and the encoder's states to its next states: the encoder of runtimes that have neither
    /// LSTM nor GRU. The manifest's wiring says how it is run over a text.
    EncoderStep,
}

/// One graph's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFile {
    /// Name within the bundle; no folders.
    pub file: String,
    /// sha256 of the file, 64 hexadecimal digits.
    pub sha256: String,
}

/// Where the weights come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The training configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// Training data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataFile>,
    /// Scores of the exported weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Value>,
    /// Licence of the training data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Attribution that the licence of the training data asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
}

/// One file of training data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Its name.
    pub file: String,
    /// Its sha256.
    pub sha256: String,
    /// Pairs that were read from it.
    pub pairs: usize,
}

impl Manifest {
    /// The names of the files that the tokenisers of both sides are read from.
    pub fn tokeniser_files(&self) -> impl Iterator<Item = &str> {
        let specs = [&self.source, &self.target].into_iter().filter_map(|side| side.tokeniser.as_ref());
        specs.flat_map(TokeniserSpec::files)
    }
}

impl Role {
    /// The roles that every export has.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::Decoder, Self::Training];
    /// Those and the ones that are written only if asked for.
    pub const WITH_OPTIONAL: [Self; 5] =
        [Self::Encoder, Self::Decoder, Self::Training, Self::Translate, Self::EncoderStep];

    /// As it is written in manifests and metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Training => "training",
            Self::Translate => "translate",
            Self::EncoderStep => "encoder_step",
        }
    }

    /// The file that our own exports use for it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Encoder => contract::file::ENCODER,
            Self::Decoder => contract::file::DECODER,
            Self::Training => contract::file::TRAINING,
            Self::Translate => contract::file::TRANSLATE,
            Self::EncoderStep => contract::file::ENCODER_STEP,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ids => "ids",
            Self::OneHot => "one-hot",
        })
    }
}

// Through a string, so that errors below such a key can name it.
impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let role = Self::WITH_OPTIONAL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| {
            format!(
                "`{text}` is no graph of a bundle; they are encoder, decoder, training, translate and \
                 encoder_step"
            )
        })
    }
}

impl FromStr for Io {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ids" => Ok(Self::Ids),
            "one-hot" => Ok(Self::OneHot),
            _ => Err(Error::new(ErrorKind::Usage, format!("`{text}` is not a form of input and output"))
                .help("choose ids or one-hot")),
        }
    }
}

/// Files beside the graphs that a manifest may list with their hashes.
pub(crate) const SIDE_FILES: [&str; 3] =
    [contract::file::SELF_TEST, contract::file::CONFORMANCE, contract::file::README];
/// Most example texts of a bundle.
pub const MOST_EXAMPLES: usize = 5;
/// Bytes of the longest example text.
pub const LONGEST_EXAMPLE: usize = 200;
/// A name that cannot leave the folder that it is looked up in, on any system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
