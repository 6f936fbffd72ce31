//! Where ONNX Runtime's shared library may lie.
//!
//! A library is foreign code, so that it is looked for only where whoever runs the program has said that code
//! is: what `ORT_DYLIB_PATH` names, beside the program, the packages of the Python that it is a part of, the
//! active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`), the Python on `PATH`, the user's own packages, the
//! system's folders. Folders that one merely stands in do not count, in whatever way they come up: neither
//! `.venv` of the working folder, nor a relative entry of a variable, nor Python's own habit to import from
//! there.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::place::Place;

/// A library file, and why it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The file; it exists.
    pub path: PathBuf,
    /// For example `ORT_DYLIB_PATH` or `active environment`.
    pub origin: &'static str,
}

/// What the search depends on, so that tests can make it up.
#[derive(Clone, Debug, Default)]
struct Surroundings {
    /// `ORT_DYLIB_PATH`; where it is set, nothing else is looked at.
    explicit: Option<PathBuf>,
    /// The folder of the running program.
    program: Option<PathBuf>,
    /// A folder of the program that this one is a part of.
    host: Option<PathBuf>,
    /// Prefixes of virtual environments and Python installations, and what each is.
    prefixes: Vec<(PathBuf, &'static str)>,
    /// Interpreters on `PATH`, to be asked if all else fails.
    pythons: Vec<PathBuf>,
    /// The system's library folders.
    system: Vec<PathBuf>,
}

/// The libraries found, best first.
pub fn find() -> Vec<Library> {
    let surroundings = Surroundings::here();
    let found = surroundings.find();
    if found.is_empty() && surroundings.explicit.is_none() { surroundings.ask_python() } else { found }
}

/// Looks in this folder too, before the active environment: a program that this one is a part of has its
/// packages there. The first one that is named stays.
pub fn look_in(folder: PathBuf) {
    let _ = HOST.set(folder);
}

/// Of [`look_in`].
static HOST: OnceLock<PathBuf> = OnceLock::new();

/// The places that [`find`] looks at, in order, for `s2s doctor`.
pub fn places() -> Vec<Place> {
    let surroundings = Surroundings::here();
    let place = |(path, origin): (PathBuf, &'static str)| Place {
        libraries: libraries_in(&path).len(),
        path,
        origin,
    };
    match &surroundings.explicit {
        Some(path) => {
            vec![Place {
                libraries: surroundings.find().iter().filter(|l| l.path.is_file()).count(),
                path: path.clone(),
                origin: EXPLICIT,
            }]
        }
        None => surroundings.folders().into_iter().map(place).collect(),
    }
}

/// Origins, as they are shown.
const EXPLICIT: &str = "ORT_DYLIB_PATH";
const ENVIRONMENT: &str = "active environment";
const PYTHON: &str = "Python on PATH";

impl Surroundings {
    fn here() -> Self {
        let absolute = |name: &str| path_from(name).filter(|path| path.is_absolute());
        let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(absolute);
        let mut prefixes: Vec<(PathBuf, &str)> = active.map(|prefix| (prefix, ENVIRONMENT)).collect();
        let mut pythons = vec![];
        for folder in split_path("PATH") {
            let python = ["python3", "python", "python.exe"]
                .iter()
                .map(|name| folder.join(name))
                .find(|file| file.is_file());
            // `bin/python3` may be a link into the installation: both of its sides count.
            for python in
                python.iter().flat_map(|python| [Some(python.clone()), python.canonicalize().ok()]).flatten()
            {
                let parent = python.parent();
                let prefix = if cfg!(windows) { parent } else { parent.and_then(Path::parent) };
                prefixes.extend(prefix.map(|prefix| (prefix.to_owned(), PYTHON)));
            }
            pythons.extend(python);
        }
        prefixes.extend(absolute("HOME").map(|home| (home.join(".local"), "packages of this user")));
        let mut system = vec![];
        for name in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"] {
            system.extend(split_path(name));
        }
        if cfg!(windows) {
            system.extend(split_path("PATH"));
        } else {
            let machine = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
            let usual = [
                "/usr/local/lib",
                "/usr/lib",
                "/usr/lib64",
                &machine,
                "/opt/homebrew/lib",
                "/opt/onnxruntime/lib",
            ];
            system.extend(usual.iter().map(PathBuf::from));
        }
        Self {
            explicit: path_from(EXPLICIT),
            host: HOST.get().cloned(),
            program: env::current_exe().ok().and_then(|file| file.parent().map(Path::to_owned)),
            prefixes,
            pythons,
            system,
        }
    }

    /// Folders in the order of the search.
    fn folders(&self) -> Vec<(PathBuf, &'static str)> {
        let mut folders: Vec<(PathBuf, &'static str)> = vec![];
        if let Some(program) = &self.program {
            folders.push((program.clone(), "beside the program"));
            folders.push((program.join("lib"), "beside the program"));
            folders.extend(program.parent().map(|parent| (parent.join("lib"), "beside the program")));
        }
        folders.extend(self.host.iter().map(|folder| (folder.clone(), "this Python")));
        for (prefix, origin) in &self.prefixes {
            folders.extend(
                package_folders(prefix)
                    .into_iter()
                    .map(|packages| (packages.join("onnxruntime").join("capi"), *origin)),
            );
        }
        folders.extend(self.system.iter().map(|folder| (folder.clone(), "system")));
        let mut seen: Vec<PathBuf> = vec![];
        folders.retain(|(folder, _)| {
            let fresh = !seen.contains(folder);
            seen.push(folder.clone());
            fresh
        });
        folders
    }

    fn find(&self) -> Vec<Library> {
        if let Some(explicit) = &self.explicit {
            let origin = EXPLICIT;
            if explicit.is_dir() {
                return libraries_in(explicit).into_iter().map(|path| Library { path, origin }).collect();
            }
            // Kept even if it does not exist: what the user asked for must fail by name.
            return vec![Library {
                path: explicit.canonicalize().unwrap_or_else(|_| explicit.clone()),
                origin,
            }];
        }
        let folders = self.folders().into_iter();
        folders
            .flat_map(|(folder, origin)| {
                libraries_in(&folder).into_iter().map(move |path| Library { path, origin })
            })
            .collect()
    }

    /// The last resort: a Python that finds its packages in ways of its own.
    fn ask_python(&self) -> Vec<Library> {
        const SCRIPT: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
            print(s.submodule_search_locations[0] if s else '')";
        for python in &self.pythons {
            // -I: nothing from the working folder, nor from where PYTHONPATH and PYTHONHOME point.
            let output = Command::new(python)
                .args(["-I", "-c", SCRIPT])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output();
            let Ok(output) = output else { continue };
            let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
            if output.status.success() && folder.is_absolute() {
                let found = libraries_in(&folder.join("capi"));
                return found.into_iter().map(|path| Library { path, origin: PYTHON }).collect();
            }
        }
        vec![]
    }
}

fn path_from(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

fn split_path(name: &str) -> Vec<PathBuf> {
    env::var_os(name)
        .map(|value| env::split_paths(&value).filter(|path| path.is_absolute()).collect())
        .unwrap_or_default()
}

/// `lib/python*/{site,dist}-packages` and their kin under `prefix`.
fn package_folders(prefix: &Path) -> Vec<PathBuf> {
    let mut folders = vec![prefix.join("Lib").join("site-packages")];
    for library in ["lib", "lib64", "local/lib"] {
        let mut versions: Vec<PathBuf> =
            entries(&prefix.join(library)).into_iter().filter(|path| starts_with(path, "python")).collect();
        versions.sort();
        for version in versions.into_iter().rev() {
            folders.push(version.join("site-packages"));
            folders.push(version.join("dist-packages"));
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// ONNX Runtime's libraries in `folder`, the newest version first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        entries(folder).into_iter().filter(|path| is_library(path) && path.is_file()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
    found.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect()
}

/// `libonnxruntime.so`, `.so.1.32.0`, `libonnxruntime.dylib`, `libonnxruntime.1.32.0.dylib`,
/// `onnxruntime.dll`.
fn is_library(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let version = |text: &str| {
        text.is_empty()
            || (text.starts_with('.') && text[1..].chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    if name == "onnxruntime.dll" {
        return true;
    }
    let Some(rest) = name.strip_prefix("libonnxruntime") else { return false };
    rest.strip_prefix(".so").is_some_and(version) || rest.strip_suffix(".dylib").is_some_and(version)
}

/// The version in a file name, for sorting.
pub(super) fn numbers(path: &Path) -> Vec<u64> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        path.canonicalize().unwrap()
    }

    #[test]
    fn the_places_come_in_order_and_the_newest_version_first() {
        let root = tempfile::tempdir().unwrap();
        let capi = "venv/lib/python3.12/site-packages/onnxruntime/capi";
        let old = file(root.path(), &format!("{capi}/libonnxruntime.so.1.9.0"));
        let new = file(root.path(), &format!("{capi}/libonnxruntime.so.1.32.0"));
        file(root.path(), &format!("{capi}/libonnxruntime_providers_shared.so"));
        let system = file(root.path(), "usr/lib/libonnxruntime.so");
        let beside = file(root.path(), "bin/libonnxruntime.1.30.0.dylib");
        let host = file(root.path(), "host/libonnxruntime.so.1.31.0");
        let surroundings = Surroundings {
            explicit: None,
            program: Some(root.path().join("bin")),
            host: Some(root.path().join("host")),
            system: vec![root.path().join("usr/lib"), root.path().join("nowhere")],
            prefixes: vec![(root.path().join("venv"), ENVIRONMENT), (root.path().join("venv"), PYTHON)],
            pythons: vec![],
        };
        let found = surroundings.find();
        let paths: Vec<&PathBuf> = found.iter().map(|library| &library.path).collect();
        assert_eq!(paths, [&beside, &host, &new, &old, &system]);
        let origins: Vec<&str> = found.iter().map(|library| library.origin).collect();
        assert_eq!(origins, ["beside the program", "this Python", ENVIRONMENT, ENVIRONMENT, "system"]);
    }

    #[test]
    fn an_explicit_path_is_the_only_one_even_if_it_does_not_exist() {
        let root = tempfile::tempdir().unwrap();
        file(root.path(), "usr/lib/libonnxruntime.so");
        let system = vec![root.path().join("usr/lib")];
        let missing = root.path().join("missing.so");
        let surroundings =
            Surroundings { explicit: Some(missing.clone()), system, ..Surroundings::default() };
        assert_eq!(surroundings.find(), [Library { path: missing, origin: "ORT_DYLIB_PATH" }]);
        let folder = Surroundings { explicit: Some(root.path().join("usr/lib")), ..Surroundings::default() };
        assert_eq!(folder.find().len(), 1);
    }

    /// Runs this test alone in a folder where all kinds of bait lie: it says which places it would look at.
    #[cfg(unix)]
    #[test]
    fn nothing_is_loaded_from_a_folder_that_one_merely_stands_in() {
        const INSIDE: &str = "S2S_TEST_STANDING_IN";
        if env::var_os(INSIDE).is_some() {
            let here = env::current_dir().unwrap();
            let (found, pythons) = (find(), Surroundings::here().pythons);
            assert!(found.iter().all(|library| !library.path.starts_with(&here)), "{found:?}");
            assert!(
                places().iter().all(|place| place.path.is_absolute() && !place.path.starts_with(&here)),
                "{:?}",
                places()
            );
            assert!(pythons.iter().all(|python| !python.starts_with(&here)), "{pythons:?}");
            return;
        }
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let here = root.path().canonicalize().unwrap().join("inner");
        // A virtual environment here and above, a package, a Python that says anything.
        for venv in ["inner/.venv", ".venv", "inner/relative"] {
            file(
                root.path(),
                &format!("{venv}/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so"),
            );
        }
        file(root.path(), "inner/onnxruntime/__init__.py");
        file(root.path(), "inner/onnxruntime/capi/libonnxruntime.so");
        file(root.path(), "inner/libonnxruntime.so");
        let script = format!("#!/bin/sh\necho {}\n", here.join("onnxruntime").display());
        let python = file(root.path(), "inner/python3");
        std::fs::write(&python, script).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        // With Pythons of the machine behind the relative entries, and with the one in the folder alone.
        let path = env::var("PATH").unwrap_or_default();
        for path in [format!(".::{path}"), ".:".to_owned()] {
            let mut test = Command::new(env::current_exe().unwrap());
            test.args([
                "--exact",
                "engine::library::tests::nothing_is_loaded_from_a_folder_that_one_merely_stands_in",
            ]);
            test.current_dir(&here)
                .env(INSIDE, "1")
                .env("PATH", &path)
                .env_remove("ORT_DYLIB_PATH")
                .env_remove("PYTHONPATH");
            test.env("VIRTUAL_ENV", "relative")
                .env("CONDA_PREFIX", ".")
                .env("LD_LIBRARY_PATH", ".:")
                .env("HOME", ".");
            let output = test.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
        }
    }

    #[test]
    fn only_the_runtime_itself_counts_as_a_library() {
        for name in [
            "libonnxruntime.so",
            "libonnxruntime.so.1",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.dylib",
            "onnxruntime.dll",
        ] {
            assert!(is_library(Path::new(name)), "{name}");
        }
        for name in
            ["libonnxruntime_providers_shared.so", "libonnxruntime.so.bak", "onnxruntime.lib", "libonnx.so"]
        {
            assert!(!is_library(Path::new(name)), "{name}");
        }
    }
}
