//! `s2s lint`: which runtimes refuse a foreign graph, or run it wrongly.

use std::path::PathBuf;

use s2s_runtime::printable;

use crate::cli::Global;
use crate::error::{Error, Result};
use crate::lint::{Runtime, lint};

const HELP: &str = "\
Runtimes: onnxruntime, tract, rten, candle, openvino, mnn, iree, opencv, reference (of the package onnx), emx-onnx-cgen.

Exits with 0 if every one of them, or of those after --for, runs the graphs rightly, and with 5 if one refuses a graph or gives
wrong numbers; being slow at something is said and counts as right.";

/// Tell which runtimes refuse an LSTM or GRU graph, or run it wrongly without a word
///
/// Looks at graphs of any origin, bodies of Loop, If and Scan included. Says the node, the rule and what to
/// do.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// ONNX files
    #[arg(value_name = "FILE.onnx", required = true)]
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
    let reports = args.files.iter().map(|file| lint(file, &args.runtimes)).collect::<Result<Vec<_>>>()?;
    for (at, report) in reports.iter().enumerate() {
        if global.json {
            println!("{}", printable::json(&report.to_json().to_string()));
        } else if !global.quiet {
            println!("{}{}", if at > 0 { "\n" } else { "" }, printable::lines(&report.to_string()));
        }
    }
    reports.iter().try_for_each(crate::lint::Report::check)
}
