//! The page at `/` in a browser: what `tests/python/page.py` says about it, over two servers.
//!
//! Needs Chromium, which `scripts/test` installs where it may, and a Python without any package.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use crate::common::server::Running;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_page_does_in_a_browser_what_people_expect_of_it() {
    let Some(browser) = crate::common::chromium() else { return };
    let starts = |python: &String| {
        Command::new(python).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let Some(python) = [format!("{ROOT}/.venv/bin/python"), "python3".to_owned()].into_iter().find(starts)
    else {
        return crate::common::skipped("no Python");
    };
    let folder = tempfile::tempdir().unwrap();
    let dates = Path::new(ROOT).join("exported/dates");
    let letters = ["abcdefghijklmnopqrstuvwxyz ", "אבגדהוזחטיכלמנסעפצקרשת"];
    let hebrew = crate::common::Random {
        name: "hebrew",
        languages: Some(("en", "he")),
        letters,
        attention: "dot",
        ..Default::default()
    }
    .write(&folder.path().join("hebrew"));
    let open = Running::start(&dates, |command| {
        command.arg(&hebrew);
    });
    let keyed = Running::start(&dates, |command| {
        command.env("S2S_API_KEY", "secret");
    });
    let mut command = Command::new(python);
    command.current_dir(ROOT).arg("tests/python/page.py").arg(browser);
    command.args([format!("http://{}", open.address), format!("http://{}", keyed.address)]);
    // A folder for pictures, to be looked at.
    if let Some(pictures) = std::env::var_os("S2S_PAGE_PICTURES") {
        command.arg("--pictures").arg(pictures);
    }
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    println!("{out}");
}
