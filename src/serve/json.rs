//! JSON from strangers: values are counted as they come, so that two million bytes of brackets and commas do
//! not become a hundred million bytes of values.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::{ApiError, Fault};

/// Values, keys among them, of one body; a value takes up to 150 bytes.
pub(super) const VALUES: usize = 16 * 1024;

/// How many more values a body may have; nothing once it asked for one too many.
pub(super) struct Budget(Cell<Option<usize>>);

impl Budget {
    /// For one body.
    pub(super) fn new() -> Self {
        Self(Cell::new(Some(VALUES)))
    }

    /// Takes one value.
    pub(super) fn take<E: serde::de::Error>(&self) -> Result<(), E> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(1)));
        self.0.get().map(drop).ok_or_else(|| E::custom(format_args!("more than {VALUES} values")))
    }
}

/// Reads `text` with `seed`, which takes its values from `budget`.
///
/// # Errors
/// Where the text is not JSON, or has too many values.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    budget: &Budget,
    seed: S,
) -> Result<S::Value, ApiError> {
    // serde_json stops at 128 levels, so that deep nesting is an error and not a stack overflow.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| {
        if budget.0.get().is_none() {
            return ApiError::new(Fault::TooLong, format!("the body has more than {VALUES} values"));
        }
        let what = if error.is_data() { "the body cannot be read" } else { "the body is not JSON" };
        ApiError::new(Fault::BadRequest, format!("{what}: {error}"))
    })
}

/// Reads any JSON value within the budget of its request.
pub(super) struct Any<'a>(pub(super) &'a Budget);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Any(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.0.take()?;
            object.insert(key, map.next_value_seed(Any(self.0))?);
        }
        Ok(Value::Object(object))
    }
}

/// Numbers or texts in one array or in nested ones, row-major either way.
#[derive(Debug, Default)]
pub(super) struct Flat {
    /// Whole numbers, in the order of their coming, until one comes that is not whole.
    pub(super) integers: Vec<i64>,
    /// All numbers, if one of them is not whole or beyond 64 bits.
    pub(super) floats: Vec<f64>,
    /// The texts among the values, in their order.
    pub(super) texts: Vec<String>,
    /// Whether something else came, or numbers and texts together.
    pub(super) is_mixed: bool,
}

impl Flat {
    fn float(&mut self, value: f64) {
        self.is_mixed |= !self.texts.is_empty();
        #[expect(clippy::cast_precision_loss, reason = "such a tensor can only be FP32")]
        self.floats.extend(std::mem::take(&mut self.integers).into_iter().map(|integer| integer as f64));
        self.floats.push(value);
    }

    fn integer(&mut self, value: i64) {
        self.is_mixed |= !self.texts.is_empty();
        #[expect(clippy::cast_precision_loss, reason = "such a tensor can only be FP32")]
        match self.floats.is_empty() {
            true => self.integers.push(value),
            false => self.floats.push(value as f64),
        }
    }
}

/// Fills a [`Flat`] from an array.
pub(super) struct Flatten<'a> {
    budget: &'a Budget,
    into: &'a mut Flat,
    is_outermost: bool,
}

impl<'a> Flatten<'a> {
    /// Texts are counted, numbers are not: they take less room than they are long.
    pub(super) fn new(budget: &'a Budget, into: &'a mut Flat) -> Self {
        Self { budget, into, is_outermost: true }
    }
}

impl<'de> DeserializeSeed<'de> for Flatten<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flatten<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_outermost { "data as an array" } else { "numbers or strings in data" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        if self.is_outermost {
            return Err(E::invalid_type(serde::de::Unexpected::Signed(value), &self));
        }
        self.into.integer(value);
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            #[expect(clippy::cast_precision_loss, reason = "beyond INT64 only FP32 is left")]
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if self.is_outermost {
            return Err(E::invalid_type(serde::de::Unexpected::Float(value), &self));
        }
        self.into.float(value);
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        if self.is_outermost {
            return Err(E::invalid_type(serde::de::Unexpected::Str(value), &self));
        }
        self.budget.take()?;
        self.into.is_mixed |= !self.into.integers.is_empty() || !self.into.floats.is_empty();
        self.into.texts.push(value.to_owned());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Self { budget, into, .. } = self;
        while sequence.next_element_seed(Flatten { budget, into: &mut *into, is_outermost: false })?.is_some()
        {
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn any(text: &str) -> Result<Value, ApiError> {
        let budget = Budget::new();
        read(text, &budget, Any(&budget))
    }

    fn flat(text: &str) -> Result<Flat, ApiError> {
        let mut flat = Flat::default();
        let budget = Budget::new();
        read(text, &budget, Flatten::new(&budget, &mut flat)).map(|()| flat)
    }

    #[test]
    fn a_value_is_what_serde_json_reads() {
        for text in [
            r#"{"a": [1, -2, 2.5, null, true, {"b": "x\u00e9"}], "a2": 18446744073709551615}"#,
            "[]",
            "\"x\"",
            r#"{"a": 1, "a": 2}"#,
        ] {
            assert_eq!(any(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
        for text in ["", "{", "[1] 2", "{\"a\"}", "nul", &"[".repeat(100_000)] {
            assert_eq!(any(text).map_err(|e| e.fault), Err(Fault::BadRequest), "{text:.20}");
        }
    }

    #[test]
    fn values_are_counted_before_they_are_kept() {
        assert!(any(&format!("[{}1]", "1,".repeat(VALUES - 2))).is_ok());
        for text in [
            format!("[{}1]", "1,".repeat(VALUES)),
            format!("{{{}\"b\":1}}", "\"a\":1,".repeat(VALUES / 2 + 1)),
        ] {
            assert!(any(&text).unwrap_err().message.contains("more than 16384 values"));
        }
    }

    #[test]
    fn tensors_are_flattened_without_a_value_for_each_number() {
        let made = flat("[[1, 2], [[3], -4], []]").unwrap();
        assert_eq!((&*made.integers, &*made.floats), (&[1, 2, 3, -4][..], &[][..]));
        let made = flat("[1, [0.5, 18446744073709551615], 2]").unwrap();
        assert_eq!(
            (&*made.integers, &*made.floats),
            (&[][..], &[1.0, 0.5, 18_446_744_073_709_552_000.0, 2.0][..])
        );
        assert_eq!(flat(r#"[["a", ""], "b"]"#).unwrap().texts, ["a", "", "b"]);
        assert!(flat(r#"["a", 1]"#).unwrap().is_mixed && flat(r#"[1.5, "a"]"#).unwrap().is_mixed);
        for text in ["1", "\"a\"", "null", "[null]", "[true]", "[{}]", "{}", "1.5"] {
            assert_eq!(flat(text).map(drop).map_err(|e| e.fault), Err(Fault::BadRequest), "{text}");
        }
        assert!(flat(&format!("[{}1]", "1,".repeat(VALUES * 4))).is_ok());
        assert!(flat(&format!("[{}\"\"]", "\"\",".repeat(VALUES))).is_err());
    }
}
