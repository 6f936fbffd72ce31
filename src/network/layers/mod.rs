//! The layers, each in a file of its own: its parameters, its forward and backward pass and its ONNX form,
//! side by side. They know nothing of the networks that they are put together to.

pub mod attention;
pub mod cell;
pub mod dense;
pub mod encoder;
mod gates;
mod gru;
mod gru_reset_before;
pub mod kinds;
pub mod lookup;
mod lstm;
pub mod projection;
pub mod recurrent;
pub mod rows;
pub mod symbols;
