//! The command line: one file a subcommand, no logic of its own.
//!
//! Data goes to stdout, all else to stderr. Every flag has an `S2S_` environment variable.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Result;

pub mod bench;
mod bundles;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod export;
mod global;
pub mod import;
pub mod inspect;
pub mod lint;
pub mod list;
pub mod predict;
mod program;
pub mod report;
pub mod serve_local;
pub mod shell;
pub mod terminal;
pub mod train;
pub mod translate;
pub mod verify;

pub use global::Global;
pub use program::main;

/// The way of a newcomer, and the table of [`exit_code`](crate::error::exit_code).
const AFTER_HELP: &str = "\
First steps:
    s2s demo                               all of this once, in about a minute
    s2s config init my.yaml                a config for pairs of your own
    s2s train my.yaml                      writes the run: runs/NAME
    s2s export runs/NAME -o exported/NAME  makes and checks the bundle
    s2s translate exported/NAME \"a text\"
    s2s serve-local exported/NAME          a page at http://localhost:8080

Data goes to stdout, all else to stderr. Every flag has an S2S_ environment
variable; NO_COLOR turns colours off.

Exit codes:
    0  done                         5  bad bundle, or parity failure
    1  failure                      6  the address cannot be bound
    2  wrong usage                130  interrupted
    3  wrong configuration
    4  wrong data or input text";

/// Train a sequence-to-sequence model, export it as three ONNX graphs, serve it.
#[derive(Debug, Parser)]
#[command(name = "s2s", version, propagate_version = true, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// The command line as it is: parsed, or the process ends with help, version or an error.
    ///
    /// - `arguments`: the program's name first.
    pub fn parse_arguments(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let found = Self::definition()
            .try_get_matches_from(arguments)
            .and_then(|matches| Self::from_arg_matches(&matches));
        found.unwrap_or_else(|error| error.exit())
    }

    /// What clap derives, and the names of environment variables without their values, among which is a key.
    pub fn definition() -> clap::Command {
        fn without_values(command: clap::Command) -> clap::Command {
            let command = command.mut_args(|arg| arg.hide_env_values(true));
            let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
            names.into_iter().fold(command, |command, name| command.mut_subcommand(name, without_values))
        }
        without_values(Self::command())
    }

    /// Options of every subcommand.
    pub fn global(&self) -> &Global {
        &self.global
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Import(import::Args),
    Export(export::Args),
    Verify(verify::Args),
    Translate(Box<translate::Args>),
    Eval(Box<eval::Args>),
    #[command(visible_aliases = ["summary", "show"])]
    Inspect(inspect::Args),
    Lint(lint::Args),
    Predict(predict::Args),
    ServeLocal(Box<serve_local::Args>),
    Demo(demo::Args),
    List(list::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Config(config::Args),
    Completions(shell::CompletionArgs),
    Man(shell::ManArgs),
}

/// Runs the parsed command line.
pub fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    let outcome = match command {
        Command::Train(args) => train::run(args, &global),
        Command::Import(args) => import::run(args, &global),
        Command::Export(args) => export::run(args, &global),
        Command::Verify(args) => verify::run(args, &global),
        Command::Translate(args) => translate::run(*args, &global),
        Command::Eval(args) => eval::run(*args, &global),
        Command::Inspect(args) => inspect::run(&args, &global),
        Command::Lint(args) => lint::run(&args, &global),
        Command::Predict(args) => predict::run(&args, &global),
        Command::ServeLocal(args) => serve_local::run(*args, &global),
        Command::Demo(args) => demo::run(args, &global),
        Command::List(args) => list::run(args, &global),
        Command::Doctor(args) => doctor::run(args, &global),
        Command::Bench(args) => bench::run(args, &global),
        Command::Config(args) => config::run(&args, &global),
        Command::Completions(args) => shell::completions(&args, Cli::command()),
        Command::Man(args) => shell::man(&args, Cli::command(), &global),
    };
    outcome.map_err(bundles::explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::definition().debug_assert();
    }

    #[test]
    fn every_help_fits_eighty_columns() {
        fn check(command: &clap::Command, path: &str) {
            for help in [command.clone().render_help(), command.clone().render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{path}: {line}");
                }
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        let mut command = Cli::definition().term_width(80);
        command.build();
        check(&command, "s2s");
    }

    #[test]
    fn every_flag_has_its_environment_variable_and_its_help() {
        let command = Cli::command();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            for flag in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let name = format!("{} --{}", command.get_name(), flag.get_id());
                let env = flag.get_env().and_then(|env| env.to_str()).unwrap_or_default();
                assert!(env.starts_with("S2S_"), "{name} has no S2S_ variable");
                assert!(flag.get_help().is_some(), "{name} has no help");
            }
        }
    }
}
