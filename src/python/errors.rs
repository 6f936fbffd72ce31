//! Our errors as the exceptions of `s2s/_errors.py`, which says what each is.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use s2s_runtime::{Error, ErrorKind, Place};

/// The class of an error, by its name in `s2s/_errors.py`.
fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "UsageError",
        ErrorKind::Config => "ConfigError",
        ErrorKind::Data => "DataError",
        ErrorKind::Bundle => "BundleError",
        ErrorKind::Parity => "ParityError",
        ErrorKind::Input => "InputError",
        ErrorKind::TooLong => "TooLongError",
        ErrorKind::Engine => "EngineError",
        ErrorKind::Io => "IoError",
        ErrorKind::Timeout => "TimeoutError",
        ErrorKind::Interrupted => "InterruptedError",
        _ => "Error",
    }
}

/// The exception object of an error.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("message", error.message())?;
    fields.set_item("help", error.help_text())?;
    match error.place() {
        Some(Place::File { path, line, key }) => {
            fields.set_item("file", path)?;
            fields.set_item("line", line)?;
            fields.set_item("key", key)?;
        }
        Some(Place::Graph { graph, node }) => {
            fields.set_item("graph", graph)?;
            fields.set_item("node", node)?;
        }
        _ => {}
    }
    py.import("s2s._errors")?.getattr(class(error.kind()))?.call((error.to_string(),), Some(&fields))
}

/// An error, to be raised.
pub(crate) fn raise(error: &Error) -> PyErr {
    Python::attach(|py| exception(py, error).map_or_else(|failed| failed, PyErr::from_value))
}
