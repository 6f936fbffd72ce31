//! What a pass minimises, and what it found.

use super::dropout::Dropout;

/// What is minimised: the cross-entropy of the targets, and how the network is regularised meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objective {
    /// Factor of each token's nats: 1 / (target tokens of the batch) gives the gradient of the mean.
    pub scale: f64,
    /// Probability that the loss spreads evenly over all symbols instead of the target.
    pub label_smoothing: f64,
    /// Values dropped from the layers' inputs and from the output layer's; `None` drops nothing.
    pub dropout: Option<Dropout>,
}

/// Sums over target tokens, END counted and padding left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// The cross-entropy of the targets, in nats.
    pub nats: f64,
    /// The number of target tokens.
    pub tokens: usize,
    /// The number of target tokens that had the highest logit under teacher forcing.
    pub correct: usize,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.correct += other.correct;
    }
}
