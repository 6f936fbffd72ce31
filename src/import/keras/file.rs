//! The files that Keras saves: the config of the model as JSON, and each layer's arrays by name.
//!
//! | file | config | arrays |
//! |---|---|---|
//! | `.h5` of Keras 2 and 3 | attribute `model_config` | `/model_weights/LAYER/.../kernel:0` or `.../kernel` |
//! | `.keras` (zip) | `config.json` | `model.weights.h5`: `/layers/GROUP/.../vars/0`, numbered in the order of creation |
//!
//! A group of `.keras` is named after the layer's class and counted; its attribute `name`, where there is
//! one, has the layer's.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use s2s_runtime::files::{self, FileKind};
use serde_json::Value;
use zip::ZipArchive;

use super::hdf5::{Array, Hdf5};
use crate::error::{Error, ErrorKind, Result};

/// Weights hardly shrink; what unpacks to more than this times the file, beyond [`FREE_SIZE`], is no honest
/// model.
const LARGEST_RATIO: u64 = 16;
/// Descriptions of layers, and weights of zeros, may shrink as they like.
const FREE_SIZE: u64 = 64 << 20;
/// Layers of a model that are looked at; ours have a few dozen.
const MOST_LAYERS: usize = 1_000;

/// A saved model as its file has it: config and arrays.
#[derive(Debug)]
pub(super) struct Saved {
    /// `{class_name, config}` of the model.
    pub(super) config: Value,
    /// Version of Keras, as far as the file tells.
    pub(super) version: String,
    /// Arrays of each layer, by the layer's name.
    layers: BTreeMap<String, Arrays>,
}

#[derive(Debug)]
enum Arrays {
    /// By name: `kernel`, `recurrent_kernel`, `bias`, `embeddings`.
    Named(HashMap<String, Array>),
    /// In the order of creation.
    Listed(Vec<Array>),
}

impl Saved {
    /// Whether a layer has such an array.
    pub(super) fn has(&self, layer: &str, order: &[&str], name: &str) -> bool {
        self.find(layer, order, name).is_some()
    }

    fn find(&self, layer: &str, order: &[&str], name: &str) -> Option<&Array> {
        match self.layers.get(layer)? {
            Arrays::Named(arrays) => arrays.get(name),
            Arrays::Listed(arrays) => {
                order.iter().position(|known| *known == name).and_then(|at| arrays.get(at))
            }
        }
    }

    /// An array of a layer; `order` names all that such a layer has, in the order in which Keras creates
    /// them.
    pub(super) fn array(&self, layer: &str, order: &[&str], name: &str) -> Result<&Array> {
        let array = self.find(layer, order, name).ok_or_else(|| {
            Error::new(ErrorKind::Data, format!("layer {layer:?} has no {name} in the file"))
                .help("save the whole model: model.save(...)")
        })?;
        if let Some(at) = array.values.iter().position(|x| !x.is_finite()) {
            let message = format!("value {at} of {name} of layer {layer:?} is {}", array.values[at]);
            return Err(
                Error::new(ErrorKind::Data, message).help("the training diverged; import another save of it")
            );
        }
        if array.shape.iter().product::<usize>() != array.values.len() {
            return Err(Error::new(ErrorKind::Data, format!("{name} of layer {layer:?} is cut off")));
        }
        Ok(array)
    }
}

/// Reads either kind of file.
pub(super) fn read(bytes: Vec<u8>) -> Result<Saved> {
    if Hdf5::is_one(&bytes) {
        let most = most(bytes.len());
        return read_h5(&Hdf5::open(bytes, most)?);
    }
    if bytes.starts_with(b"PK") {
        return read_zip(bytes);
    }
    Err(Error::new(ErrorKind::Data, "neither a .h5 nor a .keras file")
        .help("save the model with model.save(\"s2s.keras\") or model.save(\"s2s.h5\")"))
}

fn read_h5(file: &Hdf5) -> Result<Saved> {
    let Some(config) = file.text("", "model_config")? else {
        let weights =
            file.has("model_weights")? || file.has("layers")? || file.text("", "layer_names")?.is_some();
        let message = if weights {
            "only weights: the layers are not described in it"
        } else {
            "an HDF5 file, but no Keras model"
        };
        return Err(Error::new(ErrorKind::Data, message)
            .help("save the whole model: model.save(...) instead of save_weights(...)"));
    };
    let mut layers = BTreeMap::new();
    for layer in few(file.groups("model_weights")?)? {
        let arrays = file.arrays(&format!("model_weights/{layer}"))?;
        let named = arrays.into_iter().map(|(path, array)| {
            let leaf = path.rsplit('/').next().unwrap_or_default();
            (leaf.split(':').next().unwrap_or_default().to_owned(), array)
        });
        layers.insert(layer, Arrays::Named(named.collect()));
    }
    let version = file.text("", "keras_version")?.unwrap_or_else(|| "unknown".to_owned());
    Ok(Saved { config: parse(&config, "model_config")?, version, layers })
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
    let names = group_names(&config);
    let mut layers = BTreeMap::new();
    for group in few(file.groups("layers")?)? {
        let path = format!("layers/{group}");
        let written = file.text(&format!("{path}/vars"), "name")?;
        let Some(name) = written.or_else(|| names.get(&group).cloned()) else { continue };
        let mut arrays: Vec<(u32, Array)> = file
            .arrays(&path)?
            .into_iter()
            .filter(|(path, _)| !path.contains("seed_generator"))
            .filter_map(|(path, array)| Some((path.rsplit('/').next()?.parse().ok()?, array)))
            .collect();
        arrays.sort_by_key(|(number, _)| *number);
        layers.insert(name, Arrays::Listed(arrays.into_iter().map(|(_, array)| array).collect()));
    }
    Ok(Saved { config, version, layers })
}

/// Most bytes that a part of a file of so many bytes may become.
fn most(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(LARGEST_RATIO).clamp(FREE_SIZE, files::FOREIGN_MODEL.limit)
}

/// Each layer is looked up by walking over all of them.
fn few(groups: Vec<String>) -> Result<Vec<String>> {
    if groups.len() <= MOST_LAYERS {
        return Ok(groups);
    }
    let message = format!("{} layers, more than the {MOST_LAYERS} that are looked at", groups.len());
    Err(Error::new(ErrorKind::Data, message).help("is this the right file?"))
}

/// The layer behind each group: groups are named after the class in snake case, and counted in the order of
/// the layers.
fn group_names(config: &Value) -> HashMap<String, String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut names = HashMap::new();
    for layer in config["config"]["layers"].as_array().into_iter().flatten() {
        let (Some(class), Some(name)) = (layer["class_name"].as_str(), layer["config"]["name"].as_str())
        else {
            continue;
        };
        let group = snake_case(class);
        let count = counts.entry(group.clone()).or_default();
        names.insert(if *count == 0 { group } else { format!("{group}_{count}") }, name.to_owned());
        *count += 1;
    }
    names
}

/// `TimeDistributed` to `time_distributed`, `LSTM` to `lstm`.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut name = String::new();
    for (at, c) in letters.iter().enumerate() {
        let begins = c.is_uppercase()
            && at > 0
            && (letters[at - 1].is_lowercase()
                || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if begins {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

fn parse(text: &str, name: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(ErrorKind::Data, format!("its {name} is not readable as JSON")).caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn groups_are_named_as_keras_names_them() {
        for (class, name) in [
            ("LSTM", "lstm"),
            ("InputLayer", "input_layer"),
            ("TimeDistributed", "time_distributed"),
            ("SpatialDropout1D", "spatial_dropout1d"),
        ] {
            assert_eq!(snake_case(class), name);
        }
    }
}
