//! Perceptrons: samples of numbers in, bundles that predict classes out.

mod dataset;
mod family;
mod older;
mod record;

pub use family::PerceptronFamily;
pub use record::{Run, StoredSamples};
