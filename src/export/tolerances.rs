//! How far an engine may be from the trainer's own pass.

use serde::{Deserialize, Serialize};

use super::compression::Dtype;

/// The largest errors that are accepted, declared here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerances {
    /// Of a state, over max(1, |state|): h lies within -1 and 1, but c of a model that knows its texts by
    /// heart reaches tens, where one unit in the last place of f32 is 4e-6 already. The rounding of 33 steps,
    /// summed in another order and with another exp, was measured at up to 5e-6 of it; the absolute error is
    /// shown beside it.
    pub states: f32,
    /// Of a state that the encoder's step gives, over max(1, |state|): where weights are stored smaller, each
    /// token's share of the first layer's gates is rounded once more, and a state sums over all tokens.
    pub step_states: f32,
    /// Of a probability, over the largest |logit| of its row or 1: it is off by up to half of what the logits
    /// are off by. The absolute error, what a user of the scores sees, is shown beside it. (Measured: 1.2e-5
    /// absolute with logits of 4.)
    pub probabilities: f32,
    /// Of a logit, over the largest |logit| of its row or 1: logits have no bound, and their rounding grows
    /// with them.
    pub logits: f32,
    /// Of the loss, over max(1, loss): a mean of logarithms of probabilities.
    pub loss: f32,
    /// Of a tensor that is computed from weights when exporting, over max(1, |value|): one product in f32,
    /// which depends on the order of the sum.
    pub derived: f32,
    /// Two logits this near, over max(1, |logit|), count as equal when two computations choose different
    /// tokens.
    pub tie: f32,
    /// Two hypotheses of a beam search whose scores are this near may change places: their log p are sums
    /// over all steps.
    pub score: f32,
}

/// What rounding does to a network: the largest errors of the trainer's pass in f32 against the same pass in
/// f64, with the weights as they are and each moved to a neighbour in f32 some times, in the units of
/// [`Tolerances`]. Most networks stay below 3e-6; one that knows a few texts by heart, with weights in the
/// tens, amplifies each rounding from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rounding {
    /// Of a state, over max(1, |state|).
    pub states: f32,
    /// Of a probability, over the largest |logit| of its row or 1.
    pub probabilities: f32,
    /// Of a logit, over the largest |logit| of its row or 1.
    pub logits: f32,
    /// Of the loss, over max(1, loss).
    pub loss: f32,
}

impl Rounding {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            states: self.states.max(other.states),
            probabilities: self.probabilities.max(other.probabilities),
            logits: self.logits.max(other.logits),
            loss: self.loss.max(other.loss),
        }
    }

    /// What the record of a bundle says about these weights; nothing if it is of others, damaged, or older
    /// than the key.
    pub(super) fn recorded(json: &[u8], weights_sha256: Option<&str>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            weights_sha256: Option<String>,
            rounding: Option<Rounding>,
        }
        let record: Record = serde_json::from_slice(json).ok()?;
        record
            .rounding
            .filter(|_| weights_sha256.is_some() && record.weights_sha256.as_deref() == weights_sha256)
    }
}

impl Tolerances {
    /// Of states and probabilities, where nobody asks for another and rounding alone does not make more.
    pub const ATOL: f32 = 1e-5;
    /// An engine may be so many times as far from f64 as the trainer's own f32 is: both round the same sums,
    /// but in another order, and engines approximate exp more coarsely. (Measured: up to 4 times; three bits
    /// of 24 are allowed.)
    pub const ROUNDING_FACTOR: f32 = 8.0;
    /// However a network amplifies rounding, no more than this is allowed. A real fault is amplified as
    /// rounding is: a gate swapped, a bias left out or a weight in f16 is as far beyond the bound in such a
    /// network as in any other.
    pub const CEILING: f32 = 1e-2;

    /// These, wider where the network itself amplifies rounding: [`Self::ROUNDING_FACTOR`] times what the
    /// trainer's f32 is off by, never less than before and never more than [`Self::CEILING`].
    #[must_use]
    pub fn for_rounding(self, rounding: Rounding) -> Self {
        Self {
            states: allowed(self.states, rounding.states),
            step_states: allowed(self.step_states, rounding.states),
            probabilities: allowed(self.probabilities, rounding.probabilities),
            logits: allowed(self.logits, rounding.logits),
            loss: allowed(self.loss, rounding.loss),
            tie: allowed(self.tie, rounding.logits),
            score: allowed(self.score, rounding.logits),
            ..self
        }
    }

    /// The usual tolerances, with those of states and probabilities given.
    pub fn with_atol(atol: f32) -> Self {
        Self {
            states: atol,
            step_states: atol,
            probabilities: atol,
            logits: 5.0 * atol,
            loss: atol,
            derived: 1e-5,
            tie: 1e-6,
            score: 1e-5,
        }
    }

    /// The same for weights that are stored in `dtype`. The network that is held against them has the rounded
    /// weights, so that only tables which are computed from weights and rounded once more differ: by half a
    /// unit in the last of 11 bits, or by half of a 127th of an output's largest value. Logits follow by sums
    /// over the state, and so do states of the encoder's step over its tokens (measured: 2.5e-3 with f16, a GRU
    /// over 33 tokens). An engine that multiplies 8 bits rounds what they are multiplied with to 16, which some
    /// steps amplify (measured: states off by 9e-5, the loss by 1e-5).
    #[must_use]
    pub fn for_dtype(self, dtype: Dtype) -> Self {
        let (derived, states, step_states, probabilities, logits, loss) = match dtype {
            Dtype::F32 => return self,
            Dtype::F16 => (5e-4, self.states, 5e-3, 2e-3, 5e-3, self.loss),
            Dtype::Int8 => (1e-1, 1e-3, 1e-1, 1e-1, 2e-1, 1e-4),
        };
        let least = |own: f32, other: f32| own.max(other);
        Self {
            derived: least(self.derived, derived),
            states: least(self.states, states),
            step_states: least(self.step_states, step_states),
            probabilities: least(self.probabilities, probabilities),
            logits: least(self.logits, logits),
            loss: least(self.loss, loss),
            tie: least(self.tie, 2.0 * logits),
            ..self
        }
    }
}

impl Default for Tolerances {
    fn default() -> Self {
        Self::with_atol(Self::ATOL)
    }
}

/// What an engine may be off by, given what it may be off by anyway and what such passes are off by.
pub(super) fn allowed(usual: f32, rounding: f32) -> f32 {
    usual.max((Tolerances::ROUNDING_FACTOR * rounding).min(Tolerances::CEILING))
}
