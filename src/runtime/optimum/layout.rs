//! Which files of a folder hold the encoder and the decoder.

use std::path::Path;

use crate::bundle::files::Files;
use crate::error::{Error, ErrorKind, Result};

pub(crate) const CONFIG: &str = "config.json";
pub(super) const GENERATION_CONFIG: &str = "generation_config.json";
const ENCODER: &str = "encoder_model";
const FIRST: &str = "decoder_model";
const WITH_PAST: &str = "decoder_with_past_model";
const MERGED: &str = "decoder_model_merged";
const ONNX: &str = ".onnx";

/// The files of a folder that are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(super) encoder: String,
    pub(super) decoder: Decoder,
}

/// How the decoder is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// One graph for the first step and one for those with a past.
    Two { first: String, with_past: String },
    /// Both as the branches of one graph.
    Merged(String),
    /// Without past: it reads all tokens again at each step.
    Whole(String),
}

/// Whether files of these names are an Optimum folder: a config beside an encoder.
pub(crate) fn is_optimum(names: &[String]) -> bool {
    names.iter().any(|name| name == CONFIG) && names.iter().any(|name| suffix_of(name, ENCODER).is_some())
}

/// What stands between the part's name and `.onnx`: nothing, or `_quantized` and the like.
fn suffix_of<'a>(file: &'a str, part: &str) -> Option<&'a str> {
    let suffix = file.strip_prefix(part)?.strip_suffix(ONNX)?;
    (suffix.is_empty() || suffix.starts_with('_')).then_some(suffix)
}

impl Layout {
    /// The files of the folder `path`. A folder that has its graphs in several precisions must have them in
    /// the one without a suffix too.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] saying what was looked for and what is missing.
    pub(crate) fn of(path: &Path, names: &[String]) -> Result<Self> {
        let mut suffixes: Vec<&str> = names.iter().filter_map(|name| suffix_of(name, ENCODER)).collect();
        suffixes.sort_unstable();
        let mut complete =
            suffixes.iter().filter_map(|suffix| Some((*suffix, Self::with_suffix(suffix, names)?)));
        // The one without a suffix is the first.
        if let Some((suffix, layout)) = complete.next() {
            return match complete.next() {
                Some((other, _)) if !suffix.is_empty() => Err(Error::new(
                    ErrorKind::Bundle,
                    format!("two models in one folder: {ENCODER}{suffix}{ONNX} and {ENCODER}{other}{ONNX}"),
                )
                .in_file(path)
                .help("keep the files of one of them")),
                _ => Ok(layout),
            };
        }
        let message =
            format!("an Optimum folder without a decoder: {ENCODER}{ONNX} is there, and none of the others");
        let has = |part: &str| names.iter().any(|name| suffix_of(name, part).is_some());
        let help = if has(WITH_PAST) {
            format!("{WITH_PAST}{ONNX} takes the encoder's keys and values from {FIRST}{ONNX}: copy that too")
        } else {
            format!(
                "looked for {FIRST}{ONNX} and {WITH_PAST}{ONNX}, for {MERGED}{ONNX}, for {FIRST}{ONNX} alone"
            )
        };
        Err(Error::new(ErrorKind::Bundle, message).in_file(path).help(help))
    }

    fn with_suffix(suffix: &str, names: &[String]) -> Option<Self> {
        let file = |part: &str| {
            let file = format!("{part}{suffix}{ONNX}");
            names.contains(&file).then_some(file)
        };
        let decoder = match (file(FIRST), file(WITH_PAST), file(MERGED)) {
            (Some(first), Some(with_past), _) => Decoder::Two { first, with_past },
            (_, _, Some(merged)) => Decoder::Merged(merged),
            (Some(first), None, None) => Decoder::Whole(first),
            (None, _, None) => return None,
        };
        Some(Self { encoder: file(ENCODER)?, decoder })
    }

    /// The graph that reads all tokens again, where the folder has one: what the step with past is held
    /// against.
    pub(crate) fn whole(&self) -> Option<&str> {
        match &self.decoder {
            Decoder::Two { first, .. } | Decoder::Whole(first) => Some(first),
            Decoder::Merged(_) => None,
        }
    }
}

/// Reads a file that must be there.
///
/// # Errors
/// [`ErrorKind::Bundle`] if it is missing; what reading gives.
pub(super) fn required(files: &mut dyn Files, name: &str, kind: crate::files::FileKind) -> Result<Vec<u8>> {
    files.read(name, kind)?.ok_or_else(|| {
        Error::new(ErrorKind::Bundle, "missing in this Optimum folder")
            .in_file(files.path(name))
            .help("copy the whole folder again, or export it again")
    })
}
