//! `s2s translate`: lines in, lines out.

use crate::cli::Global;
use crate::error::Result;

/// Translate lines of text with a bundle
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `s2s translate`.
pub fn run(_args: Args, _global: &Global) -> Result<()> {
    unimplemented!()
}
