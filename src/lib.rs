//! s2s trains sequence-to-sequence models, exports each as three ONNX graphs, and serves them.
//!
//! The three models (training, encoder, single-step decoder) are one model: [`network`] defines it once,
//! [`export`] cuts it three ways, and the weights cannot drift apart because there is one copy of them.
//!
//! The runtime is a package of its own, `s2s-runtime`, in `src/runtime`: nested on purpose, so that the
//! project's top level stays as its users know it. It knows nothing of this crate.
//!
//! Two more packages lie beside it: `s2s-kernels`, the arithmetic, and this one. CONTRIBUTING.md has the map
//! of who uses whom, and a test holds the imports against it.

#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod config;
pub mod data;
pub mod error;
pub mod export;
pub mod families;
mod files;
pub mod import;
pub mod inspect;
pub mod lint;
pub mod network;
pub mod onnx;
pub mod score;
pub mod serve;
pub mod train;

/// The Rust block of README.md must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
