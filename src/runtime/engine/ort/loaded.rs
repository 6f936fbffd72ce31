//! ONNX Runtime's shared library, which is looked for and loaded when it is first needed.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::engine::library::{self, Library};
use crate::error::{Error, ErrorKind, Result};
use crate::panics::caught;

/// The oldest ONNX Runtime that is taken, `1.NN`.
pub const OLDEST: &str = "1.17";

/// The library that this process has loaded; one process can load only one.
#[derive(Clone)]
pub(in crate::engine) struct Loaded {
    pub(super) environment: Environment,
    /// Where it was found.
    pub(in crate::engine) path: PathBuf,
    /// Why it was looked for there.
    pub(in crate::engine) origin: &'static str,
}

impl Loaded {
    /// `major.minor.patch`, from the library's file name, or else from what it says about its build.
    pub(in crate::engine) fn version(&self) -> Option<String> {
        let numbers = library::numbers(&self.path);
        if numbers.len() >= 3 {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            return Some(numbers.join("."));
        }
        ort::info().split(['-', ' ', ',']).find(|part| part.starts_with("1.")).map(str::to_owned)
    }
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Finds and loads the library, once; a failure may be tried again.
pub(in crate::engine) fn loaded() -> Result<Loaded> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = slot.as_ref() {
        return Ok(loaded.clone());
    }
    let mut failures = vec![];
    for Library { path, origin } in library::find() {
        match initialise(&path) {
            Ok(environment) => {
                tracing::debug!(path = %path.display(), "loaded ONNX Runtime");
                return Ok(slot.insert(Loaded { environment, path, origin }).clone());
            }
            Err(reason) => failures.push(format!("{}: {reason}", path.display())),
        }
    }
    let message = if failures.is_empty() {
        "ONNX Runtime was not found".to_owned()
    } else {
        format!("ONNX Runtime could not be loaded ({})", failures.join("; "))
    };
    Err(Error::new(ErrorKind::Engine, message).help(format!(
        "install it (`pip install onnxruntime`), or set ORT_DYLIB_PATH to a libonnxruntime of {OLDEST} or \
         later; the engine tract needs nothing"
    )))
}

fn initialise(path: &std::path::Path) -> Result<Environment, String> {
    // `init_from` gives an error where the crate's other ways in panic; the guard is for a library that is
    // none.
    let attempt = || {
        ort::init_from(path)
            .map_err(|e| e.to_string())?
            .with_name("s2s")
            .with_telemetry(false)
            .build()
            .map_err(|e| e.to_string())
    };
    caught(attempt).unwrap_or_else(|_| Err("not an ONNX Runtime that fits".to_owned()))
}
