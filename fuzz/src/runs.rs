//! Configs, checkpoints and run folders.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use s2s::config::experiment::Experiment;
use s2s::config::mlp::MlpConfig;
use s2s::config::{Config, LoadOptions};
use s2s::families::recurrent::{Checkpoint, Run};
use s2s::network::Network;
use s2s::train::Which;
use s2s::train::run::fingerprint;

use super::input::Input;
use super::properties::looked_at;

/// A folder for what can only be read from files.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// One folder for each thread, which goes with it; each file holds what was last written.
    pub(crate) fn shared() -> Rc<Self> {
        thread_local! {
            static FOLDER: Rc<Scratch> = Rc::new(Scratch::new());
        }
        FOLDER.with(Rc::clone)
    }

    fn new() -> Self {
        // In memory where the system has such a place.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(folder.expect("there is a place for temporary files"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder is ours");
        }
        std::fs::write(&path, bytes).expect("the folder is ours");
        path
    }
}

/// A config, and after a NUL assignments that are laid over it.
pub(crate) fn config(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(text) = std::str::from_utf8(input.until(0)) else { return };
    let overrides = (0..input.below(3)).map(|_| input.text(b'\n')).collect();
    let options = LoadOptions { overrides, data: None };
    let Some(mut config) = looked_at(Config::parse(text, Path::new("config.yaml"), &options)) else { return };
    let written = serde_yaml::to_string(&config.to_json()).expect("a config is YAML");
    let again = Config::parse(&written, Path::new("config.yaml"), &LoadOptions::default());
    let again = looked_at(again).expect("what was written can be read");
    assert_eq!(again.fingerprint(), config.fingerprint());
    assert_eq!((&again.data, &again.model, &again.training), (&config.data, &config.model, &config.training));
    assert!(config.provenance().is_object());
    looked_at(config.model.architecture(6, 6).check());
    looked_at(config.settle(2, Some(Path::new("folder: \"'\u{1b}"))));
}

/// A config of a perceptron.
pub(crate) fn mlp_config(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(text) = std::str::from_utf8(input.until(0)) else { return };
    let overrides = (0..input.below(3)).map(|_| input.text(b'\n')).collect();
    let options = LoadOptions { overrides, data: None };
    let Some(mut config) = looked_at(MlpConfig::parse(text, Path::new("config.yaml"), &options)) else {
        return;
    };
    let written = serde_yaml::to_string(&config.to_json()).expect("a config is YAML");
    let again = looked_at(MlpConfig::parse(&written, Path::new("config.yaml"), &LoadOptions::default()));
    let again = again.expect("what was written can be read");
    assert_eq!(again.fingerprint(), config.fingerprint());
    assert!(config.provenance().is_object());
    looked_at(config.settle(2, Some(Path::new("folder"))));
}

/// A safetensors file; what is read, is written and read again as the same.
pub(crate) fn checkpoint(data: &[u8]) {
    let scratch = Scratch::shared();
    let bytes = if data.starts_with(b"{") { framed(data) } else { data.to_vec() };
    let path = scratch.file("last.safetensors", &bytes);
    let Some(read) = looked_at(Checkpoint::load(&path)) else { return };
    let path = scratch.path().join("again.safetensors");
    looked_at(read.save(&path)).expect("what was read can be written");
    let again = looked_at(Checkpoint::load(&path)).expect("what was written can be read");
    assert_eq!(again.header, read.header);
    let bits = |checkpoint: &Checkpoint| {
        checkpoint.parameters.data().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(bits(&again), bits(&read));
}

/// A header in JSON up to a NUL and the bytes of tensors, with the length in front that the format asks for.
fn framed(data: &[u8]) -> Vec<u8> {
    let mut input = Input::new(data);
    let header = input.until(0);
    [&(header.len() as u64).to_le_bytes()[..], header, input.rest()].concat()
}

/// The files of a run folder, one after the other with NULs in between: config, vocabularies, metrics, a
/// checkpoint.
pub(crate) fn run_folder(data: &[u8]) {
    static NAMES: [&str; 3] = ["config.yaml", "vocabulary.json", "metrics.jsonl"];
    static PLAIN: OnceLock<[&[u8]; 3]> = OnceLock::new();
    let plain = PLAIN.get_or_init(|| [CONFIG.as_bytes(), VOCABULARY.as_bytes(), b""]);
    let mut input = Input::new(data);
    let scratch = Scratch::shared();
    for (name, plain) in NAMES.iter().zip(plain) {
        let given = input.until(0);
        // An empty part is the plain file, so that the parts behind it are reached.
        scratch.file(&format!("run/{name}"), if given.is_empty() { plain } else { given });
    }
    // A checkpoint names its config by a hash, which nobody guesses.
    let config = Config::load(&scratch.path().join("run/config.yaml"), &LoadOptions::default());
    let hash = looked_at(config).map_or_else(String::new, |config| fingerprint(&config));
    let rest = replaced(input.rest(), b"FINGERPRINT", hash.as_bytes());
    scratch
        .file("run/checkpoints/best.safetensors", &if rest.starts_with(b"{") { framed(&rest) } else { rest });
    let Some(run) = looked_at(Run::open(&scratch.path().join("run"))) else { return };
    looked_at(run.metrics());
    looked_at(run.provenance(Which::Best));
    if let Some(Some(checkpoint)) = looked_at(run.checkpoint(Which::Best)) {
        assert_eq!(checkpoint.parameters.len(), run.network.parameters::<f32>().len());
    }
    looked_at(run.write_config()).expect("the folder is ours");
    looked_at(Run::open(&run.folder)).expect("what was written can be read");
}

/// The bytes with the first `old` replaced.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    match bytes.windows(old.len()).position(|window| window == old) {
        Some(at) => [&bytes[..at], new, &bytes[at + old.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

const CONFIG: &str = "name: fuzz
data: {train: pairs.tsv, source: {unit: character}, target: {unit: character}, validation: {split: tail, fraction: 0.5}}
model: {cell: lstm, hidden: 2, layers: 1, input: one_hot}
training: {epochs: 1, batch_size: 2, learning_rate: 0.1}
";
const VOCABULARY: &str = r#"{"source":{"unit":"character","symbols":["<pad>","<start>","<end>","<unk>","a","b"]},
"target":{"unit":"character","symbols":["<pad>","<start>","<end>","<unk>","a","b"]},
"statistics":{"samples":2,"training":1,"validation":1,"source_tokens":2,"target_tokens":4,"longest_source":2,"longest_target":4},
"data":[]}"#;
