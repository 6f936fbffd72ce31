//! `s2s verify`: holds a bundle against the network and the engines.

use crate::cli::Global;
use crate::error::Result;

/// Check a bundle: every graph in every engine against the network
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s verify`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
