//! What a bundle says about itself.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use s2s_runtime::bundle::Bundle as Opened;
use s2s_runtime::decoding::UnknownPolicy;
use s2s_runtime::vocabulary::{TextLimits, Tokeniser};
use s2s_runtime::{Error, ErrorKind};

use crate::errors::raise;

/// An opened bundle; `s2s.Bundle` is what people use.
#[pyclass(frozen, module = "s2s._native")]
pub(crate) struct Bundle(Opened);

impl Bundle {
    fn side(&self, side: &str) -> &dyn Tokeniser {
        if side == "source" { &**self.0.source() } else { &**self.0.target() }
    }
}

#[pymethods]
impl Bundle {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| Opened::open(path)).map(Self).map_err(|error| raise(&error))
    }

    /// The manifest as JSON.
    fn manifest(&self) -> PyResult<String> {
        serde_json::to_string(&self.0.hashed_manifest()).map_err(|error| {
            raise(&Error::new(ErrorKind::Internal, "a manifest is no JSON").caused_by(error))
        })
    }

    /// A file of the bundle.
    fn file<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyBytes>> {
        self.0.file(name).map(|bytes| PyBytes::new(py, bytes))
    }

    /// Symbols of a side, special ones counted.
    fn size(&self, side: &str) -> usize {
        self.side(side).size()
    }

    /// The ids of a text as the encoder reads it, or without what stands around it.
    fn encode(&self, side: &str, text: &str) -> PyResult<Vec<u32>> {
        if side == "source" {
            return Ok(self.side(side).framed(text));
        }
        let encoded = self.side(side).tokenise(text, UnknownPolicy::Unk, TextLimits::NONE);
        encoded.map(|encoded| encoded.ids).map_err(|error| raise(&error))
    }
}
