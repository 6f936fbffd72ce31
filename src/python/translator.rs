//! Texts to translations.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::translator::{Piece, Translation as Translated, TranslationStream, default_workers};
use s2s_runtime::{Error, ErrorKind, Result};

use crate::engines::{Engines, Spec};
use crate::errors::{exception, raise};
use crate::results::{Score, Translation};

/// The engines of a bundle; `s2s.Translator` is what people use.
#[pyclass(frozen, module = "s2s._native")]
pub(crate) struct Translator(Engines);

/// A text that is decoded while it is read.
#[pyclass(frozen, module = "s2s._native")]
pub(crate) struct Stream(Mutex<TranslationStream>);

/// A text of Python; one that has no UTF-8 form is an error of its own.
type Text = Result<String>;

/// Decoding options as a JSON object; `None` where nothing was asked for.
fn options(json: Option<&str>) -> Result<Option<DecodingOptions>> {
    // JSON is YAML, and errors of the YAML name the key; there is no file, and one line.
    let read = |text| DecodingOptions::from_yaml(text, "decoding");
    json.map(read).transpose().map_err(|error| {
        let help = error.help_text().map(str::to_owned);
        let plain = Error::new(error.kind(), error.message());
        help.into_iter().fold(plain, Error::help)
    })
}

fn texts(given: &Bound<'_, PyList>) -> PyResult<Vec<Text>> {
    let one = |(at, item): (usize, Bound<'_, PyAny>)| {
        let text = item
            .cast_into::<pyo3::types::PyString>()
            .map_err(|_| pyo3::exceptions::PyTypeError::new_err(format!("text {at} is no str")))?;
        Ok(text.to_cow().map(|text| text.into_owned()).map_err(|_| {
            Error::new(ErrorKind::Input, "the text has half of a surrogate pair, and no UTF-8 form")
        }))
    };
    given.iter().enumerate().map(one).collect()
}

/// Results as a list, in which an error is an exception object; unless errors are raised.
fn list<'py, T>(
    py: Python<'py>,
    results: Vec<Result<T>>,
    raises: bool,
    mut object: impl FnMut(T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for result in results {
        match result {
            Ok(value) => list.append(object(value)?)?,
            Err(error) if raises => return Err(raise(&error)),
            Err(error) => list.append(exception(py, &error)?)?,
        }
    }
    Ok(list)
}

impl Translator {
    fn run(
        &self,
        py: Python<'_>,
        given: &Bound<'_, PyList>,
        json: Option<&str>,
    ) -> PyResult<Vec<Result<Translated>>> {
        let options = options(json).map_err(|error| raise(&error))?;
        let settings = self.0.settings(py, options.as_ref()).map_err(|error| raise(&error))?;
        let texts = texts(given)?;
        let known: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
        let found = self
            .0
            .work(py, known.len(), |pool, from, end| Ok(pool.translate_with(&known[from..end], &settings)))?;
        Ok(beside(texts, found))
    }
}

/// What became of texts or pairs of them, those that could not be read among them.
fn beside<G, T>(given: Vec<Result<G>>, found: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut found = found.into_iter();
    let lost = || Err(Error::new(ErrorKind::Internal, "a text has no result"));
    given.into_iter().map(|one| one.and_then(|_| found.next().unwrap_or_else(lost))).collect()
}

#[pymethods]
impl Translator {
    #[new]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        engine: &str,
        device: &str,
        workers: Option<usize>,
        max_batch: usize,
    ) -> PyResult<Self> {
        let spec = || {
            let engine: EngineKind = engine.parse()?;
            let device: Device = device.parse()?;
            let workers = workers.unwrap_or_else(default_workers).max(1);
            Ok(Spec { path, engine, device, max_batch: max_batch.max(1), workers })
        };
        let opened = spec().and_then(|spec| Engines::open(py, spec));
        opened.map(Self).map_err(|error| raise(&error))
    }

    /// `tract` or `ort`.
    #[getter]
    fn engine(&self, py: Python<'_>) -> PyResult<String> {
        self.0.name(py).map_err(|error| raise(&error))
    }

    #[getter]
    fn workers(&self) -> usize {
        self.0.spec.workers
    }

    /// The best translation of each text.
    fn translate<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyList>,
        decoding: Option<&str>,
        raises: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let results = self.run(py, texts, decoding)?;
        list(py, results, raises, |one| Ok(one.best.text.into_pyobject(py)?.into_any()))
    }

    /// All there is to say about each text.
    fn details<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyList>,
        decoding: Option<&str>,
        raises: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let results = self.run(py, texts, decoding)?;
        list(py, results, raises, |one| Ok(Bound::new(py, Translation::new(py, one)?)?.into_any()))
    }

    /// All hypotheses of each text.
    fn n_best<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyList>,
        decoding: Option<&str>,
        raises: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let results = self.run(py, texts, decoding)?;
        list(py, results, raises, |one| {
            Ok(PyList::new(py, Translation::new(py, one)?.into_hypotheses())?.into_any())
        })
    }

    /// How probable given translations are.
    fn score<'py>(
        &self,
        py: Python<'py>,
        sources: &Bound<'py, PyList>,
        targets: &Bound<'py, PyList>,
        decoding: Option<&str>,
        raises: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let options = options(decoding).map_err(|error| raise(&error))?.unwrap_or_default();
        let both: Vec<Result<(String, String)>> = texts(sources)?
            .into_iter()
            .zip(texts(targets)?)
            .map(|(source, target)| Ok((source?, target?)))
            .collect();
        let pairs: Vec<(&str, &str)> = both.iter().flatten().map(|(s, t)| (s.as_str(), t.as_str())).collect();
        let found =
            self.0.work(py, pairs.len(), |pool, from, end| pool.score_each(&pairs[from..end], &options))?;
        list(py, beside(both, found), raises, |one| Ok(Bound::new(py, Score::new(one))?.into_any()))
    }

    /// A text piece by piece.
    fn stream(&self, py: Python<'_>, text: &str, decoding: Option<&str>) -> PyResult<Stream> {
        let options = options(decoding).map_err(|error| raise(&error))?.unwrap_or_default();
        let stream = self.0.stream(py, text, &options).map_err(|error| raise(&error))?;
        Ok(Stream(Mutex::new(stream)))
    }
}

#[pymethods]
impl Stream {
    /// The next piece, or the whole as a `Translation` when it is done, or `None` behind that.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let piece = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next());
        match piece {
            None => Ok(None),
            Some(Ok(Piece::Text(text))) => Ok(Some(text.into_pyobject(py)?.into_any())),
            Some(Ok(Piece::Done(done))) => Ok(Some(Bound::new(py, Translation::new(py, *done)?)?.into_any())),
            Some(Err(error)) => Err(raise(&error)),
        }
    }

    /// Stops decoding; what there is comes as the end.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).cancel());
    }
}
