//! `s2s train`: a config to a run folder.

use crate::cli::Global;
use crate::error::Result;

/// Train a model as a config says
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s train`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
