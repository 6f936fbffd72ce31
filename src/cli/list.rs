//! `s2s list`: the bundles in folders.

use std::io::Write;
use std::path::{Path, PathBuf};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use s2s_runtime::bundle::Bundle;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{Global, bundles};
use crate::error::{Error, ErrorKind, Result};
use crate::serve::library::{card, find};
use crate::serve::model::Card;

/// List bundles: their names, languages and sizes, as `s2s serve-local` would serve them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bundles, zips of them, or folders of bundles
    #[arg(value_name = "PATH", default_value = "exported")]
    paths: Vec<PathBuf>,
}

/// One bundle, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    path: PathBuf,
    name: Option<String>,
    source_language: Option<String>,
    target_language: Option<String>,
    network: Option<Value>,
    graph_bytes: usize,
    /// Why it cannot be served.
    problem: Option<String>,
}

fn row(path: PathBuf) -> Row {
    let opened = Bundle::open(&path);
    let empty = Row {
        path,
        name: None,
        source_language: None,
        target_language: None,
        network: None,
        graph_bytes: 0,
        problem: None,
    };
    match opened {
        Ok(bundle) => {
            let Card { name, source_language, target_language, .. } = card(bundle.manifest());
            let graphs = bundle.manifest().graphs.keys().filter_map(|&role| bundle.graph(role).ok());
            let network = bundle.manifest().architecture.clone();
            Row {
                name: Some(name),
                source_language,
                target_language,
                network,
                graph_bytes: graphs.map(<[u8]>::len).sum(),
                ..empty
            }
        }
        Err(error) => Row { problem: Some(bundles::explain(error).to_string()), ..empty },
    }
}

/// Runs `s2s list`.
#[allow(clippy::needless_pass_by_value)] // As all subcommands take them.
pub fn run(args: Args, global: &Global) -> Result<()> {
    if let Some(missing) = args.paths.iter().find(|path| !path.exists()) {
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(
            Error::io(missing, cause).help("name a bundle or a folder of bundles; `s2s export` writes them")
        );
    }
    let rows: Vec<Row> = find(&args.paths)?.into_iter().map(row).collect();
    let text = if global.json {
        serde_json::to_string_pretty(&rows)
            .map_err(|e| Error::new(ErrorKind::Internal, "the list cannot be written").caused_by(e))?
            + "\n"
    } else {
        table(&rows)
    };
    let text =
        if global.json { s2s_runtime::printable::json(&text) } else { s2s_runtime::printable::lines(&text) };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io(Path::new("stdout"), e)),
        _ => Ok(()),
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["name", "languages", "network", "graphs", "path"]);
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        let any = || "any".to_owned();
        let languages = match (&row.source_language, &row.target_language) {
            (None, None) => String::new(),
            (source, target) => {
                format!("{} to {}", source.clone().unwrap_or_else(any), target.clone().unwrap_or_else(any))
            }
        };
        let network = row.network.as_ref().map_or_else(String::new, |network| {
            let number = |key: &str| network.get(key).and_then(Value::as_u64).unwrap_or_default();
            let cell = network.get("cell").and_then(Value::as_str).unwrap_or_default();
            format!("{cell} {} x {}", number("layers"), number("hidden"))
        });
        let size = format!("{:.1} MB", row.graph_bytes as f64 / 1e6);
        let path = row.path.display().to_string();
        match &row.problem {
            None => table.add_row([row.name.clone().unwrap_or_default(), languages, network, size, path]),
            Some(problem) => table.add_row([
                "-".to_owned(),
                String::new(),
                "cannot be served".to_owned(),
                String::new(),
                problem.clone(),
            ]),
        };
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}
