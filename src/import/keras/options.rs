//! What is imported, and how it is to be understood.

use std::path::{Path, PathBuf};

use s2s_runtime::vocabulary::PaddingSide;

use super::vocabulary::Origin;
use crate::import::run_name::run_name;

/// What the encoder of the model read behind (or before) shorter texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filling {
    /// As the model says: nothing if padding is masked, else rows of zeros (one-hot) or id 0 (embedding).
    #[default]
    Auto,
    /// Nothing: texts were never padded.
    Nothing,
    /// Rows of zeros stood around shorter texts.
    Zeros,
    /// Id 0 stood around shorter texts, which the embedding has a row for.
    IdZero,
    /// This symbol of the source vocabulary, as later versions of the tutorial have it with a space.
    Symbol(String),
}

/// What is imported, and how it is to be understood.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file or folder that Keras saved.
    pub model: PathBuf,
    /// The decoder model, where `model` is only the encoder.
    pub decoder: Option<PathBuf>,
    /// The description of the layers, where `model` has only their weights.
    pub config: Option<PathBuf>,
    /// Where the symbols of its rows come from.
    pub origin: Origin,
    /// The run's name; by default the file's.
    pub name: Option<String>,
    /// What short sources are filled up with.
    pub filling: Filling,
    /// Which end of them.
    pub side: PaddingSide,
    /// Up to how many symbols; by default the vocabulary's longest source.
    pub source_length: Option<usize>,
    /// Most characters that the tutorial's loop writes; by default the vocabulary's longest target.
    pub target_length: Option<usize>,
    /// Licence of the training data.
    pub licence: Option<String>,
    /// Attribution of the training data.
    pub attribution: Option<String>,
}

/// Names a run after the model's file, where nobody names it.
pub fn default_name(model: &Path) -> String {
    run_name(model, "keras")
}
