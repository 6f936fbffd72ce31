//! What strangers, crowded machines and their administrators do to the server as a process.
#![cfg(unix)]

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Random;
use crate::common::server::{Running, finish};
use serde_json::json;

/// The server under a limit of open files, as `ulimit` takes it.
fn start_limited(bundle: &Path, ulimit: &str) -> Running {
    Running::start(bundle, |command| {
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!("ulimit {ulimit} && exec \"$0\" \"$@\""))
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited.stdout(Stdio::piped()).stderr(Stdio::piped());
        *command = limited;
    })
}

/// A request with the headers of a browser.
fn browse(server: &Running, host: &str, origin: Option<&str>) -> (u16, String) {
    let body = "q=abc&source=a&target=b";
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let origin = origin.map_or_else(String::new, |origin| format!("origin: {origin}\r\n"));
    write!(stream, "POST /translate HTTP/1.1\r\nhost: {host}\r\n{origin}connection: close\r\n").unwrap();
    write!(
        stream,
        "content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    finish(stream)
}

#[test]
fn sighup_loads_a_bundle_that_was_replaced_and_does_not_end_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = Running::start(&bundle, |command| {
        command.args(["--reload", "0"]);
    });
    let before = server.translate(&json!("some words here"));
    server.signal("HUP");
    assert_eq!(server.translate(&json!("some words here")), before);
    Random { seed: 8, ..Random::default() }.write(&bundle);
    // With --reload 0 nobody looks by himself.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.translate(&json!("some words here")), before);
    server.signal("HUP");
    let started = Instant::now();
    while server.translate(&json!("some words here")) == before {
        assert!(started.elapsed() < Duration::from_secs(60), "the bundle is not loaded anew");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.signal("TERM");
    assert_eq!(server.ended().0, 0);
}

#[test]
fn few_open_files_mean_few_connections_and_a_warning_and_every_client_is_still_answered() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = start_limited(&bundle, "-n 80");
    // More than the process may have open; those that say nothing make room.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    for _ in 0..5 {
        assert_eq!(server.translate(&json!("abc")).0, 200);
    }
    drop(silent);
    // A bundle needs files too.
    Random { seed: 9, ..Random::default() }.write(&bundle);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(server.translate(&json!("abc")).0, 200);
    server.signal("TERM");
    let (code, stderr) = server.ended();
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("80 open files allow 40 connections, not 1024"), "{stderr}");
    assert!(!stderr.contains("could not be accepted") && !stderr.contains("cannot be loaded"), "{stderr}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_limit_of_open_files_is_raised_as_far_as_connections_want() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = start_limited(&bundle, "-S -n 100");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] =
        [3, 4].map(|at| files.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap_or(u64::MAX));
    assert_eq!(soft, hard.min(1024 + 128), "{files}");
}

#[test]
fn a_page_with_a_name_of_its_own_for_this_machine_gets_nothing_unless_the_name_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = Running::start(&bundle, |_| {});
    for (host, origin, status) in [
        (server.address.as_str(), None, 200),
        ("localhost", Some("http://localhost"), 200),
        ("rebound.example", None, 421),
        ("localhost", Some("https://other.example"), 403),
        ("localhost", Some("null"), 403),
    ] {
        let (found, body) = browse(&server, host, origin);
        assert_eq!(found, status, "{host} {origin:?}: {body}");
    }
    let server = Running::start(&bundle, |command| {
        command.args(["--allowed-host", "translate.example.org,*.example.net"]);
    });
    for (host, origin, status) in [
        ("translate.example.org", Some("https://translate.example.org"), 200),
        ("127.0.0.1:80", Some("https://translate.example.org"), 200),
        ("a.example.net:8080", None, 200),
        ("example.org", None, 421),
    ] {
        assert_eq!(browse(&server, host, origin).0, status, "{host} {origin:?}");
    }
}

#[test]
fn an_allowed_host_that_is_no_name_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let mut command = crate::common::server::s2s();
    let output = command
        .arg("serve-local")
        .arg(&bundle)
        .args(["--port", "0", "--allowed-host", "http://a.example"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--allowed-host") && stderr.contains("translate.example.org"), "{stderr}");
}

#[test]
#[cfg(target_os = "linux")]
fn three_hundred_slow_bodies_of_two_megabytes_do_not_fill_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = Running::start(&bundle, |_| {});
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    };
    server.translate(&json!("abc"));
    let before = resident();
    let part = vec![b' '; 1_900_000];
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let head = "POST /translate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1990000\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            // One that is refused may be closed while it sends.
            let _ = stream.write_all(&part);
            stream
        })
        .collect();
    let after = resident();
    assert!(after < before + 130, "{before} MB, with 570 MB of bodies {after} MB");
    assert_eq!(server.translate(&json!("abc")).0, 200);
    let is_refused = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut some = [0; 12];
        stream.peek(&mut some).is_ok_and(|n| &some[..n] == b"HTTP/1.1 503")
    };
    // The server reads at its own pace, and others use the machine too.
    let begin = Instant::now();
    while slow.len() >= 50 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} of 300 are not refused", slow.len());
        std::thread::sleep(Duration::from_millis(20));
        slow.retain(|stream| !is_refused(stream));
    }
}
