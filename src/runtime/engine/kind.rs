//! The engines that there are, and whether they work on this machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use super::place::Place;
#[cfg(feature = "tract")]
use super::tract;
#[cfg(feature = "ort")]
use super::{library, ort};
use crate::error::{Error, ErrorKind, Result};

/// What runs the graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// The fastest for a bundle, as [`choice`](super::choice) says; for a single graph the first that is
    /// compiled in: tract, else ort.
    #[default]
    Auto,
    /// tract, pure Rust.
    Tract,
    /// ONNX Runtime, if its library is found.
    Ort,
}

/// What is known about one engine on this machine.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EngineReport {
    /// `tract` or `ort`.
    pub name: &'static str,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// The library, where there is one.
    pub path: Option<PathBuf>,
    /// Why it cannot be used; `None` if it can.
    pub problem: Option<String>,
    /// What to do about the problem.
    pub help: Option<String>,
    /// Why that library was taken: the kind of the place where it lies.
    pub origin: Option<&'static str>,
    /// Places where the library was looked for, in order.
    pub searched: Vec<Place>,
}

impl EngineKind {
    /// The engines that are compiled in.
    pub const COMPILED: &[Self] = &[
        #[cfg(feature = "tract")]
        Self::Tract,
        #[cfg(feature = "ort")]
        Self::Ort,
    ];

    /// As flags and reports have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tract => "tract",
            Self::Ort => "ort",
        }
    }

    /// The engine itself, `auto` being the first that is compiled in.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if it is not compiled in.
    pub fn resolve(self) -> Result<Self> {
        let found = if self == Self::Auto {
            Self::COMPILED.first()
        } else {
            Self::COMPILED.iter().find(|&&kind| kind == self)
        };
        found.copied().ok_or_else(|| {
            Error::new(ErrorKind::Engine, format!("the engine {self} is not compiled in"))
                .help("build s2s-runtime with its feature `tract` or `ort`")
        })
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let kind = [Self::Auto, Self::Tract, Self::Ort].into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is not an engine"))
                .help("choose auto, tract or ort")
        })
    }
}

/// The engines that are compiled in, and whether they work here; ONNX Runtime's library is loaded to find
/// out.
pub fn available() -> Vec<EngineReport> {
    EngineKind::COMPILED.iter().map(|&kind| report(kind)).collect()
}

pub(super) fn report(kind: EngineKind) -> EngineReport {
    let empty = EngineReport {
        name: kind.as_str(),
        version: None,
        path: None,
        problem: None,
        help: None,
        origin: None,
        searched: vec![],
    };
    match kind {
        #[cfg(feature = "tract")]
        EngineKind::Tract => EngineReport { version: Some(tract::VERSION.to_owned()), ..empty },
        #[cfg(feature = "ort")]
        EngineKind::Ort => {
            let searched = library::places();
            match ort::loaded() {
                Ok(loaded) => EngineReport {
                    version: loaded.version(),
                    path: Some(loaded.path),
                    origin: Some(loaded.origin),
                    searched,
                    ..empty
                },
                Err(error) => EngineReport {
                    problem: Some(error.to_string()),
                    help: error.help_text().map(str::to_owned),
                    searched,
                    ..empty
                },
            }
        }
        #[allow(unreachable_patterns)] // Unless a feature is off.
        _ => empty,
    }
}
