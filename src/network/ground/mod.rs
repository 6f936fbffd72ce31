//! What every layer stands on: named parameters and their gradients, packed texts, and the nodes that all
//! layers write.

pub mod dropout;
pub(super) mod gather;
pub mod gradients;
pub mod graph;
pub mod limits;
pub mod objective;
pub mod packing;
pub mod parameters;
pub mod pass;
pub mod shard;
