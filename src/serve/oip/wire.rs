//! The JSON of an inference: everything as it is, but for the data of tensors, of which there may be a
//! million.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::serve::error::ApiError;
use crate::serve::json::{self, Any, Budget, Flat, Flatten};

/// A request as it was sent.
#[derive(Debug)]
pub(super) struct RawRequest {
    /// All fields but the inputs.
    pub(super) fields: Map<String, Value>,
    /// `None` where the field is missing.
    pub(super) inputs: Option<Vec<RawTensor>>,
}

/// A tensor as it was sent.
#[derive(Debug)]
pub(super) struct RawTensor {
    /// All fields but the data.
    pub(super) fields: Map<String, Value>,
    /// `None` where the field is missing.
    pub(super) data: Option<Flat>,
}

impl RawRequest {
    /// # Errors
    /// What is not JSON, not an object, or has too many values.
    pub(super) fn read(text: &str) -> Result<Self, ApiError> {
        let budget = Budget::new();
        json::read(text, &budget, RequestSeed(&budget))
    }
}

struct RequestSeed<'a>(&'a Budget);
struct TensorsSeed<'a>(&'a Budget);
struct TensorSeed<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for RequestSeed<'_> {
    type Value = RawRequest;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawRequest, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_> {
    type Value = RawRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawRequest, A::Error> {
        let (mut fields, mut inputs) = (Map::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            self.0.take()?;
            match key.as_str() {
                "inputs" => inputs = Some(map.next_value_seed(TensorsSeed(self.0))?),
                _ => drop(fields.insert(key, map.next_value_seed(Any(self.0))?)),
            }
        }
        Ok(RawRequest { fields, inputs })
    }
}

impl<'de> DeserializeSeed<'de> for TensorsSeed<'_> {
    type Value = Vec<RawTensor>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<RawTensor>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TensorsSeed<'_> {
    type Value = Vec<RawTensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inputs as an array of tensors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<RawTensor>, A::Error> {
        let mut tensors = Vec::new();
        while let Some(tensor) = sequence.next_element_seed(TensorSeed(self.0))? {
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

impl<'de> DeserializeSeed<'de> for TensorSeed<'_> {
    type Value = RawTensor;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawTensor, D::Error> {
        self.0.take()?;
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed<'_> {
    type Value = RawTensor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
        let (mut fields, mut data) = (Map::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            self.0.take()?;
            match key.as_str() {
                "data" => {
                    let mut flat = Flat::default();
                    map.next_value_seed(Flatten::new(self.0, &mut flat))?;
                    data = Some(flat);
                }
                _ => drop(fields.insert(key, map.next_value_seed(Any(self.0))?)),
            }
        }
        Ok(RawTensor { fields, data })
    }
}
