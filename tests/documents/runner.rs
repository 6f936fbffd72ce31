//! Runs the blocks of one document in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::block::{Block, Language};
use super::{ROOT, pattern, stand_in};

/// No block is waited for longer, whatever it does.
const LONGEST: Duration = Duration::from_secs(600);

/// What stands for `s2s` on the PATH: the program itself, but trainings get what the mark `set` says, and a
/// server ends as soon as it has said where it listens.
const S2S: &str = r#"#!/usr/bin/env bash
set -u
s2s="PROGRAM"
case "${1-}" in
train | demo)
    settings=()
    IFS=';' read -ra pairs <<<"${DOCUMENT_SET-}"
    for pair in ${pairs[@]+"${pairs[@]}"}; do settings+=(--set "${pair# }"); done
    exec "$s2s" "$@" ${settings[@]+"${settings[@]}"}
    ;;
serve-local)
    said="$(mktemp)"
    S2S_PORT=0 "$s2s" "$@" >"$said" &
    server=$!
    while kill -0 "$server" 2>/dev/null && ! grep -q '^http://' "$said"; do sleep 0.05; done
    kill "$server" 2>/dev/null
    wait "$server"
    ;;
*) exec "$s2s" "$@" ;;
esac
"#;

/// `cargo run --release -- ...` without building again.
const CARGO: &str = r#"#!/usr/bin/env bash
if [ "${1-} ${2-} ${3-}" = "run --release --" ]; then
    shift 3
    exec s2s "$@"
fi
echo "cargo $*: the documents' test knows only cargo run --release -- ..." >&2
exit 1
"#;

pub(crate) struct Runner {
    _scratch: tempfile::TempDir,
    folder: PathBuf,
    path: std::ffi::OsString,
    home: PathBuf,
    /// The real data sets are there.
    data: bool,
    full: bool,
}

/// Copies a folder, file by file.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &place),
            false => drop(std::fs::copy(&path, &place).unwrap()),
        }
    }
}

fn program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn python() -> Option<PathBuf> {
    let python = Path::new(ROOT).join(".venv/bin/python");
    let required = std::env::var_os("S2S_REQUIRE_ORT").is_some_and(|value| !value.is_empty());
    assert!(
        python.exists() || !required,
        "no .venv with the packages of tests/python/requirements.txt; run scripts/test"
    );
    python.exists().then_some(python)
}

impl Runner {
    /// A fresh folder with what a clone holds for readers of `document`; for a bundle's README the bundle's
    /// own folder.
    pub(crate) fn new(document: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, bin, home) =
            (scratch.path().join("s2s"), scratch.path().join("bin"), scratch.path().join("home"));
        for folder in [&folder, &bin, &home] {
            std::fs::create_dir(folder).unwrap();
        }
        for part in ["configs", "exported", "examples", "docs"] {
            copy(&Path::new(ROOT).join(part), &folder.join(part));
        }
        program(&bin.join("s2s"), &S2S.replace("PROGRAM", env!("CARGO_BIN_EXE_s2s")));
        program(&bin.join("cargo"), CARGO);
        // Without its meter, which only a terminal's reader sees, and failing where the server refuses.
        std::fs::write(home.join(".curlrc"), "silent\nshow-error\nfail-with-body\n").unwrap();
        if let Some(python) = python() {
            let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", python.display());
            program(&bin.join("python3"), &text);
            program(&bin.join("python"), &text);
        }
        let data =
            std::env::var_os("S2S_DATA").map(PathBuf::from).filter(|data| data.join("manythings").is_dir());
        // Where the documents say DIR, the reader puts a folder of her own.
        match &data {
            Some(data) => std::os::unix::fs::symlink(data, folder.join("DIR")).unwrap(),
            None => stand_in::write(&folder.join("DIR")),
        }
        let path = std::env::join_paths(
            [bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        )
        .unwrap();
        let within = Path::new(document).parent().filter(|parent| parent.starts_with("exported"));
        let folder = within.map_or(folder.clone(), |within| folder.join(within));
        let full = std::env::var_os("S2S_DOCUMENTS").is_some_and(|value| value == "full");
        Self { _scratch: scratch, folder, path, home, data: data.is_some(), full }
    }

    /// Where the blocks run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Goes on in a folder below.
    pub(crate) fn enter(&mut self, folder: &str) {
        self.folder.push(folder);
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("S2S_")) {
            command.env_remove(name);
        }
        command
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("HOME", &self.home)
            // The package `s2s`, where scripts/python has put it together.
            .env("PYTHONPATH", Path::new(ROOT).join("target/python"))
            .env("COLUMNS", "80");
        command.env("LC_ALL", "C.UTF-8").env("PYTHONUTF8", "1").stdin(Stdio::null());
        command
    }

    /// A server for the block that asks it, with its address.
    fn server(&self, arguments: &str) -> Result<(Server, String), String> {
        let mut command = self.command(env!("CARGO_BIN_EXE_s2s"));
        command.arg("serve-local").args(arguments.split_whitespace()).args(["--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let server = Server(child);
        let address = line
            .trim_end()
            .strip_prefix("http://")
            .ok_or_else(|| format!("s2s serve-local {arguments} does not start"))?;
        Ok((server, address.to_owned()))
    }

    /// Runs one block.
    ///
    /// # Errors
    /// What it printed, if it fails, takes too long, or prints other than it is said to.
    pub(crate) fn run(&mut self, block: &Block) -> Result<(), String> {
        let mark = |name: &str| block.marks.get(name).map(String::as_str);
        if let Some(reason) = mark("not run") {
            println!("not run: line {}: {reason}", block.line);
            return Ok(());
        }
        for given in mark("given").into_iter().flat_map(|given| given.split(';')) {
            let (name, file) = given.split_once('=').ok_or("the mark `given` is NAME = FILE")?;
            std::fs::copy(Path::new(ROOT).join(file.trim()), self.folder.join(name.trim()))
                .map_err(|e| format!("{given}: {e}"))?;
        }
        let mut code = block.code.clone();
        let server = mark("server").map(|arguments| self.server(arguments)).transpose()?;
        if let Some((_, address)) = &server {
            code = code.replace("localhost:8080", address);
        }
        let mut command = match block.language {
            Language::Shell => {
                let mut bash = self.command("bash");
                bash.args(["-euo", "pipefail", "-c", &code]);
                bash
            }
            Language::Python => {
                let Some(python) = python() else {
                    println!("skipped: line {}: no .venv; scripts/test makes one", block.line);
                    return Ok(());
                };
                let mut command = self.command(python);
                command.args(["-c", &code]);
                command
            }
        };
        if let Some(settings) = mark("set").filter(|_| !self.full) {
            command.env("DOCUMENT_SET", settings);
        }
        let (status, printed) = self.output(&mut command, mark("stdin").unwrap_or_default())?;
        if !status.success() {
            return Err(format!("{status}\n{printed}"));
        }
        let comparable = |full: bool| (self.full || !full) && (self.data || mark("needs").is_none());
        match block.prints.as_ref().filter(|prints| comparable(prints.full)) {
            Some(prints) if !pattern::matches(&prints.text, &printed) => {
                Err(format!("is said to print\n{}\nand prints\n{printed}", prints.text))
            }
            _ => Ok(()),
        }
    }

    /// The exit status, and stdout and stderr in the order of their writing.
    fn output(
        &self,
        command: &mut Command,
        stdin: &str,
    ) -> Result<(std::process::ExitStatus, String), String> {
        let (input, printed) = (self.home.join("stdin"), self.home.join("printed"));
        std::fs::write(&input, format!("{stdin}\n").repeat(usize::from(!stdin.is_empty()))).unwrap();
        let file = std::fs::File::create(&printed).unwrap();
        command.stdin(std::fs::File::open(&input).unwrap()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = command.spawn().unwrap();
        let started = Instant::now();
        let read = || String::from_utf8_lossy(&std::fs::read(&printed).unwrap()).into_owned();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Ok((status, read()));
            }
            if started.elapsed() > LONGEST {
                let _ = child.kill();
                return Err(format!("does not end within {} s\n{}", LONGEST.as_secs(), read()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A server that ends with the block.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
