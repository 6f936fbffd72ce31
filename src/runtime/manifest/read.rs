//! Manifests read from YAML, checked, and written.

use std::path::Path;

use serde::Deserialize;

use super::newer::read_newer;
use super::quoting::flow_list;
use super::schema::{LONGEST_EXAMPLE, MOST_EXAMPLES, Manifest, Role, is_plain_name};
use super::wiring::StateWire;
use crate::contract::{self, MANIFEST_VERSION, SpecialIds};
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::{Vocabulary, check_tokeniser};
use crate::yaml;

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
    pub(super) fn check(&self) -> Result<(), (String, Error)> {
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
            let is_graph = self.graphs.values().any(|graph| graph.file == *name);
            if !is_plain_name(name) || is_graph || name == contract::file::MANIFEST {
                return wrong(
                    &key,
                    "no file that bundles list".to_owned(),
                    "the files are self_test.json, conformance.json, README.md, those of tokenisers, and \
                     those beside the graphs that have their weights",
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
            if let Some(name) =
                spec.tokeniser.iter().flat_map(|it| it.files()).find(|name| !is_plain_name(name))
            {
                let help = "write the name of a file that lies beside the manifest, without folders";
                let message = format!("{name:?} is not a plain file name");
                return wrong(&format!("{key}.tokeniser"), message, help);
            }
            if let Err((below, error)) = check_tokeniser(spec, self.special_ids, MOST_SYMBOLS) {
                return Err((format!("{key}.{below}"), error));
            }
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
        let step = self.wiring.encoder_step.as_ref();
        if step.is_some() != self.graphs.contains_key(&Role::EncoderStep) {
            let help = "a bundle has both, the graph and how it is run, or neither";
            let message = match step {
                Some(_) => format!("graphs lists no {}", Role::EncoderStep),
                None => format!(
                    "graphs lists an {}, and the wiring does not say how it is run",
                    Role::EncoderStep
                ),
            };
            return wrong("wiring.encoder_step", message, help);
        }
        let of_step = step.map_or(0, |step| step.states.len() + step.last.len() + step.memory.len());
        let wires = self.wiring.states.len() + self.wiring.memory.len() + of_step;
        if wires > MOST_WIRES {
            let message = format!("{wires} states and memories; at most {MOST_WIRES} are read");
            return wrong("wiring", message, "is this the right file?");
        }
        if let Some((key, message, help)) = self.wiring.states.iter().find_map(StateWire::fault) {
            return wrong(&format!("wiring.states.{key}"), message, help);
        }
        if self.wiring.decoder_prefix && !self.wiring.states.is_empty() {
            let help = "a decoder that is fed the whole prefix has no states: what it reads at each step beside the \
                tokens is `memory`; leave decoder_prefix out if it is fed one token at a time";
            return wrong("wiring.decoder_prefix", "the decoder has states too".to_owned(), help);
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
        let lists = [("source", &self.source), ("target", &self.target)];
        for (key, spec) in lists.into_iter().filter(|(_, spec)| spec.tokeniser.is_none()) {
            if let Err(error) = Vocabulary::with_special_ids(spec, self.special_ids) {
                let place = if self.special_ids == SpecialIds::default() { key } else { "special_ids" };
                let place = if place == key { format!("{key}.symbols") } else { place.to_owned() };
                return Err((place, error));
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
        let section = |text: &str, name: &str| {
            let missing = || internal(format!("no section {name:?} in the manifest"));
            text.rfind(&format!("\n{name}:\n")).map(|at| at + 1).ok_or_else(missing)
        };
        // The two sections are the last ones, and symbols the last key of each.
        for (end, symbols) in [(text.len(), &symbols[1]), (section(&text, "target")?, &symbols[0])] {
            if !symbols.is_empty() {
                text.insert_str(end, &format!("  symbols: {}\n", flow_list(symbols, 4)));
            }
        }
        if !examples.is_empty() {
            let at = section(&text, "source")?;
            text.insert_str(at, &format!("examples: {}\n", flow_list(&examples, 2)));
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

/// The line of a top-level key.
fn line_of(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .position(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')))?;
    u64::try_from(line + 1).ok()
}
