//! The server as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The command without the settings of whoever runs the tests.
pub(crate) fn s2s() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_s2s"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("S2S_")) {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1");
    command
}

/// Exit code, stdout and stderr of a command that ends by itself.
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server process; killed if a test fails before it stops it.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(bundle: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = s2s();
        command
            .arg("serve-local")
            .arg(bundle)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line
            .trim_end()
            .strip_prefix("http://")
            .unwrap_or_else(|| panic!("first line {line:?}"))
            .to_owned();
        Self { child, address }
    }

    /// Sends one request and gives status and body.
    pub(crate) fn ask(&self, head: &str, body: &str) -> (u16, String) {
        finish(self.begin(head, body))
    }

    pub(crate) fn begin(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        )
        .unwrap();
        write!(stream, "content-type: application/json\r\n\r\n{body}").unwrap();
        stream
    }

    pub(crate) fn translate(&self, q: &Value) -> (u16, Value) {
        let (status, body) =
            self.ask("POST /translate", &json!({"q": q, "source": "a", "target": "b"}).to_string());
        (status, serde_json::from_str(&body).unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    /// The exit code and stderr, which must come well before a minute.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.code().unwrap(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn finish(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
