//! What all layers of a pass over a shard share.

use super::dropout::Dropout;
use super::parameters::Parameters;
use s2s_kernels::Scratch;

/// What a layer needs in a forward or backward pass, whatever it reads and keeps.
#[derive(Debug)]
pub struct Pass<'a, R> {
    /// The values of all parameters.
    pub parameters: &'a Parameters<R>,
    /// Which values of its input the layer drops; `None` drops nothing. A backward pass only asks whether:
    /// the tapes know which.
    pub dropout: Option<Dropout>,
    /// Memory for operands that are packed for one product.
    pub scratch: &'a mut Scratch<R>,
}

impl<R> Pass<'_, R> {
    /// Lends itself to a layer that drops other values than the rest.
    pub fn of_layer(&mut self, layer: u64) -> Pass<'_, R> {
        Pass {
            parameters: self.parameters,
            dropout: self.dropout.map(|dropout| dropout.of_layer(layer)),
            scratch: self.scratch,
        }
    }

    /// Lends itself to a step of a decoder whose steps drop values apart.
    pub fn of_step(&mut self, step: u64) -> Pass<'_, R> {
        Pass {
            parameters: self.parameters,
            dropout: self.dropout.map(|dropout| dropout.of_step(step)),
            scratch: self.scratch,
        }
    }
}
