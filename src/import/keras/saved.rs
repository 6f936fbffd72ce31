//! A saved model in memory: the config of its layers, and the arrays of each layer that has any.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::hdf5::Array;
use crate::error::{Error, ErrorKind, Result};

/// Between the names of a model and of a layer within it.
pub(super) const WITHIN: &str = " > ";
/// Layers of a model that are looked at; ours have a few dozen.
const MOST_LAYERS: usize = 1_000;
/// Models within models.
const DEEPEST: usize = 8;

/// Which array of a layer: those of one class have a fixed order, in which some files number them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrayName {
    /// Its name in files that name arrays.
    pub(super) name: &'static str,
    /// Its number in files that count them.
    pub(super) number: usize,
}

/// A direction of a `Bidirectional` layer, as the paths of its arrays spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the first token on.
    Forward,
    /// From the last token back.
    Backward,
}

/// Arrays of one layer, each with its path in the file; the last part of a path is the array's name or
/// number.
pub(super) type Arrays = Vec<(String, Rc<Array>)>;

/// A model as its files have it.
#[derive(Debug)]
pub(super) struct Saved {
    /// `{class_name, config}` of the model.
    pub(super) config: Value,
    /// Version of Keras, as far as the file tells.
    pub(super) version: String,
    /// Arrays of each layer, by the layer's path.
    pub(super) layers: BTreeMap<String, Arrays>,
}

impl Saved {
    /// The arrays of a layer, or of one direction of it.
    fn find(&self, layer: &str, direction: Option<Direction>, wanted: ArrayName) -> Option<&Array> {
        let prefix = match direction {
            None => "",
            Some(Direction::Forward) => "forward_",
            Some(Direction::Backward) => "backward_",
        };
        let leaf = |path: &str| {
            let leaf = path.rsplit('/').next().unwrap_or_default();
            leaf.split(':').next().unwrap_or_default().to_owned()
        };
        let own =
            self.layers.get(layer)?.iter().filter(|(path, _)| {
                direction.is_none() || path.split('/').any(|part| part.starts_with(prefix))
            });
        let named = |(path, _): &&(String, Rc<Array>)| {
            let leaf = leaf(path);
            leaf.parse::<usize>().map_or(leaf == wanted.name, |number| number == wanted.number)
        };
        own.into_iter().find(named).map(|(_, array)| array.as_ref())
    }

    /// Whether a layer has such an array.
    pub(super) fn has(&self, layer: &str, direction: Option<Direction>, wanted: ArrayName) -> bool {
        self.find(layer, direction, wanted).is_some()
    }

    /// An array of a layer.
    pub(super) fn array(
        &self,
        layer: &str,
        direction: Option<Direction>,
        wanted: ArrayName,
    ) -> Result<&Array> {
        let name = wanted.name;
        let array = self.find(layer, direction, wanted).ok_or_else(|| {
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

/// The layers of a model.
pub(super) fn layers_of(config: &Value) -> Vec<&Value> {
    config["config"]["layers"].as_array().into_iter().flatten().collect()
}

/// The name of a layer, or of a model within a model.
pub(super) fn name_of(layer: &Value) -> Option<&str> {
    // A model that a pair was joined from keeps the name of its own beside that of its part.
    let called = layer["called"].as_str();
    called.or_else(|| layer["config"]["name"].as_str()).or_else(|| layer["name"].as_str())
}

/// The path of a layer within models.
pub(super) fn path_of(models: &[String], layer: &str) -> String {
    let mut path = models.join(WITHIN);
    if !path.is_empty() {
        path.push_str(WITHIN);
    }
    path + layer
}

/// Whether a layer is a model with layers of its own.
pub(super) fn is_model(layer: &Value) -> bool {
    layer["config"]["layers"].is_array()
}

/// A layer somewhere in a model.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// Names of the models that it is within, from the outside in, and its own.
    pub(super) names: Vec<String>,
    /// The same as `.keras` files name groups.
    pub(super) groups: Vec<String>,
    /// `{class_name, config, ...}`.
    pub(super) layer: &'a Value,
}

impl Place<'_> {
    /// The layer's path: what [`Saved::layers`] has it under.
    pub(super) fn path(&self) -> String {
        self.names.join(WITHIN)
    }
}

/// All layers of a model and of the models within it; these themselves are left out.
pub(super) fn places(config: &Value) -> Result<Vec<Place<'_>>> {
    let mut found = Vec::new();
    let mut open = vec![Place { names: Vec::new(), groups: Vec::new(), layer: config }];
    while let Some(model) = open.pop() {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        if model.names.len() > DEEPEST {
            return Err(many(&format!("models within models, more than {DEEPEST} deep")));
        }
        for layer in layers_of(model.layer) {
            let (Some(class), Some(name)) = (layer["class_name"].as_str(), name_of(layer)) else { continue };
            // Both classes of models are called the same.
            let group = snake_case(if class == "Model" { "Functional" } else { class });
            let count = counts.entry(group.clone()).or_default();
            let group = if *count == 0 { group } else { format!("{group}_{count}") };
            *count += 1;
            let mut place = Place { layer, ..model.clone() };
            place.names.push(name.to_owned());
            place.groups.push(group);
            if is_model(layer) {
                open.push(place);
            } else {
                found.push(place);
            }
            if found.len() + open.len() > MOST_LAYERS {
                return Err(many(&format!("more than {MOST_LAYERS} layers")));
            }
        }
    }
    Ok(found)
}

fn many(what: &str) -> Error {
    Error::new(ErrorKind::Data, what.to_owned()).help("is this the right file?")
}

/// Of arrays that are named `LAYER/.../ARRAY`, those of one layer. Models around it may be named in front of
/// it, or not.
pub(super) fn arrays_of(all: &Arrays, names: &[String]) -> Arrays {
    (0..names.len())
        .map(|skipped| format!("{}/", names[skipped..].join("/")))
        .map(|prefix| {
            let own = all.iter().filter(|(path, _)| path.starts_with(&prefix));
            own.map(|(path, array)| (path[prefix.len()..].to_owned(), Rc::clone(array))).collect::<Arrays>()
        })
        .find(|arrays| !arrays.is_empty())
        .unwrap_or_default()
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
