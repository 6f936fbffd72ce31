//! `s2s lint`: which runtimes refuse a foreign graph, or run it wrongly.

use std::path::{Path, PathBuf};

use s2s_runtime::printable;

use crate::cli::Global;
use crate::error::{Error, ErrorKind, Result};
use crate::lint::{Report, Runtime, lint, lint_folder};

/// The runtimes that there are, and what the exit code says.
fn help() -> String {
    let names: Vec<&str> = Runtime::all().map(Runtime::name).collect();
    format!(
        "Runtimes: {}; s2s is this program's own engine, which opens the graphs.\n\nExits with 0 if all of them, or \
         of those after --for, run the graphs rightly, with 5 if one refuses a graph or gives wrong numbers, and with \
         1 if none does and something in a graph was not tried. Being slow is said and counts as right, and so does \
         what happens only when something particular is fed.",
        names.join(", ")
    )
}

/// Tell which runtimes refuse an ONNX graph, or run it wrongly without a word
///
/// Looks at graphs of any origin, bodies of Loop, If and Scan included, and at
/// weights in files beside them. Says the node, the rule, what was measured and
/// what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub struct Args {
    /// ONNX files, bundles, folders of Optimum, or folders with .onnx files
    #[arg(value_name = "FILE.onnx|FOLDER", required = true)]
    files: Vec<PathBuf>,
    /// Only what concerns this runtime; may be repeated
    #[arg(long = "for", value_name = "RUNTIME", env = "S2S_FOR", value_delimiter = ',', value_parser = runtime)]
    runtimes: Vec<Runtime>,
}

fn runtime(typed: &str) -> std::result::Result<Runtime, String> {
    typed.parse().map_err(|error: Error| format!("{error}; {}", error.help_text().unwrap_or_default()))
}

/// Runs `s2s lint`.
pub fn run(args: &Args, global: &Global) -> Result<()> {
    let mut reports = Vec::new();
    for file in &args.files {
        reports.extend(of_path(file, &args.runtimes)?);
    }
    for (at, report) in reports.iter().enumerate() {
        if global.json {
            println!("{}", printable::json(&report.to_json().to_string()));
        } else if !global.quiet {
            println!("{}{}", if at > 0 { "\n" } else { "" }, printable::lines(&report.to_string()));
        }
    }
    // A fault weighs more than what is not known.
    let mut checked: Vec<Error> = reports.iter().filter_map(|report| report.check().err()).collect();
    let worst = checked.iter().position(|error| error.kind() == ErrorKind::Bundle).unwrap_or(0);
    if checked.is_empty() { Ok(()) } else { Err(checked.swap_remove(worst)) }
}

fn of_path(path: &Path, runtimes: &[Runtime]) -> Result<Vec<Report>> {
    let is_archive = path.extension().is_some_and(|extension| extension == "zip");
    if path.is_dir() || is_archive { lint_folder(path, runtimes) } else { Ok(vec![lint(path, runtimes)?]) }
}
