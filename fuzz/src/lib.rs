//! What strangers send, as fuzz targets: ordinary functions over bytes that hold properties and panic where
//! one is broken.
//!
//! libFuzzer drives them with coverage (`fuzz_targets/`, nightly Rust); `tests/fuzz.rs` of the project
//! replays the committed inputs through the same functions on stable Rust and adds seeded mutations.
//! Everywhere holds: no panic, no overflow, memory within [`memory`]'s limits, time within
//! [`Target::check`]'s, and errors that can be printed; each target adds its own.

use std::time::{Duration, Instant};

mod bundles;
mod data;
mod decoding;
mod graphs;
mod input;
mod keras;
pub mod memory;
mod mutate;
mod properties;
mod pytorch;
mod runs;
mod server;
mod texts;

/// The longest that one input may take, in a release build with all checks on a busy machine.
const LONGEST: Duration = Duration::from_secs(10);

/// A function to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `fuzz_targets/`, `corpus/` and `regressions/` are named.
    pub name: &'static str,
    run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("bundle", bundles::bundle),
    target("zip", bundles::zip),
    target("manifest", bundles::manifest),
    target("self_test", bundles::self_test),
    target("graph", graphs::graph),
    target("graph_structure", graphs::graph_structure),
    target("layout", graphs::layout),
    target("vocabulary", texts::vocabulary),
    target("vocabulary_spec", texts::vocabulary_spec),
    target("decoding_yaml", decoding::decoding_yaml),
    target("decoding_json", decoding::decoding_json),
    target("decoding_loop", decoding::decoding_loop),
    target("config", runs::config),
    target("mlp_config", runs::mlp_config),
    target("checkpoint", runs::checkpoint),
    target("run_folder", runs::run_folder),
    target("pairs", data::pairs),
    target("samples", data::samples),
    target("keras_h5", keras::h5),
    target("keras_zip", keras::zip),
    target("pytorch", pytorch::file),
    target("pytorch_pickle", pytorch::pickle),
    target("http", server::http),
    target("oip", server::oip),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

impl Target {
    /// Runs one input.
    ///
    /// # Panics
    /// If a property does not hold.
    pub fn check(&self, data: &[u8]) {
        let started = Instant::now();
        (self.run)(data);
        let elapsed = started.elapsed();
        assert!(elapsed < LONGEST, "{}: {} bytes took {elapsed:?}", self.name, data.len());
    }
}

/// Runs one input of the target called `name`, as `fuzz_targets/` do.
///
/// # Panics
/// If there is no such target, or a property does not hold.
pub fn check(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no target is called {name}")).check(data);
}
