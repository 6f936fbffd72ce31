//! Folders that `optimum-cli export onnx --task text2text-generation-with-past` writes, opened as bundles: a
//! manifest and two graphs are made of them in memory.
//!
//! | file | what it holds |
//! |---|---|
//! | `layout` | which files hold what |
//! | `names` | what Optimum calls inputs and outputs |
//! | `config` | special ids and decoding options, from `config.json` and `generation_config.json` |
//! | `external` | graphs with weights in other files |
//! | `surgery` | branches of an `If` inlined, what outputs need kept |
//! | `keys` | the part of a decoder that reads the encoder's output alone |
//! | `graphs` | the encoder and the step that are run, and how they are wired |
//! | `synthesis` | the manifest |
//! | `stateless` | the graphs without a past, to hold the others against |

mod config;
mod external;
mod graphs;
mod keys;
mod layout;
mod names;
mod stateless;
mod surgery;
mod synthesis;

pub(crate) use external::with_weights;
pub(crate) use layout::{CONFIG, is_optimum};
pub use stateless::Stateless;
pub(crate) use synthesis::{Synthesis, synthesise};

#[cfg(test)]
mod tests;
