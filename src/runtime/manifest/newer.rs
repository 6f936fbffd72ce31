//! Manifests of newer minor versions: what this version does not know is passed over.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::schema::{DataFile, GraphFile, Languages, Manifest, Provenance, is_plain_name};
use super::wiring::{EncoderStepWiring, MaskWire, MemoryWire, StateWire, StepOutput, StepState, Wiring};
use crate::contract::SpecialIds;
use crate::decoding::DecodingOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::{Padding, VocabularySpec};
use crate::yaml;

/// Reads a manifest of a newer minor version: keys that this version does not know are dropped.
pub(super) fn read_newer(text: &str, file: &Path) -> Result<Manifest> {
    let mut value: Value = yaml::from_str(text, file, ErrorKind::Bundle)?;
    drop_unknown(&mut value);
    let mut track = serde_path_to_error::Track::new();
    Manifest::deserialize(serde_path_to_error::Deserializer::new(&value, &mut track)).map_err(|error| {
        Error::new(ErrorKind::Bundle, error.to_string()).at_line(file, None, Some(&track.path().to_string()))
    })
}

/// Keeps the keys that each part of [`Manifest`] has. What is of no fixed form (architecture, provenance)
/// stays.
fn drop_unknown(manifest: &mut Value) {
    keep::<Manifest>(manifest);
    // What a tokeniser has that is not known here stays, and is refused: it would make other ids of texts.
    let mut part = |keys: &[&str], keep: fn(&mut Value)| {
        if let Some(value) = keys.iter().try_fold(&mut *manifest, |value, key| value.get_mut(key)) {
            match value {
                Value::Array(items) => items.iter_mut().for_each(keep),
                value => keep(value),
            }
        }
    };
    part(&["languages"], keep::<Languages>);
    part(&["graphs"], |graphs| {
        graphs.as_object_mut().into_iter().flat_map(|graphs| graphs.values_mut()).for_each(keep::<GraphFile>);
    });
    part(&["files"], |files| {
        if let Some(files) = files.as_object_mut() {
            let is_hash = |value: &Value| value.as_str().is_some_and(|text| text.len() == 64);
            files.retain(|name, value| is_plain_name(name) && is_hash(value));
        }
    });
    part(&["wiring"], keep::<Wiring>);
    part(&["wiring", "encoder_mask"], keep::<MaskWire>);
    part(&["wiring", "decoder_mask"], keep::<MaskWire>);
    part(&["wiring", "states"], keep::<StateWire>);
    part(&["wiring", "memory"], keep::<MemoryWire>);
    part(&["wiring", "encoder_step"], keep::<EncoderStepWiring>);
    part(&["wiring", "encoder_step", "states"], keep::<StepState>);
    part(&["wiring", "encoder_step", "last"], keep::<StepOutput>);
    part(&["wiring", "encoder_step", "memory"], keep::<StepOutput>);
    part(&["special_ids"], keep::<SpecialIds>);
    part(&["decoding"], keep::<DecodingOptions>);
    part(&["provenance"], keep::<Provenance>);
    part(&["provenance", "data"], keep::<DataFile>);
    for side in ["source", "target"] {
        part(&[side], keep::<VocabularySpec>);
        part(&[side, "padding"], keep::<Padding>);
        part(&[side, "graph_padding"], keep::<Padding>);
    }
}

/// Keeps the keys of an object that `T` has.
fn keep<'de, T: Deserialize<'de>>(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        let known = keys_of::<T>();
        object.retain(|key, _| known.contains(&key.as_str()));
    }
}

/// The keys of a struct, as serde hands them to whoever reads it.
fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Keys<'k>(&'k mut &'static [&'static str]);
    impl<'de> serde::Deserializer<'de> for Keys<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("not a struct"))
        }

        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(serde::de::Error::custom("only the keys are wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    drop(T::deserialize(Keys(&mut keys)));
    keys
}
