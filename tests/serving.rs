//! `s2s serve-local` as a process, with the flags that app developers need.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::common::server::{Running, s2s};
use crate::common::{Random, bundle};
use serde_json::Value;

#[test]
fn the_access_log_follows_the_address_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let mut command = s2s();
    command.arg("serve-local").arg(&bundle).args(["--port", "0", "--access-log=json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let server = Running { child, address: line.trim_end().strip_prefix("http://").unwrap().to_owned() };
    assert_eq!(server.ask("GET /translate?q=abc", "").0, 200);
    assert_eq!(server.ask("GET /nothing", "").0, 404);
    server.signal("TERM");
    assert_eq!(server.ended().0, 0);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let lines: Vec<Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["path"].as_str().unwrap(), line["status"].as_u64().unwrap())).collect();
    assert_eq!(told, [("/translate", 200), ("/nothing", 404)]);
    assert_eq!(lines[0]["client"], "127.0.0.1");
}

#[test]
fn flags_that_are_wrong_say_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let cases: [(&[&str], &str); 4] = [
        (&["--cors-origin", "app.example"], "https://app.example.org"),
        (&["--split", "words"], "lines, sentences or none"),
        (&["--access-log=xml"], "common or json"),
        (&["--engine", "tract", "--device", "cuda"], "the processor only"),
    ];
    for (flags, said) in cases {
        let output =
            s2s().arg("serve-local").arg(&bundle).args(["--port", "0"]).args(flags).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{flags:?}: {stderr}");
    }
}

#[test]
fn a_bad_bundle_of_several_is_named_on_stderr_and_alone_it_ends_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let good = Random { name: "good", ..Random::default() }.write(&folder.path().join("good"));
    let bad = folder.path().join("bad");
    std::fs::create_dir(&bad).unwrap();
    std::fs::write(bad.join("s2s.yaml"), "nothing: true\n").unwrap();
    let server = Running::start(folder.path(), |_| {});
    assert_eq!(server.ask("GET /translate?q=abc", "").0, 200);
    server.signal("TERM");
    let (code, stderr) = server.ended();
    let named = stderr
        .lines()
        .any(|line| line.contains("ERROR") && line.contains("NOT served") && line.contains("bad"));
    assert!(code == 0 && named, "{stderr}");
    assert!(good.exists());
    let output = s2s().arg("serve-local").arg(&bad).args(["--port", "0"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn settings_of_a_file_stand_under_the_command_line_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let name = bundle.file_name().unwrap().to_str().unwrap();
    let file = folder.path().join("server.yaml");
    let text = format!(
        "# a server\nbundles: [{name}]\nport: 1\nmax_client_batch: 2\nmax_lines: 3\naccess_log: false\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = s2s();
    command.arg("serve-local").arg("--config").arg(&file).args(["--port", "0"]).env("S2S_MAX_LINES", "2");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let server = Running { child, address: line.trim_end().strip_prefix("http://").unwrap().to_owned() };
    assert_eq!(server.ask("GET /translate?q=abc&q=abc", "").0, 200);
    // Of the file, and of the environment over it.
    assert_ne!(server.ask("GET /translate?q=abc&q=abc&q=abc", "").0, 200);
    assert_ne!(server.ask("GET /translate?q=a%0Ab%0Ac", "").0, 200);
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let check = |port: &str| s2s().args(["serve-local", "--check", "--port", port]).output().unwrap();
    assert!(check(&port).status.success());
    server.signal("TERM");
    assert_eq!(server.ended().0, 0);
    let after = check(&port);
    let stderr = String::from_utf8_lossy(&after.stderr);
    assert!(!after.status.success() && stderr.contains("nobody answers at 127.0.0.1, port"), "{stderr}");
}

#[test]
fn what_is_wrong_in_a_file_of_settings_is_named_with_its_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.yaml");
    let cases = [
        ("port: 0\nmax_bach_size: 3\n", ":2:max_bach_size: unknown key", "did you mean `max_batch_size`?"),
        ("bundles: [x]\nport: many\n", ":2:port: invalid value 'many'", ""),
        ("bundles: {a: b}\n", ":1:bundles: a text, a number or a list", ""),
        ("config: other.yaml\n", ":1:config: unknown key", ""),
        ("port: 0\n", "server.yaml:bundles: there is no bundle to serve", "bundles: [exported/NAME]"),
        ("bundles: [nothing]\nport: 0\n", "nothing: no such file", ""),
        ("bundles: [\n", "server.yaml", ""),
    ];
    for (text, said, help) in cases {
        std::fs::write(&file, text).unwrap();
        let output = s2s().arg("serve-local").arg("--config").arg(&file).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{text}");
        assert!(stderr.contains(said) && stderr.contains(help), "{text}: {stderr}");
    }
}
