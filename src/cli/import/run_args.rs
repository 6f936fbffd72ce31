//! What imports of networks have in common.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;

/// The run that an import writes.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The run folder [default: runs/NAME]
    #[arg(short, long, value_name = "DIR", env = "S2S_OUTPUT")]
    pub(super) output: Option<PathBuf>,
    /// The run's name [default: the file's]
    #[arg(long, env = "S2S_NAME")]
    pub(super) name: Option<String>,
    /// Licence of the training data, for the bundle
    #[arg(long, value_name = "TEXT", env = "S2S_LICENCE")]
    pub(super) licence: Option<String>,
    /// Attribution of the training data, for the bundle
    #[arg(long, value_name = "TEXT", env = "S2S_ATTRIBUTION")]
    pub(super) attribution: Option<String>,
    /// Replace the run that is in the folder
    #[arg(long, env = "S2S_FORCE", value_parser = FalseyValueParser::new())]
    pub(super) force: bool,
}
