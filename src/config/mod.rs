//! The YAML of an experiment: [`raw`] is what was typed, with the line of every value; [`checked`] is what it
//! means.
//!
//! Every value is checked before anything is read or written, and every error names file, line and dotted
//! key.

pub mod callbacks;
pub mod checked;
mod effective;
pub mod experiment;
pub mod mlp;
pub mod model;
pub mod raw;
pub mod samples;
pub mod schema;
pub mod training;

pub use checked::{Config, LoadOptions};

#[cfg(test)]
mod tests;
