//! The encoder-decoder of recurrent layers: what it is made of.

use super::architecture::Architecture;
use super::filling::Filling;
use super::hand_over::HandOver;
use crate::network::Layout;
use crate::network::layers::attention::Attention;
use crate::network::layers::dense::Dense;
use crate::network::layers::encoder::EncoderLayer;
use crate::network::layers::recurrent::Recurrent;

/// The network: layers and where their parameters are; the values live in
/// [`Parameters`](crate::network::Parameters).
#[derive(Clone, Debug)]
pub struct Seq2Seq {
    pub(super) architecture: Architecture,
    pub(super) encoder: Vec<EncoderLayer>,
    pub(super) hand_over: HandOver,
    pub(super) decoder: Vec<Recurrent>,
    pub(super) attention: Option<Attention>,
    pub(super) dense: Dense,
    pub(super) layout: Layout,
    pub(super) filling: Option<Filling>,
}

impl Seq2Seq {
    /// The same network with graphs that fill up short sources by themselves; so does
    /// [`forward`](Self::forward), which they are held against. Training reads sources as they are given.
    #[must_use]
    pub fn with_filling(self, filling: Option<Filling>) -> Self {
        Self { filling, ..self }
    }

    /// Names of the states of layer `l` as the graphs have them: h and, for the LSTM, c.
    pub fn state_names(&self, l: usize) -> Vec<String> {
        self.architecture.cell.state_names(l)
    }
}
