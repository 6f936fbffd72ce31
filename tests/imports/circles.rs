//! Circles among files: each file of one imports the next, and the last the first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::modules::{Arrow, joined};

/// Files that reach one another, and a shortest circle through each of their imports.
#[derive(Debug)]
pub(crate) struct Circle {
    pub(crate) files: BTreeSet<PathBuf>,
    /// Each begins with its lowest file; the last imports the first.
    pub(crate) paths: BTreeSet<Vec<PathBuf>>,
}

/// Every circle of `arrows`.
pub(crate) fn circles(arrows: &BTreeSet<Arrow>) -> Vec<Circle> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for (from, to) in joined(arrows).into_keys() {
        next.entry(from).or_default().insert(to);
    }
    let mut found: Vec<Circle> = Vec::new();
    for (&from, targets) in &next {
        for &to in targets {
            let Some(mut path) = way(&next, to, from) else { continue };
            let lowest = (0..path.len()).min_by_key(|&i| path[i]).unwrap_or(0);
            path.rotate_left(lowest);
            let path: Vec<PathBuf> = path.into_iter().map(Path::to_owned).collect();
            // Circles that share a file are one.
            let (mut joint, apart): (Vec<Circle>, Vec<Circle>) =
                found.into_iter().partition(|circle| path.iter().any(|file| circle.files.contains(file)));
            let mut whole = Circle { files: path.iter().cloned().collect(), paths: BTreeSet::from([path]) };
            for circle in &mut joint {
                whole.files.append(&mut circle.files);
                whole.paths.append(&mut circle.paths);
            }
            found = apart;
            found.push(whole);
        }
    }
    found
}

/// The shortest way from `from` to `to`, both included.
fn way<'a>(
    next: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
    from: &'a Path,
    to: &'a Path,
) -> Option<Vec<&'a Path>> {
    let mut before: BTreeMap<&Path, Option<&Path>> = BTreeMap::from([(from, None)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut path = vec![file];
            while let Some(&Some(previous)) = before.get(path[path.len() - 1]) {
                path.push(previous);
            }
            path.reverse();
            return Some(path);
        }
        for &target in next.get(file).into_iter().flatten() {
            if !before.contains_key(target) {
                before.insert(target, Some(file));
                queue.push_back(target);
            }
        }
    }
    None
}

/// Circles for people: `a -> b -> a`, and below it what each imports of the next.
pub(crate) fn describe(circles: &[Circle], arrows: &BTreeSet<Arrow>) -> String {
    let joined = joined(arrows);
    let mut text = String::new();
    for (number, circle) in circles.iter().enumerate() {
        let _ = writeln!(text, "circle {} among {} files", number + 1, circle.files.len());
        let mut paths: Vec<_> = circle.paths.iter().collect();
        paths.sort_by_key(|path| path.len());
        for path in paths {
            let turn: Vec<String> =
                path.iter().chain(path.first()).map(|file| file.display().to_string()).collect();
            let _ = writeln!(text, "  {}", turn.join(" -> "));
            for (from, to) in path.iter().zip(path.iter().cycle().skip(1)) {
                let names = joined.get(&(from.as_path(), to.as_path())).into_iter().flatten();
                let names: Vec<&str> = names.copied().collect();
                let _ = writeln!(text, "      {} of {}", names.join(", "), to.display());
            }
        }
    }
    text
}
