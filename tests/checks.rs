//! `scripts/test` itself, with programs of our own in the place of cargo, apt-get and the rest.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What the script calls and what every Unix has.
const TOOLS: [&str; 19] = [
    "awk", "bash", "cat", "cmp", "dirname", "env", "find", "grep", "head", "mktemp", "rm", "sed", "sh",
    "sort", "tail", "tee", "touch", "uname", "chmod",
];

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A copy of the script in a project whose checks are shams; gives the exit code and what was printed.
///
/// - `tests`: what `cargo test` prints.
/// - `programs`: more programs on the PATH, which has nothing of this machine.
fn check(tests: &str, programs: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let (root, bin) = (folder.path(), folder.path().join("bin"));
    fs::create_dir_all(&bin).unwrap();
    for tool in TOOLS {
        let found = ["/usr/bin", "/bin"]
            .map(|folder| Path::new(folder).join(tool))
            .into_iter()
            .find(|path| path.exists());
        symlink(found.unwrap_or_else(|| panic!("no {tool}")), bin.join(tool)).unwrap();
    }
    fs::write(root.join("tests.txt"), tests).unwrap();
    program(
        &bin.join("cargo"),
        "if [ \"$1 $2\" = 'test --release' ]; then cat \"$(dirname \"$0\")/../tests.txt\"; fi",
    );
    for silent in ["rustfmt", "cc"] {
        program(&bin.join(silent), "");
    }
    program(&bin.join("id"), "echo 1000");
    for (name, text) in programs {
        program(&bin.join(name), text);
    }
    program(
        &root.join(".venv/bin/python"),
        "case \"$1\" in *loops.py) echo 'skipped: loops, browser: chromium is not on the PATH';; esac",
    );
    program(&root.join("tests/runtimes/run"), "echo '3 passed, 0 failed'");
    program(
        &root.join("scripts/python"),
        "case \"$*\" in *pytest*) echo 'test result: ok. 5 passed; 0 failed; 0 ignored;';; esac",
    );
    for packages in ["requirements.txt", "clients.txt"] {
        fs::create_dir_all(root.join("tests/python")).unwrap();
        fs::write(root.join("tests/python").join(packages), "x\n").unwrap();
    }
    fs::write(root.join(".venv/requirements.txt"), "x\nx\n").unwrap();
    fs::create_dir_all(root.join("scripts")).unwrap();
    fs::copy(Path::new(ROOT).join("scripts/test"), root.join("scripts/test")).unwrap();
    let mut command = Command::new(bin.join("bash"));
    command.arg(root.join("scripts/test")).env_clear().env("PATH", &bin).env("ORT_DYLIB_PATH", "here");
    let output = command.output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

const TESTS: &str = "\
test a ... ok

skipped: the_browser: no Chromium
skipped: the_browser: no Chromium
skipped: data::tests::large: no data
test b ... ignored, takes an hour
test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";

#[test]
fn what_could_not_be_checked_is_listed_with_its_reason_and_not_counted_as_passed() {
    let (code, out) = check(TESTS, &[]);
    // Nine tests, of which two skipped, and five of the Python package; and format, fuzzers' format, build, the package,
    // runtimes, converters, rules of lint, loops, lints, licences, dependencies, documentation. What needs Node, Ray,
    // buildah and systemd has none of them here.
    assert!(out.ends_with("\n24 passed, 0 failed, 8 skipped\n"), "{out}");
    assert_eq!(code, 0);
    let (_, list) = out.rsplit_once("\nskipped:\n").unwrap();
    for line in [
        "    the_browser: no Chromium\n",
        "    data::tests::large: no data\n",
        "    b: ignored takes an hour\n",
        "    loops, browser: chromium is not on the PATH\n",
        "    npm package: there is no Node with npm\n",
        "    tests on Ray, Spark and Triton: Ray, Spark and Triton could not be installed (above: why)\n",
        "    container: there is no buildah (Debian: apt-get install buildah)\n",
        "    systemd unit: there is no systemd-analyze\n",
    ] {
        assert!(list.contains(line), "{line} is not in {list}");
    }
    assert!(out.contains("no Chromium: checks in a browser are skipped"), "{out}");
}

#[test]
fn all_three_numbers_are_told_where_nothing_was_skipped_and_where_a_test_failed() {
    let failing =
        "test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
    let (code, out) = check(failing, &[]);
    assert!(
        out.ends_with("\n21 passed, 1 failed, 5 skipped\n") && out.contains("\nfailed: tests\n"),
        "{out}"
    );
    assert_eq!(code, 1);
}

#[test]
fn a_browser_is_installed_where_root_and_apt_get_are_and_every_check_is_told_of_it() {
    let install = "\
case \"$*\" in
*'install'*'chromium'*) printf '#!/bin/sh\\necho Chromium 1\\n' >\"$(dirname \"$0\")/chromium\"; chmod +x \"$(dirname \"$0\")/chromium\";;
*) exit 0;;
esac";
    let cargo = "if [ \"$1 $2\" = 'test --release' ]; then cat \"$(dirname \"$0\")/../tests.txt\"; echo; echo \"the browser is ${CHROMIUM##*/}\"; fi";
    let (_, out) = check(TESTS, &[("id", "echo 0"), ("apt-get", install), ("cargo", cargo)]);
    assert!(
        out.contains("==> apt-get install chromium\n") && out.contains("\nthe browser is chromium\n"),
        "{out}"
    );
    // One that is named is taken as it is.
    let (_, out) = check(
        TESTS,
        &[("id", "echo 0"), ("apt-get", "exit 1"), ("cargo", cargo), ("google-chrome", "echo Chrome 2")],
    );
    assert!(
        !out.contains("apt-get install chromium") && out.contains("\nthe browser is google-chrome\n"),
        "{out}"
    );
}
