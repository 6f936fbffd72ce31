//! `s2s bench`: how fast it runs here.

use crate::cli::Global;
use crate::error::Result;

/// Measure training and decoding on this machine
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s bench`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
