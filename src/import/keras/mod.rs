//! Keras models of the ten-minute tutorial's form: a recurrent encoder whose states start a recurrent
//! decoder, attention or none, and a softmax.
//!
//! Nothing is traced and Keras is not needed: `file` and `checkpoint` read what was saved, `pair` makes one
//! model of two, `graph` follows the layers, `parts` and `attention` find the parts of the model by how they
//! are connected, `vocabulary` names its rows, `filling` says what stood around short texts, `weights`
//! reorders gates and rows, `model` writes the run.
//!
//! Keras models often learnt with padding that they read (the tutorial masks nothing, so that its encoder
//! steps on over rows of zeros up to the longest text). Such a model is itself only with as much of that
//! padding; it becomes an ordinary symbol that fills sources up
//! ([`Padding`](s2s_runtime::vocabulary::Padding)). Masked padding needs nothing: it is our own exact
//! padding.

mod attention;
mod checkpoint;
mod file;
mod filling;
mod graph;
mod hdf5;
mod model;
mod options;
mod pair;
mod parts;
mod saved;
mod vocabulary;
mod weights;

pub use model::{Imported, import, read_bytes};
pub use options::{Filling, Options, default_name};
pub use vocabulary::Origin;

#[cfg(test)]
mod tests;
