//! `s2s export`: a run folder to a bundle of three ONNX graphs.

use crate::cli::Global;
use crate::error::Result;

/// Export a trained run as three ONNX graphs
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s export`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
