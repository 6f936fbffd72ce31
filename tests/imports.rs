//! Who imports whom: no circles among the files of a package, and no arrow between two rooms that the map
//! of CONTRIBUTING.md does not draw.
//!
//! A failure lists what is wrong, with the names imported: `cargo test --release --test all imports`.

mod circles;
mod map;
mod modules;
mod tests;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use map::Map;
use modules::{Arrow, Modules, Root};
use serde_json::Value;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// The libraries and programs of the workspace; files relative to it.
fn roots() -> Vec<Root> {
    let output = Command::new(env!("CARGO"))
        .current_dir(FOLDER)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let targets = metadata["packages"].as_array().into_iter().flatten().flat_map(|package| {
        let targets = package["targets"].as_array().into_iter().flatten();
        let kind = |target: &Value| target["kind"][0].as_str().map(str::to_owned).unwrap_or_default();
        targets.filter(move |target| matches!(kind(target).as_str(), "lib" | "bin" | "cdylib")).map(
            move |target| {
                let file = Path::new(target["src_path"].as_str().expect("a path"));
                let name = target["name"].as_str().expect("a name").replace('-', "_");
                let name = if kind(target) == "bin" { format!("program {name}") } else { name };
                Root { name, file: file.strip_prefix(FOLDER).expect("inside").to_owned() }
            },
        )
    });
    targets.collect()
}

/// All imports of the product.
fn product(roots: &[Root]) -> BTreeSet<Arrow> {
    Modules::read(roots, &|file| std::fs::read_to_string(Path::new(FOLDER).join(file)).ok()).arrows()
}

/// The room that each file is in: the package, or in the root package the folder or file of `src`.
fn rooms(roots: &[Root]) -> impl Fn(&Path) -> String {
    let nested: Vec<(PathBuf, String)> = roots
        .iter()
        .filter_map(|root| Some((root.file.parent()?.to_owned(), root.name.replace('_', "-"))))
        .filter(|(folder, _)| folder != Path::new("src"))
        .collect();
    move |file| {
        let package = nested.iter().find(|(folder, _)| file.starts_with(folder));
        package.map_or_else(
            || {
                let inside = file.strip_prefix("src").unwrap_or(file);
                let first = Path::new(inside.iter().next().unwrap_or_default());
                first.with_extension("").display().to_string()
            },
            |(_, name)| name.clone(),
        )
    }
}

#[test]
fn no_file_imports_itself_through_others() {
    let arrows = product(&roots());
    let circles = circles::circles(&arrows);
    assert!(circles.is_empty(), "{}", circles::describe(&circles, &arrows));
}

#[test]
fn rooms_import_from_one_another_as_the_map_says() {
    let document =
        std::fs::read_to_string(Path::new(FOLDER).join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let roots = roots();
    let arrows = map::between_rooms(&product(&roots), &rooms(&roots));
    let differences = Map::read(&document).differences(&arrows);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
