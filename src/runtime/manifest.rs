//! The manifest of a bundle, `s2s.yaml`: which graphs, how they are wired, vocabularies, decoding defaults,
//! provenance.

mod newer;
mod quoting;
mod read;
mod schema;
mod wiring;

pub use self::quoting::quote;
pub use self::read::MOST_SYMBOLS;
pub(crate) use self::read::check_version;
pub use self::schema::{
    DataFile, GraphFile, Io, LONGEST_EXAMPLE, Languages, MOST_EXAMPLES, Manifest, Provenance, Role,
};
pub(crate) use self::schema::{SIDE_FILES, is_plain_name};
pub use self::wiring::{
    EncoderStepWiring, MaskWire, MaskedOne, MemoryWire, OutputForm, StateWire, StepOutput, StepState, Wiring,
};
pub use crate::contract::SpecialIds;

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
