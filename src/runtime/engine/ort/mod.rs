//! Graphs through ONNX Runtime.
//!
//! | file | what it holds |
//! |---|---|
//! | `loaded` | the shared library, looked for and loaded when it is first needed |
//! | `session`, `tensor` | one graph in a session; tensors of sessions, and where they lie |
//! | `host` | graphs on the processor, one session a worker |
//! | `bound`, `helpers`, `accelerated` | graphs on a device: bound tensors, the small graphs that move rows and find the best scores there, and the graph that all workers share |
//! | `load` | which of them a device takes |

mod accelerated;
mod bound;
mod helpers;
mod host;
mod load;
mod loaded;
mod session;
mod tensor;

pub(super) use load::load;
pub use loaded::OLDEST;
pub(super) use loaded::loaded;

#[cfg(test)]
mod tests;
