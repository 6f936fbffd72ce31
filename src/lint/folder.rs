//! All graphs of a bundle, of a folder of Optimum, or of a folder with nothing but graphs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use s2s_runtime::bundle::{Bundle, is_bundle_folder};
use s2s_runtime::engine::{EngineKind, open_silently, takes};
use s2s_runtime::manifest::Role;

use super::{ENGINE, Report, Runtime, Subject, asked, lint, look, of_engine, of_file};
use crate::error::{Error, ErrorKind, Result};

/// Graphs of a folder that are looked at.
const MOST_GRAPHS: usize = 64;

/// Looks at every graph of a folder, or of a zip of one. A bundle's files are checked first, and this program's
/// own engine opens it if it is among `runtimes`; the graphs of a folder of Optimum are looked at as they lie
/// there, which is what other runtimes get.
///
/// # Errors
/// [`ErrorKind::Bundle`] for a damaged bundle or a folder without graphs; as [`lint`].
pub fn lint_folder(path: &Path, runtimes: &[Runtime]) -> Result<Vec<Report>> {
    if path.is_dir() && !is_bundle_folder(path) {
        let files = graphs_in(path)?;
        if files.is_empty() {
            return Err(Error::new(ErrorKind::Bundle, "no bundle, and no graph in it")
                .in_file(path)
                .help("name a folder with .onnx files, one that `s2s export` or Optimum wrote, or files"));
        }
        return files.iter().map(|file| lint(file, runtimes)).collect();
    }
    let bundle = Bundle::open(path)?;
    let engine =
        asked(runtimes).contains(&Runtime::S2S).then(|| open_silently(&bundle, EngineKind::Tract).map(drop));
    if bundle.is_made() && path.is_dir() {
        return of_optimum(path, runtimes, engine.and_then(Result::err));
    }
    let runtimes = asked(runtimes);
    let mut reports = Vec::new();
    for &role in bundle.manifest().graphs.keys() {
        let name = bundle.graph_name(role);
        reports.push(if path.is_dir() {
            of_file(&path.join(name), Some(role), &runtimes, true)?
        } else {
            let model = bundle.shared_graph(role)?;
            let taken = engine.is_some().then(|| takes(EngineKind::Tract, name, Arc::clone(model)));
            look(&Subject { file: name, role: Some(role), model, external: &[] }, &runtimes, taken)?
        });
    }
    // What only the pair has: its wiring, what padding does, the self test.
    let refuses = |report: &Report| report.findings.iter().any(|finding| finding.rule == ENGINE);
    let is_run = |report: &&mut Report| report.role == Some(Role::Encoder);
    if let Some(Err(error)) = &engine
        && !reports.iter().any(refuses)
        && let Some(report) = reports.iter_mut().find(is_run)
    {
        report.findings.insert(0, of_engine(error));
    }
    Ok(reports)
}

/// The graphs of a folder of Optimum; `refused` is what the engine says to all of it.
fn of_optimum(path: &Path, runtimes: &[Runtime], refused: Option<Error>) -> Result<Vec<Report>> {
    let others: Vec<Runtime> = asked(runtimes).into_iter().filter(|&r| r != Runtime::S2S).collect();
    let is_asked = others.len() < asked(runtimes).len();
    let refused = refused.map(|error| of_engine(&error));
    let mut reports = Vec::new();
    for file in graphs_in(path)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let role = if name.starts_with("encoder_model") { Role::Encoder } else { Role::Decoder };
        let mut report = of_file(&file, Some(role), &others, false)?;
        if is_asked {
            report.runtimes.insert(0, Runtime::S2S);
            report.findings.splice(0..0, refused.clone());
        }
        reports.push(report);
    }
    Ok(reports)
}

/// The `.onnx` files of a folder, by name.
fn graphs_in(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(|error| Error::io(path, error))?;
    let is_graph = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "onnx");
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_graph).take(MOST_GRAPHS + 1).collect();
    files.sort();
    if files.len() > MOST_GRAPHS {
        let message = format!("more than {MOST_GRAPHS} graphs");
        return Err(Error::new(ErrorKind::Bundle, message).in_file(path).help("name the files one by one"));
    }
    Ok(files)
}
