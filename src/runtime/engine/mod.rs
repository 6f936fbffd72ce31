//! What the decoding loop needs from an ONNX engine, which owns the state that is carried from step to step.
//!
//! [`Engine`] is small so that tests drive the loop with a scripted one. The real ones are
//! [`onnx::OnnxEngine`] over a [`graph::Graph`] runner: `tract` (pure Rust, the default) or `ort` (ONNX
//! Runtime, loaded when the program runs).
//!
//! | file | what it holds |
//! |---|---|
//! | `interface`, `best` | the trait, and what goes in and out |
//! | `kind`, `device` | which engines and devices there are |
//! | `open`, `deadline`, `budget` | from a bundle to an engine, within bounds of time and memory |
//! | `choose`, `auto` | which engine and device a bundle is opened with: as asked for, or the fastest |
//! | `onnx`, `plan`, `state`, `tokens`, `feeds` | the engine over two graphs: how they are wired, what is carried, ids as they want them |
//! | `probe` | what padding does to a pair of graphs that nothing else says it of |
//! | `prefix` | what rows have said, for decoders that are fed all of it again |
//! | `graph`, `arrange`, `blocks` | one loaded graph; tensors put together from rows of others, by copying or as one lookup |
//! | `tract`, `ort`, `library` | what runs graphs |
//! | `row_by_row` | a decoder that was exported for one row |
//! | `fold`, `wide` | forms of our graphs that are faster for many rows in ONNX Runtime |
//! | `observed` | an engine whose calls are watched |

pub mod arrange;
mod auto;
mod best;
mod blocks;
mod budget;
mod choose;
mod deadline;
mod device;
mod feeds;
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

pub use best::{BestFew, SumOver, Wanted};
pub use choose::{Measured, choice, measured, open, open_on, open_silently};
pub use device::Device;
pub use fold::{folded_encoder, split_decoder};
pub use interface::{Encoded, Engine, IdMatrix, Joins, Lengths, StateTensor, StepOutput};
pub use kind::{EngineKind, EngineReport, available};
pub use observed::{Observed, Observer};
pub use open::{is_tried, load_graph, load_graph_on, takes};
pub use place::Place;

#[cfg(test)]
mod choice_tests;
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
