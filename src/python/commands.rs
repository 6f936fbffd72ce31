//! Training, export, verification and lint: the commands with their results instead of their prints.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Command};
use pyo3::prelude::*;
use s2s::cli;
use s2s::train::{Event, Report};
use s2s_runtime::{Error, ErrorKind, Result};

use crate::errors::raise;

/// Arguments as the command line gives them; `name` is only for errors.
fn parse<A: Args>(name: &'static str, arguments: Vec<OsString>) -> Result<A> {
    let command = A::augment_args(Command::new(name).no_binary_name(true).disable_help_flag(true));
    let found = command.try_get_matches_from(arguments).and_then(|matches| A::from_arg_matches(&matches));
    found.map_err(|error| {
        let said = error.render().to_string();
        let first = said.lines().next().unwrap_or_default();
        Error::new(ErrorKind::Usage, first.strip_prefix("error: ").unwrap_or(first))
    })
}

/// Hands what a training says to Python, and stops the training where that raises.
struct Listener {
    callback: Option<Py<PyAny>>,
    stop: AtomicBool,
}

struct Told<'a> {
    listener: &'a Listener,
    raised: Option<PyErr>,
    folder: Option<PathBuf>,
}

impl Report for Told<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Started { folder, .. }
        | Event::Samples { folder, .. }
        | Event::Finished { folder, .. } = event
        {
            self.folder = Some((*folder).to_owned());
        }
        if self.raised.is_some() {
            return;
        }
        let told = Python::attach(|py| {
            py.check_signals()?;
            // Steps and progress are many, and are signals' business alone.
            if let (Some(callback), false) =
                (&self.listener.callback, matches!(event, Event::Step { .. } | Event::Preparing { .. }))
            {
                let json = serde_json::to_string(event).unwrap_or_default();
                callback.call1(py, (json,))?;
            }
            Ok(())
        });
        if let Err(error) = told {
            self.raised = Some(error);
            self.listener.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// `s2s train`: gives the run folder; `callback` gets each event as JSON.
#[pyfunction]
pub(crate) fn train(
    py: Python<'_>,
    arguments: Vec<OsString>,
    callback: Option<Py<PyAny>>,
) -> PyResult<Option<PathBuf>> {
    let listener = Listener { callback, stop: AtomicBool::new(false) };
    let (outcome, raised, folder) = py.detach(|| {
        let mut told = Told { listener: &listener, raised: None, folder: None };
        let outcome = parse("train", arguments)
            .and_then(|arguments| cli::train::train(arguments, &listener.stop, &mut told));
        (outcome, told.raised, told.folder)
    });
    match (raised, outcome) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(raise(&error)),
        (None, Ok(())) => Ok(folder),
    }
}

/// `s2s export`: gives the folder of the bundle, and the report of the checks as JSON.
#[pyfunction]
pub(crate) fn export(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<(PathBuf, String)> {
    let done = py.detach(|| {
        let arguments: cli::export::Args = parse("export", arguments)?;
        if arguments.format != cli::export::Format::Onnx {
            let error = Error::new(ErrorKind::Usage, "a module of PyTorch is no bundle");
            return Err(error.help("python -m s2s export --format pytorch writes one"));
        }
        let exported = cli::export::export(arguments, &mut drop)?;
        let report = exported.report.map(|report| report.to_json()).transpose()?;
        Ok((exported.place, report.unwrap_or_default()))
    });
    done.map_err(|error: Error| raise(&error))
}

/// `s2s verify`: gives the report as JSON.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<String> {
    let done = py.detach(|| cli::verify::verify(parse("verify", arguments)?)?.to_json());
    done.map_err(|error: Error| raise(&error))
}

/// `s2s lint` of one file: gives the report as JSON.
#[pyfunction]
pub(crate) fn lint(py: Python<'_>, path: PathBuf, runtimes: Vec<String>) -> PyResult<String> {
    let done = py.detach(|| {
        let runtimes = runtimes.iter().map(|name| name.parse()).collect::<Result<Vec<_>>>()?;
        Ok(s2s::lint::lint(&path, &runtimes)?.to_json().to_string())
    });
    done.map_err(|error: Error| raise(&error))
}
