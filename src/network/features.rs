//! What export and verification ask of a network from features to scores, whatever it is made of.

use super::{Network, Parameters};
use crate::onnx::GraphBuilder;
use s2s_kernels::random::Random;

/// A tensor that the graph of a [`FeatureNetwork`] reads or gives: f32 (batch, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: &'static str,
    /// The number of values a row.
    pub width: usize,
}

/// How the values of an output are held against the network's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Scores of classes: relative above 1, and the largest of a row must be the same one.
    Logits,
    /// Numbers between 0 and 1: absolute.
    Probabilities,
    /// Numbers of any size: relative above 1, and a row alone must give what it gives in a batch.
    Values,
}

/// A network that reads rows of features and has one graph, as export and verification see it.
///
/// A family that implements this trait is exported by
/// [`export_features`](crate::export::export_features) and verified by
/// [`verify_features`](crate::export::verify_features).
pub trait FeatureNetwork: Network {
    /// What manifests and graphs call the family.
    const KIND: &'static str;

    /// What the graph reads.
    fn input(&self) -> Port;

    /// What the graph gives, in order, at least one.
    fn outputs(&self) -> Vec<(Port, Measure)>;

    /// Writes the graph into an empty builder.
    fn emit(&self, p: &Parameters<f32>, g: &mut GraphBuilder);

    /// Draws a row such as the network may be given, `width` values of [`input`](Self::input).
    fn draw(&self, random: &mut Random) -> Vec<f32>;

    /// Computes the outputs, each (rows, width) and row-major, in f64.
    fn forward_exact(&self, p: &Parameters<f64>, rows: &[&[f32]]) -> Vec<Vec<f64>>;
}
