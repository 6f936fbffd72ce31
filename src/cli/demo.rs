//! `s2s demo`: trains, exports, verifies and translates a task that the project makes itself.

use crate::cli::Global;
use crate::error::Result;

/// Train, export, verify and translate the built-in date task in about a minute
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s demo`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
