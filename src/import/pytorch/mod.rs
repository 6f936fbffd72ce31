//! Models of PyTorch's form: an encoder and a decoder of `nn.LSTM` or `nn.GRU` as the well-known tutorials and
//! toolkits build them.
//!
//! Nothing is run: `checkpoint` lists the tensors of a file (`pickle` and `torch` for `.pt`, `numpy` for
//! `.npz`), each read when it is wanted (`tensor`). `mapping` says which tensor is which part, `parts` looks
//! them up and holds them against each other, `vocabulary` names their rows, `weights` reorders gates and
//! rows, `model` writes the run.

mod checkpoint;
mod mapping;
mod model;
mod numpy;
mod parts;
mod pickle;
mod tensor;
mod torch;
mod vocabulary;
mod weights;

pub use mapping::SHIPPED;
pub use model::{Imported, Options, import, read_bytes};
