//! What every subcommand takes.

use clap::builder::FalseyValueParser;

/// Options of every subcommand.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Global {
    /// Print machine-readable JSON on stdout
    #[arg(long, global = true, display_order = 900, env = "S2S_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true, display_order = 901, env = "S2S_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, display_order = 902, env = "S2S_VERBOSE", value_parser = FalseyValueParser::new(),
        conflicts_with = "quiet")]
    pub verbose: bool,
}
