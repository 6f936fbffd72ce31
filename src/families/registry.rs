//! The families that there are, and whose a file is.

use std::path::Path;

use super::family::Family;
use super::perceptron::PerceptronFamily;
use super::recurrent::RecurrentFamily;
use crate::config::LoadOptions;
use crate::config::experiment;

/// All families, one a line. The default comes last: what is nobody else's is read as its own, so that its
/// readers say what is wrong.
pub const FAMILIES: &[&dyn Family] = &[
    &PerceptronFamily::NEW,
    #[cfg(test)]
    &super::features::FeatureFamily::<super::linear::Linear>::NEW,
    &RecurrentFamily,
];

/// Finds the family of a config; what cannot be read, or is of no known kind, is the default's.
pub fn of_config(file: &Path, load: &LoadOptions) -> &'static dyn Family {
    let kind = experiment::kind(file, load);
    find(|family| kind.as_deref() == Some(family.kind()))
}

/// Finds the family of a run folder.
pub fn of_run(folder: &Path) -> &'static dyn Family {
    of_config(&folder.join("config.yaml"), &LoadOptions::default())
}

/// Finds the family of a bundle.
pub fn of_bundle(path: &Path) -> &'static dyn Family {
    find(|family| family.is_bundle(path))
}

fn find(is_own: impl Fn(&dyn Family) -> bool) -> &'static dyn Family {
    let found = FAMILIES.iter().find(|family| is_own(**family));
    *found.or_else(|| FAMILIES.iter().find(|family| family.is_default())).unwrap_or(&FAMILIES[0])
}
