//! Where ONNX Runtime's shared library may lie.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A library file, and why it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The file; it exists.
    pub path: PathBuf,
    /// For example `ORT_DYLIB_PATH` or `Python package`.
    pub origin: &'static str,
}

/// What the search depends on, so that tests can make it up.
#[derive(Clone, Debug, Default)]
struct Surroundings {
    /// `ORT_DYLIB_PATH`; where it is set, nothing else is looked at.
    explicit: Option<PathBuf>,
    /// The folder of the running program.
    program: Option<PathBuf>,
    /// The system's library folders.
    system: Vec<PathBuf>,
    /// Prefixes of Python installations and virtual environments.
    prefixes: Vec<PathBuf>,
}

/// The libraries found, best first.
pub fn find() -> Vec<Library> {
    let surroundings = Surroundings::here();
    let found = surroundings.find();
    if found.is_empty() && surroundings.explicit.is_none() { ask_python() } else { found }
}

/// The folders that [`find`] looks into, for `s2s doctor`.
pub fn places() -> Vec<PathBuf> {
    let surroundings = Surroundings::here();
    surroundings.explicit.clone().map_or_else(|| surroundings.folders().into_iter().map(|(folder, _)| folder).collect(), |path| vec![path])
}

impl Surroundings {
    fn here() -> Self {
        let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| path_from(name)).collect();
        if let Ok(here) = env::current_dir() {
            prefixes.extend(here.ancestors().map(|folder| folder.join(".venv")).filter(|folder| folder.is_dir()));
        }
        for folder in split_path("PATH") {
            let python = ["python3", "python", "python.exe"].iter().map(|name| folder.join(name)).find(|file| file.is_file());
            // `bin/python3` may be a link into the installation: both of its sides count.
            for python in python.iter().flat_map(|python| [Some(python.clone()), python.canonicalize().ok()]).flatten() {
                let parent = python.parent();
                prefixes.extend(if cfg!(windows) { parent } else { parent.and_then(Path::parent) }.map(Path::to_owned));
            }
        }
        // Packages that were installed for one user.
        if let Some(home) = path_from("HOME") {
            prefixes.push(home.join(".local"));
        }
        let mut system = vec![];
        for name in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"] {
            system.extend(split_path(name));
        }
        if cfg!(windows) {
            system.extend(split_path("PATH"));
        } else {
            let machine = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
            let usual = ["/usr/local/lib", "/usr/lib", "/usr/lib64", &machine, "/opt/homebrew/lib", "/opt/onnxruntime/lib"];
            system.extend(usual.iter().map(PathBuf::from));
        }
        Self {
            explicit: path_from("ORT_DYLIB_PATH"),
            program: env::current_exe().ok().and_then(|file| file.parent().map(Path::to_owned)),
            system,
            prefixes,
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
        folders.extend(self.system.iter().map(|folder| (folder.clone(), "system")));
        for packages in self.prefixes.iter().flat_map(|prefix| package_folders(prefix)) {
            folders.push((packages.join("onnxruntime").join("capi"), "Python package"));
        }
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
            let origin = "ORT_DYLIB_PATH";
            if explicit.is_dir() {
                return libraries_in(explicit).into_iter().map(|path| Library { path, origin }).collect();
            }
            // Kept even if it does not exist: what the user asked for must fail by name.
            return vec![Library { path: explicit.canonicalize().unwrap_or_else(|_| explicit.clone()), origin }];
        }
        let folders = self.folders().into_iter();
        folders.flat_map(|(folder, origin)| libraries_in(&folder).into_iter().map(move |path| Library { path, origin })).collect()
    }
}

fn path_from(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

fn split_path(name: &str) -> Vec<PathBuf> {
    env::var_os(name).map(|value| env::split_paths(&value).filter(|path| path.is_absolute()).collect()).unwrap_or_default()
}

/// `lib/python*/{site,dist}-packages` and their kin under `prefix`.
fn package_folders(prefix: &Path) -> Vec<PathBuf> {
    let mut folders = vec![prefix.join("Lib").join("site-packages")];
    for library in ["lib", "lib64", "local/lib"] {
        let mut versions: Vec<PathBuf> = entries(&prefix.join(library)).into_iter().filter(|path| starts_with(path, "python")).collect();
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
    let mut found: Vec<PathBuf> = entries(folder).into_iter().filter(|path| is_library(path) && path.is_file()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
    found.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect()
}

/// `libonnxruntime.so`, `.so.1.32.0`, `libonnxruntime.dylib`, `libonnxruntime.1.32.0.dylib`, `onnxruntime.dll`.
fn is_library(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let version = |text: &str| text.is_empty() || (text.starts_with('.') && text[1..].chars().all(|c| c.is_ascii_digit() || c == '.'));
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

/// The last resort: a Python that finds its packages in ways of its own.
fn ask_python() -> Vec<Library> {
    const SCRIPT: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0] if s else '')";
    for python in ["python3", "python"] {
        let output = Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let Ok(output) = output else { continue };
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !folder.is_empty() {
            let found = libraries_in(&Path::new(&folder).join("capi"));
            return found.into_iter().map(|path| Library { path, origin: "Python package" }).collect();
        }
    }
    vec![]
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
        let surroundings = Surroundings {
            explicit: None,
            program: Some(root.path().join("bin")),
            system: vec![root.path().join("usr/lib"), root.path().join("nowhere")],
            prefixes: vec![root.path().join("venv"), root.path().join("venv")],
        };
        let found: Vec<PathBuf> = surroundings.find().into_iter().map(|library| library.path).collect();
        assert_eq!(found, [beside, system, new, old]);
    }

    #[test]
    fn an_explicit_path_is_the_only_one_even_if_it_does_not_exist() {
        let root = tempfile::tempdir().unwrap();
        file(root.path(), "usr/lib/libonnxruntime.so");
        let system = vec![root.path().join("usr/lib")];
        let missing = root.path().join("missing.so");
        let surroundings = Surroundings { explicit: Some(missing.clone()), system, ..Surroundings::default() };
        assert_eq!(surroundings.find(), [Library { path: missing, origin: "ORT_DYLIB_PATH" }]);
        let folder = Surroundings { explicit: Some(root.path().join("usr/lib")), ..Surroundings::default() };
        assert_eq!(folder.find().len(), 1);
    }

    #[test]
    fn only_the_runtime_itself_counts_as_a_library() {
        for name in ["libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.so.1.32.0", "libonnxruntime.dylib", "onnxruntime.dll"] {
            assert!(is_library(Path::new(name)), "{name}");
        }
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.so.bak", "onnxruntime.lib", "libonnx.so"] {
            assert!(!is_library(Path::new(name)), "{name}");
        }
    }
}
