//! Opens a bundle (a folder with `encoder.onnx`, `decoder.onnx` and the manifest `s2s.yaml`) and decodes text
//! with it.
//!
//! This crate is usable alone and knows nothing of the trainer. It lies inside the source folder of package
//! `s2s` on purpose: the project's top level stays as its users know it, and the arrow goes one way, from
//! `s2s` to here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`contract`] | names, axes and files of the graphs, spelled once |
//! | [`manifest`], [`bundle`] | the folder: schema, hashes, versions |
//! | [`files`] | the one way in which files are opened |
//! | `optimum` | folders of Optimum as bundles |
//! | [`onnx`], [`checked`] | ONNX's messages, and the one check that every graph passes before anything walks it |
//! | [`graph_info`], [`shapes`] | what a file says about itself, and the axes of all its values |
//! | [`yaml`] | YAML in, errors with file, line and key out |
//! | [`panics`] | panics as errors |
//! | [`printable`] | text of others, as a terminal may show it |
//! | [`self_test`] | vectors that every opened bundle is held against |
//! | [`vocabulary`] | text to ids and back |
//! | [`engine`] | what runs the graphs |
//! | [`decoding`] | the loop from ids to ids, and its options |
//! | [`translator`] | text in, text out |

#![forbid(unsafe_code)]

pub mod bundle;
pub mod checked;
pub mod contract;
pub mod decoding;
pub mod engine;
pub mod error;
pub mod files;
pub mod graph_info;
pub mod manifest;
pub mod onnx;
mod optimum;
pub mod panics;
pub mod printable;
pub mod self_test;
pub mod shapes;
pub mod translator;
pub mod vocabulary;
pub mod yaml;

pub use error::{Error, ErrorKind, Place, Result, did_you_mean, guess};
