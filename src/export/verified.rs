//! A bundle that comes to its place only after every check has passed.

use std::collections::BTreeMap;
use std::path::Path;

use s2s_runtime::contract::file;

use super::bundle::bundle_files;
use super::folder::{Replace, stage};
use super::input::{ExportInput, ExportOptions};
use super::verify::{Report, VerifyOptions, verify_path};
use crate::error::Result;

/// Exports to the folder `target`: written beside it, verified there, and moved to its place only if every
/// check passed.
///
/// # Errors
/// [`ErrorKind::Parity`](crate::error::ErrorKind::Parity) if a check failed; as [`bundle_files`],
/// [`stage`], [`verify_path`]. In each case `target` is as it was and nothing is left beside it.
pub fn export(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    verification: &VerifyOptions,
    target: &Path,
    replace: &Replace,
) -> Result<Report> {
    let files = bundle_files(input, options)?;
    write_verified(&files, target, replace, |folder| verify_path(folder, verification, true))
}

/// Writes `files` beside `target`, verifies them there, which adds the record, and moves them to `target`.
pub(crate) fn write_verified(
    files: &BTreeMap<String, Vec<u8>>,
    target: &Path,
    replace: &Replace,
    verify: impl FnOnce(&Path) -> Result<Report>,
) -> Result<Report> {
    let staged = stage(target, files, replace)?;
    let report = verify(staged.path())?;
    report.check()?;
    debug_assert!(staged.path().join(file::CONFORMANCE).exists(), "the record travels with the bundle");
    staged.commit()?;
    Ok(report)
}
