//! Perceptrons: classifiers, and the runs that older versions wrote.

mod older;

use crate::families::features::FeatureFamily;
use crate::network::perceptron::Mlp;
use crate::train;

/// A run of a perceptron.
pub type Run = train::Run<Mlp>;

/// The family of perceptrons.
pub type PerceptronFamily = FeatureFamily<Mlp>;

#[cfg(test)]
mod tests;
