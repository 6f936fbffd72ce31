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
