//! From arguments to an exit code: what the program `s2s` is.

use std::any::Any;
use std::ffi::OsString;
use std::panic::{catch_unwind, set_hook, take_hook};

use tracing_subscriber::EnvFilter;

use super::{Cli, Global, report, terminal};
use crate::error::exit_code;

/// Runs the program `s2s` with these arguments, the program's name first, and gives its exit code.
///
/// Ends the process itself where the arguments ask for help or do not fit.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = Cli::parse_arguments(arguments);
    let json = cli.global().json;
    log_to_stderr(cli.global());
    let shown = take_hook();
    set_hook(Box::new(move |panic| {
        if !is_closed_stdout(panic.payload()) {
            shown(panic);
        }
    }));
    match catch_unwind(|| super::run(cli)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) if report::is_broken_pipe(&error) => 0,
        Ok(Err(error)) => {
            match json {
                true => eprintln!("{}", report::render_json(&error)),
                false => eprint!("{}", report::render(&error, terminal::stderr_has_colours())),
            }
            exit_code(error.kind())
        }
        Err(panic) if is_closed_stdout(&*panic) => 0,
        Err(_) => {
            eprintln!("error: this is a defect in s2s; please report the lines above");
            1
        }
    }
}

/// `println!` panics when the reader of a pipe has left, as in `s2s translate DIR < long.txt | head`.
fn is_closed_stdout(panic: &(dyn Any + Send)) -> bool {
    panic
        .downcast_ref::<String>()
        .is_some_and(|said| said.starts_with("failed printing to stdout") && said.contains("Broken pipe"))
}

/// `-q` leaves errors, `-v` adds details; `S2S_LOG` takes a filter such as `s2s=trace`.
fn log_to_stderr(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (_, true) => "warn,s2s=debug,s2s_runtime=debug",
        _ => "warn,s2s=info,s2s_runtime=info",
    };
    let filter = EnvFilter::try_from_env("S2S_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal::stderr_has_colours());
    let lines = lines.with_target(global.verbose);
    if global.verbose { lines.init() } else { lines.without_time().init() }
}
