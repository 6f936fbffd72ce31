//! `s2s serve-local`: an HTTP server over a bundle.

use crate::cli::Global;
use crate::error::Result;

/// Serve a bundle over HTTP
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s serve-local`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
