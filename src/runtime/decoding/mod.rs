//! Placeholder until the decoding loop lands.
use serde::{Deserialize, Serialize};

/// To come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodingOptions {}
