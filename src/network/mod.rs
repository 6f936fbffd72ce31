//! The one definition of the network.

pub mod architecture;
pub mod parameters;

pub use architecture::{Architecture, Cell, InputForm};
pub use parameters::{ParameterId, Parameters};
