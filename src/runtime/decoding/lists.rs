//! Lists in the decoding options: how they are written, and how long they may be.

use serde::{Deserialize, Deserializer, Serialize};

/// Most stop strings, each of which is looked for after every token.
pub(super) const MOST_STOP_STRINGS: usize = 64;
/// Most symbols of a list, and most ids in all sequences together.
pub(super) const MOST_SYMBOLS: usize = 1 << 16;
/// Most ids that end an output.
pub(super) const MOST_ENDS: usize = 64;

/// A target symbol, by id (a number) or as it is written (a string; a digit needs quotes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SymbolRef {
    /// Its id.
    Id(u32),
    /// Its text.
    Text(String),
}

/// One text or several, written as a string or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Strings(pub Vec<String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Strings;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a string or a list of at most {MOST_STOP_STRINGS} strings")
            }
            fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<Strings, E> {
                Ok(Strings(vec![one.to_owned()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Strings, A::Error> {
                at_most(MOST_STOP_STRINGS, items, &self).map(Strings)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The items of a list, read no further than `most`.
fn at_most<'de, T: Deserialize<'de>, A: serde::de::SeqAccess<'de>>(
    most: usize,
    mut items: A,
    expected: &dyn serde::de::Expected,
) -> Result<Vec<T>, A::Error> {
    let mut read = Vec::new();
    while let Some(item) = items.next_element()? {
        if read.len() == most {
            return Err(serde::de::Error::invalid_length(most + 1, expected));
        }
        read.push(item);
    }
    Ok(read)
}

/// Symbols as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Symbols(pub Vec<SymbolRef>);

impl FromIterator<SymbolRef> for Symbols {
    fn from_iter<I: IntoIterator<Item = SymbolRef>>(symbols: I) -> Self {
        Self(symbols.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Symbols {
    type Item = &'a SymbolRef;
    type IntoIter = std::slice::Iter<'a, SymbolRef>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for Symbols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Symbols;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {MOST_SYMBOLS} symbols")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Symbols, A::Error> {
                at_most(MOST_SYMBOLS, items, &self).map(Symbols)
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// An id or several, written as a number or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ids(pub Vec<u32>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Ids;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "an id or a list of at most {MOST_ENDS} ids")
            }
            fn visit_u64<E: serde::de::Error>(self, one: u64) -> Result<Ids, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Unsigned(one), &self);
                u32::try_from(one).map(|id| Ids(vec![id])).map_err(|_| wrong())
            }
            fn visit_i64<E: serde::de::Error>(self, one: i64) -> Result<Ids, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Signed(one), &self);
                u32::try_from(one).map(|id| Ids(vec![id])).map_err(|_| wrong())
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Ids, A::Error> {
                at_most(MOST_ENDS, items, &self).map(Ids)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Sequences of ids, written as a list of lists; their ids are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sequences(pub Vec<Vec<u32>>);

impl<'de> Deserialize<'de> for Sequences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Sequences;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let most = MOST_SYMBOLS;
                write!(f, "a list of lists that have at most {most} ids together and none of which is empty")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Sequences, A::Error> {
                let (mut read, mut left) = (Vec::new(), MOST_SYMBOLS);
                while let Some(sequence) = items.next_element_seed(AtMost(left))? {
                    if sequence.is_empty() {
                        return Err(serde::de::Error::invalid_length(0, &self));
                    }
                    left -= sequence.len();
                    read.push(sequence);
                }
                Ok(Sequences(read))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// Reads a list of at most so many ids.
struct AtMost(usize);

impl<'de> serde::de::DeserializeSeed<'de> for AtMost {
    type Value = Vec<u32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u32>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> serde::de::Visitor<'de> for AtMost {
    type Value = Vec<u32>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a list of ids, at most {MOST_SYMBOLS} in all lists together")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Vec<u32>, A::Error> {
        at_most(self.0, items, &self)
    }
}
