//! What Python reads of a translation.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use s2s_runtime::translator::{Alternative, Translation as Translated};

/// One translation of a text, with what was asked for about it.
#[pyclass(frozen, module = "s2s")]
pub(crate) struct Hypothesis(Alternative);

/// A text's best translation with all others that were asked for.
#[pyclass(frozen, module = "s2s")]
pub(crate) struct Translation {
    #[pyo3(get)]
    source_tokens: usize,
    #[pyo3(get)]
    unknown: Vec<String>,
    #[pyo3(get)]
    hypotheses: Vec<Py<Hypothesis>>,
}

/// How probable the model holds a translation that was given.
#[pyclass(frozen, module = "s2s")]
pub(crate) struct Score(Alternative);

/// f32 (rows, columns) as a NumPy array; `None` where there is none.
fn array<'py>(py: Python<'py>, rows: &[Vec<f32>]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|x| x.to_ne_bytes()).collect();
    let flat = py.import("numpy")?.call_method1("frombuffer", (PyBytes::new(py, &bytes), "float32"))?;
    flat.call_method1("reshape", ((rows.len(), first.len()),)).map(Some)
}

impl Translation {
    /// Gives all hypotheses of a text to Python.
    pub(crate) fn new(py: Python<'_>, translated: Translated) -> PyResult<Self> {
        let Translated { best, source_tokens, unknown, alternatives } = translated;
        let all = std::iter::once(best).chain(alternatives);
        let hypotheses = all.map(|one| Py::new(py, Hypothesis(one))).collect::<PyResult<_>>()?;
        Ok(Self { source_tokens, unknown, hypotheses })
    }

    /// Its hypotheses alone.
    pub(crate) fn into_hypotheses(self) -> Vec<Py<Hypothesis>> {
        self.hypotheses
    }
}

impl Score {
    /// Of a translation that was scored.
    pub(crate) fn new(translated: Translated) -> Self {
        Self(translated.best)
    }
}

#[pymethods]
impl Translation {
    #[getter]
    fn text(&self) -> &str {
        &self.hypotheses[0].get().0.text
    }

    #[getter]
    fn score(&self) -> f32 {
        self.hypotheses[0].get().0.score
    }

    fn __str__(&self) -> &str {
        self.text()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Translation({}, hypotheses={})", quoted(py, self.text())?, self.hypotheses.len()))
    }
}

#[pymethods]
impl Hypothesis {
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    #[getter]
    fn score(&self) -> f32 {
        self.0.score
    }

    /// `eos`, `length`, `stop`, `cancelled` or `timeout`.
    #[getter]
    fn finish(&self) -> PyResult<String> {
        let word = serde_json::to_value(self.0.finish).ok().and_then(|word| word.as_str().map(str::to_owned));
        word.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("a reason without a word"))
    }

    #[getter]
    fn generated_tokens(&self) -> usize {
        self.0.generated_tokens
    }

    #[getter]
    fn tokens(&self) -> &[String] {
        &self.0.tokens
    }

    #[getter]
    fn token_scores(&self) -> &[f32] {
        &self.0.token_scores
    }

    #[getter]
    fn attention<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        array(py, &self.0.attention)
    }

    fn __str__(&self) -> &str {
        self.text()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Hypothesis({}, score={})", quoted(py, self.text())?, self.0.score))
    }
}

#[pymethods]
impl Score {
    #[getter]
    fn log_p(&self) -> f32 {
        self.0.score
    }

    #[getter]
    fn tokens(&self) -> &[String] {
        &self.0.tokens
    }

    #[getter]
    fn token_scores(&self) -> &[f32] {
        &self.0.token_scores
    }

    #[getter]
    fn attention<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        array(py, &self.0.attention)
    }

    fn __float__(&self) -> f64 {
        f64::from(self.0.score)
    }

    fn __repr__(&self) -> String {
        format!("Score(log_p={}, tokens={})", self.0.score, self.0.token_scores.len())
    }
}

/// A text as Python writes it.
fn quoted(py: Python<'_>, text: &str) -> PyResult<String> {
    PyString::new(py, text).repr()?.extract()
}
