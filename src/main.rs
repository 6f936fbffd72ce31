//! The `s2s` command: parse, run, exit code.

#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::process::ExitCode;

use s2s::cli::{self, report, terminal};
use s2s::error::exit_code;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::Cli::parse_arguments();
    let json = cli.global().json;
    log_to_stderr(cli.global());
    let shown = take_hook();
    set_hook(Box::new(move |panic| {
        if !is_closed_stdout(panic.payload()) {
            shown(panic);
        }
    }));
    match catch_unwind(|| cli::run(cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if report::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            match json {
                true => eprintln!("{}", report::render_json(&error)),
                false => eprint!("{}", report::render(&error, terminal::stderr_has_colours())),
            }
            ExitCode::from(exit_code(error.kind()))
        }
        Err(panic) if is_closed_stdout(&*panic) => ExitCode::SUCCESS,
        Err(_) => {
            eprintln!("error: this is a defect in s2s; please report the lines above");
            ExitCode::FAILURE
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
fn log_to_stderr(global: &cli::Global) {
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
