//! The `s2s` command: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use s2s::cli;
use s2s::error::exit_code;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(error.kind()))
        }
    }
}
