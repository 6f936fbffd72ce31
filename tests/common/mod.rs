//! What several rooms of tests need.

pub(crate) mod server;

use std::path::{Path, PathBuf};

use s2s::export::{ExportInput, ExportOptions, Replace, bundle_files, write_bundle};
use s2s::network::{Network, Seq2Seq};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::manifest::Provenance;
use s2s_runtime::vocabulary::{Unit, Vocabulary};
use serde_json::json;

/// An untrained bundle: random weights, but every source gives an output of its own.
pub(crate) struct Random<'a> {
    /// The model's name.
    pub(crate) name: &'a str,
    /// Of the weights.
    pub(crate) seed: u64,
    /// Width of the states.
    pub(crate) hidden: usize,
    /// Longest output.
    pub(crate) max_new_tokens: usize,
    /// From which language to which.
    pub(crate) languages: Option<(&'a str, &'a str)>,
    /// Letters of source and target.
    pub(crate) letters: [&'a str; 2],
    /// `none`, `dot` or `general`.
    pub(crate) attention: &'a str,
}

impl Default for Random<'_> {
    fn default() -> Self {
        let letters = ["abcdefghijklmnopqrstuvwxyz ", "ABCDEFGHIJKLMNOP-"];
        Self {
            name: "random",
            seed: 7,
            hidden: 24,
            max_new_tokens: 40,
            languages: None,
            letters,
            attention: "none",
        }
    }
}

impl Random<'_> {
    /// Writes the bundle to the folder `path`, in the place of one that is there already.
    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        let [source, target] =
            self.letters.map(|text| Vocabulary::build(Unit::Character, Vec::new(), [text]));
        let architecture = json!({
            "source_vocabulary": source.len(), "target_vocabulary": target.len(),
            "source_input": "one_hot", "target_input": "one_hot", "cell": "lstm", "hidden": self.hidden, "layers": 1,
            "attention": self.attention,
        });
        let network = Seq2Seq::new(serde_json::from_value(architecture).unwrap()).unwrap();
        let parameters = network.initialise(self.seed);
        let decoding =
            DecodingOptions { max_new_tokens: Some(self.max_new_tokens), ..DecodingOptions::default() };
        let provenance = self.languages.map(|(source, target)| Provenance {
            config: Some(json!({"data": {"source": {"language": source}, "target": {"language": target}}})),
            ..Provenance::default()
        });
        let input = ExportInput {
            network: &network,
            parameters: &parameters,
            source: &source,
            target: &target,
            name: self.name,
            decoding,
            provenance,
        };
        let files = bundle_files(&input, &ExportOptions::default()).unwrap();
        write_bundle(path, &files, &Replace::AnyBundle).unwrap();
        path.to_owned()
    }
}

/// How often each of the four writers (train, export, import, reload) is killed: a quarter of `S2S_KILLS`,
/// else `default`.
pub(crate) fn kills(default: usize) -> usize {
    std::env::var("S2S_KILLS")
        .ok()
        .and_then(|all| all.parse::<usize>().ok())
        .map_or(default, |all| all.div_ceil(4).max(1))
}

/// Says that the test which calls it is skipped, and why: past the capture of libtest, so that `scripts/test`
/// can count it.
#[track_caller]
pub(crate) fn skipped(reason: &str) {
    let (thread, caller) = (std::thread::current(), std::panic::Location::caller());
    let name = thread.name().filter(|name| *name != "main").map_or_else(|| caller.to_string(), str::to_owned);
    // One write, lest lines of other tests come between; what is left of a line that libtest has begun ends
    // before it.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("\nskipped: {name}: {reason}\n").as_bytes(),
    );
}

/// A browser that needs no screen: what `S2S_CHROMIUM` or `CHROMIUM` names, else one on the PATH; `None`
/// after saying that the test is skipped.
#[track_caller]
pub(crate) fn chromium() -> Option<PathBuf> {
    let named = ["S2S_CHROMIUM", "CHROMIUM"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].map(PathBuf::from);
    let starts = |browser: &PathBuf| {
        std::process::Command::new(browser)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let found = named.chain(names).find(starts);
    if found.is_none() {
        skipped("no Chromium; scripts/test installs one where it may, and CHROMIUM can name one");
    }
    found
}

/// Writes a small untrained bundle into `folder`.
pub(crate) fn bundle(folder: &Path) -> PathBuf {
    Random::default().write(&folder.join("bundle"))
}
