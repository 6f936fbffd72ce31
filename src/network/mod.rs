//! The one definition of each network.
//!
//! Everything else is cut from it: training runs its pass, and the ONNX graphs are written by the same layers
//! over the same [`Parameters`].
//!
//! | room | what it holds |
//! |---|---|
//! | [`ground`] | named parameters, gradients, packed texts, and what all graphs share |
//! | [`layers`] | one file a layer: parameters, forward, backward and ONNX form side by side |
//! | [`recurrent`] | the encoder-decoder: [`Seq2Seq`] |
//! | [`perceptron`] | a classifier from the same layers |
//! | [`sequence`] | what export and verification ask of a network from texts to texts |
//! | [`features`] | the same of a network from features to scores |
//! | [`rebuild`] | from a manifest's architecture to such a network |
//!
//! Each family implements [`Network`], which is all that training and checkpoints know of it.

pub mod features;
pub mod ground;
pub mod layers;
pub mod perceptron;
pub mod rebuild;
pub mod recurrent;
pub mod sequence;
pub(crate) mod traits;

pub use ground::dropout::Dropout;
pub use ground::gradients::{Gradients, Stretch, Summand, Summands};
pub use ground::graph::Io;
pub use ground::objective::{Objective, Sums};
pub use ground::parameters::{Layout, ParameterId, Parameters};
pub use ground::shard::{AlignedText, Alignment, Example};
pub use layers::kinds::{
    AttentionOutput, AttentionScore, Bridge, BridgeSource, Cell, Feeding, GateActivation, InputForm,
};
pub use recurrent::{Architecture, Filling, Prepared, Seq2Seq, Workspace};
pub use sequence::{Forward, SequenceNetwork};
pub use traits::{Exported, Network};
