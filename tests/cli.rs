//! The command as users run it: exit codes, what goes to stdout and to stderr, and the server as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::server::{Running, run, s2s};
use s2s::error::ErrorKind;
use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::translator::Translator;
use serde_json::{Value, json};

#[test]
fn a_wrong_command_line_is_2_and_says_the_nearest_right_one() {
    let (code, stdout, stderr) = run(s2s().args(["serve-local", "x", "--prot", "1"]));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("--port"), "{stderr}");
    for wrong in [["--workers", "0"], ["--grace", "-1"], ["--body-timeout", "nan"], ["--engine", "torch"]] {
        assert_eq!(run(s2s().args(["serve-local", "x"]).args(wrong)).0, 2, "{wrong:?}");
    }
    assert_eq!(run(s2s().args(["serve-local", "x"]).env("S2S_MAX_QUEUE", "many")).0, 2);
    assert_eq!(run(s2s().args(["serve-local", "x", "--port", "0"]).env("S2S_API_KEY", "")).0, 2);
}

#[test]
fn a_folder_that_is_not_a_bundle_is_5_and_a_damaged_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(s2s().args(["serve-local", "--port", "0"]).arg(folder.path()));
    assert_eq!((code, stdout.as_str()), (5, ""), "{stderr}");
    let bundle = crate::common::bundle(folder.path());
    let decoder = bundle.join("decoder.onnx");
    let mut bytes = std::fs::read(&decoder).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&decoder, bytes).unwrap();
    let (code, stdout, stderr) = run(s2s().args(["serve-local", "--port", "0"]).arg(&bundle));
    assert_eq!((code, stdout.as_str()), (5, ""), "{stderr}");
    assert!(stderr.contains("decoder.onnx"), "{stderr}");
}

#[test]
fn a_decoding_file_with_an_unknown_key_is_3_and_shows_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let file = folder.path().join("decoding.yaml");
    std::fs::write(&file, "# beams\nnum_beam: 4\n").unwrap();
    let (code, _, stderr) =
        run(s2s().args(["serve-local", "--port", "0", "--decoding"]).arg(&file).arg(&bundle));
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("decoding.yaml:2")
            && stderr.contains(" 2 | num_beam: 4\n")
            && stderr.contains("num_beams"),
        "{stderr}"
    );
    assert!(!stderr.contains('\u{1b}'), "colours although stderr is not a terminal");
    let (code, _, stderr) =
        run(s2s().args(["serve-local", "--json", "--port", "0", "--decoding"]).arg(&file).arg(&bundle));
    let error: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (code, &error["error"]["place"]["line"], &error["error"]["exit_code"]),
        (3, &json!(2), &json!(3))
    );
}

#[test]
fn a_port_in_use_is_6_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, stdout, stderr) = run(s2s().args(["serve-local", "nothing", "--port", &port]));
    assert_eq!((code, stdout.as_str()), (6, ""));
    assert!(stderr.contains(&port) && stderr.contains("--port 0"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn the_server_answers_what_the_runtime_says_batched_or_not_and_ends_with_0_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let texts = ["abc", "a", "", "hello there", "zzzzzzzzzzzz", "cab cab", "b"];
    let opened = Bundle::open(&bundle).unwrap();
    let mut translator = Translator::new(&opened, engine::open(&opened, EngineKind::Auto).unwrap());
    let expected: Vec<String> = texts
        .iter()
        .map(|text| translator.translate(&[text], &DecodingOptions::default()).unwrap()[0].text.clone())
        .collect();
    assert!(
        expected.iter().collect::<std::collections::BTreeSet<_>>().len() > 2,
        "a model that says one thing proves nothing: {expected:?}"
    );
    for signal in ["TERM", "INT"] {
        let server = Running::start(&bundle, |command| {
            command.env("S2S_WORKERS", "2");
        });
        assert_eq!(server.ask("GET /health", "").1, r#"{"status":"ok"}"#);
        assert_eq!(server.translate(&json!(texts)), (200, json!({"translatedText": expected})));
        // One by one on sixteen threads: whatever batches come about, the answers are the same.
        std::thread::scope(|scope| {
            for n in 0..16 {
                let (server, texts, expected) = (&server, &texts, &expected);
                scope.spawn(move || {
                    for round in 0..8 {
                        let at = (n + round) % texts.len();
                        if !texts[at].is_empty() {
                            assert_eq!(
                                server.translate(&json!(texts[at])),
                                (200, json!({"translatedText": expected[at]}))
                            );
                        }
                    }
                });
            }
        });
        server.signal(signal);
        let (code, stderr) = server.ended();
        assert_eq!(code, 0, "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn a_request_in_flight_at_sigterm_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = Running::start(&bundle, |_| {});
    let body = json!({"q": "abc", "source": "a", "target": "b"}).to_string();
    // The last byte is still to come when the signal does.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(stream, "POST /translate HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n").unwrap();
    write!(stream, "content-length: {}\r\n\r\n", body.len()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    // The server asks for the body: it has accepted the request.
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    server.signal("TERM");
    let started = Instant::now();
    while TcpStream::connect(&server.address).is_ok() {
        assert!(started.elapsed() < Duration::from_secs(60), "new connections are still taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    reader.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("translatedText"), "{answer}");
    assert_eq!(server.ended().0, 0);
}

#[cfg(unix)]
#[test]
fn a_request_that_outlasts_the_grace_time_is_cut_and_the_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = Running::start(&bundle, |command| {
        command.args(["--grace", "0.2"]);
    });
    let mut stuck = server.begin("POST /translate", "{");
    // The body announced one byte and has one; this one never gets its body.
    let mut waiting = TcpStream::connect(&server.address).unwrap();
    write!(
        waiting,
        "POST /translate HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    )
    .unwrap();
    let mut line = String::new();
    BufReader::new(waiting.try_clone().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    let mut rest = String::new();
    stuck.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
    server.signal("TERM");
    let (code, stderr) = server.ended();
    assert_eq!(code, i32::from(s2s::error::exit_code(ErrorKind::Interrupted)), "{stderr}");
    assert!(stderr.contains("--grace"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn an_address_that_others_can_reach_is_warned_about_unless_there_is_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    for (host, key, warned) in
        [("0.0.0.0", None, true), ("0.0.0.0", Some("secret"), false), ("127.0.0.1", None, false)]
    {
        let mut server = Running::start(&bundle, |command| {
            command.env("S2S_HOST", host);
            key.map(|key| command.env("S2S_API_KEY", key));
        });
        server.address = server.address.replace("0.0.0.0", "127.0.0.1");
        let (status, _) = server.translate(&json!("abc"));
        assert_eq!(status, if key.is_some() { 401 } else { 200 });
        server.signal("TERM");
        let (code, stderr) = server.ended();
        assert_eq!((code, stderr.contains("S2S_API_KEY")), (0, warned), "{stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_gzip_bomb_is_413_at_flat_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = crate::common::bundle(folder.path());
    let server = Running::start(&bundle, |_| {});
    assert_eq!(server.translate(&json!("abc")).0, 200);
    let resident = || {
        let (_, page) = server.ask("GET /metrics", "");
        let line = page.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        line.unwrap_or_else(|| panic!("{page}")).parse::<f64>().unwrap() / 1e6
    };
    let before = resident();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..100 {
        encoder.write_all(&[b' '; 1_000_000]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1_000_000, "{}", bomb.len());
    for _ in 0..4 {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(stream, "POST /translate HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\ncontent-type: application/json\r\n")
            .unwrap();
        write!(stream, "content-length: {}\r\n\r\n", bomb.len()).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(&bomb);
        let mut answer = [0; 64];
        let n = stream.read(&mut answer).unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 413 "), "{:?}", String::from_utf8_lossy(&answer[..n]));
    }
    let after = resident();
    assert!(after < before + 20.0, "{before} MB before, {after} MB after");
}

#[test]
fn list_shows_bundles_and_says_what_is_wrong_with_one() {
    let folder = tempfile::tempdir().unwrap();
    crate::common::Random { name: "good", languages: Some(("en", "fr")), ..crate::common::Random::default() }
        .write(&folder.path().join("a"));
    let bad = crate::common::Random { name: "bad", ..crate::common::Random::default() }
        .write(&folder.path().join("b"));
    std::fs::write(bad.join("decoder.onnx"), "x").unwrap();
    let (code, stdout, stderr) = run(s2s().arg("list").arg(folder.path()));
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("good") && stdout.contains("en to fr") && stdout.contains("lstm 1 x 24"),
        "{stdout}"
    );
    assert!(stdout.contains("cannot be served") && stdout.contains("decoder.onnx"), "{stdout}");
    let (_, stdout, _) = run(s2s().args(["list", "--json"]).arg(folder.path()));
    let rows: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&rows[0]["name"], &rows[0]["problem"], &rows[1]["name"]),
        (&json!("good"), &json!(null), &json!(null))
    );
    assert_eq!(run(s2s().args(["list", "/no/such/folder"])).0, 1);
}

/// What ends by itself within ten seconds: exit code and stderr.
#[cfg(unix)]
fn ends(command: &mut Command) -> (i32, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("it hangs: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.code().unwrap(), stderr)
}

#[cfg(unix)]
#[test]
fn a_fifo_or_a_device_where_a_file_should_be_is_named_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let bundle = crate::common::bundle(folder.path()).into_os_string().into_string().unwrap();
    let fifo = |at: &str| {
        std::fs::create_dir_all(Path::new(at).parent().unwrap()).unwrap();
        assert!(Command::new("mkfifo").arg(at).status().unwrap().success());
        at.to_owned()
    };
    let keras = format!("{}/tests/keras/one_hot.h5", env!("CARGO_MANIFEST_DIR"));
    let config = |train: &str| {
        let file = path("config.yaml");
        let data = format!("data: {{train: {train}, validation: {{split: tail, fraction: 0.5}}}}");
        let model =
            "model: {hidden: 8, input: one_hot}\ntraining: {epochs: 1, batch_size: 2, learning_rate: 0.1}";
        std::fs::write(&file, format!("name: a\n{data}\n{model}\n")).unwrap();
        file
    };
    let pipe = fifo(&path("pipe"));
    // A whole bundle but for one file.
    let broken = path("broken");
    std::fs::create_dir(&broken).unwrap();
    for entry in std::fs::read_dir(&bundle).unwrap() {
        let entry = entry.unwrap();
        match entry.file_name().to_str() {
            Some("decoder.onnx") => drop(fifo(&format!("{broken}/decoder.onnx"))),
            _ => drop(std::fs::copy(entry.path(), Path::new(&broken).join(entry.file_name())).unwrap()),
        }
    }
    let manifest = fifo(&path("manifest/s2s.yaml"));
    let run = fifo(&path("run/config.yaml"));
    let (manifest, run) = (manifest.trim_end_matches("/s2s.yaml"), run.trim_end_matches("/config.yaml"));
    for (what, code, arguments) in [
        ("a FIFO", 5, vec!["translate", &pipe, "a"]),
        ("a FIFO", 5, vec!["translate", &broken, "a"]),
        ("a FIFO", 5, vec!["verify", manifest]),
        ("a FIFO", 5, vec!["serve-local", &pipe, "--port", "0"]),
        ("a FIFO", 5, vec!["inspect", &pipe]),
        ("a FIFO", 5, vec!["lint", &pipe]),
        ("a FIFO", 3, vec!["translate", &bundle, "a", "--decoding", &pipe]),
        ("a FIFO", 3, vec!["serve-local", &bundle, "--port", "0", "--decoding", &pipe]),
        ("a FIFO", 4, vec!["eval", &bundle, &pipe]),
        ("a FIFO", 4, vec!["verify", &bundle, "--no-write", "--texts", &pipe]),
        ("a FIFO", 3, vec!["train", &pipe]),
        ("a FIFO", 3, vec!["config", "check", &pipe]),
        ("a FIFO", 4, vec!["train", &config(&pipe)]),
        ("a FIFO", 4, vec!["import", "keras", &pipe, "--pairs", &keras]),
        ("a FIFO", 4, vec!["import", "keras", &keras, "--pairs", &pipe]),
        ("a FIFO", 4, vec!["import", "keras", &keras, "--vocabulary", &pipe]),
        ("a device", 3, vec!["train", "/dev/zero"]),
        ("a device", 4, vec!["eval", &bundle, "/dev/zero"]),
        ("a device", 5, vec!["lint", "/dev/zero"]),
        ("a folder", 4, vec!["eval", &bundle, &bundle]),
    ] {
        let (found, stderr) = ends(s2s().current_dir(folder.path()).args(&arguments));
        assert!(
            found == code && stderr.contains(&format!("this is {what}, where a")),
            "{arguments:?}: {found} {stderr}"
        );
    }
    // A run whose config is no file is no run.
    for arguments in [vec!["export", run, "-o", "x"], vec!["inspect", run], vec!["train", "--resume", run]] {
        assert_ne!(ends(s2s().current_dir(folder.path()).args(&arguments)).0, 0, "{arguments:?}");
    }
}
