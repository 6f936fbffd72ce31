//! The families of sequence-to-sequence networks, a line each, and the way back from a manifest to a network.

use serde_json::Value;

use super::Network;
use super::recurrent::{Architecture, Seq2Seq};
use super::sequence::SequenceNetwork;
use crate::error::{Error, ErrorKind, Result};

/// The key of an architecture that names its family.
const FAMILY: &str = "family";

/// Makes the network of an architecture, which has no key for its family any more.
type Build = fn(Value) -> Result<Box<dyn SequenceNetwork>>;

/// Names, as [`FAMILY`] has them, and who makes the network. An architecture without the key is of the first.
const FAMILIES: &[(&str, Build)] = &[
    ("recurrent", recurrent),
    #[cfg(test)]
    ("bag", crate::export::bag::build),
];

/// Makes the network that a manifest's `architecture` describes.
///
/// # Errors
/// [`ErrorKind::Bundle`] for another family, or keys and values that it does not know;
/// [`ErrorKind::Config`] where such a network cannot be built.
pub fn sequence_network(architecture: &Value) -> Result<Box<dyn SequenceNetwork>> {
    let mut architecture = architecture.clone();
    let family = architecture.as_object_mut().and_then(|keys| keys.shift_remove(FAMILY));
    let name = family.as_ref().map_or(Some(FAMILIES[0].0), Value::as_str);
    match FAMILIES.iter().find(|(known, _)| Some(*known) == name) {
        Some((_, build)) => build(architecture),
        None => {
            let known = FAMILIES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let family = family.unwrap_or_default();
            Err(unreadable(format!("`{FAMILY}` is {family}, and can be {known}")))
        }
    }
}

fn recurrent(architecture: Value) -> Result<Box<dyn SequenceNetwork>> {
    let architecture: Architecture =
        serde_json::from_value(architecture).map_err(|e| unreadable(e.to_string()))?;
    Ok(Box::new(Seq2Seq::new(architecture)?))
}

fn unreadable(why: String) -> Error {
    Error::new(ErrorKind::Bundle, format!("the manifest's architecture cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_architecture_without_a_family_is_recurrent_and_an_unknown_family_is_named() {
        let plain = serde_json::to_value(Architecture::default()).unwrap();
        let named = |family: Value| {
            let mut architecture = plain.clone();
            architecture[FAMILY] = family;
            architecture
        };
        for architecture in [plain.clone(), named("recurrent".into())] {
            assert_eq!(sequence_network(&architecture).unwrap().architecture_json().unwrap(), plain);
        }
        for (architecture, said) in [
            (named("convolutional".into()), "`family` is \"convolutional\", and can be recurrent"),
            (named(7.into()), "`family` is 7, and can be recurrent"),
            (Value::Null, "cannot be read: "),
        ] {
            let error = sequence_network(&architecture).unwrap_err();
            assert!(error.kind() == ErrorKind::Bundle && error.message().contains(said), "{error}");
        }
    }
}
