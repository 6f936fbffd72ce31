//! What the decoding loop needs from an ONNX engine, which owns the state that is carried from step to step.
//!
//! [`Engine`] is small so that tests drive the loop with a scripted one. The real ones are
//! [`onnx::OnnxEngine`] over a [`graph::Graph`] runner: `tract` (pure Rust, the default) or `ort` (ONNX
//! Runtime, loaded when the program runs).
//!
//! | file | what it holds |
//! |---|---|
//! | `interface` | the trait, and what goes in and out |
//! | `kind`, `device` | which engines and devices there are |
//! | `open`, `deadline`, `budget` | from a bundle to an engine, within bounds of time and memory |
//! | `onnx`, `plan`, `state`, `tokens` | the engine over two graphs: how they are wired, what is carried, ids as they want them |
//! | `probe` | what padding does to a pair of graphs that nothing else says it of |
//! | `prefix` | what rows have said, for decoders that are fed all of it again |
//! | `graph`, `arrange` | one loaded graph; tensors put together from rows of others |
//! | `tract`, `ort`, `library` | what runs graphs |
//! | `row_by_row` | a decoder that was exported for one row |
//! | `fold`, `wide` | forms of our graphs that are faster for many rows |
//! | `observed` | an engine whose calls are watched |

pub mod arrange;
mod budget;
mod deadline;
mod device;
mod fold;
pub mod graph;
mod interface;
mod kind;
#[cfg(feature = "ort")]
pub mod library;
mod observed;
pub mod onnx;
mod open;
#[cfg(feature = "ort")]
pub mod ort;
mod place;
mod plan;
mod prefix;
mod probe;
mod row_by_row;
mod state;
mod tensor;
mod tokens;
#[cfg(feature = "tract")]
pub mod tract;
mod wide;

pub use device::Device;
pub use fold::{folded_encoder, split_decoder};
pub use interface::{Encoded, Engine, IdMatrix, Joins, Lengths, StateTensor, StepOutput};
pub use kind::{EngineKind, EngineReport, available};
pub use observed::{Observed, Observer};
pub use open::{is_tried, load_graph, open, open_on, open_silently};
pub use place::Place;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod recurrent_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toys;
#[cfg(test)]
mod wiring_tests;
