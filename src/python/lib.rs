//! The extension module of the Python package `s2s`: the whole program as one shared library.
//!
//! | file | what it holds |
//! |---|---|
//! | `errors` | our errors as exceptions of the package |
//! | `engines` | the engines of an opened bundle, for any thread and any process |
//! | `translator`, `results` | texts to translations, and what Python reads of them |
//! | `bundle` | what a bundle says about itself |
//! | `commands` | training, export, verification and lint, as the commands do them |
//!
//! What people import is the Python beside it, in `s2s/`, which documents every function and has its types.
//! Here no lock is held while an engine works, and none is taken without Python's own.

#![forbid(unsafe_code)]

mod bundle;
mod commands;
mod engines;
mod errors;
mod results;
mod translator;

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;
use s2s_runtime::engine::library;

/// Runs the program `s2s` and gives its exit code; ends the process where it is asked for help.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| s2s::cli::main(arguments))
}

/// Names the folder in which this Python has ONNX Runtime's library.
#[pyfunction]
fn look_in(folder: PathBuf) {
    library::look_in(folder);
}

/// The extension module.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        bundle::Bundle,
        commands::{export, lint, train, verify},
        look_in, main,
        results::{Hypothesis, Score, Translation},
        translator::{Stream, Translator},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
