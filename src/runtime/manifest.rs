//! The manifest of a bundle, `s2s.yaml`: which graphs, how they are wired, vocabularies, decoding defaults,
//! provenance.

mod newer;
mod quoting;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::newer::read_newer;
use self::quoting::flow_list;
pub use self::quoting::quote;
use crate::contract::{self, MANIFEST_VERSION};
use crate::decoding::DecodingOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::VocabularySpec;
use crate::yaml;

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

/// Names of the graphs' inputs and outputs, and which output becomes which input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring {
    /// The encoder's input.
    pub encoder_input: String,
    /// The decoder's token input.
    pub decoder_input: String,
    /// The decoder's scores.
    pub decoder_output: String,
    /// What the scores are.
    #[serde(default)]
    pub output: OutputForm,
    /// Recurrent states, renewed at each step.
    pub states: Vec<StateWire>,
    /// What the encoder gives once and every step reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryWire>,
    /// The decoder's attention weights, f32 (batch, source_time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<String>,
}

impl Wiring {
    /// The encoder's outputs that decoding reads: states, then memory.
    pub fn encoder_outputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|wire| wire.encoder_output.as_str());
        states.chain(self.memory.iter().map(|wire| wire.encoder_output.as_str())).collect()
    }

    /// The decoder's inputs: the token, states, then memory.
    pub fn decoder_inputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|wire| wire.decoder_input.as_str());
        let memory = self.memory.iter().map(|wire| wire.decoder_input.as_str());
        std::iter::once(self.decoder_input.as_str()).chain(states).chain(memory).collect()
    }

    /// The decoder's outputs: the scores, next states, then the attention weights if there are any.
    pub fn decoder_outputs(&self) -> Vec<&str> {
        let states = self.states.iter().map(|wire| wire.decoder_output.as_str());
        std::iter::once(self.decoder_output.as_str()).chain(states).chain(self.attention.as_deref()).collect()
    }
}

/// What the decoder's scores are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputForm {
    /// Logarithms of probabilities, up to a constant of each row.
    #[default]
    Logits,
    /// Probabilities.
    Probabilities,
}

/// One recurrent state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateWire {
    /// Gives its first value.
    pub encoder_output: String,
    /// Reads it.
    pub decoder_input: String,
    /// Gives its next value.
    pub decoder_output: String,
}

/// One tensor that stays the same from step to step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryWire {
    /// Gives it.
    pub encoder_output: String,
    /// Reads it.
    pub decoder_input: String,
}

/// Ids of the special symbols; this version knows one assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialIds {
    /// Padding.
    pub pad: u32,
    /// First decoder input.
    pub start: u32,
    /// Last decoder target.
    pub end: u32,
    /// Unknown symbol.
    pub unk: u32,
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

impl Default for SpecialIds {
    fn default() -> Self {
        Self { pad: contract::PAD, start: contract::START, end: contract::END, unk: contract::UNK }
    }
}

impl Role {
    /// The roles that every export has.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::Decoder, Self::Training];
    /// Those and the one that is written only if asked for.
    pub const WITH_OPTIONAL: [Self; 4] = [Self::Encoder, Self::Decoder, Self::Training, Self::Translate];

    /// As it is written in manifests and metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Training => "training",
            Self::Translate => "translate",
        }
    }

    /// The file that our own exports use for it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Encoder => contract::file::ENCODER,
            Self::Decoder => contract::file::DECODER,
            Self::Training => contract::file::TRAINING,
            Self::Translate => contract::file::TRANSLATE,
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
            format!("`{text}` is no graph of a bundle; they are encoder, decoder, training and translate")
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
/// Symbols of a vocabulary: the largest in use have a quarter of that.
pub const MOST_SYMBOLS: usize = 1 << 20;
/// Ids of the longest training text, from which self tests and defaults are made.
const LONGEST_TEXT: usize = 1 << 24;
/// Bytes of a model's name, which stands in addresses and tables.
const LONGEST_NAME: usize = 1024;
/// States and memories of a decoder; a layer has two.
const MOST_WIRES: usize = 1024;
const SHA256_HELP: &str = "write the 64 hexadecimal digits that `sha256sum` prints for the file";

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// `major.minor` of a format version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether `found` can be read; `Ok(true)` if it is a newer minor version, whose unknown keys are passed
/// over.
pub(crate) fn check_version(found: &str) -> Result<bool> {
    let unreadable = |help: &str| {
        Error::new(
            ErrorKind::Bundle,
            format!("format version {found:?}; this program reads {MANIFEST_VERSION}"),
        )
        .help(help.to_owned())
    };
    let Some((major, minor)) = version(found) else {
        return Err(unreadable("a version is written as \"major.minor\", for example \"1.0\""));
    };
    let (our_major, our_minor) = version(MANIFEST_VERSION).unwrap_or_default();
    match major.cmp(&our_major) {
        std::cmp::Ordering::Greater => Err(unreadable("the bundle comes from a later version: update s2s")),
        std::cmp::Ordering::Less => {
            Err(unreadable("the bundle comes from an experimental version: export it again"))
        }
        std::cmp::Ordering::Equal => Ok(minor > our_minor),
    }
}

#[derive(Deserialize)]
struct Probe {
    format_version: String,
}

impl Manifest {
    /// Reads a manifest. Unknown keys are errors, unless the manifest is of a newer minor version.
    ///
    /// - `file`: what the text is called in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] with file, line and key.
    pub fn from_yaml(text: &str, file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let probe: Probe = yaml::from_str(text, file, ErrorKind::Bundle)?;
        let newer = check_version(&probe.format_version)
            .map_err(|error| error.at_line(file, line_of(text, "format_version"), Some("format_version")))?;
        let manifest: Self =
            if newer { read_newer(text, file)? } else { yaml::from_str(text, file, ErrorKind::Bundle)? };
        manifest.check().map_err(|(key, error)| {
            error.at_line(file, line_of(text, key.split('.').next().unwrap_or_default()), Some(&key))
        })?;
        Ok(manifest)
    }

    /// What serde cannot see; the key and what is wrong with it.
    fn check(&self) -> Result<(), (String, Error)> {
        let wrong = |key: &str, message: String, help: &str| {
            Err((key.to_owned(), Error::new(ErrorKind::Bundle, message).help(help.to_owned())))
        };
        for role in [Role::Encoder, Role::Decoder] {
            if !self.graphs.contains_key(&role) {
                return wrong(
                    "graphs",
                    format!("no {role} is listed"),
                    "a bundle has an encoder and a decoder",
                );
            }
        }
        for (role, graph) in &self.graphs {
            if !is_plain_name(&graph.file) {
                let help = "write the name of a file that lies beside the manifest, without folders";
                return wrong(
                    &format!("graphs.{role}.file"),
                    format!("{:?} is not a plain file name", graph.file),
                    help,
                );
            }
            if !is_sha256(&graph.sha256) {
                return wrong(
                    &format!("graphs.{role}.sha256"),
                    format!("{:?} is not a sha256", graph.sha256),
                    SHA256_HELP,
                );
            }
        }
        for (name, sha256) in &self.files {
            let key = format!("files.{name}");
            if !SIDE_FILES.contains(&name.as_str()) {
                return wrong(
                    &key,
                    "no file that bundles list".to_owned(),
                    "the files are self_test.json, conformance.json and README.md",
                );
            }
            if !is_sha256(sha256) {
                return wrong(&key, format!("{sha256:?} is not a sha256"), SHA256_HELP);
            }
        }
        if self.name.len() > LONGEST_NAME {
            return wrong(
                "name",
                format!("{} bytes; at most {LONGEST_NAME} are read", self.name.len()),
                "give the model a short name",
            );
        }
        if self.examples.len() > MOST_EXAMPLES
            || self.examples.iter().any(|text| text.len() > LONGEST_EXAMPLE)
        {
            let message = format!(
                "a bundle has at most {MOST_EXAMPLES} examples of at most {LONGEST_EXAMPLE} bytes each"
            );
            return wrong(
                "examples",
                message,
                "keep a few short ones; nothing but the page of `s2s serve-local` needs them",
            );
        }
        for (key, spec) in [("source", &self.source), ("target", &self.target)] {
            let (symbols, longest) = (spec.symbols.len(), spec.longest);
            if symbols > MOST_SYMBOLS {
                let message = format!("{symbols} symbols; at most {MOST_SYMBOLS} are read");
                return wrong(&format!("{key}.symbols"), message, "is this the right file?");
            }
            if longest > LONGEST_TEXT {
                let message = format!("{longest} ids; at most {LONGEST_TEXT} are read");
                return wrong(
                    &format!("{key}.longest"),
                    message,
                    "write the ids of the longest training text, or leave it out",
                );
            }
        }
        let wires = self.wiring.states.len() + self.wiring.memory.len();
        if wires > MOST_WIRES {
            let message = format!("{wires} states and memories; at most {MOST_WIRES} are read");
            return wrong("wiring", message, "is this the right file?");
        }
        if self.special_ids != SpecialIds::default() {
            let help = "this version reads pad 0, start 1, end 2, unk 3 only; reorder the rows of the embedding and of the output layer";
            return wrong("special_ids", format!("unknown assignment {:?}", self.special_ids), help);
        }
        let inputs = self.wiring.decoder_inputs();
        for (i, name) in inputs.iter().enumerate() {
            if inputs[..i].contains(name) {
                return wrong(
                    "wiring",
                    format!("the decoder's input `{name}` is fed twice"),
                    "each input is fed by one state, memory or the token",
                );
            }
        }
        for (key, padding) in
            [("target.padding", &self.target.padding), ("target.graph_padding", &self.target.graph_padding)]
        {
            if padding.is_some() {
                return wrong(
                    key,
                    "only sources are filled up".to_owned(),
                    "write the key under `source`, or leave it out",
                );
            }
        }
        if self.source.padding.is_some() && self.source.graph_padding.is_some() {
            let help = "leave `padding` out where the graphs fill up sources by themselves";
            return wrong("source.padding", "sources are filled up twice".to_owned(), help);
        }
        for (key, spec) in [("source", &self.source), ("target", &self.target)] {
            if let Err(error) = crate::vocabulary::Vocabulary::from_spec(spec) {
                return Err((format!("{key}.symbols"), error));
            }
        }
        Ok(())
    }

    /// The text of `s2s.yaml`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if what was written would not be read back as the same.
    pub fn to_yaml(&self) -> Result<String> {
        let internal = |message: String| Error::new(ErrorKind::Internal, message);
        let mut bare = self.clone();
        let symbols = [std::mem::take(&mut bare.source.symbols), std::mem::take(&mut bare.target.symbols)];
        let examples = std::mem::take(&mut bare.examples);
        let mut text = serde_yaml::to_string(&bare)
            .map_err(|e| internal(format!("the manifest cannot be written: {e}")))?;
        // Serde would write one symbol a line, quoted only where YAML needs it: long, and hard to compare by
        // eye.
        for (section, symbols) in ["\nsource:\n", "\ntarget:\n"].into_iter().zip(&symbols) {
            const EMPTY: &str = "\n  symbols: []\n";
            let section = text
                .find(section)
                .ok_or_else(|| internal(format!("no section {section:?} in the manifest")))?;
            let at = section
                + text[section..]
                    .find(EMPTY)
                    .ok_or_else(|| internal("no symbols in the manifest".to_owned()))?;
            text.replace_range(at..at + EMPTY.len(), &format!("\n  symbols: {}\n", flow_list(symbols, 4)));
        }
        if !examples.is_empty() {
            let at =
                text.find("\nsource:\n").ok_or_else(|| internal("no source in the manifest".to_owned()))?;
            text.insert_str(at + 1, &format!("examples: {}\n", flow_list(&examples, 2)));
        }
        let again = Self::from_yaml(&text, contract::file::MANIFEST)?;
        let texts =
            (&again.source, &again.target, &again.examples) == (&self.source, &self.target, &self.examples);
        if !texts || (&again.wiring, &again.graphs) != (&self.wiring, &self.graphs) {
            return Err(internal("the manifest would not be read back as it was written".to_owned()));
        }
        Ok(text)
    }
}

/// A name that cannot leave the folder that it is looked up in, on any system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

/// The line of a top-level key.
fn line_of(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .position(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')))?;
    u64::try_from(line + 1).ok()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
