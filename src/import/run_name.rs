//! How runs of imported models are called.

use std::path::Path;

/// Names a run after a model's file, or `other` where that leaves nothing.
pub fn run_name(model: &Path, other: &str) -> String {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() { other.to_owned() } else { name }
}
