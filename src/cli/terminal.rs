//! What the terminal takes: its width, and colours.

use std::io::IsTerminal;

/// A narrower terminal is treated as if it were so wide.
const NARROWEST: usize = 40;

/// Columns of the terminal that stdout is. None where it is no terminal: lines are as long as they are, so
/// that what goes into a file or a pipe is the same everywhere.
pub fn stdout_width() -> Option<usize> {
    let stdout = std::io::stdout();
    let (width, _) = terminal_size::terminal_size_of(&stdout).filter(|_| stdout.is_terminal())?;
    Some(usize::from(width.0).max(NARROWEST))
}

/// Whether stdout takes colours.
pub fn stdout_has_colours() -> bool {
    std::io::stdout().is_terminal() && wants_colours()
}

/// Whether stderr takes colours.
pub fn stderr_has_colours() -> bool {
    std::io::stderr().is_terminal() && wants_colours()
}

/// Unless `NO_COLOR` is set (<https://no-color.org>), or the terminal is one that knows no escape sequences.
fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The text in the colour of an SGR `code`, where there are colours.
pub fn paint(code: &str, text: &str, colours: bool) -> String {
    if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
