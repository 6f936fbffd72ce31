//! The `s2s` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(s2s::cli::main(std::env::args_os()))
}
