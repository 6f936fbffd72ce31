//! Models of other programs: networks as a run folder, so that `s2s export` and everything after it works as
//! for our own; graphs as a bundle.
//!
//! | module | what it reads |
//! |---|---|
//! | [`onnx`] | an encoder and a decoder as ONNX graphs, whose manifest is drafted |
//! | [`optimum`] | folders that `optimum-cli export onnx` wrote |
//! | [`keras`] | LSTM encoder-decoders that Keras saved, `.h5` or `.keras` |
//! | [`pytorch`] | encoder-decoders of `nn.LSTM` or `nn.GRU`, `.safetensors`, `.pt` or `.npz` |

pub mod keras;
pub mod onnx;
pub mod optimum;
pub mod pytorch;
mod rows;
mod run;
mod run_name;

pub use run_name::run_name;
