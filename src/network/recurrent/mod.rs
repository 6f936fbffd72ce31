//! The family of recurrent networks: an encoder, a decoder, and the state between them.

pub mod architecture;
mod emit;
mod encoder_step;
mod feeding;
mod filling;
mod hand_over;
mod network;
mod pass;
mod seq2seq;
mod sequence;
mod translate;

pub use architecture::Architecture;
pub use filling::Filling;
pub use pass::{Prepared, Workspace};
pub use seq2seq::Seq2Seq;

#[cfg(test)]
mod tests;
