//! What all families of classifiers share: samples of numbers in, bundles that predict classes out.

mod classifier;
mod dataset;
mod family;

pub use classifier::{Classifier, StoredSamples};
pub use family::FeatureFamily;
