//! `s2s doctor`: what was found on this machine.

use crate::cli::Global;
use crate::error::Result;

/// Show engines, CPU features and libraries found on this machine
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s doctor`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
