//! The files that Keras saves: the config of the model as JSON, and each layer's arrays by name.
//!
//! | file | config | arrays |
//! |---|---|---|
//! | `.h5` of Keras 2 and 3 | attribute `model_config` | `/model_weights/LAYER/.../kernel:0` or `.../kernel` |
//! | `.keras` (zip) | `config.json` | `model.weights.h5`: `/layers/GROUP/.../vars/0`, numbered in the order of creation |
//! | `.weights.h5`, `.h5` of `save_weights` | none: `--config` | as in `.keras`; as in `.h5`, without `/model_weights` |
//! | a SavedModel folder, a TensorFlow checkpoint | `keras_metadata.pb`; `--config` | [`checkpoint`](super::checkpoint) |
//!
//! A group of `.keras` is named after the layer's class and counted; its attribute `name`, where there is
//! one, has the layer's.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::rc::Rc;

use s2s_runtime::bundle::sha256;
use s2s_runtime::files::{self, FileKind};
use serde_json::Value;
use zip::ZipArchive;

use super::checkpoint;
use super::hdf5::Hdf5;
use super::saved::{Arrays, Saved, arrays_of, places};
use crate::error::{Error, ErrorKind, Result};

/// Weights hardly shrink; what unpacks to more than this times the file, beyond [`FREE_SIZE`], is no honest
/// model.
const LARGEST_RATIO: u64 = 16;
/// Descriptions of layers, and weights of zeros, may shrink as they like.
const FREE_SIZE: u64 = 64 << 20;

/// Opens a file or a folder; gives the hash of its weights along with it. `config` is a file that describes
/// the layers of weights alone.
pub(super) fn open(path: &Path, config: Option<&Path>) -> Result<(Saved, String)> {
    let config = config.map(read_config).transpose()?;
    let here = |e: Error| e.in_file(path);
    if let Some(prefix) = checkpoint::prefix(path) {
        let (config, version) = match config {
            Some(config) => with_version(config),
            None => checkpoint::metadata(path)?,
        };
        let (arrays, hash) = checkpoint::read(&prefix)?;
        return Ok((flat(config, version, &arrays).map_err(here)?, hash));
    }
    if path.is_dir() {
        let error = Error::new(ErrorKind::Data, "a folder without variables/variables.index").in_file(path);
        return Err(error.help(
            "a SavedModel folder of Keras 2 has keras_metadata.pb and variables/; of the model in memory, \
            model.save(\"s2s.keras\") writes a file",
        ));
    }
    let bytes = files::read(path, files::FOREIGN_MODEL)?;
    let hash = sha256(&bytes);
    Ok((read(bytes, config).map_err(here)?, hash))
}

/// Reads either kind of file; `config` describes the layers where the file does not.
pub(super) fn read(bytes: Vec<u8>, config: Option<Value>) -> Result<Saved> {
    if Hdf5::is_one(&bytes) {
        let most = most(bytes.len());
        return read_h5(&Hdf5::open(bytes, most)?, config);
    }
    if bytes.starts_with(b"PK") {
        return read_zip(bytes);
    }
    Err(Error::new(ErrorKind::Data, "neither a .h5 nor a .keras file")
        .help("save the model with model.save(\"s2s.keras\") or model.save(\"s2s.h5\")"))
}

/// What `model.to_json()` writes, or the `config.json` of a `.keras` file.
fn read_config(path: &Path) -> Result<Value> {
    let bytes = files::read(path, files::VOCABULARY)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(ErrorKind::Data, format!("not readable as the config of a model: {e}"))
            .at_line(path, Some(e.line() as u64), None)
            .help("write model.to_json() into it")
    })
}

/// A config with the version of Keras that wrote it: Keras 2 writes it down, Keras 3 names modules instead.
fn with_version(config: Value) -> (Value, String) {
    let version = match config["keras_version"].as_str() {
        Some(version) => version,
        None if config.get("module").is_some() => "3",
        None => "unknown",
    };
    let version = version.to_owned();
    (config, version)
}

fn read_h5(file: &Hdf5, given: Option<Value>) -> Result<Saved> {
    let (config, version, root) = match (file.text("", "model_config")?, given) {
        (Some(config), _) => {
            let version = file.text("", "keras_version")?.unwrap_or_else(|| "unknown".to_owned());
            (parse(&config, "model_config")?, version, "model_weights/")
        }
        (None, Some(config)) => {
            let (config, version) = with_version(config);
            if file.has("layers")? {
                let layers = numbered(file, &config)?;
                return Ok(Saved { config, version, layers });
            }
            (config, version, "")
        }
        (None, None) => {
            let weights = file.has("model_weights")?
                || file.has("layers")?
                || file.strings("", "layer_names")?.is_some();
            let message = if weights {
                "only weights: the layers are not described in it"
            } else {
                "an HDF5 file, but no Keras model"
            };
            return Err(Error::new(ErrorKind::Data, message).help(
                "give --config FILE with what model.to_json() says, or save the whole model: model.save(...) \
                instead of save_weights(...)",
            ));
        }
    };
    let mut layers = BTreeMap::new();
    let mut outer: BTreeMap<String, Arrays> = BTreeMap::new();
    for place in places(&config)? {
        let name = &place.names[0];
        if !outer.contains_key(name) {
            let arrays = file.arrays(&format!("{root}{name}"))?;
            outer.insert(
                name.clone(),
                arrays.into_iter().map(|(path, array)| (path, Rc::new(array))).collect(),
            );
        }
        let all = &outer[name];
        let mut own = arrays_of(all, &place.names);
        if own.is_empty() && place.names.len() == 1 {
            // Variables may have the name that the layer had when they were made.
            own.clone_from(all);
        }
        layers.insert(place.path(), own);
    }
    Ok(Saved { config, version, layers })
}

/// A model whose arrays are all in one list, by name.
fn flat(config: Value, version: String, arrays: &Arrays) -> Result<Saved> {
    let layers =
        places(&config)?.into_iter().map(|place| (place.path(), arrays_of(arrays, &place.names))).collect();
    Ok(Saved { config, version, layers })
}

fn read_zip(bytes: Vec<u8>) -> Result<Saved> {
    let most = most(bytes.len());
    let damaged = |name: &str| {
        Error::new(ErrorKind::Data, format!("{name} cannot be read from the .keras file"))
            .help("save the model again")
    };
    let mut zip =
        ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged("the list of files").caused_by(e))?;
    let mut entry = |name: &str| -> Result<Vec<u8>> {
        let file = zip.by_name(name).map_err(|e| {
            let error = Error::new(ErrorKind::Data, format!("there is no {name} in it")).caused_by(e);
            error.help(
                "a .keras file holds config.json and model.weights.h5; was the model saved in \
                shards? Save it as one file",
            )
        })?;
        let (expected, kind) = (
            file.size(),
            FileKind { name: "a member of a .keras file", limit: most, ..files::FOREIGN_MODEL },
        );
        files::read_limited(file, expected, name, kind).map_err(|e| match e.kind() {
            ErrorKind::Io => damaged(name).caused_by(e),
            // The model's file is named by the caller.
            _ => Error::new(ErrorKind::Data, format!("{name} in it is {}", e.message()))
                .help("save the model again"),
        })
    };
    let text = |bytes: Vec<u8>, name: &str| String::from_utf8(bytes).map_err(|_| damaged(name));
    let config = parse(&text(entry("config.json")?, "config.json")?, "config.json")?;
    let metadata = entry("metadata.json").ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let version = metadata.as_ref().and_then(|m| m["keras_version"].as_str()).unwrap_or("unknown").to_owned();
    let file = Hdf5::open(entry("model.weights.h5")?, most)?;
    let layers = numbered(&file, &config)?;
    Ok(Saved { config, version, layers })
}

/// The arrays of a file that counts them.
fn numbered(file: &Hdf5, config: &Value) -> Result<BTreeMap<String, Arrays>> {
    let mut layers = BTreeMap::new();
    // Groups that say which layer they are of; the others go by their own names.
    let mut named: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for place in places(config)? {
        let mut path = String::new();
        for (name, group) in place.names.iter().zip(&place.groups) {
            path.push_str("layers");
            if !named.contains_key(&path) {
                let mut groups = BTreeMap::new();
                for group in file.groups(&path)? {
                    if let Some(name) = file.text(&format!("{path}/{group}/vars"), "name")? {
                        groups.insert(name, group);
                    }
                }
                named.insert(path.clone(), groups);
            }
            let group = named[&path].get(name).unwrap_or(group);
            path = format!("{path}/{group}/");
        }
        let arrays = file.arrays(&path)?.into_iter().filter(|(path, _)| !path.contains("seed_generator"));
        layers.insert(place.path(), arrays.map(|(path, array)| (path, Rc::new(array))).collect());
    }
    Ok(layers)
}

/// Most bytes that a part of a file of so many bytes may become.
fn most(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(LARGEST_RATIO).clamp(FREE_SIZE, files::FOREIGN_MODEL.limit)
}

fn parse(text: &str, name: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(ErrorKind::Data, format!("its {name} is not readable as JSON")).caused_by(e))
}
