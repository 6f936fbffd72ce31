//! `s2s completions` and `s2s man`: what a shell and a reader of manuals want to know.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

use crate::cli::Global;
use crate::error::{Error, ErrorKind, Result};

/// Print completions for a shell
///
/// For example: s2s completions bash > ~/.local/share/bash-completion/completions/s2s
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page, or write all of them to a folder
///
/// For example: s2s man ~/.local/share/man/man1, then man s2s-train
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The folder; one page for each subcommand
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs `s2s completions` for the whole `command`.
pub fn completions(args: &CompletionArgs, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "s2s", &mut script);
    write_stdout(&script)
}

/// Runs `s2s man` for the whole `command`.
pub fn man(args: &ManArgs, mut command: clap::Command, global: &Global) -> Result<()> {
    let Some(folder) = &args.folder else { return write_stdout(&page(command)?) };
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    command.build();
    let count = pages(&command, "s2s", folder)?;
    if !global.quiet {
        eprintln!("Wrote {count} pages to {}", folder.display());
    }
    Ok(())
}

fn write_stdout(bytes: &[u8]) -> Result<()> {
    std::io::Write::write_all(&mut std::io::stdout(), bytes).map_err(|e| Error::io("stdout", e))
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let rendered = clap_mangen::Man::new(command).render(&mut bytes);
    rendered
        .map_err(|e| Error::new(ErrorKind::Internal, "the manual page cannot be written").caused_by(e))?;
    Ok(bytes)
}

/// Writes the page of a command and those of its subcommands, `s2s-config-check.1`.
fn pages(command: &clap::Command, name: &str, folder: &Path) -> Result<usize> {
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page(command.clone().name(name.to_owned()))?).map_err(|e| Error::io(&path, e))?;
    let mut count = 1;
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        count += pages(sub, &format!("{name}-{}", sub.get_name()), folder)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_script() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temporary", e))?;
        let mut command = Cli::command();
        command.build();
        pages(&command, "s2s", folder.path())?;
        for page in ["s2s.1", "s2s-train.1", "s2s-config-check.1", "s2s-inspect.1"] {
            let text = std::fs::read_to_string(folder.path().join(page)).map_err(|e| Error::io(page, e))?;
            assert!(text.contains(".SH NAME") && text.contains("\\-\\-json"), "{page}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "s2s", &mut script);
            let script = String::from_utf8_lossy(&script);
            assert!(script.contains("serve-local") && script.contains("inspect"), "{shell}");
        }
        Ok(())
    }
}
