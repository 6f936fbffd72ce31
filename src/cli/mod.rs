//! The command line: one file a subcommand, no logic of its own.
//!
//! Data goes to stdout, all else to stderr. Every flag has an `S2S_` environment variable.

use clap::{Parser, Subcommand};

use crate::error::Result;

pub mod bench;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod serve_local;
pub mod train;
pub mod translate;
pub mod verify;

/// Train a sequence-to-sequence model, export it as three ONNX graphs, serve it.
#[derive(Debug, Parser)]
#[command(name = "s2s", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Global {
    /// Print machine-readable JSON on stdout
    #[arg(long, global = true, env = "S2S_JSON")]
    pub json: bool,
    /// Say less (-q: errors only)
    #[arg(short, long, global = true, env = "S2S_QUIET")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, env = "S2S_VERBOSE", conflicts_with = "quiet")]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Export(export::Args),
    Verify(verify::Args),
    Translate(translate::Args),
    ServeLocal(serve_local::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
}

/// Runs the parsed command line.
pub fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Train(args) => train::run(args, &global),
        Command::Export(args) => export::run(args, &global),
        Command::Verify(args) => verify::run(args, &global),
        Command::Translate(args) => translate::run(args, &global),
        Command::ServeLocal(args) => serve_local::run(args, &global),
        Command::Demo(args) => demo::run(args, &global),
        Command::Doctor(args) => doctor::run(args, &global),
        Command::Bench(args) => bench::run(args, &global),
    }
}
